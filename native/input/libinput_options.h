// What libinput can be told of a device.
#pragma once

#include <libinput.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace scanout::input {

/// An absent one is left as libinput has it for the device.
struct LibinputOptions {
  std::optional<bool> tap, tap_drag, tap_drag_lock, natural_scroll, left_handed, middle_emulation,
      disable_while_typing;
  std::optional<libinput_config_tap_button_map> tap_button_map;
  std::optional<libinput_config_scroll_method> scroll_method;
  std::optional<uint32_t> scroll_button; // BTN_* or KEY_*
  std::optional<libinput_config_click_method> click_method;
  std::optional<libinput_config_accel_profile> accel_profile;
  std::optional<double> accel_speed; // -1 to 1
  /// Two rows of three.
  std::optional<std::array<float, 6>> calibration;
  std::optional<uint32_t> rotation; // clockwise degrees, 0 to 359
};

/// Sets all that it can. Gives a line for each that it cannot: "tap: the device has no such setting", by the
/// names of LibinputOptions in src/native/input.ts. The libinput context must be the caller's.
std::vector<std::string> configure(libinput_device* device, const LibinputOptions& options);

} // namespace scanout::input
