// The class SeqPacket: messages with descriptors between JavaScript and one peer.
#include "base/seqpacket.h"

#include <sys/socket.h>

#include <memory>

#include "addon/loop.h"
#include "addon/sockets.h"
#include "addon/wrapped.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:seqpacket";

std::span<const uint8_t> to_bytes(const Napi::Value& value, const char* what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw base::UsageError(std::string(what) + ": Uint8Array expected");
  const auto bytes = value.As<Napi::Uint8Array>();
  return {bytes.Data(), bytes.ByteLength()};
}

class SeqPacket : public Wrapped<SeqPacket> {
public:
  /// (Fd that is taken over, maxBytes, maxFds, messagesPerTurn)
  explicit SeqPacket(const Napi::CallbackInfo& info);
  Napi::Value start(const Napi::CallbackInfo& info);
  Napi::Value send(const Napi::CallbackInfo& info);
  Napi::Value pause(const Napi::CallbackInfo& info);
  Napi::Value resume(const Napi::CallbackInfo& info);
  Napi::Value credentials(const Napi::CallbackInfo& info);
  Napi::Value is_closed(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

private:
  base::SeqPacket& socket() {
    if (!socket_) throw Napi::Error::New(Env(), "SeqPacket is closed");
    return *socket_;
  }
  void on_ready(int events);
  void receive_some();
  void deliver(base::SeqPacket::Received received);
  void watch();
  void shut();
  /// `error` 0: the peer closed.
  void end(int error, const char* op);

  std::unique_ptr<base::SeqPacket> socket_;
  std::unique_ptr<LoopPoll> poll_; // after socket_: must go first
  Napi::FunctionReference on_message_;
  Napi::FunctionReference on_close_;
  Napi::FunctionReference on_drain_;
  uint32_t per_turn_ = 1;
  bool started_ = false;
  bool paused_ = false;
  bool full_ = false;
};

SeqPacket::SeqPacket(const Napi::CallbackInfo& info) : Wrapped<SeqPacket>(info) {
  guarded(info.Env(), [&] {
    const uint32_t max_bytes = to_u32(info[1], "maxBytes");
    const uint32_t max_fds = to_u32(info[2], "maxFds");
    per_turn_ = to_u32(info[3], "messagesPerTurn");
    if (max_bytes == 0 || max_bytes > 1U << 24) throw base::UsageError("maxBytes: 1 to 16 MiB expected");
    if (max_fds > base::SeqPacket::max_fds_of_kernel) throw base::UsageError("maxFds: 0 to 253 expected");
    if (per_turn_ == 0) throw base::UsageError("messagesPerTurn: 1 or more expected");
    base::SeqPacket::require_kind(borrow_fd(info[0], "fd"));
    socket_ = std::make_unique<base::SeqPacket>(take_fd(info[0], "fd"), max_bytes, max_fds);
    poll_ = std::make_unique<LoopPoll>(info.Env(), socket_->fd(), [this](int events) { on_ready(events); });
  });
}

/// (onMessage(data, fds, truncated, controlTruncated), onClose(error or null), onDrain())
Napi::Value SeqPacket::start(const Napi::CallbackInfo& info) {
  socket();
  if (started_) throw Napi::Error::New(Env(), "SeqPacket is started already");
  const Napi::Function on_message = to_function(info[0], "onMessage");
  const Napi::Function on_close = to_function(info[1], "onClose");
  const Napi::Function on_drain = to_function(info[2], "onDrain");
  on_message_ = Napi::Persistent(on_message);
  on_close_ = Napi::Persistent(on_close);
  on_drain_ = Napi::Persistent(on_drain);
  started_ = true;
  Ref(); // it works without anybody holding it, until it is closed
  watch();
  return Env().Undefined();
}

Napi::Value SeqPacket::send(const Napi::CallbackInfo& info) {
  const std::span<const uint8_t> data = to_bytes(info[0], "data");
  const std::vector<int> fds = borrow_fds(info[1], "fds");
  const bool sent = socket().send(data, fds) == base::SeqPacket::Sent::sent;
  if (!sent && !full_) {
    full_ = true;
    watch();
  }
  return Napi::String::New(Env(), sent ? "sent" : "full");
}

Napi::Value SeqPacket::pause(const Napi::CallbackInfo& info) {
  socket();
  paused_ = true;
  watch();
  return info.Env().Undefined();
}

Napi::Value SeqPacket::resume(const Napi::CallbackInfo& info) {
  socket();
  paused_ = false;
  watch();
  return info.Env().Undefined();
}

Napi::Value SeqPacket::credentials(const Napi::CallbackInfo& info) {
  return credentials_to_js(info.Env(), base::peer_credentials(socket().fd()));
}

Napi::Value SeqPacket::is_closed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), socket_ == nullptr);
}

