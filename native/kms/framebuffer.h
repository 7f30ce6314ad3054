// Framebuffers: GEM buffers with a layout.
#pragma once

#include <drm_fourcc.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/unique_fd.h"
#include "kms/device.h"

namespace scanout::kms {

constexpr size_t most_planes = 4; // of one framebuffer (DRM_FORMAT_MAX_PLANES)

/// How pixels lie in buffers. Fields of planes beyond `plane_count` are 0, so that equal layouts compare
/// equal.
struct FramebufferLayout {
  uint32_t width = 0, height = 0; // pixels
  uint32_t format = 0;            // DRM_FORMAT_*
  /// DRM_FORMAT_MOD_INVALID: not told to the kernel, which then assumes what the driver is used to.
  uint64_t modifier = DRM_FORMAT_MOD_INVALID;
  bool interlaced = false;
  uint32_t plane_count = 1;
  std::array<uint32_t, most_planes> pitches{}; // bytes
  std::array<uint32_t, most_planes> offsets{}; // bytes
  bool operator==(const FramebufferLayout&) const = default;
};

/// "640x480 XR24 modifier 0x0", for messages.
std::string describe(const FramebufferLayout& layout);

/// DRM_IOCTL_MODE_ADDFB2. The framebuffer holds the buffers itself: handles may be closed afterwards.
/// Returns 0 or -errno.
int add_framebuffer(int fd, const FramebufferLayout& layout, const std::array<uint32_t, most_planes>& handles,
                    uint32_t& id) noexcept;

/// DRM_IOCTL_MODE_RMFB: planes that show it are switched off first. Returns 0 or -errno.
int remove_framebuffer(int fd, uint32_t id) noexcept;

/// DRM_IOCTL_MODE_CLOSEFB: planes that show it keep it. Returns 0 or -errno, -EOPNOTSUPP before Linux 6.8.
int close_framebuffer(int fd, uint32_t id) noexcept;

/// Closes it where the kernel can, else removes it: for whoever is done with a framebuffer and would rather
/// leave the picture on the screen. Returns 0 or -errno.
int drop_framebuffer(int fd, uint32_t id) noexcept;

/// DRM_IOCTL_MODE_DIRTYFB, for displays that are sent pixels: x1, y1, x2, y2 of each rectangle; none means
/// everything. Returns 0 or -errno (-ENOSYS: the driver has no need of it).
int dirty_framebuffer(int fd, uint32_t id, std::span<const std::array<int32_t, 4>> rectangles) noexcept;

/// A framebuffer of anybody's as GETFB2 tells it.
struct FramebufferInfo {
  FramebufferLayout layout;
  /// Each plane's buffer; none where the caller is neither master nor has CAP_SYS_ADMIN.
  std::array<base::UniqueFd, most_planes> dmabufs;
};

/// DRM_IOCTL_MODE_GETFB2; the buffers come as dma-bufs. Throws SystemError.
FramebufferInfo get_framebuffer(Device& device, uint32_t id);

} // namespace scanout::kms
