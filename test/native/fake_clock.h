// A clock that tests turn by hand.
#pragma once

#include <cstdint>

namespace scanout::test {

/// While one lives, CLOCK_MONOTONIC of the thread that made it stands still but for `set` and `advance`.
class FakeClock {
public:
  explicit FakeClock(int64_t start_ns = 1'000'000'000'000);
  FakeClock(const FakeClock&) = delete;
  FakeClock& operator=(const FakeClock&) = delete;
  ~FakeClock();

  [[nodiscard]] int64_t now() const;
  void set(int64_t time_ns);
  void advance(int64_t ns) { set(now() + ns); }
};

} // namespace scanout::test
