#include "kms/mapping.h"

#include <sys/mman.h>

#include <cerrno>

#include "base/error.h"

namespace scanout::kms {

Mapping::Mapping(int fd, size_t size, off_t offset, bool writable) {
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* data = mmap(nullptr, size, protection, MAP_SHARED, fd, offset);
  if (data == MAP_FAILED) throw base::SystemError(errno, "mmap", std::to_string(size) + " bytes");
  data_ = static_cast<std::byte*>(data);
  size_ = size;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Mapping::reset() noexcept {
  if (data_ != nullptr) munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

} // namespace scanout::kms
