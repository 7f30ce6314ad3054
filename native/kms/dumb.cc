#include "kms/dumb.h"

#include <xf86drm.h>

#include "kms/ioctl.h"

namespace scanout::kms {

DumbBuffer::DumbBuffer(std::shared_ptr<Device> device, uint32_t width, uint32_t height,
                       uint32_t bits_per_pixel)
    : device_(std::move(device)), width_(width), height_(height) {
  drm_mode_create_dumb create{};
  create.width = width;
  create.height = height;
  create.bpp = bits_per_pixel;
  checked_ioctl(device_->fd(), DRM_IOCTL_MODE_CREATE_DUMB, &create, "DRM_IOCTL_MODE_CREATE_DUMB",
                std::to_string(width) + "x" + std::to_string(height) + " at " +
                    std::to_string(bits_per_pixel) + " bits");
  handle_ = create.handle;
  pitch_ = create.pitch;
  size_ = create.size;
  device_->gem().adopt(handle_, true);
}

Mapping DumbBuffer::map() const {
  drm_mode_map_dumb map{.handle = handle_, .pad = 0, .offset = 0};
  checked_ioctl(device_->fd(), DRM_IOCTL_MODE_MAP_DUMB, &map, "DRM_IOCTL_MODE_MAP_DUMB",
                named("gem", handle_));
  return {device_->fd(), size_, static_cast<off_t>(map.offset), true};
}

base::UniqueFd DumbBuffer::export_fd() const {
  base::UniqueFd dmabuf;
  const int error = device_->gem().export_fd(handle_, dmabuf);
  if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_PRIME_HANDLE_TO_FD", named("gem", handle_));
  return dmabuf;
}

} // namespace scanout::kms
