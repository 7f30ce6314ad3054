// An epoll loop whose entries are objects, with nanosecond timeouts.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "base/clock.h"
#include "base/unique_fd.h"

namespace scanout::base {

/// Something that owns a descriptor and is told when it is ready. Not owned by the loop.
class Pollable {
public:
  /// `events` are EPOLLIN and so on. Runs on the loop's thread.
  virtual void on_ready(uint32_t events) noexcept = 0;

protected:
  ~Pollable() = default;
};

/// Entries must be removed before they are destroyed, and never from within `wait` of the same round: an
/// event that was fetched with theirs may still point at them.
class Epoll {
public:
  /// Throws SystemError.
  Epoll();

  /// Any thread. Throws SystemError. EPOLLET entries need not be read to be signalled again.
  void add(int fd, uint32_t events, Pollable* entry);
  /// Any thread. 0 or -errno; allocates nothing here.
  int try_add(int fd, uint32_t events, Pollable* entry) noexcept;
  void remove(int fd) noexcept;

  /// Waits until `deadline_ns` (CLOCK_MONOTONIC; negative: for ever) and calls every ready entry once.
  /// Returns how many were ready, or -errno.
  int wait(int64_t deadline_ns) noexcept;
  /// When the last `wait` woke, CLOCK_MONOTONIC: the clock is read when that is asked first. The loop's
  /// thread.
  [[nodiscard]] int64_t woke_ns() const noexcept {
    if (woke_ns_ == 0) woke_ns_ = now_ns();
    return woke_ns_;
  }

private:
  static constexpr int batch = 64;
  UniqueFd fd_;
  mutable int64_t woke_ns_ = 0; // 0: not asked yet
  epoll_event events_[batch];
};

} // namespace scanout::base
