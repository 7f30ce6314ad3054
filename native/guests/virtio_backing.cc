#include "guests/virtio_backing.h"

#include <linux/virtio_gpu.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>

#include "base/error.h"
#include "kms/udmabuf.h"

namespace scanout::guests {

namespace {

constexpr const char* parameters = "/sys/module/udmabuf/parameters/";

// 0 where it cannot be read.
uint64_t limit(const char* name) {
  std::ifstream file(std::string(parameters) + name);
  uint64_t value = 0;
  file >> value;
  return value;
}

void check_limits(uint64_t size, size_t ranges) {
  constexpr uint64_t megabyte = 1 << 20;
  const uint64_t most_megabytes = limit("size_limit_mb");
  if (most_megabytes != 0 && size > most_megabytes * megabyte) {
    throw base::SystemError(EINVAL, "UDMABUF_CREATE_LIST", std::to_string(size) + " bytes",
                            std::string("raise ") + parameters + "size_limit_mb, which is " +
                                std::to_string(most_megabytes));
  }
  const uint64_t most_ranges = limit("list_limit");
  if (most_ranges != 0 && ranges > most_ranges) {
    throw base::SystemError(EINVAL, "UDMABUF_CREATE_LIST", std::to_string(ranges) + " ranges",
                            std::string("raise ") + parameters + "list_limit, which is " +
                                std::to_string(most_ranges));
  }
}

} // namespace

GpuBacking::GpuBacking(const GuestMemory& memory, const DescriptorChain& chain, uint64_t at, uint32_t count) {
  std::vector<virtio_gpu_mem_entry> entries(count);
  const size_t bytes = entries.size() * sizeof(virtio_gpu_mem_entry);
  if (chain.read(memory, at, entries.data(), bytes) != bytes)
    throw base::SystemError(EFAULT, "attach", "resource", "its list of entries is not all there");
  for (const virtio_gpu_mem_entry& entry : entries) {
    if (entry.length == 0) continue;
    if (memory.at(entry.addr, entry.length) == nullptr)
      throw base::SystemError(EFAULT, "attach", "resource", "an entry is not in the guest's memory");
    const bool follows = !pieces_.empty() && pieces_.back().address + pieces_.back().size == entry.addr &&
                         memory.at(pieces_.back().address, pieces_.back().size + entry.length) != nullptr;
    if (follows)
      pieces_.back().size += entry.length;
    else
      pieces_.push_back({.address = entry.addr, .size = entry.length, .start = size_});
    size_ += entry.length;
  }
}

GpuBacking::GpuBacking(const GuestMemory& memory, std::span<const VirtioState::Piece> pieces) {
  for (const VirtioState::Piece& piece : pieces) {
    if (memory.at(piece.address, piece.size) == nullptr)
      throw base::SystemError(EFAULT, "attach", "resource", "a piece is not in the guest's memory");
    pieces_.push_back({.address = piece.address, .size = piece.size, .start = size_});
    size_ += piece.size;
  }
}

std::vector<VirtioState::Piece> GpuBacking::parts() const {
  std::vector<VirtioState::Piece> parts;
  parts.reserve(pieces_.size());
  for (const Piece& piece : pieces_)
    parts.push_back({.address = piece.address, .size = piece.size});
  return parts;
}

GpuBacking::DmaBuf GpuBacking::dma_buf(const GuestMemory& memory) const {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  DmaBuf made;
  std::vector<kms::MemfdRange> ranges;
  uint64_t all = 0;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    // The first may begin within a page, the last end within one: the rest of that page comes along.
    const uint64_t before = piece.address % page;
    const uint64_t after = (page - (piece.address + piece.size) % page) % page;
    const auto place = memory.place(piece.address - before, before + piece.size + after);
    if ((before != 0 && i != 0) || (after != 0 && i + 1 != pieces_.size()) || !place ||
        place->offset % page != 0) {
      throw base::SystemError(EINVAL, "UDMABUF_CREATE_LIST", "resource",
                              "piece " + std::to_string(i) + " of " + std::to_string(pieces_.size()) +
                                  " is not made of whole pages");
    }
    if (i == 0) made.offset = before;
    ranges.push_back({.memfd = place->fd, .offset = place->offset, .size = before + piece.size + after});
    all += ranges.back().size;
  }
  if (ranges.empty()) throw base::SystemError(EINVAL, "UDMABUF_CREATE_LIST", "resource", "it has no memory");
  check_limits(all, ranges.size());
  made.fd = kms::udmabuf_of(ranges);
  return made;
}

void GpuBacking::copy(const GuestMemory& memory, const GpuLayout& layout, const GpuRect& rect,
                      uint64_t offset, std::span<uint8_t> target, uint64_t target_stride) const noexcept {
  const uint64_t bytes = gpu_format_bytes(layout.format);
  const uint64_t row_bytes = rect.width * bytes;
  for (uint32_t row = 0; row < rect.height; ++row) {
    const uint64_t to = (uint64_t{rect.y} + row) * target_stride + rect.x * bytes;
    if (to + row_bytes > target.size()) return;
    uint64_t from = offset + uint64_t{row} * layout.stride;
    for (uint64_t done = 0; done < row_bytes;) {
      const auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), from,
                                          [](uint64_t at, const Piece& one) { return at < one.start; });
      if (piece == pieces_.begin()) return;
      const Piece& source = *std::prev(piece);
      const uint64_t within = from - source.start;
      if (within >= source.size) return; // beyond the last one
      const uint64_t part = std::min(row_bytes - done, source.size - within);
      const uint8_t* pixels = memory.at(source.address + within, part);
      if (pixels == nullptr) return; // another memory table has come meanwhile
      std::memcpy(&target[to + done], pixels, part);
      done += part;
      from += part;
    }
  }
}

} // namespace scanout::guests
