// GEM handles, counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "base/unique_fd.h"

namespace scanout::kms {

/// The GEM handles of one open DRM file.
///
/// The kernel gives every import of one dma-buf the same handle, with no count of its own
/// (drm_prime_lookup_buf_handle), and a dumb buffer that was exported comes back as its own handle. Whoever
/// closed "his" handle would close everybody's; so all users of a file share one of these. Any thread.
class GemTable {
public:
  /// `fd` is borrowed and outlives the table.
  explicit GemTable(int fd) noexcept : fd_(fd) {}
  GemTable(const GemTable&) = delete;
  GemTable& operator=(const GemTable&) = delete;

  /// DRM_IOCTL_PRIME_FD_TO_HANDLE. One more holder of the handle. Returns 0 or -errno.
  int import(int dmabuf, uint32_t& handle) noexcept;
  /// Takes over a handle that a call has just made new (GETFB2, CREATE_DUMB).
  void adopt(uint32_t handle, bool dumb) noexcept;
  /// DRM_IOCTL_PRIME_HANDLE_TO_FD, close-on-exec and writable. Returns 0 or -errno.
  int export_fd(uint32_t handle, base::UniqueFd& dmabuf) noexcept;
  /// One holder less; the last closes the handle. -ENOENT when nobody holds it.
  int release(uint32_t handle) noexcept;

  /// How many handles are open.
  [[nodiscard]] size_t live() const noexcept;
  /// How many hold `handle`.
  [[nodiscard]] uint32_t holders(uint32_t handle) const noexcept;

private:
  struct Entry {
    uint32_t holders = 0;
    bool dumb = false; // was made by CREATE_DUMB, and goes by DESTROY_DUMB
  };
  int fd_;
  // Held across the ioctls: between an import and its count nobody may close the handle.
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, Entry> entries_;
};

/// Closes what handles the file has, whoever made them: for a file that another process has used before, and
/// before this one makes any. Framebuffers of such handles stay. Handles beyond a gap of thousands are not
/// found, as the kernel does not list them and gives the lowest that is free.
void close_every_handle(int fd) noexcept;

} // namespace scanout::kms
