// Frames that wait for a guest that does not read.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "input/believed.h"
#include "input/line.h"
#include "input/types.h"

namespace scanout::input {

/// Bounded, first in, first out. What a slow guest loses is its own oldest motion, never the release of a key
/// or a contact: no key is left pressed in a guest that reads on some day.
///
/// Frames of motion alone (EV_REL, EV_ABS, nothing of contacts that come or go) of one class are merged with
/// the one before them: relative axes add up, absolute ones are replaced. When there is no room even so, the
/// oldest frame of relative motion goes, and at last everything that waits: `front` then first gives releases
/// of all that the guest believes pressed, and the newest value of each absolute axis and switch, since the
/// kernel tells those only when they change.
///
/// Keys and contacts come out balanced: the release of what was never pressed in the guest is left out, and
/// so is autorepeat.
///
/// Input thread. Allocates nothing.
class Backlog {
public:
  static constexpr size_t max_events = 1024;

  void push(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept;
  /// There is no frame to give.
  [[nodiscard]] bool empty() const noexcept { return owing_ == 0 && frames_.size() == 0; }
  /// Pieces of a frame wait for their SYN_REPORT: whoever sends past the backlog when it is empty has to push
  /// the rest of them all the same.
  [[nodiscard]] bool gathering() const noexcept { return pieces_ > 0; }

  struct Frame {
    Class from;
    int64_t kernel_ns; // of the oldest that was merged into it
    /// The last is SYN_REPORT. `max_events` at most, which is more than max_frame.
    std::span<const Event> events;
  };
  /// The oldest frame; valid until the next call of another method. Not when `empty`.
  [[nodiscard]] Frame front() noexcept;
  /// The guest got the oldest frame.
  void pop() noexcept;
  /// The guest starts anew: nothing waits, and nothing is pressed there.
  void clear() noexcept;

  /// Everything that the guest is given without having waited goes through here as well: the backlog has to
  /// know what is pressed there. Whoever pushes everything and takes it out again need not.
  void passed(Class from, std::span<const Event> events) noexcept;

  /// The guest may have been told of presses by somebody who is gone: it first gets releases of all these.
  void distrust(Class of, const Bits<KEY_CNT>& keys, int32_t slots) noexcept;

  /// Events, since it was made. Any thread.
  [[nodiscard]] uint64_t merged() const noexcept { return merged_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed); }

private:
  enum class Kind : uint8_t {
    other,
    motion,
    relative, // motion on relative axes alone
  };
  struct Waiting {
    Class from;
    Kind kind;
    uint16_t count; // of its events
    int32_t slot;   // in which it starts
    int64_t kernel_ns;
  };

  static constexpr size_t index(Class of) noexcept { return static_cast<size_t>(of); }
  [[nodiscard]] bool admit(Class from, const Event& event) noexcept;
  void make_room() noexcept;
  void append(const Event& event) noexcept;
  void finish() noexcept;
  [[nodiscard]] static Kind kind_of(std::span<const Event> frame) noexcept;
  [[nodiscard]] bool merge(Waiting& into) noexcept;
  [[nodiscard]] bool drop_motion() noexcept;
  void collapse() noexcept;
  static void count(std::atomic<uint64_t>& counter, uint64_t more) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }

  // Of all frames, one after the other, and at last `pieces_` of a frame that is not whole.
  Line<Event, max_events> events_;
  Line<Waiting, max_events / 2> frames_; // each has an event and SYN_REPORT at least
  uint16_t pieces_ = 0;
  Waiting gathered_{}; // what becomes of the pieces; its count is not kept

  std::array<Believed, class_count> told_;  // by what it was given
  std::array<Believed, class_count> ahead_; // once it will have been given everything that waits
  std::array<Owed, class_count> owed_;
  uint32_t owing_ = 0; // classes that are to be settled before anything else
  int64_t collapsed_ns_ = 0;
  std::array<Event, max_frame> settling_;
  size_t settling_count_ = 0;
  std::atomic<uint64_t> merged_{0}, dropped_{0};
};

} // namespace scanout::input
