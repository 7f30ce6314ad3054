#include "input/libinput_options.h"

namespace scanout::input {

namespace {

const char* reason(libinput_config_status status) noexcept {
  switch (status) {
  case LIBINPUT_CONFIG_STATUS_SUCCESS:
    return nullptr;
  case LIBINPUT_CONFIG_STATUS_UNSUPPORTED:
    return "the device has no such setting";
  case LIBINPUT_CONFIG_STATUS_INVALID:
    return "libinput takes no such value";
  }
  return "libinput refuses it";
}

class Setter {
public:
  explicit Setter(libinput_device* device) : device_(device) {}

  template <typename Value, typename Set>
  void operator()(const char* name, const std::optional<Value>& value, Set set) {
    if (!value) return;
    if (const char* why = reason(set(device_, *value))) refused_.push_back(std::string(name) + ": " + why);
  }
  /// For those that take an enumeration of two.
  template <typename Enumeration>
  void operator()(const char* name, const std::optional<bool>& value,
                  libinput_config_status (*set)(libinput_device*, Enumeration), Enumeration on,
                  Enumeration off) {
    if (!value) return;
    if (const char* why = reason(set(device_, *value ? on : off)))
      refused_.push_back(std::string(name) + ": " + why);
  }
  std::vector<std::string> refused() { return std::move(refused_); }

private:
  libinput_device* device_;
  std::vector<std::string> refused_;
};

} // namespace

std::vector<std::string> configure(libinput_device* device, const LibinputOptions& options) {
  Setter set(device);
  set("tap", options.tap, libinput_device_config_tap_set_enabled, LIBINPUT_CONFIG_TAP_ENABLED,
      LIBINPUT_CONFIG_TAP_DISABLED);
  set("tapButtonMap", options.tap_button_map, libinput_device_config_tap_set_button_map);
  set("tapDrag", options.tap_drag, libinput_device_config_tap_set_drag_enabled, LIBINPUT_CONFIG_DRAG_ENABLED,
      LIBINPUT_CONFIG_DRAG_DISABLED);
  set("tapDragLock", options.tap_drag_lock, libinput_device_config_tap_set_drag_lock_enabled,
      LIBINPUT_CONFIG_DRAG_LOCK_ENABLED, LIBINPUT_CONFIG_DRAG_LOCK_DISABLED);
  set("naturalScroll", options.natural_scroll, libinput_device_config_scroll_set_natural_scroll_enabled);
  set("leftHanded", options.left_handed, libinput_device_config_left_handed_set);
  set("middleEmulation", options.middle_emulation, libinput_device_config_middle_emulation_set_enabled,
      LIBINPUT_CONFIG_MIDDLE_EMULATION_ENABLED, LIBINPUT_CONFIG_MIDDLE_EMULATION_DISABLED);
  set("disableWhileTyping", options.disable_while_typing, libinput_device_config_dwt_set_enabled,
      LIBINPUT_CONFIG_DWT_ENABLED, LIBINPUT_CONFIG_DWT_DISABLED);
  set("scrollMethod", options.scroll_method, libinput_device_config_scroll_set_method);
  set("scrollButton", options.scroll_button, libinput_device_config_scroll_set_button);
  set("clickMethod", options.click_method, libinput_device_config_click_set_method);
  set("accelProfile", options.accel_profile, libinput_device_config_accel_set_profile);
  set("accelSpeed", options.accel_speed, libinput_device_config_accel_set_speed);
  set("calibration", options.calibration, [](libinput_device* of, const std::array<float, 6>& matrix) {
    return libinput_device_config_calibration_set_matrix(of, matrix.data());
  });
  set("rotation", options.rotation, libinput_device_config_rotation_set_angle);
  return set.refused();
}

} // namespace scanout::input
