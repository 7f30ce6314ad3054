// The far end of the input thread: what hands events on to a guest.
#pragma once

#include <cstdint>
#include <span>

#include "base/epoll.h"
#include "input/types.h"

namespace scanout::input {

class Sink;

/// What a sink tells. Input thread; from within `Sink::frame`, or from an entry of the loop.
class SinkOwner {
public:
  /// The guest set the LEDs of its keyboard, bits by LED_*: all of them, not only those that changed.
  virtual void leds_set(Sink& sink, uint32_t leds) noexcept = 0;
  /// Frames that had to wait are with the guest now. `kernel_ns`: when the kernel had the events of each.
  virtual void delivered(Sink& sink, std::span<const int64_t> kernel_ns) noexcept = 0;
  /// The guest's device starts afresh (a reboot): nothing is pressed there, and no axis is known.
  virtual void renewed(Sink& sink) noexcept = 0;
  /// The far end is gone or broke the rules; nothing is handed to the sink any more. `error`: a positive
  /// errno or 0. `why` is a literal.
  virtual void ended(Sink& sink, int error, const char* why) noexcept = 0;

protected:
  ~SinkOwner() = default;
};

/// One way to one guest, for one class of device or for several. Made and destroyed on the JS thread,
/// everything else on the input thread: no allocation, no lock, no log, nothing that a guest can make wait.
class Sink {
public:
  enum class Delivery : uint8_t {
    done,    // with the guest, or with the kernel on the way to it
    waiting, // gathered until `flush`, or the guest is slow; `SinkOwner::delivered` will tell
    lost,    // nobody takes it: the device is not there, or it ended
  };

  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;

  /// The owner's own.
  void* tag = nullptr;

  /// Before everything else: registers descriptors. Both outlive the sink's stay. 0 or a positive errno.
  virtual int enter(base::Epoll& epoll, SinkOwner& owner) noexcept = 0;
  /// After everything else. Whoever was pressed has been released by then. Not from within an entry of the
  /// sink's own.
  virtual void leave() noexcept = 0;

  /// One whole frame of a device of class `from`, `max_frame` events at most, the last of which is
  /// SYN_REPORT. Axes are in the ranges of the description that the sink was made with; keys are balanced:
  /// never pressed twice, never released without having been pressed. `kernel_ns`: CLOCK_MONOTONIC.
  virtual Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept = 0;

  /// The frames of one read of a device are all handed over: the time to write or signal what was gathered. A
  /// frame that was gathered is `waiting` until then.
  virtual void flush() noexcept {}

  /// Frames that wait now, and events that were dropped or merged since the guest was slow. Any thread.
  [[nodiscard]] virtual uint64_t merged() const noexcept { return 0; }
  [[nodiscard]] virtual uint64_t dropped() const noexcept { return 0; }
};

} // namespace scanout::input