Napi::Value SeqPacket::close(const Napi::CallbackInfo& info) {
  shut();
  return info.Env().Undefined();
}

void SeqPacket::watch() {
  if (!socket_ || !started_) return;
  poll_->watch((paused_ ? 0 : UV_READABLE) | (full_ ? UV_WRITABLE : 0));
}

void SeqPacket::on_ready(int events) {
  // An error of the socket counts as room, too: the next attempt to send tells it.
  if (full_ && (events == 0 || (events & UV_WRITABLE) != 0)) {
    full_ = false;
    enter_js(Env(), resource, [&] { on_drain_.Value().Call({}); });
  }
  receive_some();
  watch();
}

void SeqPacket::receive_some() {
  // Bounded, so that a peer that never stops sending leaves the others their turn.
  for (uint32_t i = 0; socket_ && !paused_ && i < per_turn_; ++i) {
    try {
      base::SeqPacket::Received received = socket_->receive();
      if (received.what == base::SeqPacket::Received::What::nothing) return;
      if (received.what == base::SeqPacket::Received::What::end) {
        end(socket_->was_reset() ? ECONNRESET : 0, "recvmsg");
        return;
      }
      deliver(std::move(received));
    } catch (const base::SystemError& error) {
      end(error.error(), "recvmsg");
    }
  }
}

void SeqPacket::deliver(base::SeqPacket::Received received) {
  enter_js(Env(), resource, [&] {
    const Napi::Env env = Env();
    Napi::Uint8Array data = Napi::Uint8Array::New(env, received.data.size());
    if (!received.data.empty()) std::copy(received.data.begin(), received.data.end(), data.Data());
    Napi::Array fds = Napi::Array::New(env, received.fds.size());
    for (uint32_t i = 0; i < received.fds.size(); ++i)
      fds.Set(i, wrap_fd(env, std::move(received.fds[i])));
    on_message_.Value().Call({data, fds, Napi::Boolean::New(env, received.truncated),
                              Napi::Boolean::New(env, received.control_truncated)});
  });
}

void SeqPacket::end(int error, const char* op) {
  enter_js(Env(), resource, [&] {
    const Napi::Function on_close = on_close_.Value();
    shut();
    on_close.Call({error == 0 ? Env().Null() : to_js(Env(), base::SystemError(error, op)).Value()});
  });
}

void SeqPacket::shut() {
  if (!socket_) return;
  poll_.reset();
  socket_.reset();
  if (!started_) return;
  on_message_.Reset();
  on_close_.Reset();
  on_drain_.Reset();
  Unref();
}

Napi::Value seqpacket_connect(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), base::connect_unix(to_string(info[0], "path"), SOCK_SEQPACKET));
}

Napi::Value peer_credentials(const Napi::CallbackInfo& info) {
  return credentials_to_js(info.Env(), base::peer_credentials(borrow_fd(info[0], "fd")));
}

} // namespace

std::vector<int> borrow_fds(const Napi::Value& value, const char* what) {
  std::vector<int> fds;
  if (value.IsUndefined()) return fds;
  const Napi::Array array = to_array(value, what);
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const std::string name = std::string(what).append("[").append(std::to_string(i)).append("]");
    fds.push_back(borrow_fd(array.Get(i), name.c_str()));
  }
  return fds;
}

void init_seqpacket(Napi::Env env, Napi::Object exports) {
  init_unix_listener(env, exports);
  using S = SeqPacket;
  exports.Set("SeqPacket", S::DefineClass(env, "SeqPacket",
                                          {
                                              S::define<&S::start>("start"),
                                              S::define<&S::send>("send"),
                                              S::define<&S::pause>("pause"),
                                              S::define<&S::resume>("resume"),
                                              S::define<&S::credentials>("peerCredentials"),
                                              S::define<&S::close>("close"),
                                              S::define_getter<&S::is_closed>("closed"),
                                          }));
  export_function<seqpacket_connect>(exports, "seqpacketConnect");
  export_function<peer_credentials>(exports, "peerCredentials");
}

} // namespace scanout::addon
