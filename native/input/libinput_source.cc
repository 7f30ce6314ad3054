#include "input/libinput_source.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "input/describe.h"
#include "input/libinput_tablet.h"

namespace scanout::input {

namespace {

class KeyboardSource final : public LibinputSource {
public:
  using LibinputSource::LibinputSource;
  void make_frame(FrameMaker& frame, libinput_event* event) noexcept override {
    libinput_event_keyboard* key = libinput_event_get_keyboard_event(event);
    const bool down = libinput_event_keyboard_get_key_state(key) == LIBINPUT_KEY_STATE_PRESSED;
    frame.add(EV_KEY, static_cast<uint16_t>(libinput_event_keyboard_get_key(key)), down ? 1 : 0);
  }
};

/// With positions as well: the class says which.
class PointerSource final : public LibinputSource {
public:
  using LibinputSource::LibinputSource;
  void make_frame(FrameMaker& frame, libinput_event* event) noexcept override;

private:
  static std::optional<double> value(libinput_event_pointer* event, libinput_pointer_axis axis) noexcept {
    if (libinput_event_pointer_has_axis(event, axis) == 0) return std::nullopt;
    return libinput_event_pointer_get_scroll_value(event, axis);
  }
  static double detents(libinput_event_pointer* event, libinput_pointer_axis axis) noexcept {
    if (libinput_event_pointer_has_axis(event, axis) == 0) return 0;
    return libinput_event_pointer_get_scroll_value_v120(event, axis);
  }
  void place(FrameMaker& frame, libinput_event_pointer* event) const noexcept;

  PointerFrames frames_;
};

void PointerSource::make_frame(FrameMaker& frame, libinput_event* event) noexcept {
  constexpr auto vertical = LIBINPUT_POINTER_AXIS_SCROLL_VERTICAL;
  constexpr auto horizontal = LIBINPUT_POINTER_AXIS_SCROLL_HORIZONTAL;
  libinput_event_pointer* pointer = libinput_event_get_pointer_event(event);
  switch (libinput_event_get_type(event)) {
  case LIBINPUT_EVENT_POINTER_MOTION:
    frames_.motion(frame, libinput_event_pointer_get_dx(pointer), libinput_event_pointer_get_dy(pointer));
    break;
  case LIBINPUT_EVENT_POINTER_MOTION_ABSOLUTE:
    place(frame, pointer);
    break;
  case LIBINPUT_EVENT_POINTER_BUTTON:
    frame.add(EV_KEY, static_cast<uint16_t>(libinput_event_pointer_get_button(pointer)),
              libinput_event_pointer_get_button_state(pointer) == LIBINPUT_BUTTON_STATE_PRESSED ? 1 : 0);
    break;
  case LIBINPUT_EVENT_POINTER_SCROLL_WHEEL:
    frames_.wheel(frame, detents(pointer, vertical), detents(pointer, horizontal));
    break;
  case LIBINPUT_EVENT_POINTER_SCROLL_FINGER:
  case LIBINPUT_EVENT_POINTER_SCROLL_CONTINUOUS:
    frames_.continuous(frame, value(pointer, vertical), value(pointer, horizontal));
    break;
  default: // POINTER_AXIS tells the same as those, for programs that know no better
    break;
  }
}

void PointerSource::place(FrameMaker& frame, libinput_event_pointer* event) const noexcept {
  const input_absinfo& x = description.axes[ABS_X];
  const input_absinfo& y = description.axes[ABS_Y];
  frame.add(EV_ABS, ABS_X, position(x, libinput_event_pointer_get_absolute_x_transformed(event, width(x))));
  frame.add(EV_ABS, ABS_Y, position(y, libinput_event_pointer_get_absolute_y_transformed(event, width(y))));
}

class TouchSource final : public LibinputSource {
public:
  TouchSource(uint32_t device, Class of, const Description& description, int fd)
      : LibinputSource(device, of, description, fd),
        frames_(static_cast<size_t>(std::max(slot_count(description), 1))) {}
  void make_frame(FrameMaker& frame, libinput_event* event) noexcept override;

private:
  [[nodiscard]] int32_t x(libinput_event_touch* touch) const noexcept {
    const input_absinfo& range = description.axes[ABS_MT_POSITION_X];
    return position(range, libinput_event_touch_get_x_transformed(touch, width(range)));
  }
  [[nodiscard]] int32_t y(libinput_event_touch* touch) const noexcept {
    const input_absinfo& range = description.axes[ABS_MT_POSITION_Y];
    return position(range, libinput_event_touch_get_y_transformed(touch, width(range)));
  }

  TouchFrames frames_;
};

void TouchSource::make_frame(FrameMaker& frame, libinput_event* event) noexcept {
  libinput_event_touch* touch = libinput_event_get_touch_event(event);
  switch (libinput_event_get_type(event)) {
  case LIBINPUT_EVENT_TOUCH_DOWN:
    frames_.down(libinput_event_touch_get_slot(touch), x(touch), y(touch));
    break;
  case LIBINPUT_EVENT_TOUCH_MOTION:
    frames_.move(libinput_event_touch_get_slot(touch), x(touch), y(touch));
    break;
  case LIBINPUT_EVENT_TOUCH_UP:
  case LIBINPUT_EVENT_TOUCH_CANCEL:
    frames_.up(libinput_event_touch_get_slot(touch));
    break;
  case LIBINPUT_EVENT_TOUCH_FRAME:
    frames_.frame(frame);
    break;
  default:
    break;
  }
}

class SwitchSource final : public LibinputSource {
public:
  using LibinputSource::LibinputSource;
  void make_frame(FrameMaker& frame, libinput_event* event) noexcept override {
    libinput_event_switch* toggled = libinput_event_get_switch_event(event);
    const int32_t on = libinput_event_switch_get_switch_state(toggled) == LIBINPUT_SWITCH_STATE_ON ? 1 : 0;
    switch (libinput_event_switch_get_switch(toggled)) {
    case LIBINPUT_SWITCH_LID:
      frame.add(EV_SW, SW_LID, on);
      break;
    case LIBINPUT_SWITCH_TABLET_MODE:
      frame.add(EV_SW, SW_TABLET_MODE, on);
      break;
    default: // of a newer libinput
      break;
    }
  }
};

} // namespace

std::unique_ptr<LibinputSource> LibinputSource::make(uint32_t device, Class of,
                                                     const Description& description, int fd) {
  switch (of) {
  case Class::keyboard:
    return std::make_unique<KeyboardSource>(device, of, description, fd);
  case Class::pointer:
  case Class::absolute:
    return std::make_unique<PointerSource>(device, of, description, fd);
  case Class::touchscreen:
    return std::make_unique<TouchSource>(device, of, description, fd);
  case Class::tablet:
    return std::make_unique<TabletSource>(device, of, description, fd);
  case Class::pad:
    return std::make_unique<PadSource>(device, of, description, fd);
  case Class::switches:
    return std::make_unique<SwitchSource>(device, of, description, fd);
  case Class::touchpad:
  case Class::joystick:
    break;
  }
  return nullptr;
}

void LibinputSource::set_leds(uint32_t leds) noexcept {
  write_leds(fd_, description, leds);
}

} // namespace scanout::input
