#include "base/epoll.h"

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/system_calls.h"

namespace scanout::base {

Epoll::Epoll() : fd_(check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
  // Where it is missing (before Linux 5.11) or filtered, the loop would turn without ever waiting.
  const timespec at_once{};
  check(epoll_wait_call(fd_.get(), events_, batch, &at_once), "epoll_pwait2");
}

void Epoll::add(int fd, uint32_t events, Pollable* entry) {
  if (const int result = try_add(fd, events, entry); result < 0) {
    throw SystemError(-result, "epoll_ctl", "fd " + std::to_string(fd));
  }
}

int Epoll::try_add(int fd, uint32_t events, Pollable* entry) noexcept {
  epoll_event event{.events = events, .data = {.ptr = entry}};
  return epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void Epoll::remove(int fd) noexcept {
  epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

[[gnu::hot]] int Epoll::wait(int64_t deadline_ns) noexcept {
  // Relative, since epoll_pwait2 knows no absolute time; it wakes without the slack of epoll_wait's
  // milliseconds.
  timespec timeout{};
  if (deadline_ns >= 0) timeout = to_timespec(std::max<int64_t>(0, deadline_ns - now_ns()));
  const int count = epoll_wait_call(fd_.get(), events_, batch, deadline_ns >= 0 ? &timeout : nullptr);
  woke_ns_ = 0;
  if (count < 0) return -errno;
  for (int i = 0; i < count; ++i)
    static_cast<Pollable*>(events_[i].data.ptr)->on_ready(events_[i].events);
  return count;
}

} // namespace scanout::base
