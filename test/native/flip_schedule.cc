// When to commit: the vblank clock, the learned margin, lost vblanks; and what an errno means.
#include "flip/schedule.h"

#include <cerrno>
#include <random>

#include "check.h"
#include "flip/errors.h"

using namespace scanout::flip;

namespace {

constexpr int64_t second = 1'000'000'000;

int64_t between(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

} // namespace

TEST(clock_that_saw_no_vblank_waits_a_period) {
  const VblankClock clock(16'666'667);
  CHECK(!clock.known());
  CHECK_EQ(clock.next_after(5 * second), 5 * second + 16'666'667);
}

TEST(clock_gives_the_first_grid_point_later_than_any_time) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const int64_t period = between(random, 1'000'000, second);
    const int64_t last = between(random, 0, 1'000'000 * second);
    VblankClock clock(period);
    clock.observe(last, 7);
    // Before and after the newest vblank; on the grid, and one beside it.
    int64_t time = last + between(random, -5 * period, 1000 * period);
    if (i % 3 == 0) time = last + between(random, -5, 1000) * period + between(random, -1, 1);
    const int64_t next = clock.next_after(time);
    CHECK(next > time);
    CHECK(next - time <= period);
    CHECK_EQ((next - last) % period, 0);
  }
}

TEST(clock_follows_jitter_without_adding_it_up) {
  std::mt19937_64 random(2);
  constexpr int64_t period = 16'666'667;
  VblankClock clock(period);
  for (int64_t n = 1; n < 10'000; ++n) {
    clock.observe(n * period + between(random, -200'000, 200'000), static_cast<uint64_t>(n));
    const int64_t predicted = clock.next_after(n * period + period / 2);
    CHECK(std::abs(predicted - (n + 1) * period) <= 200'000);
  }
  CHECK_EQ(clock.last_sequence(), 9999u);
}

TEST(margin_grows_at_once_and_shrinks_slowly) {
  constexpr int64_t period = 16'666'667;
  Margin margin(period);
  const int64_t start = margin.ns();
  margin.miss(100'000);
  const int64_t grown = margin.ns();
  CHECK(grown >= start + period / 16);
  margin.hit(100'000);
  CHECK(margin.ns() < grown);
  CHECK(margin.ns() > grown - period / 500);
  // A commit that takes long leaves room for itself.
  margin.hit(4'000'000);
  CHECK(margin.ns() > 4'000'000);
}

TEST(margin_settles_just_above_what_commits_take) {
  std::mt19937_64 random(3);
  constexpr int64_t period = 16'666'667;
  for (const int64_t longest : {200'000, 1'000'000, 3'000'000}) {
    Margin margin(period);
    int late = 0;
    for (int i = 0; i < 20'000; ++i) {
      const int64_t took = between(random, longest / 2, longest);
      const bool in_time = took <= margin.ns();
      in_time ? margin.hit(took) : margin.miss(took);
      if (i > 2000 && !in_time) ++late;
    }
    CHECK(late < 400);                        // of 18,000
    CHECK(margin.ns() < longest + 2'500'000); // and not the safe half period
  }
}

TEST(margin_stays_between_its_limits) {
  std::mt19937_64 random(4);
  for (const int64_t period : {1'000'000, 4'166'667, 16'666'667, 1'000'000'000}) {
    Margin margin(period);
    for (int i = 0; i < 10'000; ++i) {
      const int64_t took = between(random, 0, 2 * period);
      i % 2 == 0 || i > 5000 ? margin.hit(took) : margin.miss(took);
      CHECK(margin.ns() > 0);
      CHECK(margin.ns() <= period / 2);
    }
  }
}

TEST(missed_vblanks_are_those_that_the_frame_was_there_for) {
  constexpr int64_t period = 10'000'000;
  constexpr int64_t grace = 1'000'000;
  VblankClock clock(period);
  const auto missed = [&](int64_t ready, int64_t free, int64_t shown) {
    clock.observe(shown, 1);
    return missed_vblanks(clock, ready, free, shown, grace);
  };
  CHECK_EQ(missed(95'000'000, 0, 100'000'000), 0u);
  CHECK_EQ(missed(85'000'000, 0, 100'000'000), 1u);
  CHECK_EQ(missed(55'000'000, 0, 100'000'000), 4u);
  // Too late for the first one: it lost nothing.
  CHECK_EQ(missed(89'500'000, 0, 100'000'000), 0u);
  // Ready early, but the former flip was in flight until 90 ms.
  CHECK_EQ(missed(55'000'000, 90'000'000, 100'000'000), 0u);
  // A former flip whose timestamp came a little late does not point at its own vblank.
  CHECK_EQ(missed(55'000'000, 90'100'000, 100'000'000), 0u);
  CHECK_EQ(missed(55'000'000, 89'900'000, 100'000'000), 0u);
}

TEST(missed_vblanks_bear_jitter) {
  std::mt19937_64 random(5);
  constexpr int64_t period = 16'666'667;
  for (int i = 0; i < 20'000; ++i) {
    const auto jitter = [&] { return between(random, -300'000, 300'000); };
    const int64_t skipped = between(random, 0, 5);
    const int64_t free = 1000 * period + jitter();
    const int64_t shown = (1001 + skipped) * period + jitter();
    VblankClock clock(period);
    clock.observe(shown, 1);
    CHECK_EQ(missed_vblanks(clock, free, free, shown, 1'000'000), static_cast<uint32_t>(skipped));
  }
}

TEST(errnos_mean_what_the_table_says) {
  for (const int error : {EBUSY, EINTR, EAGAIN, EDEADLK})
    CHECK_EQ(classify(error), Verdict::transient);
  for (const int error : {EACCES, EPERM})
    CHECK_EQ(classify(error), Verdict::paused);
  for (const int error : {EINVAL, ERANGE, E2BIG, EOPNOTSUPP, ENOSYS, 9999})
    CHECK_EQ(classify(error), Verdict::fallback);
  for (const int error : {ENOSPC, ENOMEM, EIO, ETIMEDOUT})
    CHECK_EQ(classify(error), Verdict::back_off);
  for (const int error : {ENODEV, ENXIO, EBADF})
    CHECK_EQ(classify(error), Verdict::gone);
  CHECK_EQ(classify(ENOENT), Verdict::revoked);
}
