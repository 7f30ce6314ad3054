// The class WaylandServer: wayland/server.h for JavaScript.
#include "wayland/server.h"

#include "addon/loop.h"
#include "addon/sockets.h"
#include "addon/wrapped.h"
#include "kms/device.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:wayland";

const char* name_of(wayland::Event::What what) {
  using What = wayland::Event::What;
  switch (what) {
  case What::bound:
    return "bound";
  case What::unbound:
    return "unbound";
  case What::requested:
    return "requested";
  case What::ended:
    break;
  }
  return "ended";
}

Napi::Object to_js(Napi::Env env, const wayland::Event& event) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", name_of(event.what));
  object.Set("id", event.id);
  object.Set("device", event.device);
  object.Set("pid", event.peer.pid);
  object.Set("uid", event.peer.uid);
  object.Set("gid", event.peer.gid);
  Napi::Array connectors = Napi::Array::New(env, event.connectors.size());
  for (uint32_t i = 0; i < event.connectors.size(); ++i)
    connectors.Set(i, event.connectors[i]);
  object.Set("connectors", connectors);
  object.Set("stale", event.stale);
  object.Set("crashed", event.crashed);
  return object;
}

std::vector<wayland::Offer> to_offers(const Napi::Value& value) {
  const Napi::Array array = to_array(value, "offers");
  std::vector<wayland::Offer> offers;
  offers.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object object = to_object(array.Get(i), "offers[]");
    offers.push_back({.connector = to_u32(object.Get("connector"), "offers[].connector"),
                      .name = to_string(object.Get("name"), "offers[].name"),
                      .description = to_string(object.Get("description"), "offers[].description")});
  }
  return offers;
}

class WaylandServer : public Wrapped<WaylandServer> {
public:
  /// (path, options, onEvents(events), onLog(line))
  explicit WaylandServer(const Napi::CallbackInfo& info) : Wrapped<WaylandServer>(info) {
    guarded(info.Env(), [&] { open(info); });
  }
  Napi::Value add_device(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), server().add_device());
  }
  Napi::Value remove_device(const Napi::CallbackInfo& info) {
    server().remove_device(to_u32(info[0], "device"));
    return info.Env().Undefined();
  }
  Napi::Value send_fd(const Napi::CallbackInfo& info) {
    const int fd = borrow_fd(info[1], "fd");
    return Napi::Boolean::New(info.Env(), server().send_fd(to_u32(info[0], "binding"), fd));
  }
  Napi::Value offer(const Napi::CallbackInfo& info) {
    const std::vector<wayland::Offer> offers = to_offers(info[1]);
    return Napi::Boolean::New(info.Env(), server().offer(to_u32(info[0], "binding"), offers));
  }
  Napi::Value grant(const Napi::CallbackInfo& info) {
    const int fd = borrow_fd(info[1], "fd");
    return Napi::Boolean::New(info.Env(), server().grant(to_u32(info[0], "lease"), fd));
  }
  Napi::Value finish(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), server().finish(to_u32(info[0], "lease")));
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    if (server_) {
      poll_.reset();
      server_.reset();
      on_events_.Reset();
      on_log_.Reset();
      Unref();
    }
    return info.Env().Undefined();
  }

private:
  void open(const Napi::CallbackInfo& info);
  void dispatch();
  wayland::Server& server() {
    if (!server_) throw base::UsageError("the server is closed");
    return *server_;
  }

  std::unique_ptr<wayland::Server> server_;
  std::unique_ptr<LoopPoll> poll_; // after server_: must go first
  Napi::FunctionReference on_events_;
  Napi::FunctionReference on_log_;
};

void WaylandServer::open(const Napi::CallbackInfo& info) {
  const base::ListenOptions options = to_listen_options(to_object(info[1], "options"), SOCK_STREAM);
  on_events_ = Napi::Persistent(to_function(info[2], "onEvents"));
  on_log_ = Napi::Persistent(to_function(info[3], "onLog"));
  server_ = std::make_unique<wayland::Server>(to_string(info[0], "path"), options);
  poll_ = std::make_unique<LoopPoll>(info.Env(), server_->fd(), [this](int) { dispatch(); });
  poll_->watch(UV_READABLE);
  Ref(); // it works without anybody holding it, until it is closed
}

/// JavaScript is told when libwayland is done, since it may close the server.
void WaylandServer::dispatch() {
  std::vector<std::string> log;
  const std::vector<wayland::Event> events = server_->dispatch(log);
  if (events.empty() && log.empty()) return;
  enter_js(Env(), resource, [&] {
    const Napi::Function on_events = on_events_.Value();
    const Napi::Function on_log = on_log_.Value();
    for (const std::string& line : log)
      on_log.Call({Napi::String::New(Env(), line)});
    if (events.empty()) return;
    Napi::Array array = Napi::Array::New(Env(), events.size());
    for (uint32_t i = 0; i < events.size(); ++i)
      array.Set(i, to_js(Env(), events[i]));
    on_events.Call({array});
  });
}

/// (path): an Fd.
Napi::Value open_without_master(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), kms::open_without_master(to_string(info[0], "path")));
}

} // namespace

void init_wayland(Napi::Env env, Napi::Object exports) {
  using W = WaylandServer;
  exports.Set("WaylandServer", W::DefineClass(env, "WaylandServer",
                                              {
                                                  W::define<&W::add_device>("addDevice"),
                                                  W::define<&W::remove_device>("removeDevice"),
                                                  W::define<&W::send_fd>("sendFd"),
                                                  W::define<&W::offer>("offer"),
                                                  W::define<&W::grant>("grant"),
                                                  W::define<&W::finish>("finish"),
                                                  W::define<&W::close>("close"),
                                              }));
  export_function<open_without_master>(exports, "openWithoutMaster");
}

} // namespace scanout::addon
