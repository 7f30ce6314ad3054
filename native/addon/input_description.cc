// What devices say of themselves, between C++ and JavaScript.
#include <array>
#include <cstring>
#include <string_view>

#include "addon/addon.h"
#include "addon/input.h"
#include "input/describe.h"

namespace scanout::addon {

namespace {

constexpr std::array<const char*, input::class_count> class_names = {
    "keyboard", "pointer", "absolute", "touchscreen", "touchpad", "tablet", "pad", "switch", "joystick"};
constexpr int32_t farthest = 1 << 30;

template <size_t Count> Napi::Array to_js(Napi::Env env, const input::Bits<Count>& bits) {
  Napi::Array array = Napi::Array::New(env);
  uint32_t length = 0;
  for (size_t code = 0; code < Count; ++code) {
    if (bits.test(code)) array.Set(length++, static_cast<uint32_t>(code));
  }
  return array;
}

template <size_t Count> void to_bits(const Napi::Value& value, const char* what, input::Bits<Count>& bits) {
  const Napi::Array array = to_array(value, what);
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const uint32_t code = to_u32(array.Get(i), what);
    if (code >= Count)
      throw Napi::RangeError::New(value.Env(),
                                  std::string(what) + ": there is no code " + std::to_string(code));
    bits.set(code);
  }
}

template <size_t Size>
void to_text(const Napi::Value& value, const char* what, std::array<char, Size>& text) {
  const std::string string = to_string(value, what);
  std::memcpy(text.data(), string.data(), std::min(string.size(), Size - 1)); // zeroed before
}

void to_axes(const Napi::Object& axes, input::Description& description) {
  const Napi::Array names = axes.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).ToString();
    const std::string what = "description.absolute[" + name + "]";
    const uint32_t code = to_u32(names.Get(i).ToNumber(), what.c_str());
    if (code >= ABS_CNT) throw Napi::RangeError::New(axes.Env(), what + ": there is no such axis");
    const Napi::Object range = to_object(axes.Get(name), what.c_str());
    const auto member = [&](const char* of) { return to_i32(range.Get(of), (what + "." + of).c_str()); };
    input_absinfo& into = description.axes[code];
    into = {.value = 0,
            .minimum = member("minimum"),
            .maximum = member("maximum"),
            .fuzz = member("fuzz"),
            .flat = member("flat"),
            .resolution = member("resolution")};
    if (into.minimum >= into.maximum || into.minimum < -farthest || into.maximum > farthest)
      throw Napi::RangeError::New(axes.Env(), what + ": no range that a device can have");
    if (range.Has("value")) into.value = member("value");
    description.absolute.set(code);
  }
}

Napi::Value describe_device(const Napi::CallbackInfo& info) {
  return input_description_to_js(info.Env(), input::describe(borrow_fd(info[0], "fd")));
}

Napi::Value classify_device(const Napi::CallbackInfo& info) {
  const auto of = input::classify(to_input_description(info[0], "description"));
  return of ? Napi::Value(Napi::String::New(info.Env(), input_class_name(*of))) : info.Env().Null();
}

} // namespace

const char* input_class_name(input::Class of) noexcept {
  return class_names[static_cast<size_t>(of)];
}

input::Class to_input_class(const Napi::Value& value, const char* what) {
  const std::string name = to_string(value, what);
  for (size_t i = 0; i < class_names.size(); ++i) {
    if (name == class_names[i]) return static_cast<input::Class>(i);
  }
  throw Napi::TypeError::New(value.Env(), std::string(what) + ": there is no class " + name);
}

input::Description to_input_description(const Napi::Value& value, const char* what) {
  const Napi::Object object = to_object(value, what);
  input::Description description;
  to_text(object.Get("name"), "description.name", description.name);
  to_text(object.Get("phys"), "description.phys", description.phys);
  to_text(object.Get("uniq"), "description.uniq", description.uniq);
  const auto number = [&](const char* of) {
    return static_cast<uint16_t>(to_u32(object.Get(of), (std::string("description.") + of).c_str()));
  };
  description.id = {.bustype = number("bus"),
                    .vendor = number("vendor"),
                    .product = number("product"),
                    .version = number("version")};
  to_bits(object.Get("properties"), "description.properties", description.properties);
  to_bits(object.Get("types"), "description.types", description.types);
  to_bits(object.Get("keys"), "description.keys", description.keys);
  to_bits(object.Get("relative"), "description.relative", description.relative);
  to_axes(to_object(object.Get("absolute"), "description.absolute"), description);
  to_bits(object.Get("misc"), "description.misc", description.misc);
  to_bits(object.Get("switches"), "description.switches", description.switches);
  to_bits(object.Get("leds"), "description.leds", description.leds);
  return description;
}

Napi::Object input_description_to_js(Napi::Env env, const input::Description& description) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", description.name.data());
  object.Set("phys", description.phys.data());
  object.Set("uniq", description.uniq.data());
  object.Set("bus", description.id.bustype);
  object.Set("vendor", description.id.vendor);
  object.Set("product", description.id.product);
  object.Set("version", description.id.version);
  object.Set("properties", to_js(env, description.properties));
  object.Set("types", to_js(env, description.types));
  object.Set("keys", to_js(env, description.keys));
  object.Set("relative", to_js(env, description.relative));
  Napi::Object axes = Napi::Object::New(env);
  for (uint32_t code = 0; code < ABS_CNT; ++code) {
    if (!description.absolute.test(code)) continue;
    const input_absinfo& from = description.axes[code];
    Napi::Object range = Napi::Object::New(env);
    range.Set("value", from.value);
    range.Set("minimum", from.minimum);
    range.Set("maximum", from.maximum);
    range.Set("fuzz", from.fuzz);
    range.Set("flat", from.flat);
    range.Set("resolution", from.resolution);
    axes.Set(code, range);
  }
  object.Set("absolute", axes);
  object.Set("misc", to_js(env, description.misc));
  object.Set("switches", to_js(env, description.switches));
  object.Set("leds", to_js(env, description.leds));
  return object;
}

void init_input_descriptions(Napi::Env, Napi::Object exports) {
  export_function<describe_device>(exports, "describeInputDevice");
  export_function<classify_device>(exports, "classifyInputDevice");
}

} // namespace scanout::addon
