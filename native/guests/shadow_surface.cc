#include "guests/shadow_surface.h"

#include "base/error.h"
#include "kms/dumb.h"
#include "kms/framebuffer.h"

namespace scanout::guests {

namespace {

class DumbSurface {
public:
  DumbSurface(const std::shared_ptr<kms::Device>& device, uint32_t width, uint32_t height, bool alpha)
      : device_(device), buffer_(device, width, height, 32), mapping_(buffer_.map()) {
    kms::FramebufferLayout layout;
    layout.width = width;
    layout.height = height;
    layout.format = alpha ? DRM_FORMAT_ARGB8888 : DRM_FORMAT_XRGB8888;
    layout.pitches[0] = buffer_.pitch();
    const int error = kms::add_framebuffer(device->fd(), layout, {buffer_.handle()}, fb_id_);
    if (error < 0)
      throw base::SystemError(-error, "DRM_IOCTL_MODE_ADDFB2", "shadow copy " + kms::describe(layout));
  }
  DumbSurface(const DumbSurface&) = delete;
  DumbSurface& operator=(const DumbSurface&) = delete;
  ~DumbSurface() { kms::drop_framebuffer(device_->fd(), fb_id_); }

  [[nodiscard]] uint32_t fb_id() const noexcept { return fb_id_; }
  [[nodiscard]] std::byte* memory() const noexcept { return mapping_.data(); }
  [[nodiscard]] uint32_t stride() const noexcept { return buffer_.pitch(); }

private:
  std::shared_ptr<kms::Device> device_;
  kms::DumbBuffer buffer_;
  kms::Mapping mapping_;
  uint32_t fb_id_ = 0;
};

} // namespace

ShadowSurface make_shadow_surface(const std::shared_ptr<kms::Device>& device, uint32_t width, uint32_t height,
                                  bool alpha) {
  auto surface = std::make_shared<DumbSurface>(device, width, height, alpha);
  return {surface->fb_id(), surface->memory(), surface->stride(), surface};
}

} // namespace scanout::guests
