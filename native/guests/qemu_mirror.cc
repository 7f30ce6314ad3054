#include "guests/qemu_mirror.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"

namespace scanout::guests {

QemuMirror::QemuMirror(const QemuLayout& layout, base::UniqueFd memfd)
    : memfd_(std::move(memfd)), offset_(layout.offsets[0]) {
  const pixels::Format* format = pixels::find_format(layout.fourcc);
  if (format == nullptr || format->plane_count != 1 || layout.width < 1 || layout.height < 1 ||
      layout.width > max_qemu_size || layout.height > max_qemu_size ||
      layout.strides[0] < pixels::plane_size(*format, 0, layout.width, layout.height).min_stride)
    throw base::UsageError("layout: a picture of one plane expected");
  size_ = size_t{layout.strides[0]} * layout.height;
  if (size_ > max_qemu_map) throw base::UsageError("layout: more than 256 MiB");
  // Populated: the flip thread receives into it, and must not wait for pages.
  void* memory =
      mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap", "guest picture");
  memory_ = static_cast<std::byte*>(memory);
  picture_ = {format, layout.width, layout.height, {memory_}, {layout.strides[0]}, {}};
}

QemuMirror::~QemuMirror() {
  munmap(memory_, size_);
}

void QemuMirror::refresh(const pixels::Box& box) {
  if (!memfd_) return;
  const uint32_t x1 = static_cast<uint32_t>(std::clamp<int64_t>(box.x1, 0, picture_.width));
  const uint32_t x2 = static_cast<uint32_t>(std::clamp<int64_t>(box.x2, 0, picture_.width));
  const uint32_t y1 = static_cast<uint32_t>(std::clamp<int64_t>(box.y1, 0, picture_.height));
  const uint32_t y2 = static_cast<uint32_t>(std::clamp<int64_t>(box.y2, 0, picture_.height));
  if (x1 >= x2 || y1 >= y2) return;
  const size_t pixel = picture_.format->planes[0].block_bytes;
  const size_t row_bytes = (x2 - x1) * pixel;
  const size_t last = (y2 - 1) * size_t{stride()} + x2 * pixel;
  // Rows that are mostly wanted are read in one go, narrow ones each for itself.
  if (row_bytes * 4 >= stride()) {
    const size_t first = y1 * size_t{stride()} + x1 * pixel;
    read(memory_ + first, last - first, offset_ + first);
    return;
  }
  for (uint32_t y = y1; y < y2; ++y) {
    const size_t first = y * size_t{stride()} + x1 * pixel;
    read(memory_ + first, row_bytes, offset_ + first);
  }
}

void QemuMirror::read(std::byte* to, size_t bytes, uint64_t from) const {
  while (bytes > 0) {
    const ssize_t count = pread(memfd_.get(), to, bytes, static_cast<off_t>(from));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw base::SystemError(errno, "pread", "guest picture");
    if (count == 0) throw base::SystemError(ENODATA, "pread", "guest picture", "its memory was cut off");
    to += count;
    bytes -= static_cast<size_t>(count);
    from += static_cast<uint64_t>(count);
  }
}

bool is_qemu_map(int fd, const QemuLayout& layout) noexcept {
  // Only memory has seals, and the kernel says so without asking a file system (mm/memfd.c).
  if (fcntl(fd, F_GET_SEALS) < 0) return false;
  const int access = fcntl(fd, F_GETFL);
  if (access < 0 || (access & O_ACCMODE) == O_WRONLY) return false;
  struct stat file{};
  if (fstat(fd, &file) < 0 || !S_ISREG(file.st_mode) || file.st_size < 0) return false;
  const pixels::Format* format = pixels::find_format(layout.fourcc);
  return format != nullptr && pixels::plane_end(*format, 0, layout.width, layout.height, layout.strides[0],
                                                layout.offsets[0]) <= static_cast<uint64_t>(file.st_size);
}

} // namespace scanout::guests
