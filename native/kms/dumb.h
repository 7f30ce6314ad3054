// Dumb buffers: memory for pixels that every KMS driver can make and show.
#pragma once

#include <cstdint>
#include <memory>

#include "base/unique_fd.h"
#include "kms/device.h"
#include "kms/mapping.h"

namespace scanout::kms {

/// Destroyed with the object; framebuffers made of it keep its memory. Holds its device.
class DumbBuffer {
public:
  /// Linear, zeroed. `bits_per_pixel` is that of the first plane: a multi-planar format asks for a buffer
  /// of more lines. Throws SystemError.
  DumbBuffer(std::shared_ptr<Device> device, uint32_t width, uint32_t height, uint32_t bits_per_pixel);
  DumbBuffer(const DumbBuffer&) = delete;
  DumbBuffer& operator=(const DumbBuffer&) = delete;
  ~DumbBuffer() { device_->gem().release(handle_); }

  [[nodiscard]] uint32_t handle() const noexcept { return handle_; }
  [[nodiscard]] uint32_t width() const noexcept { return width_; }
  [[nodiscard]] uint32_t height() const noexcept { return height_; }
  [[nodiscard]] uint32_t pitch() const noexcept { return pitch_; } // bytes
  [[nodiscard]] uint64_t size() const noexcept { return size_; }   // bytes

  /// Maps it whole, for reading and writing. Often write-combined: reading is slow. Throws SystemError.
  [[nodiscard]] Mapping map() const;
  /// As a dma-buf. Throws SystemError.
  [[nodiscard]] base::UniqueFd export_fd() const;

private:
  std::shared_ptr<Device> device_;
  uint32_t handle_ = 0, width_, height_, pitch_ = 0;
  uint64_t size_ = 0;
};

} // namespace scanout::kms
