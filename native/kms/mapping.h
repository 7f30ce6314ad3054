// A shared mapping of a buffer.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <utility>

namespace scanout::kms {

/// Unmapped on destruction. Movable.
class Mapping {
public:
  Mapping() = default;
  /// Maps `size` bytes of `fd` from `offset`, shared. Throws SystemError.
  Mapping(int fd, size_t size, off_t offset, bool writable);
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  void reset() noexcept;
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

} // namespace scanout::kms
