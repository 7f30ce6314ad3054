// systemd/notify.h for JavaScript.
#include "systemd/notify.h"

#include "addon/addon.h"

namespace scanout::addon {

namespace {

/// (state, fds): false where nobody listens.
Napi::Value notify(const Napi::CallbackInfo& info) {
  const std::string state = to_string(info[0], "state");
  if (state.empty() || state.find('\0') != std::string::npos)
    throw base::UsageError("state: NAME=value lines expected");
  std::vector<int> fds;
  const Napi::Array array = to_array(info[1], "fds");
  fds.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    fds.push_back(borrow_fd(array.Get(i), std::string("fds[").append(std::to_string(i)).append("]").c_str()));
  return Napi::Boolean::New(info.Env(), systemd::notify(state, fds));
}

Napi::Value watchdog_usec(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(systemd::watchdog_usec()));
}

/// An array of { name, fd }.
Napi::Value take_passed_fds(const Napi::CallbackInfo& info) {
  Napi::Array array = Napi::Array::New(info.Env());
  for (systemd::PassedFd& passed : systemd::take_passed_fds()) {
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("name", passed.name);
    object.Set("fd", wrap_fd(info.Env(), std::move(passed.fd)));
    array.Set(array.Length(), object);
  }
  return array;
}

Napi::Value is_booted(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), systemd::is_booted());
}

} // namespace

void init_systemd(Napi::Env, Napi::Object exports) {
  export_function<notify>(exports, "systemdNotify");
  export_function<watchdog_usec>(exports, "watchdogUsec");
  export_function<take_passed_fds>(exports, "takePassedFds");
  export_function<is_booted>(exports, "systemdBooted");
}

} // namespace scanout::addon
