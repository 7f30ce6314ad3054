#include "base/fd_kind.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <thread>

namespace scanout::base {

namespace {

// The kernel's own name of the file: procfs prints it without calling into the file's driver.
bool link_begins(int fd, const char* wanted) noexcept {
  char path[32];
  char target[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(path, target, sizeof target - 1);
  if (size < 0) return false;
  target[size] = '\0';
  return std::strncmp(target, wanted, std::strlen(wanted)) == 0;
}

// A pipe whose reader closes what it is told. Lives as long as the process.
int start_closer() noexcept {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -1;
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  std::thread([input = ends[0]] {
    int fd = -1;
    while (read(input, &fd, sizeof fd) == sizeof fd)
      close(fd);
  }).detach();
  return ends[1];
}

} // namespace

bool is_eventfd(int fd) noexcept {
  return link_begins(fd, "anon_inode:[eventfd]");
}
bool is_sync_file(int fd) noexcept {
  return link_begins(fd, "anon_inode:sync_file");
}
bool is_dma_buf(int fd) noexcept {
  return link_begins(fd, "/dmabuf:");
}
bool is_vfio_device(int fd) noexcept {
  return link_begins(fd, "anon_inode:[vfio-device]");
}

void close_untrusted(int fd) noexcept {
  static const int closer = start_closer();
  // A full pipe means that thousands of closes hang already: the descriptor is then given up.
  if (fd >= 0 && closer >= 0) (void)!write(closer, &fd, sizeof fd);
}

} // namespace scanout::base
