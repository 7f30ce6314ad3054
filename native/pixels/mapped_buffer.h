// A buffer in dma-bufs that the CPU reads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/unique_fd.h"
#include "kms/mapping.h"
#include "pixels/convert.h"
#include "pixels/region.h"

namespace scanout::pixels {

/// How a buffer lies in its dma-bufs.
struct BufferLayout {
  uint32_t width = 0, height = 0; // pixels, 1 to 32767
  uint32_t fourcc = 0;
  uint64_t modifier = 0; // linear, or none given (DRM_FORMAT_MOD_INVALID)
  std::array<uint32_t, max_memory_planes> strides{}, offsets{}; // bytes
  Colors colors;
};

/// Pixels in memory of this process that somebody else brings up to date.
class MemorySource {
public:
  virtual ~MemorySource() = default;
  [[nodiscard]] virtual const Picture& picture() const noexcept = 0;
  /// Makes what of `box` lies within the picture current before it is read. On the reading thread. Throws
  /// SystemError.
  virtual void refresh(const Box& box) = 0;
};

/// Maps dma-bufs for reading, and nothing but dma-bufs: their memory cannot be cut off under a reader (the
/// size of a dma-buf is fixed, and udmabuf takes only memfds that are sealed against shrinking), so that
/// reading them raises no SIGBUS, whatever a guest does.
///
/// Any thread, one at a time.
class MappedBuffer {
public:
  /// `fds`: one for all memory planes, or one each; borrowed. Throws SystemError: EINVAL for a layout that
  /// does not fit or no dma-buf, EOPNOTSUPP for pixels that the CPU cannot read, and what mmap(2) says where
  /// the exporter has none.
  MappedBuffer(const BufferLayout& layout, std::span<const int> fds);
  /// Memory that somebody else owns and that needs no access bracket.
  explicit MappedBuffer(const Picture& picture) noexcept : picture_(picture) {}

  explicit MappedBuffer(std::shared_ptr<MemorySource> source) noexcept
      : picture_(source->picture()), source_(std::move(source)) {}

  [[nodiscard]] const Picture& picture() const noexcept { return picture_; }
  /// To be called for what will be read, between `begin_read` and the reading. Throws SystemError.
  void refresh(const Box& box) const {
    if (source_) source_->refresh(box);
  }

  /// Waits until those who write are done (implicit fences), at most `timeout_ms` in all, and begins the
  /// CPU's access. Throws SystemError, ETIMEDOUT when they are not done; then nothing has begun.
  void begin_read(int timeout_ms) const;
  void end_read() const noexcept;

private:
  struct DmaBuf {
    base::UniqueFd fd;
    kms::Mapping mapping;
  };
  static DmaBuf map(int fd, uint64_t needed);

  Picture picture_;
  std::array<DmaBuf, max_memory_planes> buffers_;
  uint32_t buffer_count_ = 0;
  std::shared_ptr<MemorySource> source_;
};

/// The CPU's access to a buffer, ended with the object; the buffer outlives it.
class Reading {
public:
  Reading() = default;
  /// As MappedBuffer::begin_read.
  Reading(const MappedBuffer& buffer, int timeout_ms) {
    buffer.begin_read(timeout_ms);
    buffer_ = &buffer;
  }
  Reading(Reading&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
  Reading& operator=(Reading&& other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() {
    if (buffer_ != nullptr) buffer_->end_read();
  }

private:
  const MappedBuffer* buffer_ = nullptr;
};

} // namespace scanout::pixels
