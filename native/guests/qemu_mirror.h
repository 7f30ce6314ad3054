// Pixels of a guest that come without a dma-buf, in memory of the daemon's own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/unique_fd.h"
#include "guests/qemu_call.h"
#include "pixels/mapped_buffer.h"

namespace scanout::guests {

/// Memory of one picture. What QEMU sends in messages is received straight into it. A picture in a memfd of
/// QEMU's is read into it by pread(2) when it is drawn: mapped, the memory could be cut off under the reader,
/// since such memfds are not sealed against shrinking.
class QemuMirror final : public pixels::MemorySource {
public:
  /// All of the memory is there from the start. `memfd` (taken over) may be none; otherwise one that
  /// `is_qemu_map` said yes to. Throws SystemError, UsageError for a layout that no call can have.
  QemuMirror(const QemuLayout& layout, base::UniqueFd memfd);
  QemuMirror(const QemuMirror&) = delete;
  QemuMirror& operator=(const QemuMirror&) = delete;
  ~QemuMirror() override;

  [[nodiscard]] std::byte* memory() const noexcept { return memory_; }
  /// Bytes from one row to the next.
  [[nodiscard]] uint32_t stride() const noexcept { return picture_.strides[0]; }

  [[nodiscard]] const pixels::Picture& picture() const noexcept override { return picture_; }
  /// Reads rows of the memfd. Throws SystemError, ENODATA where it was cut off.
  void refresh(const pixels::Box& box) override;

private:
  void read(std::byte* to, size_t bytes, uint64_t from) const;

  pixels::Picture picture_;
  std::byte* memory_ = nullptr;
  size_t size_ = 0; // bytes
  base::UniqueFd memfd_;
  uint64_t offset_ = 0; // bytes
};

/// True when `fd` is memory (a memfd, a file in tmpfs or hugetlbfs) that holds the picture. Asks nothing that
/// a file system of somebody's own could answer, or could refuse to.
bool is_qemu_map(int fd, const QemuLayout& layout) noexcept;

} // namespace scanout::guests
