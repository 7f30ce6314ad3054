#include "fake_clock.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace scanout::test {

static constexpr int64_t real = -1;
static thread_local int64_t time_now = real;

FakeClock::FakeClock(int64_t start_ns) {
  time_now = start_ns;
}
FakeClock::~FakeClock() {
  time_now = real;
}
int64_t FakeClock::now() const {
  return time_now;
}
void FakeClock::set(int64_t time_ns) {
  time_now = time_ns;
}

} // namespace scanout::test

// Defined in the executable, so it comes before the C library's.
extern "C" __attribute__((visibility("default"))) int clock_gettime(clockid_t clock,
                                                                    timespec* time) noexcept {
  if (clock != CLOCK_MONOTONIC || scanout::test::time_now == scanout::test::real)
    return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  time->tv_sec = scanout::test::time_now / 1'000'000'000;
  time->tv_nsec = scanout::test::time_now % 1'000'000'000;
  return 0;
}
