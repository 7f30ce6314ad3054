#include "guests/qemu_array.h"

#include <algorithm>

namespace scanout::guests {

void QemuArray::begin(uint32_t bytes, uint32_t source_stride, const Target& target) noexcept {
  bytes_ = bytes;
  done_ = 0;
  source_stride_ = std::max(source_stride, 1u);
  target_ = target;
}

uint32_t QemuArray::parts(std::span<iovec> out, size_t budget) noexcept {
  uint32_t count = 0;
  uint32_t at = done_;
  size_t room = std::min<size_t>(budget, left());
  while (room > 0 && count < out.size()) {
    const uint32_t row = at / source_stride_;
    const uint32_t column = at % source_stride_;
    const bool wanted = target_.memory != nullptr && row < target_.rows && column < target_.row_bytes;
    size_t size = wanted ? target_.row_bytes - column : source_stride_ - std::min(column, source_stride_);
    if (!wanted) size = std::min(size, nowhere_.size());
    size = std::min(size, room);
    std::byte* to = wanted ? target_.memory + size_t{row} * target_.stride + column : nowhere_.data();
    out[count++] = {.iov_base = to, .iov_len = size};
    at += static_cast<uint32_t>(size);
    room -= size;
  }
  return count;
}

} // namespace scanout::guests
