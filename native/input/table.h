// Where a seat's events go: set by TypeScript as a whole.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/packed.h"
#include "input/source.h"

namespace scanout::input {

/// Part of an output in which a guest is shown. Pixels.
struct Place {
  Guest* guest = nullptr;
  int32_t output = -1;
  double x = 0, y = 0, width = 0, height = 0;
  [[nodiscard]] bool contains(double px, double py) const noexcept {
    return px >= x && px < x + width && py >= y && py < y + height;
  }
};

struct Hotkey {
  /// All are to be held: of each list one key.
  std::vector<std::vector<uint16_t>> held;
  uint16_t key = 0; // pressed last
  uint32_t id = 0;
  Guest* guest = nullptr; // the seat is switched to it at once, unless null
};

/// Made and destroyed on the JS thread. What it points at is removed from it before it goes away
/// (`Router::forget`).
struct SeatTable {
  struct Member {
    Source* source = nullptr;
    int32_t output = -1;
  };
  struct Output {
    double width = 0, height = 0; // pixels
  };
  std::vector<Member> members;
  Guest* guest = nullptr;
  /// Switches by hotkey that `guest` takes into account: with fewer than there were, the seat stays with the
  /// guest that the newest of them was for.
  uint32_t switches = 0;
  /// Pointers, touch and tablets go to the guest under them, not to `guest`.
  bool under = false;
  bool carry_locks = false;
  std::vector<Output> outputs;
  std::vector<Place> places; // topmost first
  std::vector<Hotkey> hotkeys;

  /// Null when the output is none.
  [[nodiscard]] const Output* output(int32_t index) const noexcept {
    return index >= 0 && static_cast<size_t>(index) < outputs.size() ? &outputs[static_cast<size_t>(index)]
                                                                     : nullptr;
  }
  [[nodiscard]] const Place* at(int32_t output, double x, double y) const noexcept;
  [[nodiscard]] const Place* place_of(const Guest& guest, int32_t output) const noexcept;
  /// The hotkey that a press of `key` completes, or null.
  [[nodiscard]] const Hotkey* match(uint16_t key) const noexcept;

private:
  [[nodiscard]] bool is_down(uint16_t key) const noexcept;
};

struct Seat final : base::Packed {
  explicit Seat(uint32_t seat_id) noexcept : id(seat_id), table(std::make_unique<SeatTable>()) {}
  const uint32_t id;
  std::unique_ptr<SeatTable> table;
  /// By hotkey, so far.
  uint32_t switches = 0;
  /// Where its relative pointers are on an output, when they are looked for under guests. Pixels.
  double pointer_x = 0, pointer_y = 0;
  /// As the LEDs of its guests had them last, bits by LED_*.
  uint32_t locks = 0;
  bool locks_known = false;
  /// Whose LEDs its keyboards show.
  const Guest* shown_leds_of = nullptr;
  /// Of its newest event, CLOCK_MONOTONIC. Any thread.
  std::atomic<int64_t> active_ns{0};
};

} // namespace scanout::input
