// The life of a BusConnection on the loop.
#include "addon/bus.h"

#include <poll.h>

#include "addon/bus_marshal.h"
#include "addon/bus_outgoing.h"
#include "addon/sockets.h"
#include "base/clock.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:bus";
constexpr int messages_per_turn = 32;

int to_uv(int events) {
  return ((events & POLLIN) != 0 ? UV_READABLE : 0) | ((events & POLLOUT) != 0 ? UV_WRITABLE : 0);
}

} // namespace

BusConnection::BusConnection(const Napi::CallbackInfo& info) : Wrapped<BusConnection>(info) {
  guarded(info.Env(), [&] {
    const Napi::Object target = to_object(info[0], "target");
    const Napi::Object limits = to_object(info[1], "limits");
    max_message_ = to_u32(limits.Get("maxMessageBytes"), "limits.maxMessageBytes");
    max_pending_ = to_u32(limits.Get("maxPendingCalls"), "limits.maxPendingCalls");
    const uint32_t max_fds = to_u32(limits.Get("maxFds"), "limits.maxFds");
    if (max_fds > 253) throw base::UsageError("limits.maxFds: 0 to 253 expected");
    on_ready_ = Napi::Persistent(to_function(info[2], "onReady"));
    on_closed_ = Napi::Persistent(to_function(info[3], "onClosed"));
    on_drain_ = Napi::Persistent(to_function(info[4], "onDrain"));
    const Napi::Value socket = target.Get("socket");
    const Napi::Value client = target.Get("client");
    if (!client.IsUndefined()) {
      connection_ =
          bus::Connection::over(take_fd(client, "client"), to_bool(target.Get("peer"), "peer"), *this);
    } else if (socket.IsUndefined()) {
      connection_ = bus::Connection::open(to_string(target.Get("address"), "address"),
                                          to_bool(target.Get("peer"), "peer"), *this);
    } else {
      connection_ = bus::Connection::serve(take_fd(socket, "socket"), {max_message_, max_fds}, *this);
    }
    poll_ = std::make_unique<LoopPoll>(info.Env(), connection_->poll_fd(), [this](int) { run(); });
    timer_ = std::make_unique<LoopTimer>(info.Env(), [this] { run(); });
  });
  Ref(); // it works without anybody holding it, until it is closed
  rearm();
}

BusConnection::~BusConnection() {
  // Collected or at the end of the process: nobody is told any more.
  poll_.reset();
  slots_.clear();
  outgoing_.clear();
}

sd_bus* BusConnection::bus() {
  if (!connection_->is_open()) throw base::SystemError(ENOTCONN, "D-Bus", "", "the connection is closed");
  return connection_->get();
}

void BusConnection::run() {
  const Napi::HandleScope scope(Env());
  [[maybe_unused]] const Napi::Object self =
      Value(); // what is called may close it and drop the last reference
  for (int i = 0; i < messages_per_turn && connection_->is_open(); ++i) {
    bool more = false;
    enter_js(Env(), resource, [&] { more = connection_->turn(); });
    if (!more) break;
  }
  if (wants_drain_ && connection_->is_open() && connection_->queued() == 0) {
    wants_drain_ = false;
    enter_js(Env(), resource, [&] { on_drain_.Value().Call({}); });
  }
  rearm();
}

void BusConnection::rearm() {
  if (!connection_->is_open()) return;
  poll_->watch(to_uv(connection_->events()));
  const uint64_t deadline = connection_->deadline_us();
  if (deadline == UINT64_MAX) {
    timer_->cancel();
    return;
  }
  const auto now = static_cast<uint64_t>(base::now_ns() / 1000);
  timer_->set(deadline <= now ? 0 : (deadline - now + 999) / 1000);
}

void BusConnection::after_send() {
  connection_->limit_queue();
  rearm();
}

void BusConnection::on_ready() noexcept {
  shielded([&] {
    try {
      on_ready_.Value().Call({});
    } catch (const Napi::Error& error) {
      report_uncaught(Env(), error);
    }
    return 0;
  });
}

void BusConnection::on_closed(int error) noexcept {
  poll_.reset();
  timer_.reset();
  shielded([&] {
    try {
      tell_closed(error);
    } catch (const Napi::Error& failed) {
      report_uncaught(Env(), failed);
    }
    return 0;
  });
}

void BusConnection::tell_closed(int error) {
  const Napi::HandleScope scope(Env());
  incoming_.clear();
  objects_.clear();
  slots_.clear();
  const base::SystemError reason(error == 0 ? ECONNABORTED : error, "D-Bus", "", "the connection is closed");
  const Napi::Error thrown = to_js(Env(), reason);
  reject_outgoing(thrown);
  const Napi::Function on_closed = on_closed_.Value();
  on_ready_.Reset();
  on_closed_.Reset();
  on_drain_.Reset();
  Unref();
  on_closed.Call({error == 0 ? Env().Null() : thrown.Value()});
}

Napi::Value BusConnection::close(const Napi::CallbackInfo& info) {
  connection_->close(0);
  return info.Env().Undefined();
}

Napi::Value BusConnection::is_closed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !connection_->is_open());
}

Napi::Value BusConnection::unique_name(const Napi::CallbackInfo& info) {
  const char* name = nullptr;
  if (!connection_->is_open() || connection_->is_peer() || !connection_->is_ready() ||
      sd_bus_get_unique_name(connection_->get(), &name) < 0) {
    return info.Env().Null();
  }
  return Napi::String::New(info.Env(), name);
}

Napi::Value BusConnection::credentials(const Napi::CallbackInfo& info) {
  if (!connection_->credentials()) return info.Env().Null();
  return credentials_to_js(info.Env(), *connection_->credentials());
}

Napi::Value BusConnection::queued(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(connection_->queued()));
}

/// onDrain will be called once nothing waits to be sent.
Napi::Value BusConnection::await_drain(const Napi::CallbackInfo& info) {
  bus();
  wants_drain_ = true;
  return info.Env().Undefined();
}

Napi::Value text_or_null(Napi::Env env, const char* text) {
  return text == nullptr ? env.Null() : Napi::String::New(env, text).As<Napi::Value>();
}

const char* to_optional(const Napi::Value& value, const char* what, std::string& storage) {
  if (value.IsNull()) return nullptr;
  storage = to_string(value, what);
  return storage.c_str();
}

void init_bus(Napi::Env env, Napi::Object exports) {
  using B = BusConnection;
  exports.Set("BusConnection",
              B::DefineClass(env, "BusConnection",
                             {
                                 B::define<&B::close>("close"),
                                 B::define_getter<&B::is_closed>("closed"),
                                 B::define_getter<&B::unique_name>("uniqueName"),
                                 B::define_getter<&B::credentials>("credentials"),
                                 B::define_getter<&B::queued>("queued"),
                                 B::define<&B::await_drain>("awaitDrain"),
                                 B::define<&B::call>("call"),
                                 B::define<&B::emit>("emit"),
                                 B::define<&B::add_match>("addMatch"),
                                 B::define<&B::reply>("reply"),
                                 B::define<&B::reply_error>("replyError"),
                                 B::define<&B::add_interface>("addInterface"),
                                 B::define<&B::add_object_manager>("addObjectManager"),
                                 B::define<&B::remove>("remove"),
                                 B::define<&B::emit_properties_changed>("emitPropertiesChanged"),
                                 B::define<&B::emit_interfaces_added>("emitInterfacesAdded"),
                                 B::define<&B::emit_interfaces_removed>("emitInterfacesRemoved"),
                             }));
}

} // namespace scanout::addon
