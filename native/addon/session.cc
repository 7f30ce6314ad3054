// session/udev.h for JavaScript.
#include "session/udev.h"

#include "addon/loop.h"
#include "addon/wrapped.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:udev";

Napi::Value text_or_null(Napi::Env env, const std::string& text) {
  return text.empty() ? env.Null() : Napi::String::New(env, text).As<Napi::Value>();
}

Napi::Object to_js(Napi::Env env, const session::UdevDevice& device) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("action", text_or_null(env, device.action));
  object.Set("subsystem", device.subsystem);
  object.Set("devtype", text_or_null(env, device.devtype));
  object.Set("sysname", device.sysname);
  object.Set("syspath", device.syspath);
  object.Set("devnode", text_or_null(env, device.devnode));
  object.Set("sequence", static_cast<double>(device.sequence));
  Napi::Object properties = Napi::Object::New(env);
  for (const auto& [name, value] : device.properties)
    properties.Set(name, value);
  object.Set("properties", properties);
  return object;
}

Napi::Array to_js(Napi::Env env, const std::vector<session::UdevDevice>& devices) {
  Napi::Array array = Napi::Array::New(env, devices.size());
  for (uint32_t i = 0; i < devices.size(); ++i) {
    const Napi::HandleScope scope(env);
    array.Set(i, to_js(env, devices[i]));
  }
  return array;
}

session::UdevFilter to_filter(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "filter");
  session::UdevFilter filter{.subsystem = to_string(object.Get("subsystem"), "filter.subsystem"),
                             .devtype = {}};
  const Napi::Value devtype = object.Get("devtype");
  if (!devtype.IsUndefined()) filter.devtype = to_string(devtype, "filter.devtype");
  if (filter.subsystem.empty()) throw base::UsageError("filter.subsystem: name expected");
  return filter;
}

std::optional<session::UdevMonitor::Source> to_source(const Napi::Value& value) {
  const std::string source = to_string(value, "source");
  if (source == "auto") return std::nullopt;
  if (source == "udev") return session::UdevMonitor::Source::udev;
  if (source == "kernel") return session::UdevMonitor::Source::kernel;
  throw base::UsageError("source: 'auto', 'udev' or 'kernel' expected");
}

class UdevMonitor : public Wrapped<UdevMonitor> {
public:
  /// (filters, source, receive buffer in bytes, onEvents(events, overflow), onError(error))
  explicit UdevMonitor(const Napi::CallbackInfo& info) : Wrapped<UdevMonitor>(info) {
    guarded(info.Env(), [&] { open(info); });
  }
  Napi::Value source(const Napi::CallbackInfo& info) {
    const bool is_udev = source_ == session::UdevMonitor::Source::udev;
    return Napi::String::New(info.Env(), is_udev ? "udev" : "kernel");
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    shut();
    return info.Env().Undefined();
  }

private:
  void open(const Napi::CallbackInfo& info);
  void drain();
  void shut();

  std::unique_ptr<session::UdevMonitor> monitor_;
  std::unique_ptr<LoopPoll> poll_; // after monitor_: must go first
  session::UdevMonitor::Source source_ = session::UdevMonitor::Source::udev;
  Napi::FunctionReference on_events_;
  Napi::FunctionReference on_error_;
};

void UdevMonitor::open(const Napi::CallbackInfo& info) {
  std::vector<session::UdevFilter> filters;
  const Napi::Array array = to_array(info[0], "filters");
  filters.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    filters.push_back(to_filter(array.Get(i)));
  const auto source = to_source(info[1]);
  const int32_t buffer_bytes = to_i32(info[2], "receiveBufferBytes");
  if (buffer_bytes <= 0) throw base::UsageError("receiveBufferBytes: positive integer expected");
  on_events_ = Napi::Persistent(to_function(info[3], "onEvents"));
  on_error_ = Napi::Persistent(to_function(info[4], "onError"));
  monitor_ = std::make_unique<session::UdevMonitor>(filters, source, buffer_bytes);
  source_ = monitor_->source();
  poll_ = std::make_unique<LoopPoll>(info.Env(), monitor_->fd(), [this](int) { drain(); });
  poll_->watch(UV_READABLE);
  Ref(); // it works without anybody holding it, until it is closed
}

void UdevMonitor::drain() {
  enter_js(Env(), resource, [&] {
    try {
      const session::UdevMonitor::Drained drained = monitor_->drain();
      poll_->watch(UV_READABLE); // an overflow is an error of the socket, at which libuv stops
      if (drained.events.empty() && !drained.overflow) return;
      on_events_.Value().Call({to_js(Env(), drained.events), Napi::Boolean::New(Env(), drained.overflow)});
    } catch (const base::SystemError& error) {
      const Napi::Function on_error = on_error_.Value();
      shut();
      on_error.Call({addon::to_js(Env(), error).Value()});
    }
  });
}

void UdevMonitor::shut() {
  if (!monitor_) return;
  poll_.reset();
  monitor_.reset();
  on_events_.Reset();
  on_error_.Reset();
  Unref();
}

/// (filter): an array of devices.
Napi::Value enumerate_devices(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), session::enumerate_devices(to_filter(info[0])));
}

} // namespace

void init_session(Napi::Env env, Napi::Object exports) {
  using U = UdevMonitor;
  exports.Set("UdevMonitor", U::DefineClass(env, "UdevMonitor",
                                            {
                                                U::define<&U::close>("close"),
                                                U::define_getter<&U::source>("source"),
                                            }));
  export_function<enumerate_devices>(exports, "enumerateDevices");
}

} // namespace scanout::addon
