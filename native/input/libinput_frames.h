// What libinput tells, as frames of evdev: the arithmetic and the memory that this takes, without libinput.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "input/types.h"

namespace scanout::input {

/// One frame that is being made. What no frame has room for is left out.
class FrameMaker {
public:
  void add(uint16_t type, uint16_t code, int32_t value) noexcept {
    if (count_ < max_frame - 1) events_[count_++] = {.type = type, .code = code, .value = value};
  }
  /// Ends it with SYN_REPORT; empty when nothing was added. Valid until the next `add`.
  std::span<const Event> finish() noexcept;

private:
  size_t count_ = 0;
  std::array<Event, max_frame> events_;
};

/// Whole steps of something that comes in fractions, which wait for the next.
class Steps {
public:
  explicit Steps(double size = 1) noexcept : size_(size) {}
  int32_t take(double amount) noexcept;
  void reset() noexcept { rest_ = 0; }

private:
  double size_, rest_ = 0;
};

/// Relative motion, and wheels. Units of libinput: those of a mouse with 1000 dots an inch.
class PointerFrames {
public:
  void motion(FrameMaker& frame, double dx, double dy) noexcept;

  /// A wheel, in 120ths of a detent: down and right are positive, as libinput has it. evdev has up.
  void wheel(FrameMaker& frame, double vertical, double horizontal) noexcept;
  /// Fingers, or motion while a button is held, in the units of motion; nothing in an axis ends its
  /// scrolling. Fifteen units are a detent, as those who take both from libinput have it.
  void continuous(FrameMaker& frame, std::optional<double> vertical,
                  std::optional<double> horizontal) noexcept;

private:
  struct Axis {
    Steps fine, detents{120};
    void add(FrameMaker& frame, double amount, uint16_t fine_code, uint16_t code) noexcept;
    void reset() noexcept;
  };
  Steps x_, y_;
  Axis vertical_, horizontal_;
  Axis scroll_vertical_, scroll_horizontal_; // fingers begin afresh, wheels do not
};

/// Contacts by protocol B (Documentation/input/multi-touch-protocol.rst). Nothing comes out before `frame`.
class TouchFrames {
public:
  /// `slots`: 1 to max_slots; contacts in others are left out.
  explicit TouchFrames(size_t slots) : contacts_(slots) {}
  void down(int32_t slot, int32_t x, int32_t y) noexcept;
  void move(int32_t slot, int32_t x, int32_t y) noexcept;
  /// Also for contacts that libinput takes back: evdev knows no such thing.
  void up(int32_t slot) noexcept;
  void frame(FrameMaker& frame) noexcept;

private:
  struct Contact {
    int32_t tracking = -1, told = -1; // wanted, and told
    int32_t x = 0, y = 0, told_x = -1, told_y = -1;
  };
  Contact* at(int32_t slot) noexcept;
  void contact(FrameMaker& frame, int32_t index) noexcept;
  void first(FrameMaker& frame) noexcept;

  std::vector<Contact> contacts_;
  int32_t next_ = 0;
  int32_t slot_ = 0;        // that was selected last
  int32_t first_ = -1;      // the tracking id of the contact that ABS_X and ABS_Y follow
  int32_t x_ = -1, y_ = -1; // of it, as told
  bool touching_ = false;
};

/// A tool on a tablet: axes that changed, and the tool itself.
class ToolFrames {
public:
  struct Axis {
    uint16_t code;
    int32_t value;
  };
  /// `tool`: BTN_TOOL_*.
  void near(FrameMaker& frame, uint16_t tool, uint32_t serial, uint32_t id) noexcept;
  /// Those that changed since the tool came near; all of them when it has just come.
  void axes(FrameMaker& frame, std::span<const Axis> axes) noexcept;
  void tip(FrameMaker& frame, bool down) noexcept;
  void far(FrameMaker& frame) noexcept;
  /// Which of MSC_SERIAL and ABS_MISC the device has.
  void identifies(bool serial, bool id) noexcept;

private:
  uint16_t tool_ = 0;
  uint32_t serial_ = 0;
  bool has_serial_ = false, has_id_ = false, tip_ = false;
  Bits<ABS_CNT> told_;
  std::array<int32_t, ABS_CNT> values_{};
};

// ---- positions

/// From 0 to 1 into the range of an axis.
int32_t scale(const input_absinfo& range, double part) noexcept;
/// A position as libinput gives it for a range as wide as the axis's own: 0 to its width. Calibration can
/// bring it beyond.
int32_t position(const input_absinfo& range, double offset) noexcept;
/// How wide the range is that `position` asks for.
uint32_t width(const input_absinfo& range) noexcept;
/// Degrees, clockwise with 0 at the top, as the ring of a pad has them, whose 0 is at its left.
int32_t ring(const input_absinfo& range, double degrees) noexcept;
/// From 0 to 1; strips tell the place as the only bit that is set.
int32_t strip(const input_absinfo& range, double part) noexcept;
/// Degrees of a pen with a barrel that turns, whose 0 is a quarter turn away from libinput's.
int32_t barrel(const input_absinfo& range, double degrees) noexcept;

/// The code of the nth button of a pad, in the order in which kernel and libinput count them; 0 beyond.
uint16_t pad_button(const Bits<KEY_CNT>& keys, uint32_t index) noexcept;

} // namespace scanout::input
