#include "kms/gem_buffer.h"

#include "base/error.h"
#include "kms/ioctl.h"

namespace scanout::kms {

GemBuffer::GemBuffer(std::shared_ptr<Device> device, int dmabuf) : device_(std::move(device)) {
  const int error = device_->gem().import(dmabuf, handle_);
  if (error < 0) {
    throw base::SystemError(-error, "DRM_IOCTL_PRIME_FD_TO_HANDLE",
                            named("dma-buf", static_cast<uint64_t>(dmabuf)));
  }
}

base::UniqueFd GemBuffer::export_fd() const {
  base::UniqueFd dmabuf;
  const int error = device_->gem().export_fd(handle_, dmabuf);
  if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_PRIME_HANDLE_TO_FD", named("gem", handle_));
  return dmabuf;
}

} // namespace scanout::kms
