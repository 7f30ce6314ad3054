// Of the class InputEngine: devices that are read through libinput.
#include "addon/input_libinput.h"

#include <algorithm>
#include <array>
#include <utility>

#include "addon/addon.h"

namespace scanout::addon {

namespace {

template <typename Value> using Names = std::initializer_list<std::pair<const char*, Value>>;

/// An option that may be absent. Names of options are those of LibinputOptions in src/native/input.ts.
class Options {
public:
  explicit Options(const Napi::Value& value) : from_(to_object(value, "libinput")) {}

  template <typename Convert>
  auto read(const char* name, Convert convert) const
      -> std::optional<decltype(convert(std::declval<Napi::Value>(), ""))> {
    const Napi::Value value = from_.Get(name);
    if (value.IsUndefined()) return std::nullopt;
    return convert(value, (std::string("libinput.") + name).c_str());
  }
  [[nodiscard]] std::optional<bool> flag(const char* name) const { return read(name, to_bool); }
  template <typename Value>
  [[nodiscard]] std::optional<Value> choice(const char* name, Names<Value> names) const {
    return read(name, [&](const Napi::Value& value, const char* what) {
      const std::string given = to_string(value, what);
      const auto* found = std::ranges::find_if(names, [&](const auto& one) { return given == one.first; });
      if (found == names.end()) throw base::UsageError(std::string(what) + ": there is no " + given);
      return found->second;
    });
  }

private:
  Napi::Object from_;
};

double to_number(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), std::string(what) + ": a number expected");
  return value.As<Napi::Number>().DoubleValue();
}

std::array<float, 6> to_matrix(const Napi::Value& value, const char* what) {
  const Napi::Array rows = to_array(value, what);
  std::array<float, 6> matrix{};
  if (rows.Length() != matrix.size())
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": six numbers expected");
  for (uint32_t i = 0; i < matrix.size(); ++i)
    matrix[i] = static_cast<float>(to_number(rows.Get(i), what));
  return matrix;
}

input::LibinputOptions to_settings(const Napi::Value& value) {
  const Options options(value);
  return {
      .tap = options.flag("tap"),
      .tap_drag = options.flag("tapDrag"),
      .tap_drag_lock = options.flag("tapDragLock"),
      .natural_scroll = options.flag("naturalScroll"),
      .left_handed = options.flag("leftHanded"),
      .middle_emulation = options.flag("middleEmulation"),
      .disable_while_typing = options.flag("disableWhileTyping"),
      .tap_button_map = options.choice<libinput_config_tap_button_map>(
          "tapButtonMap", {{"lrm", LIBINPUT_CONFIG_TAP_MAP_LRM}, {"lmr", LIBINPUT_CONFIG_TAP_MAP_LMR}}),
      .scroll_method = options.choice<libinput_config_scroll_method>(
          "scrollMethod", {{"none", LIBINPUT_CONFIG_SCROLL_NO_SCROLL},
                           {"two-finger", LIBINPUT_CONFIG_SCROLL_2FG},
                           {"edge", LIBINPUT_CONFIG_SCROLL_EDGE},
                           {"button", LIBINPUT_CONFIG_SCROLL_ON_BUTTON_DOWN}}),
      .scroll_button = options.read("scrollButton", to_u32),
      .click_method = options.choice<libinput_config_click_method>(
          "clickMethod", {{"none", LIBINPUT_CONFIG_CLICK_METHOD_NONE},
                          {"button-areas", LIBINPUT_CONFIG_CLICK_METHOD_BUTTON_AREAS},
                          {"clickfinger", LIBINPUT_CONFIG_CLICK_METHOD_CLICKFINGER}}),
      .accel_profile = options.choice<libinput_config_accel_profile>(
          "accelProfile", {{"flat", LIBINPUT_CONFIG_ACCEL_PROFILE_FLAT},
                           {"adaptive", LIBINPUT_CONFIG_ACCEL_PROFILE_ADAPTIVE}}),
      .accel_speed = options.read("accelSpeed", to_number),
      .calibration = options.read("calibration", to_matrix),
      .rotation = options.read("rotation", to_u32),
  };
}

} // namespace

std::shared_ptr<input::LibinputDevice> open_libinput(uint32_t id, base::UniqueFd fd,
                                                     const Napi::Object& options,
                                                     input::LibinputContexts& contexts) {
  const Napi::Value group = options.Get("group");
  const input::LibinputDevice::Options how{.grab = to_bool(options.Get("grab"), "options.grab"),
                                           .settings = to_settings(options.Get("libinput"))};
  return std::make_shared<input::LibinputDevice>(
      id, contexts.of(group.IsUndefined() ? "" : to_string(group, "options.group")), std::move(fd),
      to_string(options.Get("path"), "options.path"), how);
}

Napi::Array refused_to_js(Napi::Env env, const input::Device& device) {
  Napi::Array array = Napi::Array::New(env);
  if (const auto* one = dynamic_cast<const input::LibinputDevice*>(&device)) {
    for (const std::string& line : one->refused())
      array.Set(array.Length(), line);
  }
  return array;
}

} // namespace scanout::addon
