// Framebuffers of dma-bufs, each imported once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <utility>

#include "kms/device.h"
#include "kms/framebuffer.h"

namespace scanout::kms {

class FramebufferCache;

/// A dma-buf's framebuffer, held. Movable; the cache drops it some time after the last of these is gone.
class FramebufferRef {
public:
  FramebufferRef() = default;
  FramebufferRef(FramebufferRef&& other) noexcept
      : cache_(std::move(other.cache_)), entry_(std::exchange(other.entry_, nullptr)) {}
  FramebufferRef& operator=(FramebufferRef&& other) noexcept;
  FramebufferRef(const FramebufferRef&) = delete;
  FramebufferRef& operator=(const FramebufferRef&) = delete;
  ~FramebufferRef() { reset(); }

  void reset() noexcept;
  [[nodiscard]] explicit operator bool() const noexcept { return entry_ != nullptr; }
  /// 0 when it holds none.
  [[nodiscard]] uint32_t id() const noexcept;

private:
  friend class FramebufferCache;
  struct Entry;
  FramebufferRef(std::shared_ptr<FramebufferCache> cache, Entry* entry) noexcept
      : cache_(std::move(cache)), entry_(entry) {}
  std::shared_ptr<FramebufferCache> cache_;
  Entry* entry_ = nullptr;
};

/// One framebuffer of a cache.
struct FramebufferRef::Entry {
  FramebufferLayout layout;
  std::array<uint64_t, most_planes> inodes{}; // of each plane's dma-buf
  uint32_t id = 0;
  size_t holders = 0;
  bool stale = false; // its memory has moved: kept for its holders, found by nobody
};

/// Keeps one framebuffer per buffers and layout, so that a guest that sends the same two or three dma-bufs
/// again and again is imported two or three times in its life.
///
/// A dma-buf is known by its inode, which no other has while it exists; a framebuffer keeps it in existence.
/// Any thread; an import holds the others up, so threads that must not wait have a cache of their own.
class FramebufferCache : public std::enable_shared_from_this<FramebufferCache> {
public:
  struct Statistics {
    uint64_t imports = 0; // framebuffers made
    uint64_t hits = 0;    // framebuffers found
    size_t live = 0;      // framebuffers that exist
    size_t idle = 0;      // of these, held by nobody
  };
  /// What came of an acquisition. `op` is the ioctl or call that said no ("DRM_IOCTL_PRIME_FD_TO_HANDLE").
  struct Result {
    int error = 0; // 0 or -errno
    const char* op = nullptr;
    FramebufferRef ref;
  };

  /// Up to `most_idle` framebuffers that nobody holds are kept, the least recently used going first. They
  /// pin their buffers' memory.
  static std::shared_ptr<FramebufferCache> make(std::shared_ptr<Device> device, size_t most_idle = 0);
  FramebufferCache(const FramebufferCache&) = delete;
  FramebufferCache& operator=(const FramebufferCache&) = delete;
  ~FramebufferCache();

  /// `dmabufs`: one descriptor per plane of the layout, or one for all. Borrowed. -EINVAL with op "dma-buf"
  /// for descriptors that are none; whatever a guest sent can be passed. `fresh`: the memory behind these
  /// dma-bufs has moved, so what was made of them before is found no more, and they are imported anew.
  Result acquire(const FramebufferLayout& layout, std::span<const int> dmabufs, bool fresh = false) noexcept;

  /// Drops framebuffers that nobody holds.
  void trim() noexcept;
  [[nodiscard]] Statistics statistics() const noexcept;
  [[nodiscard]] const std::shared_ptr<Device>& device() const noexcept { return device_; }

private:
  friend class FramebufferRef;
  using Entry = FramebufferRef::Entry;
  FramebufferCache(std::shared_ptr<Device> device, size_t most_idle)
      : device_(std::move(device)), most_idle_(most_idle) {}
  int import(Entry& entry, std::span<const int> dmabufs, const char*& op) noexcept;
  void release(Entry* entry) noexcept;
  void expire(const std::array<uint64_t, most_planes>& inodes) noexcept;
  void drop_idle(size_t keep) noexcept;

  std::shared_ptr<Device> device_;
  size_t most_idle_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_; // the most recently released last
  size_t idle_ = 0;
  uint64_t imports_ = 0, hits_ = 0;
};

} // namespace scanout::kms
