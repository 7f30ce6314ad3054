// What the C client reads from the input ring, to JavaScript.
#include <cstring>

#include "addon/guest_client.h"

namespace scanout::addon {

namespace {

/// The numbers of the bits that are set.
Napi::Array bits_to_js(Napi::Env env, const uint64_t* words, size_t count) {
  Napi::Array js = Napi::Array::New(env);
  uint32_t length = 0;
  for (size_t bit = 0; bit < 64 * count; ++bit) {
    if ((words[bit / 64] >> bit % 64 & 1) != 0) js.Set(length++, static_cast<uint32_t>(bit));
  }
  return js;
}

Napi::Object axes_to_js(Napi::Env env, const scanoutd_input_device& device) {
  Napi::Object js = Napi::Object::New(env);
  for (uint32_t code = 0; code < 64; ++code) {
    if ((device.absolute >> code & 1) == 0) continue;
    const scanoutd_input_axis& from = device.axes[code];
    Napi::Object axis = Napi::Object::New(env);
    axis.Set("value", from.value);
    axis.Set("minimum", from.minimum);
    axis.Set("maximum", from.maximum);
    axis.Set("fuzz", from.fuzz);
    axis.Set("flat", from.flat);
    axis.Set("resolution", from.resolution);
    js.Set(code, axis);
  }
  return js;
}

} // namespace

Napi::Object input_frame_to_js(Napi::Env env, const scanoutd_input_frame& frame) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("device", frame.device);
  js.Set("timeNs", Napi::BigInt::New(env, frame.time_ns));
  Napi::Array events = Napi::Array::New(env, frame.count - 1);
  for (uint32_t i = 0; i + 1 < frame.count; ++i) {
    Napi::Object event = Napi::Object::New(env);
    event.Set("type", frame.events[i].type);
    event.Set("code", frame.events[i].code);
    event.Set("value", frame.events[i].value);
    events.Set(i, event);
  }
  js.Set("events", events);
  return js;
}

Napi::Object input_device_to_js(Napi::Env env, const scanoutd_input_device& device) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("name", device.name);
  js.Set("bus", device.bus);
  js.Set("vendor", device.vendor);
  js.Set("product", device.product);
  js.Set("version", device.version);
  js.Set("keys", bits_to_js(env, device.keys, std::size(device.keys)));
  const auto set = [&](const char* name, uint64_t word) { js.Set(name, bits_to_js(env, &word, 1)); };
  set("properties", device.properties);
  set("types", device.types);
  set("relative", device.relative);
  set("misc", device.misc);
  set("switches", device.switches);
  set("leds", device.leds);
  js.Set("axes", axes_to_js(env, device));
  return js;
}

} // namespace scanout::addon
