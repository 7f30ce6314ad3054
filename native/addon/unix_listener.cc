// The class UnixListener: connections of a listening unix socket, each an Fd with the peer's credentials.
#include <sys/socket.h>

#include <memory>

#include "addon/loop.h"
#include "addon/sockets.h"
#include "addon/wrapped.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:listener";
constexpr int accepts_per_turn = 16;
constexpr uint64_t retry_ms = 100;

int to_type(const Napi::Value& value) {
  const std::string type = to_string(value, "options.type");
  if (type == "stream") return SOCK_STREAM;
  if (type == "seqpacket") return SOCK_SEQPACKET;
  throw base::UsageError("options.type: 'stream' or 'seqpacket' expected");
}

base::UnixListener make_listener(const Napi::Value& where, const base::ListenOptions& options) {
  if (where.IsString()) return base::UnixListener::listen(to_string(where, "path"), options);
  return base::UnixListener::adopt(take_fd(where, "path"), options.type);
}

class UnixListener : public Wrapped<UnixListener> {
public:
  /// (path or listening Fd, options, onConnection(fd, credentials), onError(error))
  explicit UnixListener(const Napi::CallbackInfo& info) : Wrapped<UnixListener>(info) {
    guarded(info.Env(), [&] { open(info); });
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    if (listener_) {
      poll_.reset();
      retry_.reset();
      listener_.reset();
      on_connection_.Reset();
      on_error_.Reset();
      Unref();
    }
    return info.Env().Undefined();
  }

private:
  void open(const Napi::CallbackInfo& info);
  void accept_some();
  void hand_over(base::UniqueFd connection);
  void rest(const base::SystemError& error);

  std::unique_ptr<base::UnixListener> listener_;
  std::unique_ptr<LoopPoll> poll_; // after listener_: must go first
  std::unique_ptr<LoopTimer> retry_;
  Napi::FunctionReference on_connection_;
  Napi::FunctionReference on_error_;
};

void UnixListener::open(const Napi::CallbackInfo& info) {
  const Napi::Object object = to_object(info[1], "options");
  const base::ListenOptions options = to_listen_options(object, to_type(object.Get("type")));
  on_connection_ = Napi::Persistent(to_function(info[2], "onConnection"));
  on_error_ = Napi::Persistent(to_function(info[3], "onError"));
  listener_ = std::make_unique<base::UnixListener>(make_listener(info[0], options));
  poll_ = std::make_unique<LoopPoll>(info.Env(), listener_->fd(), [this](int) { accept_some(); });
  retry_ = std::make_unique<LoopTimer>(info.Env(), [this] { poll_->watch(UV_READABLE); });
  poll_->watch(UV_READABLE);
  Ref(); // it works without anybody holding it, until it is closed
}

void UnixListener::accept_some() {
  for (int i = 0; listener_ && i < accepts_per_turn; ++i) {
    try {
      base::UniqueFd connection = listener_->accept();
      if (!connection) return;
      hand_over(std::move(connection));
    } catch (const base::SystemError& error) {
      rest(error);
      return;
    }
  }
}

void UnixListener::hand_over(base::UniqueFd connection) {
  enter_js(Env(), resource, [&] {
    const Napi::Object peer = credentials_to_js(Env(), base::peer_credentials(connection.get()));
    on_connection_.Value().Call({wrap_fd(Env(), std::move(connection)), peer});
  });
}

/// Out of descriptors or memory: the connection stays in the backlog and the socket readable, so that going
/// on would be a busy loop.
void UnixListener::rest(const base::SystemError& error) {
  poll_->watch(0);
  retry_->set(retry_ms);
  enter_js(Env(), resource, [&] { on_error_.Value().Call({to_js(Env(), error).Value()}); });
}

} // namespace

base::ListenOptions to_listen_options(const Napi::Object& object, int type) {
  base::ListenOptions options{.type = type};
  const Napi::Value mode = object.Get("mode");
  if (!mode.IsUndefined()) options.mode = to_u32(mode, "options.mode");
  if (options.mode > 0777) throw base::UsageError("options.mode: 0 to 0o777 expected");
  const Napi::Value group = object.Get("group");
  if (!group.IsUndefined()) options.group = to_u32(group, "options.group");
  const Napi::Value backlog = object.Get("backlog");
  if (!backlog.IsUndefined()) options.backlog = to_i32(backlog, "options.backlog");
  if (options.backlog < 1) throw base::UsageError("options.backlog: 1 or more expected");
  return options;
}

Napi::Object credentials_to_js(Napi::Env env, const base::PeerCredentials& peer) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("pid", peer.pid);
  object.Set("uid", peer.uid);
  object.Set("gid", peer.gid);
  Napi::Array groups = Napi::Array::New(env, peer.groups.size());
  for (uint32_t i = 0; i < peer.groups.size(); ++i)
    groups.Set(i, peer.groups[i]);
  object.Set("groups", groups);
  return object;
}

void init_unix_listener(Napi::Env env, Napi::Object exports) {
  exports.Set("UnixListener",
              UnixListener::DefineClass(env, "UnixListener",
                                        {
                                            UnixListener::define<&UnixListener::close>("close"),
                                        }));
}

} // namespace scanout::addon
