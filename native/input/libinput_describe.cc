#include "input/libinput_describe.h"

#include <algorithm>
#include <initializer_list>

#include "input/describe.h"

namespace scanout::input {

namespace {

using Descriptions = std::vector<std::pair<Class, Description>>;

/// libinput tells the number of contacts of some devices only.
constexpr int32_t usual_slots = 10;
/// Positions of what has no range of its own.
constexpr int32_t whole_range = 65535;
/// A degree, in units a radian.
constexpr int32_t degrees_a_radian = 57;

Description begin(const Description& raw, std::initializer_list<size_t> types) {
  Description description;
  description.name = raw.name;
  description.phys = raw.phys;
  description.uniq = raw.uniq;
  description.id = raw.id;
  description.types.set(EV_SYN);
  for (const size_t type : types)
    description.types.set(type);
  return description;
}

void axis(Description& description, size_t code, input_absinfo range) {
  description.absolute.set(code);
  range.value = range.fuzz = range.flat = 0; // libinput has dealt with the noise
  description.axes[code] = range;
}

/// The range of the first of two axes that the device has.
input_absinfo range_of(const Description& raw, size_t code, size_t otherwise) {
  if (raw.absolute.test(code)) return raw.axes[code];
  if (raw.absolute.test(otherwise)) return raw.axes[otherwise];
  return {.maximum = whole_range};
}

void wheels(Description& description) {
  for (const size_t code : {REL_WHEEL, REL_HWHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES})
    description.relative.set(code);
}

/// Those that it has, and those that libinput makes of taps, of clicks with several fingers, of two buttons
/// at once.
void buttons(Description& description, const Description& raw) {
  for (size_t code = BTN_MISC; code < BTN_JOYSTICK; ++code)
    description.keys.set(code, raw.keys.test(code));
  for (const size_t code : {BTN_LEFT, BTN_RIGHT, BTN_MIDDLE})
    description.keys.set(code);
}

/// Those of pointers, tablets and game pads stand among the keys.
constexpr bool is_button(uint32_t code) {
  return (code >= BTN_MISC && code < KEY_OK) || (code >= BTN_DPAD_UP && code <= BTN_DPAD_RIGHT) ||
         code >= BTN_TRIGGER_HAPPY;
}

Description keyboard(libinput_device* device, const Description& raw) {
  Description description = begin(raw, {EV_KEY, EV_REP});
  for (uint32_t code = 1; code < KEY_CNT; ++code) {
    if (!is_button(code) && libinput_device_keyboard_has_key(device, code) > 0) description.keys.set(code);
  }
  description.leds = raw.leds;
  description.types.set(EV_LED, raw.leds.any());
  return description;
}

Description pointer(const Description& raw) {
  Description description = begin(raw, {EV_KEY, EV_REL});
  description.relative.set(REL_X);
  description.relative.set(REL_Y);
  wheels(description);
  buttons(description, raw);
  return description;
}

Description absolute(const Description& raw) {
  Description description = begin(raw, {EV_KEY, EV_REL, EV_ABS});
  axis(description, ABS_X, range_of(raw, ABS_X, ABS_MT_POSITION_X));
  axis(description, ABS_Y, range_of(raw, ABS_Y, ABS_MT_POSITION_Y));
  wheels(description);
  buttons(description, raw);
  return description;
}

Description touchscreen(libinput_device* device, const Description& raw) {
  Description description = begin(raw, {EV_KEY, EV_ABS});
  description.properties.set(INPUT_PROP_DIRECT);
  description.keys.set(BTN_TOUCH);
  const input_absinfo x = range_of(raw, ABS_MT_POSITION_X, ABS_X);
  const input_absinfo y = range_of(raw, ABS_MT_POSITION_Y, ABS_Y);
  axis(description, ABS_X, x);
  axis(description, ABS_Y, y);
  axis(description, ABS_MT_POSITION_X, x);
  axis(description, ABS_MT_POSITION_Y, y);
  const int told = libinput_device_touch_get_touch_count(device);
  axis(description, ABS_MT_SLOT, {.maximum = std::clamp(told > 0 ? told : usual_slots, 1, max_slots) - 1});
  axis(description, ABS_MT_TRACKING_ID, {.maximum = whole_range});
  return description;
}

Description tablet(const Description& raw) {
  Description description = begin(raw, {EV_KEY, EV_ABS});
  description.properties = raw.properties;
  // Tools, the tip, and whatever buttons pens and mice on tablets have.
  for (size_t code = BTN_MISC; code < KEY_OK; ++code)
    description.keys.set(code, raw.keys.test(code));
  description.keys.set(BTN_TOUCH);
  description.keys.set(BTN_TOOL_PEN);
  axis(description, ABS_X, range_of(raw, ABS_X, ABS_X));
  axis(description, ABS_Y, range_of(raw, ABS_Y, ABS_Y));
  for (const size_t code : {ABS_PRESSURE, ABS_DISTANCE, ABS_WHEEL, ABS_Z, ABS_MISC}) {
    if (raw.absolute.test(code)) axis(description, code, raw.axes[code]);
  }
  for (const size_t code : {ABS_TILT_X, ABS_TILT_Y}) {
    if (raw.absolute.test(code))
      axis(description, code, {.minimum = -90, .maximum = 90, .resolution = degrees_a_radian});
  }
  description.relative.set(REL_WHEEL, raw.relative.test(REL_WHEEL));
  description.types.set(EV_REL, description.relative.any());
  description.misc.set(MSC_SERIAL, raw.misc.test(MSC_SERIAL));
  description.types.set(EV_MSC, description.misc.any());
  return description;
}

/// As it is: by its other keys and axes the guest's udev knows it for a pad.
Description pad(const Description& raw) {
  Description description = raw;
  description.relative = {};
  description.switches = {};
  description.leds = {};
  for (const size_t type : {EV_REL, EV_SW, EV_LED, EV_FF, EV_SND, EV_REP})
    description.types.set(type, false);
  return description;
}

Description switches(libinput_device* device, const Description& raw) {
  Description description = begin(raw, {EV_SW});
  description.switches.set(SW_LID, libinput_device_switch_has_switch(device, LIBINPUT_SWITCH_LID) > 0);
  description.switches.set(SW_TABLET_MODE,
                           libinput_device_switch_has_switch(device, LIBINPUT_SWITCH_TABLET_MODE) > 0);
  return description;
}

} // namespace

std::vector<std::pair<Class, Description>> describe(libinput_device* device, const Description& raw) {
  Descriptions all;
  const auto has = [&](libinput_device_capability capability) {
    return libinput_device_has_capability(device, capability) != 0;
  };
  if (has(LIBINPUT_DEVICE_CAP_KEYBOARD)) all.emplace_back(Class::keyboard, keyboard(device, raw));
  if (has(LIBINPUT_DEVICE_CAP_POINTER)) {
    const bool positioned = classify(raw) == Class::absolute;
    if (positioned) all.emplace_back(Class::absolute, absolute(raw));
    if (!positioned || raw.relative.test(REL_X)) all.emplace_back(Class::pointer, pointer(raw));
  }
  if (has(LIBINPUT_DEVICE_CAP_TOUCH)) all.emplace_back(Class::touchscreen, touchscreen(device, raw));
  if (has(LIBINPUT_DEVICE_CAP_TABLET_TOOL)) all.emplace_back(Class::tablet, tablet(raw));
  if (has(LIBINPUT_DEVICE_CAP_TABLET_PAD)) all.emplace_back(Class::pad, pad(raw));
  if (has(LIBINPUT_DEVICE_CAP_SWITCH)) all.emplace_back(Class::switches, switches(device, raw));
  return all;
}

} // namespace scanout::input
