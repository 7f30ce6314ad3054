// Tablets and their pads, as libinput reads them.
#pragma once

#include "input/libinput_source.h"

namespace scanout::input {

/// Tools. Pressure and distance have the ranges of the device, tilt is in degrees.
class TabletSource final : public LibinputSource {
public:
  TabletSource(uint32_t device, Class of, const Description& description, int fd);
  void make_frame(FrameMaker& frame, libinput_event* event) noexcept override;

private:
  void proximity(FrameMaker& frame, libinput_event_tablet_tool* event, libinput_tablet_tool* tool) noexcept;
  void axes(FrameMaker& frame, libinput_event_tablet_tool* event, libinput_tablet_tool* tool) noexcept;

  ToolFrames frames_;
};

/// Buttons, rings, strips and keys of a tablet, with the codes that its kernel driver has for them.
class PadSource final : public LibinputSource {
public:
  using LibinputSource::LibinputSource;
  void make_frame(FrameMaker& frame, libinput_event* event) noexcept override;

private:
  void axis(FrameMaker& frame, uint16_t code, int32_t value, bool touched) const noexcept;
};

} // namespace scanout::input
