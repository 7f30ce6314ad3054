// What the reader of a device's events makes of them.
#pragma once

#include <array>
#include <cstdint>

#include "input/types.h"

namespace scanout::input {

constexpr uint16_t first_contact_axis = ABS_MT_TOUCH_MAJOR,
                   contact_axes = ABS_MT_TOOL_Y - ABS_MT_TOUCH_MAJOR + 1;

/// An axis that each contact has of its own.
[[nodiscard]] constexpr bool is_contact_axis(const Event& event) noexcept {
  return event.type == EV_ABS && event.code >= first_contact_axis && event.code <= ABS_MT_TOOL_Y;
}
[[nodiscard]] constexpr bool is_report(const Event& event) noexcept {
  return event.type == EV_SYN && event.code == SYN_REPORT;
}
[[nodiscard]] constexpr bool is_slot(int32_t slot) noexcept {
  return slot >= 0 && slot < max_slots;
}

/// What is down, for whoever has read all events so far.
struct Believed {
  Bits<KEY_CNT> keys;
  uint64_t contacts = 0; // by slot
  int32_t slot = 0;      // that contact axes are of

  void apply(const Event& event) noexcept;
  [[nodiscard]] bool anything_down() const noexcept { return contacts != 0 || keys.any(); }
};

/// States that were left out: the newest value of each axis and switch that the guest has not got.
struct Owed {
  Bits<ABS_CNT> axes;
  Bits<SW_CNT> switches;
  std::array<uint16_t, max_slots> contact{}; // axes of each slot, by bits from first_contact_axis on
  int32_t slot = 0;                          // in which the events go on
  std::array<int32_t, ABS_CNT> axis_values{};
  Bits<SW_CNT> switch_values;
  std::array<std::array<int32_t, contact_axes>, max_slots> contact_values{};

  /// An event that the guest does not get.
  void add(const Event& event) noexcept;
  /// One that it got, in slot `of`.
  void paid(const Event& event, int32_t of) noexcept;
  [[nodiscard]] bool any() const noexcept;
};

/// Writes events that bring a guest from what it believes to nothing pressed and nothing owed: as many as
/// there is room for, without SYN_REPORT. Says how many. `room`: 16 at least.
size_t settle(const Believed& believed, const Owed& owed, Event* events, size_t room) noexcept;

} // namespace scanout::input
