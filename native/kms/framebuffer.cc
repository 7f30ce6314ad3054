#include "kms/framebuffer.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <vector>

#include "kms/compat.h"
#include "kms/formats.h"
#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

// Closes what GETFB2 opened, also when an export throws.
class OpenedHandles {
public:
  OpenedHandles(GemTable& gem, const drm_mode_fb_cmd2& command) : gem_(gem) {
    // Planes in one buffer share a handle, which GETFB2 makes once.
    for (const uint32_t handle : command.handles) {
      if (handle != 0 && handles_.insert(handle).second) gem_.adopt(handle, false);
    }
  }
  OpenedHandles(const OpenedHandles&) = delete;
  OpenedHandles& operator=(const OpenedHandles&) = delete;
  ~OpenedHandles() {
    for (const uint32_t handle : handles_)
      gem_.release(handle);
  }

private:
  GemTable& gem_;
  std::set<uint32_t> handles_;
};

uint32_t used_planes(const drm_mode_fb_cmd2& command) {
  uint32_t count = 0;
  while (count < most_planes && command.pitches[count] != 0)
    ++count;
  return count;
}

} // namespace

std::string describe(const FramebufferLayout& layout) {
  std::string text =
      std::to_string(layout.width) + "x" + std::to_string(layout.height) + " " + format_name(layout.format);
  if (layout.modifier != DRM_FORMAT_MOD_INVALID) {
    char modifier[40];
    std::snprintf(modifier, sizeof modifier, " modifier 0x%llx",
                  static_cast<unsigned long long>(layout.modifier));
    text += modifier;
  }
  return text;
}

int add_framebuffer(int fd, const FramebufferLayout& layout, const std::array<uint32_t, most_planes>& handles,
                    uint32_t& id) noexcept {
  drm_mode_fb_cmd2 command{};
  command.width = layout.width;
  command.height = layout.height;
  command.pixel_format = layout.format;
  if (layout.interlaced) command.flags |= DRM_MODE_FB_INTERLACED;
  const bool explicit_modifier = layout.modifier != DRM_FORMAT_MOD_INVALID;
  if (explicit_modifier) command.flags |= DRM_MODE_FB_MODIFIERS;
  for (size_t i = 0; i < std::min<size_t>(layout.plane_count, most_planes); ++i) {
    command.handles[i] = handles[i];
    command.pitches[i] = layout.pitches[i];
    command.offsets[i] = layout.offsets[i];
    // Every plane has to say the same modifier (framebuffer_check).
    command.modifier[i] = explicit_modifier ? layout.modifier : 0;
  }
  const int error = try_ioctl(fd, DRM_IOCTL_MODE_ADDFB2, &command);
  if (error == 0) id = command.fb_id;
  return error;
}

int remove_framebuffer(int fd, uint32_t id) noexcept {
  return try_ioctl(fd, DRM_IOCTL_MODE_RMFB, &id);
}

int close_framebuffer(int fd, uint32_t id) noexcept {
  drm_mode_closefb close{.fb_id = id, .pad = 0};
  const int error = try_ioctl(fd, DRM_IOCTL_MODE_CLOSEFB, &close);
  // The ioctl itself knows ENOENT only; EINVAL is the answer to a number that the kernel has no ioctl for.
  return error == -EINVAL || error == -ENOTTY ? -EOPNOTSUPP : error;
}

int drop_framebuffer(int fd, uint32_t id) noexcept {
  const int error = close_framebuffer(fd, id);
  return error == -EOPNOTSUPP ? remove_framebuffer(fd, id) : error;
}

int dirty_framebuffer(int fd, uint32_t id, std::span<const std::array<int32_t, 4>> rectangles) noexcept {
  std::array<drm_clip_rect, DRM_MODE_FB_DIRTY_MAX_CLIPS> clips;
  if (rectangles.size() > clips.size()) return -EINVAL;
  for (size_t i = 0; i < rectangles.size(); ++i) {
    const auto& [x1, y1, x2, y2] = rectangles[i];
    clips[i] = {.x1 = static_cast<uint16_t>(x1),
                .y1 = static_cast<uint16_t>(y1),
                .x2 = static_cast<uint16_t>(x2),
                .y2 = static_cast<uint16_t>(y2)};
  }
  drm_mode_fb_dirty_cmd command{};
  command.fb_id = id;
  command.num_clips = static_cast<uint32_t>(rectangles.size());
  command.clips_ptr = rectangles.empty() ? 0 : reinterpret_cast<uint64_t>(clips.data());
  return try_ioctl(fd, DRM_IOCTL_MODE_DIRTYFB, &command);
}

FramebufferInfo get_framebuffer(Device& device, uint32_t id) {
  drm_mode_fb_cmd2 command{};
  command.fb_id = id;
  checked_ioctl(device.fd(), DRM_IOCTL_MODE_GETFB2, &command, "DRM_IOCTL_MODE_GETFB2", named("fb", id));
  const OpenedHandles opened(device.gem(), command);
  FramebufferInfo info;
  info.layout = {.width = command.width,
                 .height = command.height,
                 .format = command.pixel_format,
                 .interlaced = (command.flags & DRM_MODE_FB_INTERLACED) != 0,
                 .plane_count = used_planes(command)};
  if ((command.flags & DRM_MODE_FB_MODIFIERS) != 0) info.layout.modifier = command.modifier[0];
  for (size_t i = 0; i < info.layout.plane_count; ++i) {
    info.layout.pitches[i] = command.pitches[i];
    info.layout.offsets[i] = command.offsets[i];
    if (command.handles[i] == 0) continue;
    const int error = device.gem().export_fd(command.handles[i], info.dmabufs[i]);
    if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_PRIME_HANDLE_TO_FD", named("fb", id));
  }
  return info;
}

} // namespace scanout::kms
