// A dma-buf as a device has it.
#pragma once

#include <cstdint>
#include <memory>

#include "base/unique_fd.h"
#include "kms/device.h"

namespace scanout::kms {

/// One holder of the GEM handle of an imported dma-buf. Holds its device.
class GemBuffer {
public:
  /// DRM_IOCTL_PRIME_FD_TO_HANDLE; `dmabuf` is borrowed. Throws SystemError: EINVAL when the device cannot
  /// reach such memory, EBADF or EINVAL when it is no dma-buf.
  GemBuffer(std::shared_ptr<Device> device, int dmabuf);
  GemBuffer(const GemBuffer&) = delete;
  GemBuffer& operator=(const GemBuffer&) = delete;
  ~GemBuffer() { device_->gem().release(handle_); }

  /// Equal for all imports of one dma-buf.
  [[nodiscard]] uint32_t handle() const noexcept { return handle_; }
  /// The dma-buf again. Throws SystemError.
  [[nodiscard]] base::UniqueFd export_fd() const;

private:
  std::shared_ptr<Device> device_;
  uint32_t handle_ = 0;
};

} // namespace scanout::kms
