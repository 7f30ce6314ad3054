// System calls of threads that sleep between events.
#pragma once

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>

namespace scanout::base {

// read(2), write(2) and epoll_pwait2(2) as they are, but no cancellation points, as which glibc has them in
// each program with threads: two functions more on the way to the kernel and back, whose pages a thread finds
// anew after each sleep. No thread of ours is cancelled (pthreads(7), Cancellation points).

inline ssize_t read_call(int fd, void* buffer, size_t size) noexcept {
  return syscall(SYS_read, fd, buffer, size);
}

inline ssize_t write_call(int fd, const void* buffer, size_t size) noexcept {
  return syscall(SYS_write, fd, buffer, size);
}

/// `timeout` null: without end.
inline int epoll_wait_call(int fd, epoll_event* events, int count, const timespec* timeout) noexcept {
  return static_cast<int>(syscall(SYS_epoll_pwait2, fd, events, count, timeout, nullptr, size_t{0}));
}

} // namespace scanout::base
