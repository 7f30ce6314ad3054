// One class of what comes out of a device that libinput reads.
#pragma once

#include <libinput.h>

#include <memory>

#include "input/libinput_frames.h"
#include "input/source.h"

namespace scanout::input {

/// Makes frames of libinput's events. Whoever has the context calls `take`.
class LibinputSource : public Source {
public:
  /// `fd` is the device's, for its LEDs; borrowed.
  LibinputSource(uint32_t device, Class of, const Description& description, int fd)
      : Source(device, of, description), fd_(fd) {}
  static std::unique_ptr<LibinputSource> make(uint32_t device, Class of, const Description& description,
                                              int fd);

  /// Adds to `frame` what an event of this class says, if anything.
  virtual void make_frame(FrameMaker& frame, libinput_event* event) noexcept = 0;

  /// To the device itself: libinput's own way to do so knows three of them, and may be at work.
  void set_leds(uint32_t leds) noexcept override;

private:
  int fd_;
};

} // namespace scanout::input
