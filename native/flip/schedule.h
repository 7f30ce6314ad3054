// When to commit: the vblank clock of a CRTC and the learned margin of the deadline policy. Pure arithmetic.
#pragma once

#include <cstdint>

namespace scanout::flip {

/// Predicts vblanks from the newest flip event. Times in CLOCK_MONOTONIC nanoseconds.
class VblankClock {
public:
  /// `period_ns`: one refresh, from the mode; must be positive.
  explicit VblankClock(int64_t period_ns) noexcept : period_ns_(period_ns) {}

  /// A vblank with counter `sequence` was at `time_ns`.
  void observe(int64_t time_ns, uint64_t sequence) noexcept {
    last_ns_ = time_ns;
    last_sequence_ = sequence;
    known_ = true;
  }
  [[nodiscard]] bool known() const noexcept { return known_; }
  /// True while the newest vblank is so near that the next ones can be foretold: a mode's period and the real
  /// one differ by some parts in 10,000.
  [[nodiscard]] bool foretells(int64_t time_ns) const noexcept {
    return known_ && time_ns - last_ns_ < 32 * period_ns_;
  }
  [[nodiscard]] int64_t period_ns() const noexcept { return period_ns_; }
  [[nodiscard]] int64_t last_ns() const noexcept { return last_ns_; }
  [[nodiscard]] uint64_t last_sequence() const noexcept { return last_sequence_; }

  /// First vblank later than `time_ns`. Where no vblank was seen yet: `time_ns` plus a period.
  [[nodiscard]] int64_t next_after(int64_t time_ns) const noexcept;

private:
  int64_t period_ns_;
  int64_t last_ns_ = 0;
  uint64_t last_sequence_ = 0;
  bool known_ = false;
};

/// How long before a vblank a commit must start, learned from what it took and whether it was in time.
///
/// Grows at once by what was missing, shrinks by a thousandth of a period a flip: a missed vblank costs a
/// frame, a margin that is too long only costs latency.
class Margin {
public:
  explicit Margin(int64_t period_ns) noexcept;

  [[nodiscard]] int64_t ns() const noexcept { return margin_ns_; }
  /// A commit took `duration_ns` and made the vblank that it aimed at.
  void hit(int64_t duration_ns) noexcept;
  /// A commit aimed at a vblank and came too late for it.
  void miss(int64_t duration_ns) noexcept;

private:
  void clamp() noexcept;
  int64_t period_ns_;
  int64_t margin_ns_;
  int64_t floor_ns_;
};

/// Vblanks that a frame lost: it was ready at `ready_ns`, nothing of its CRTC was in flight before `free_ns`,
/// and it was shown at `shown_ns`. A frame that came less than `grace_ns` before a vblank was not in time for
/// that one.
uint32_t missed_vblanks(const VblankClock& clock, int64_t ready_ns, int64_t free_ns, int64_t shown_ns,
                        int64_t grace_ns) noexcept;

} // namespace scanout::flip
