#include "kms/gem.h"

#include <fcntl.h>
#include <xf86drm.h>

#include <cerrno>

#include "kms/ioctl.h"

namespace scanout::kms {

int GemTable::import(int dmabuf, uint32_t& handle) noexcept {
  drm_prime_handle prime{.handle = 0, .flags = 0, .fd = dmabuf};
  const std::lock_guard lock(mutex_);
  if (const int error = try_ioctl(fd_, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime); error < 0) return error;
  ++entries_[prime.handle].holders;
  handle = prime.handle;
  return 0;
}

void GemTable::adopt(uint32_t handle, bool dumb) noexcept {
  const std::lock_guard lock(mutex_);
  entries_[handle] = {.holders = 1, .dumb = dumb};
}

int GemTable::export_fd(uint32_t handle, base::UniqueFd& dmabuf) noexcept {
  drm_prime_handle prime{.handle = handle, .flags = DRM_CLOEXEC | DRM_RDWR, .fd = -1};
  const std::lock_guard lock(mutex_);
  if (const int error = try_ioctl(fd_, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime); error < 0) return error;
  dmabuf.reset(prime.fd);
  return 0;
}

int GemTable::release(uint32_t handle) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(handle);
  if (found == entries_.end()) return -ENOENT;
  if (--found->second.holders > 0) return 0;
  const bool dumb = found->second.dumb;
  entries_.erase(found);
  if (dumb) {
    drm_mode_destroy_dumb destroy{.handle = handle};
    return try_ioctl(fd_, DRM_IOCTL_MODE_DESTROY_DUMB, &destroy);
  }
  drm_gem_close close{.handle = handle, .pad = 0};
  return try_ioctl(fd_, DRM_IOCTL_GEM_CLOSE, &close);
}

size_t GemTable::live() const noexcept {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

uint32_t GemTable::holders(uint32_t handle) const noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(handle);
  return found == entries_.end() ? 0 : found->second.holders;
}

void close_every_handle(int fd) noexcept {
  constexpr uint32_t largest_gap = 4096;
  uint32_t last = 0;
  for (uint32_t handle = 1; handle - last <= largest_gap; ++handle) {
    drm_gem_close close{.handle = handle, .pad = 0};
    if (try_ioctl(fd, DRM_IOCTL_GEM_CLOSE, &close) == 0) last = handle;
  }
}

} // namespace scanout::kms
