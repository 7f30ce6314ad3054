#include "input/libinput_tablet.h"

#include <array>
#include <cmath>

namespace scanout::input {

namespace {

/// In ABS_MISC: drivers of Wacom's devices tell a pad's place in their own protocol, and 0 when nothing of it
/// is touched, by which libinput knows that a finger has left.
constexpr int32_t pad_id = 15;

uint16_t tool_code(libinput_tablet_tool* tool) noexcept {
  switch (libinput_tablet_tool_get_type(tool)) {
  case LIBINPUT_TABLET_TOOL_TYPE_PEN:
    return BTN_TOOL_PEN;
  case LIBINPUT_TABLET_TOOL_TYPE_ERASER:
    return BTN_TOOL_RUBBER;
  case LIBINPUT_TABLET_TOOL_TYPE_BRUSH:
    return BTN_TOOL_BRUSH;
  case LIBINPUT_TABLET_TOOL_TYPE_PENCIL:
    return BTN_TOOL_PENCIL;
  case LIBINPUT_TABLET_TOOL_TYPE_AIRBRUSH:
    return BTN_TOOL_AIRBRUSH;
  case LIBINPUT_TABLET_TOOL_TYPE_MOUSE:
    return BTN_TOOL_MOUSE;
  case LIBINPUT_TABLET_TOOL_TYPE_LENS:
    return BTN_TOOL_LENS;
  default:
    return 0;
  }
}

} // namespace

// ---- tools

TabletSource::TabletSource(uint32_t device, Class of, const Description& description, int fd)
    : LibinputSource(device, of, description, fd) {
  frames_.identifies(description.misc.test(MSC_SERIAL), description.absolute.test(ABS_MISC));
}

void TabletSource::make_frame(FrameMaker& frame, libinput_event* event) noexcept {
  libinput_event_tablet_tool* told = libinput_event_get_tablet_tool_event(event);
  libinput_tablet_tool* tool = libinput_event_tablet_tool_get_tool(told);
  if (tool_code(tool) == 0) return;
  switch (libinput_event_get_type(event)) {
  case LIBINPUT_EVENT_TABLET_TOOL_PROXIMITY:
    proximity(frame, told, tool);
    break;
  case LIBINPUT_EVENT_TABLET_TOOL_AXIS:
    axes(frame, told, tool);
    break;
  case LIBINPUT_EVENT_TABLET_TOOL_TIP:
    axes(frame, told, tool);
    frames_.tip(frame, libinput_event_tablet_tool_get_tip_state(told) == LIBINPUT_TABLET_TOOL_TIP_DOWN);
    break;
  case LIBINPUT_EVENT_TABLET_TOOL_BUTTON:
    axes(frame, told, tool);
    frame.add(EV_KEY, static_cast<uint16_t>(libinput_event_tablet_tool_get_button(told)),
              libinput_event_tablet_tool_get_button_state(told) == LIBINPUT_BUTTON_STATE_PRESSED ? 1 : 0);
    break;
  default:
    break;
  }
}

void TabletSource::proximity(FrameMaker& frame, libinput_event_tablet_tool* event,
                             libinput_tablet_tool* tool) noexcept {
  if (libinput_event_tablet_tool_get_proximity_state(event) == LIBINPUT_TABLET_TOOL_PROXIMITY_STATE_OUT) {
    frames_.far(frame);
    return;
  }
  frames_.near(frame, tool_code(tool), static_cast<uint32_t>(libinput_tablet_tool_get_serial(tool)),
               static_cast<uint32_t>(libinput_tablet_tool_get_tool_id(tool)));
  axes(frame, event, tool);
}

void TabletSource::axes(FrameMaker& frame, libinput_event_tablet_tool* event,
                        libinput_tablet_tool* tool) noexcept {
  std::array<ToolFrames::Axis, 8> axes;
  size_t count = 0;
  const auto& ranges = description.axes;
  const auto add = [&](uint16_t code, bool has, auto value) {
    if (has && description.absolute.test(code)) axes[count++] = {.code = code, .value = value()};
  };
  add(ABS_X, true, [&] {
    return position(ranges[ABS_X], libinput_event_tablet_tool_get_x_transformed(event, width(ranges[ABS_X])));
  });
  add(ABS_Y, true, [&] {
    return position(ranges[ABS_Y], libinput_event_tablet_tool_get_y_transformed(event, width(ranges[ABS_Y])));
  });
  add(ABS_PRESSURE, libinput_tablet_tool_has_pressure(tool) != 0,
      [&] { return scale(ranges[ABS_PRESSURE], libinput_event_tablet_tool_get_pressure(event)); });
  add(ABS_DISTANCE, libinput_tablet_tool_has_distance(tool) != 0,
      [&] { return scale(ranges[ABS_DISTANCE], libinput_event_tablet_tool_get_distance(event)); });
  const bool tilts = libinput_tablet_tool_has_tilt(tool) != 0;
  add(ABS_TILT_X, tilts,
      [&] { return static_cast<int32_t>(std::lround(libinput_event_tablet_tool_get_tilt_x(event))); });
  add(ABS_TILT_Y, tilts,
      [&] { return static_cast<int32_t>(std::lround(libinput_event_tablet_tool_get_tilt_y(event))); });
  // Of mice on tablets it is libinput's own, made of the tilt.
  const bool turns = libinput_tablet_tool_has_rotation(tool) != 0 && tool_code(tool) != BTN_TOOL_MOUSE &&
                     tool_code(tool) != BTN_TOOL_LENS;
  add(ABS_Z, turns, [&] { return barrel(ranges[ABS_Z], libinput_event_tablet_tool_get_rotation(event)); });
  add(ABS_WHEEL, libinput_tablet_tool_has_slider(tool) != 0, [&] {
    return scale(ranges[ABS_WHEEL], (libinput_event_tablet_tool_get_slider_position(event) + 1) / 2);
  });
  frames_.axes(frame, {axes.data(), count});
  if (description.relative.test(REL_WHEEL) && libinput_event_tablet_tool_wheel_has_changed(event) != 0)
    frame.add(EV_REL, REL_WHEEL, -libinput_event_tablet_tool_get_wheel_delta_discrete(event));
}

// ---- pads

void PadSource::make_frame(FrameMaker& frame, libinput_event* event) noexcept {
  libinput_event_tablet_pad* pad = libinput_event_get_tablet_pad_event(event);
  switch (libinput_event_get_type(event)) {
  case LIBINPUT_EVENT_TABLET_PAD_BUTTON: {
    const uint16_t code = pad_button(description.keys, libinput_event_tablet_pad_get_button_number(pad));
    if (code != 0)
      frame.add(EV_KEY, code,
                libinput_event_tablet_pad_get_button_state(pad) == LIBINPUT_BUTTON_STATE_PRESSED ? 1 : 0);
    break;
  }
  case LIBINPUT_EVENT_TABLET_PAD_KEY:
    frame.add(EV_KEY, static_cast<uint16_t>(libinput_event_tablet_pad_get_key(pad)),
              libinput_event_tablet_pad_get_key_state(pad) == LIBINPUT_KEY_STATE_PRESSED ? 1 : 0);
    break;
  case LIBINPUT_EVENT_TABLET_PAD_RING: {
    const uint16_t code =
        libinput_event_tablet_pad_get_ring_number(pad) == 0 ? uint16_t{ABS_WHEEL} : uint16_t{ABS_THROTTLE};
    const double degrees = libinput_event_tablet_pad_get_ring_position(pad);
    axis(frame, code, degrees < 0 ? 0 : ring(description.axes[code], degrees), degrees >= 0);
    break;
  }
  case LIBINPUT_EVENT_TABLET_PAD_STRIP: {
    const uint16_t code =
        libinput_event_tablet_pad_get_strip_number(pad) == 0 ? uint16_t{ABS_RX} : uint16_t{ABS_RY};
    const double part = libinput_event_tablet_pad_get_strip_position(pad);
    axis(frame, code, part < 0 ? 0 : strip(description.axes[code], part), part >= 0);
    break;
  }
  default:
    break;
  }
}

void PadSource::axis(FrameMaker& frame, uint16_t code, int32_t value, bool touched) const noexcept {
  frame.add(EV_ABS, code, value);
  if (description.absolute.test(ABS_MISC)) frame.add(EV_ABS, ABS_MISC, touched ? pad_id : 0);
}

} // namespace scanout::input
