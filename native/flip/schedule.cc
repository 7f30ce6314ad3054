#include "flip/schedule.h"

#include <algorithm>

namespace scanout::flip {

namespace {

// Drivers refuse or delay what arrives within the blanking itself; 1.5 ms is what others start from.
constexpr int64_t initial_margin_ns = 1'500'000;
constexpr int64_t smallest_margin_ns = 300'000;
constexpr int64_t safety_ns = 200'000;

} // namespace

int64_t VblankClock::next_after(int64_t time_ns) const noexcept {
  if (!known_) return time_ns + period_ns_;
  if (time_ns < last_ns_) {
    // A timestamp may lie a little in the future: that vblank is then the next one.
    const int64_t back = (last_ns_ - time_ns - 1) / period_ns_;
    return last_ns_ - back * period_ns_;
  }
  return last_ns_ + ((time_ns - last_ns_) / period_ns_ + 1) * period_ns_;
}

Margin::Margin(int64_t period_ns) noexcept
    : period_ns_(period_ns), margin_ns_(initial_margin_ns), floor_ns_(smallest_margin_ns) {
  clamp();
}

void Margin::clamp() noexcept {
  margin_ns_ = std::clamp(margin_ns_, std::min(floor_ns_, period_ns_ / 2), period_ns_ / 2);
}

void Margin::hit(int64_t duration_ns) noexcept {
  floor_ns_ = std::max(smallest_margin_ns, duration_ns + safety_ns);
  margin_ns_ -= period_ns_ / 1000;
  clamp();
}

void Margin::miss(int64_t duration_ns) noexcept {
  margin_ns_ = std::max(margin_ns_ + period_ns_ / 16, duration_ns + 2 * safety_ns);
  clamp();
}

uint32_t missed_vblanks(const VblankClock& clock, int64_t ready_ns, int64_t free_ns, int64_t shown_ns,
                        int64_t grace_ns) noexcept {
  const int64_t period = clock.period_ns();
  // A quarter of a period keeps jitter of the former timestamp from pointing at that same vblank again.
  const int64_t target = clock.next_after(std::max(ready_ns + grace_ns, free_ns + period / 4));
  if (shown_ns <= target) return 0;
  return static_cast<uint32_t>((shown_ns - target + period / 2) / period);
}

} // namespace scanout::flip
