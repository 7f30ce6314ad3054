// What the input thread knows of a device that it reads: its state, and what of that its guest was given.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "input/port.h"
#include "input/types.h"

namespace scanout::input {

struct Seat;

/// Frames of one class from one device. A device that libinput reads may have several. Made and destroyed on
/// the JS thread, else of the input thread.
class Source {
  const std::unique_ptr<const Description> description_; // apart: a frame needs little of it

public:
  /// A contact of a touch device.
  struct Slot {
    int32_t tracking = -1;   // as the device has it
    int32_t given_slot = -1; // in the guest; -1: the guest knows nothing of it
    std::array<int32_t, ABS_MT_TOOL_Y - ABS_MT_TOUCH_MAJOR + 1> values{};
  };

  /// `device`: its id, to JavaScript.
  Source(uint32_t device, Class of, const Description& description);
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  const Description& description;
  const uint32_t device;
  const Class of;

  /// Its guest is looked for with each frame. Otherwise `port` is where they go.
  bool roams = false;
  /// The output that it belongs to (touch), an index into the seat's table, or -1.
  int32_t output = -1;
  Seat* seat = nullptr;

  // What its guest was given.
  Port* port = nullptr;
  int32_t given_contacts = 0;
  Bits<KEY_CNT> given;

  // As the device has it.
  int32_t slot = 0;
  std::vector<Slot> slots;
  Bits<SW_CNT> switched;
  Bits<KEY_CNT> down;
  std::array<int32_t, ABS_CNT> values{};

  /// Takes a frame of the device into its state.
  void take(std::span<const Event> events) noexcept;
  /// Contacts that the device has.
  [[nodiscard]] int32_t contacts() const noexcept;
  /// Keys, buttons or contacts that its guest was given are still held.
  /// A tool that is near holds nothing.
  [[nodiscard]] bool holds() const noexcept;
  static constexpr bool is_slot_axis(uint16_t code) noexcept {
    return code >= ABS_MT_TOUCH_MAJOR && code <= ABS_MT_TOOL_Y;
  }

  /// Sets the device's LEDs, bits by LED_*. Those that it does not have are passed over.
  virtual void set_leds(uint32_t leds) noexcept = 0;
};

/// Tells the evdev device behind `fd` its LEDs, bits by LED_*. Those that it does not have are passed over;
/// that it is gone is told otherwise.
void write_leds(int fd, const Description& description, uint32_t leds) noexcept;
/// The keys that say how many fingers are on a touch device.
bool is_finger_count(uint16_t key) noexcept;
/// The tools of a tablet.
bool is_tool(uint16_t key) noexcept;
bool is_modifier(uint16_t key) noexcept;

} // namespace scanout::input
