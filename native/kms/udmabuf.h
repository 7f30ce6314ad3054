// dma-bufs of plain memory, by /dev/udmabuf. Throws SystemError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/unique_fd.h"

namespace scanout::kms {

/// Memory that can be mapped, resized by nobody, and shown.
struct Udmabuf {
  base::UniqueFd memfd;
  base::UniqueFd dmabuf;
  uint64_t size = 0; // bytes, whole pages
};

/// A part of a memfd; whole pages.
struct MemfdRange {
  int memfd; // borrowed
  uint64_t offset, size;
};

/// A memfd sealed as udmabuf wants it, and its dma-buf. `size` is rounded up to whole pages. EINVAL: more
/// than the module's size_limit_mb (64). EACCES or ENOENT: no /dev/udmabuf for the caller.
Udmabuf create_udmabuf(uint64_t size, const std::string& name);

/// A dma-buf of parts of other memfds, in this order. Each needs F_SEAL_SHRINK and must not have F_SEAL_WRITE
/// (EINVAL, EBADFD: no memfd; drivers/dma-buf/udmabuf.c).
base::UniqueFd udmabuf_of(std::span<const MemfdRange> ranges);

} // namespace scanout::kms
