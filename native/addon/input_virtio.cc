// Of the class InputEngine: virtio-input devices, whose connections are served here.
#include <sys/socket.h>

#include "addon/input.h"
#include "base/unix_socket.h"
#include "guests/vhost_user.h"
#include "input/virtio_config.h"
#include "input/virtio_sink.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:input-virtio";

/// The vhost-user connection of a device. JS thread; changes of the rings under way keep it alive.
class Connection final : public std::enable_shared_from_this<Connection>, private guests::VhostUser::Owner {
public:
  /// `engine` outlives its use: until `close`.
  Connection(InputEngine& engine, std::shared_ptr<input::VirtioDevice> device,
             const input::Description& description, base::UniqueFd socket)
      : engine_(engine), device_(std::move(device)), config_(description) {
    const guests::VhostUser::Traits traits{.protocol_features = guests::vhost::protocol_config,
                                           .rings = input::VirtioDevice::ring_count};
    guests::VhostUser::Owner& owner = *this;
    vhost_ = std::make_unique<guests::VhostUser>(std::move(socket), traits, owner, record_);
    poll_ = std::make_unique<LoopPoll>(engine.Env(), vhost_->fd(), [this](int) { on_socket(); });
  }
  void watch() {
    if (poll_) poll_->watch(vhost_->state() == guests::VhostUser::State::open ? UV_READABLE : 0);
  }
  void close() {
    if (!poll_) return;
    poll_.reset();
    vhost_->hang_up();
  }

private:
  // Owner
  void apply(std::unique_ptr<guests::RingChange> change) override;
  void features_set(uint64_t) override {}
  bool get_config(uint32_t offset, std::span<uint8_t> config) override { return config_.get(offset, config); }
  bool set_config(uint32_t offset, std::span<const uint8_t> config) override {
    return config_.set(offset, config);
  }
  bool other(guests::vhost::Request, std::span<const uint8_t>, guests::ReceivedFds&) override {
    return false;
  }
  // Another process has no use for them: it begins with a connection of its own.
  void keep(const std::string&, int) override {}
  void drop(const std::string&) override {}
  // The front end was told, and says so itself.
  void refused(const std::string&) override {}

  void on_socket();
  template <typename Body> void post(Body body, InputEngine::Result result);

  InputEngine& engine_;
  std::shared_ptr<input::VirtioDevice> device_;
  input::VirtioConfig config_;
  guests::VhostRecord record_{};
  std::unique_ptr<guests::VhostUser> vhost_;
  std::unique_ptr<LoopPoll> poll_; // after what it watches; null: closed
};

/// Whatever keeps a command from being posted ends the engine, and all of this with it.
template <typename Body> void Connection::post(Body body, InputEngine::Result result) {
  const Napi::Value promise = engine_.post("virtio ring", std::move(body), std::move(result));
  const Napi::Function hang_up = Napi::Function::New(
      engine_.Env(), [self = shared_from_this()](const Napi::CallbackInfo&) { self->close(); });
  promise.As<Napi::Object>().Get("catch").As<Napi::Function>().Call(promise, {hang_up});
}

void Connection::apply(std::unique_ptr<guests::RingChange> change) {
  auto held = std::make_shared<std::unique_ptr<guests::RingChange>>(std::move(change));
  post([device = device_, held](input::Engine&) { return device->run(**held), 0; },
       [self = shared_from_this(), held](Napi::Env env) -> Napi::Value {
         if (self->poll_) {
           self->vhost_->finished(std::move(*held));
           self->on_socket(); // more may have come meanwhile, and an end must be told
         }
         return env.Undefined();
       });
}

void Connection::on_socket() {
  enter_js(engine_.Env(), resource, [&] {
    vhost_->receive();
    watch();
    if (vhost_->state() != guests::VhostUser::State::ended) return;
    poll_->watch(0);
    const bool closed = vhost_->why_ended() == guests::VhostUser::closed;
    post(
        [device = device_, closed](input::Engine&) {
          device->end(closed ? 0 : EPROTO,
                      closed ? guests::VhostUser::closed : "the front end broke the rules of vhost-user");
          return 0;
        },
        nullptr);
  });
}

class ConnectedSink final : public input::VirtioSink {
public:
  ConnectedSink(std::shared_ptr<input::VirtioDevice> device, std::shared_ptr<Connection> connection)
      : VirtioSink(std::move(device)), connection_(std::move(connection)) {}
  ~ConnectedSink() override { connection_->close(); }

private:
  std::shared_ptr<Connection> connection_;
};

} // namespace

/// (guest, class, description, socket)
Napi::Value InputEngine::add_virtio(const Napi::CallbackInfo& info) {
  input::Guest& of = guest(info[0]);
  const input::Class each = to_input_class(info[1], "class");
  const input::Description description = to_input_description(info[2], "description");
  if (!base::is_unix_socket(borrow_fd(info[3], "socket"), SOCK_STREAM))
    throw base::UsageError("socket: a stream socket expected");
  auto device =
      std::make_shared<input::VirtioDevice>(each, description, engine().epoll(), engine().signaller());
  auto connection = std::make_shared<Connection>(*this, device, description, take_fd(info[3], "socket"));
  const Napi::Value promise =
      attach(of, std::make_unique<ConnectedSink>(std::move(device), connection), {{each, description}});
  connection->watch(); // what it asks for comes after the sink
  return promise;
}

} // namespace scanout::addon
