// Conversions between the KMS layer's structures and JavaScript.
#pragma once

#include <napi.h>

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "addon/addon.h"
#include "kms/dmabuf.h"
#include "kms/framebuffer.h"
#include "kms/objects.h"

namespace scanout::addon {

/// An array, each element made by `convert`.
template <typename Items, typename Convert>
Napi::Array to_js_array(Napi::Env env, const Items& items, Convert convert) {
  Napi::Array array = Napi::Array::New(env, std::size(items));
  uint32_t index = 0;
  for (const auto& item : items)
    array.Set(index++, convert(item));
  return array;
}

Napi::Array numbers(Napi::Env env, std::span<const uint32_t> values);
Napi::Value big(Napi::Env env, uint64_t value);
Napi::Value big(Napi::Env env, int64_t value);
/// A Uint8Array of its own memory.
Napi::Value bytes(Napi::Env env, std::span<const std::byte> data);

/// What an argument's Uint8Array holds; valid until JavaScript runs again.
std::span<const std::byte> to_bytes(const Napi::Value& value, const char* what);
std::vector<uint32_t> to_u32_list(const Napi::Value& value, const char* what);
/// Rectangles [x1, y1, x2, y2].
std::vector<std::array<int32_t, 4>> to_rectangles(const Napi::Value& value, const char* what);
/// An empty object when it is undefined.
Napi::Object to_options(const Napi::Value& value, const char* what);
/// `fallback` when the option is not given.
bool option(const Napi::Object& options, const char* name, bool fallback);
uint32_t option(const Napi::Object& options, const char* name, uint32_t fallback);
/// "read", "write" or "read-write".
kms::Access to_access(const Napi::Value& value, const char* what);

/// Width, height, format, modifier, interlaced, and each of `planes`, whose buffer goes to `take`.
kms::FramebufferLayout to_layout(const Napi::Value& value, const char* what,
                                 const std::function<void(size_t index, const Napi::Object& plane)>& take);
kms::Mode to_mode(const Napi::Value& value, const char* what);

Napi::Object to_js(Napi::Env env, const kms::Mode& mode);
Napi::Object to_js(Napi::Env env, const kms::Resources& resources);
Napi::Object to_js(Napi::Env env, const kms::Connector& connector);
Napi::Object to_js(Napi::Env env, const kms::Encoder& encoder);
Napi::Object to_js(Napi::Env env, const kms::Crtc& crtc);
Napi::Object to_js(Napi::Env env, const kms::Plane& plane);
Napi::Object to_js(Napi::Env env, const kms::PropertyInfo& info);
Napi::Object to_js(Napi::Env env, const kms::Property& property);
Napi::Object to_js(Napi::Env env, kms::FramebufferInfo info);

} // namespace scanout::addon
