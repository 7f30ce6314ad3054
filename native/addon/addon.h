// The add-on: argument checks and conversions, nothing else. One file per module of the core.
#pragma once

#include <napi.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "base/unique_fd.h"

namespace scanout::addon {

void init_base(Napi::Env env, Napi::Object exports);
void init_kms(Napi::Env env, Napi::Object exports);
void init_flip(Napi::Env env, Napi::Object exports);
void init_guests(Napi::Env env, Napi::Object exports);
void init_vfio(Napi::Env env, Napi::Object exports);
void init_session(Napi::Env env, Napi::Object exports);
void init_process(Napi::Env env, Napi::Object exports);
void init_seat(Napi::Env env, Napi::Object exports);
void init_bus(Napi::Env env, Napi::Object exports);
void init_systemd(Napi::Env env, Napi::Object exports);
void init_pixels(Napi::Env env, Napi::Object exports);
void init_shadow(Napi::Env env, Napi::Object exports);
void init_qemu(Napi::Env env, Napi::Object exports);
void init_streams(Napi::Env env, Napi::Object exports);
void init_seqpacket(Napi::Env env, Napi::Object exports);
void init_guest_client(Napi::Env env, Napi::Object exports);
void init_virtio(Napi::Env env, Napi::Object exports);
void init_wayland(Napi::Env env, Napi::Object exports);
void init_input(Napi::Env env, Napi::Object exports);
void init_input_descriptions(Napi::Env env, Napi::Object exports);

/// Turns a core exception into a JavaScript Error with `code`, `errno`, `op`, `subject`.
Napi::Error to_js(Napi::Env env, const std::exception& error);

/// Runs `body`, turning core exceptions into JavaScript ones. Wrap the body of every exported function in it.
template <typename Body> auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw to_js(env, error);
  }
}

/// Checked conversions. `what` names the argument in the message. Throws TypeError or RangeError.
uint32_t to_u32(const Napi::Value& value, const char* what);
int32_t to_i32(const Napi::Value& value, const char* what);
/// Accepts a BigInt, or a Number that is a safe non-negative integer.
uint64_t to_u64(const Napi::Value& value, const char* what);
int64_t to_i64(const Napi::Value& value, const char* what);
bool to_bool(const Napi::Value& value, const char* what);
std::string to_string(const Napi::Value& value, const char* what);
Napi::Object to_object(const Napi::Value& value, const char* what);
Napi::Array to_array(const Napi::Value& value, const char* what);
Napi::Function to_function(const Napi::Value& value, const char* what);

/// The JavaScript class `Fd`: one owner of one descriptor.
///
/// JavaScript never handles naked numbers for descriptors it owns: what native code hands out is an Fd, what
/// it takes over is an Fd that it empties (`take_fd`), what it only looks at is borrowed (`borrow_fd`).
Napi::Value wrap_fd(Napi::Env env, base::UniqueFd fd);
/// Moves the descriptor out; the Fd is closed afterwards. Throws when it is closed already.
base::UniqueFd take_fd(const Napi::Value& value, const char* what);
/// The number, owned still by the Fd. Throws when it is closed already.
int borrow_fd(const Napi::Value& value, const char* what);

/// Sets `name` on `exports` to a function that runs guarded.
template <Napi::Value (*Function)(const Napi::CallbackInfo&)>
void export_function(Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New(
                        exports.Env(),
                        [](const Napi::CallbackInfo& info) {
                          return guarded(info.Env(), [&] { return Function(info); });
                        },
                        name));
}

} // namespace scanout::addon
