// Modes to and from JavaScript.
#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "addon/kms_convert.h"

namespace scanout::addon {

namespace {

struct Timing {
  const char* name;
  decltype(&kms::Mode::hdisplay) field;
};

constexpr Timing timings[] = {
    {"hdisplay", &kms::Mode::hdisplay},
    {"hsyncStart", &kms::Mode::hsync_start},
    {"hsyncEnd", &kms::Mode::hsync_end},
    {"htotal", &kms::Mode::htotal},
    {"hskew", &kms::Mode::hskew},
    {"vdisplay", &kms::Mode::vdisplay},
    {"vsyncStart", &kms::Mode::vsync_start},
    {"vsyncEnd", &kms::Mode::vsync_end},
    {"vtotal", &kms::Mode::vtotal},
    {"vscan", &kms::Mode::vscan},
};

} // namespace

kms::Mode to_mode(const Napi::Value& value, const char* what) {
  const Napi::Object object = to_object(value, what);
  kms::Mode mode{};
  mode.clock = to_u32(object.Get("clock"), "clock");
  for (const auto& [name, field] : timings) {
    const uint32_t number = to_u32(object.Get(name), name);
    if (number > std::numeric_limits<uint16_t>::max())
      throw Napi::RangeError::New(value.Env(), std::string(name) + ": integer from 0 to 65535 expected");
    mode.*field = static_cast<uint16_t>(number);
  }
  mode.flags = to_u32(object.Get("flags"), "flags");
  mode.type = option(object, "type", uint32_t{DRM_MODE_TYPE_USERDEF});
  mode.vrefresh = (kms::refresh_mhz(mode) + 500) / 1000;
  const Napi::Value name = object.Get("name");
  if (!name.IsUndefined()) {
    const std::string text = to_string(name, "name");
    std::memcpy(mode.name, text.data(), std::min(text.size(), sizeof mode.name - 1));
  }
  return mode;
}

Napi::Object to_js(Napi::Env env, const kms::Mode& mode) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", std::string(mode.name, strnlen(mode.name, sizeof mode.name)));
  object.Set("clock", mode.clock);
  for (const auto& [name, field] : timings)
    object.Set(name, mode.*field);
  object.Set("flags", mode.flags);
  object.Set("type", mode.type);
  object.Set("refreshMhz", kms::refresh_mhz(mode));
  object.Set("raw", bytes(env, std::as_bytes(std::span(&mode, 1))));
  return object;
}

} // namespace scanout::addon
