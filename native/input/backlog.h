// Frames that wait for a guest that does not read.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "input/types.h"

namespace scanout::input {

/// Bounded, first in, first out. What a slow guest loses is its own oldest motion, never the release of a key
/// or a contact: no key is left pressed in a guest that reads on some day.
///
/// Frames of motion alone (EV_REL, EV_ABS of the same axes, nothing of contacts that come or go) of one class
/// are merged with the one before them: relative axes add up, absolute ones are replaced. When there is no
/// room even so, the oldest frame of motion goes, and at last everything that waits: `next` then first gives
/// releases of all that the guest believes pressed.
///
/// Input thread. Allocates nothing.
class Backlog {
public:
  static constexpr size_t max_events = 1024;

  void push(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept;
  [[nodiscard]] bool empty() const noexcept;

  struct Frame {
    Class from;
    int64_t kernel_ns; // of the oldest that was merged into it
    std::span<const Event> events;
  };
  /// The oldest frame; valid until the next call of another method. Not when `empty`.
  [[nodiscard]] Frame front() noexcept;
  void pop() noexcept;
  void clear() noexcept;

  /// Everything that the guest is given without having waited goes through here as well: the backlog has to
  /// know what is pressed there.
  void passed(Class from, std::span<const Event> events) noexcept;

  /// Events, since it was made.
  [[nodiscard]] uint64_t merged() const noexcept;
  [[nodiscard]] uint64_t dropped() const noexcept;
};

} // namespace scanout::input
