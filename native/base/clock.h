// CLOCK_MONOTONIC in nanoseconds, the clock of DRM's event timestamps.
#pragma once

#include <time.h>

#include <cstdint>

namespace scanout::base {

inline int64_t now_ns() noexcept {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return int64_t{ts.tv_sec} * 1'000'000'000 + ts.tv_nsec;
}

inline timespec to_timespec(int64_t ns) noexcept {
  return {.tv_sec = static_cast<time_t>(ns / 1'000'000'000),
          .tv_nsec = static_cast<long>(ns % 1'000'000'000)};
}

} // namespace scanout::base
