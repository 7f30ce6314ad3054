// The memory behind a resource: pieces of the guest's, as a dma-buf or to be copied from.
#pragma once

#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "guests/virtio_gpu_types.h"
#include "guests/virtio_state.h"
#include "guests/virtqueue.h"

namespace scanout::guests {

/// Immutable. Not of the flip thread: everything here takes its time.
class GpuBacking {
public:
  /// Reads `count` entries of a command (struct virtio_gpu_mem_entry) from `at` on. Neighbours become one
  /// piece. Throws SystemError: the list is not all there (EFAULT), a piece is not in the guest's memory.
  GpuBacking(const GuestMemory& memory, const DescriptorChain& chain, uint64_t at, uint32_t count);

  /// Of the pieces that another one had. Throws SystemError: one is not in the guest's memory.
  GpuBacking(const GuestMemory& memory, std::span<const VirtioState::Piece> pieces);
  /// What it is made of.
  [[nodiscard]] std::vector<VirtioState::Piece> parts() const;

  /// Bytes.
  [[nodiscard]] uint64_t size() const noexcept { return size_; }
  [[nodiscard]] size_t pieces() const noexcept { return pieces_.size(); }

  struct DmaBuf {
    base::UniqueFd fd;
    uint64_t offset = 0; // of the resource's first byte
  };
  /// A dma-buf of the guest's own pages. Throws SystemError: pieces that do not begin and end with pages,
  /// more than udmabuf's limits, which the text names.
  [[nodiscard]] DmaBuf dma_buf(const GuestMemory& memory) const;

  /// Copies a rectangle of rows of `layout` that begins `offset` bytes into the resource to the same place of
  /// `target`, whose rows are `target_stride` apart. What is not in the resource, in the guest's memory or in
  /// `target` is left out.
  void copy(const GuestMemory& memory, const GpuLayout& layout, const GpuRect& rect, uint64_t offset,
            std::span<uint8_t> target, uint64_t target_stride) const noexcept;

private:
  struct Piece {
    uint64_t address, size, start; // start: in the resource
  };
  std::vector<Piece> pieces_;
  uint64_t size_ = 0;
};

} // namespace scanout::guests
