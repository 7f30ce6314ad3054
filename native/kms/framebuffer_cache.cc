#include "kms/framebuffer_cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/fd_kind.h"

namespace scanout::kms {

using Inodes = std::array<uint64_t, most_planes>;

namespace {

// 0 or -errno. Asks the kernel what the file is before it asks the file, which may be a guest's FUSE file.
int inodes_of(std::span<const int> dmabufs, Inodes& inodes) noexcept {
  for (size_t i = 0; i < dmabufs.size(); ++i) {
    struct stat info;
    if (!base::is_dma_buf(dmabufs[i])) return -EINVAL;
    if (fstat(dmabufs[i], &info) < 0) return -errno;
    inodes[i] = info.st_ino;
  }
  return 0;
}

} // namespace

FramebufferRef& FramebufferRef::operator=(FramebufferRef&& other) noexcept {
  if (this != &other) {
    reset();
    cache_ = std::move(other.cache_);
    entry_ = std::exchange(other.entry_, nullptr);
  }
  return *this;
}

void FramebufferRef::reset() noexcept {
  if (entry_ != nullptr) cache_->release(std::exchange(entry_, nullptr));
  cache_.reset();
}

uint32_t FramebufferRef::id() const noexcept {
  return entry_ != nullptr ? entry_->id : 0;
}

std::shared_ptr<FramebufferCache> FramebufferCache::make(std::shared_ptr<Device> device, size_t most_idle) {
  return std::shared_ptr<FramebufferCache>(new FramebufferCache(std::move(device), most_idle));
}

FramebufferCache::~FramebufferCache() {
  drop_idle(0); // every reference held the cache, so all are idle
}

FramebufferCache::Result FramebufferCache::acquire(const FramebufferLayout& layout,
                                                   std::span<const int> dmabufs, bool fresh) noexcept {
  if (layout.plane_count < 1 || layout.plane_count > most_planes ||
      (dmabufs.size() != 1 && dmabufs.size() != layout.plane_count))
    return {.error = -EINVAL, .op = "layout", .ref = {}};
  Inodes inodes{};
  if (const int error = inodes_of(dmabufs, inodes); error < 0)
    return {.error = error, .op = "dma-buf", .ref = {}};
  // One buffer for all planes is the same framebuffer as that buffer named for each.
  if (dmabufs.size() == 1) std::fill_n(inodes.begin(), layout.plane_count, inodes[0]);

  const std::lock_guard lock(mutex_);
  if (fresh) expire(inodes);
  auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return !entry.stale && entry.inodes == inodes && entry.layout == layout;
  });
  if (found != entries_.end()) {
    ++hits_;
    if (found->holders == 0) --idle_;
  } else {
    Entry entry{.layout = layout, .inodes = inodes};
    Result failed;
    failed.error = import(entry, dmabufs, failed.op);
    if (failed.error < 0) return failed;
    ++imports_;
    found = entries_.insert(entries_.end(), entry);
  }
  ++found->holders;
  return {.error = 0, .op = nullptr, .ref = FramebufferRef(shared_from_this(), &*found)};
}

int FramebufferCache::import(Entry& entry, std::span<const int> dmabufs, const char*& op) noexcept {
  std::array<uint32_t, most_planes> handles{};
  int error = 0;
  size_t imported = 0;
  op = "DRM_IOCTL_PRIME_FD_TO_HANDLE";
  while (imported < dmabufs.size() && error == 0) {
    error = device_->gem().import(dmabufs[imported], handles[imported]);
    if (error == 0) ++imported;
  }
  if (error == 0) {
    op = "DRM_IOCTL_MODE_ADDFB2";
    auto all = handles;
    if (dmabufs.size() == 1) all.fill(handles[0]);
    error = add_framebuffer(device_->fd(), entry.layout, all, entry.id);
  }
  // The framebuffer holds the buffers from here on.
  for (size_t i = 0; i < imported; ++i)
    device_->gem().release(handles[i]);
  return error;
}

void FramebufferCache::release(Entry* entry) noexcept {
  const std::lock_guard lock(mutex_);
  if (--entry->holders > 0) return;
  ++idle_;
  const auto place =
      std::find_if(entries_.begin(), entries_.end(), [entry](const Entry& other) { return &other == entry; });
  if (entry->stale) {
    drop_framebuffer(device_->fd(), entry->id);
    entries_.erase(place);
    --idle_;
    return;
  }
  entries_.splice(entries_.end(), entries_, place);
  drop_idle(most_idle_);
}

// The display keeps an import for as long as a framebuffer has it, and gives that again to nobody else: the
// handle was closed when the framebuffer was made.
void FramebufferCache::expire(const Inodes& inodes) noexcept {
  const auto shares = [&](const Entry& entry) {
    return std::any_of(inodes.begin(), inodes.end(), [&](uint64_t inode) {
      return inode != 0 && std::find(entry.inodes.begin(), entry.inodes.end(), inode) != entry.inodes.end();
    });
  };
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    entry->stale = entry->stale || shares(*entry);
    if (!entry->stale || entry->holders > 0) {
      ++entry;
      continue;
    }
    drop_framebuffer(device_->fd(), entry->id);
    entry = entries_.erase(entry);
    --idle_;
  }
}

void FramebufferCache::drop_idle(size_t keep) noexcept {
  for (auto entry = entries_.begin(); entry != entries_.end() && idle_ > keep;) {
    if (entry->holders > 0) {
      ++entry;
      continue;
    }
    // Closed, not removed: what a plane still shows stays there until it is replaced.
    drop_framebuffer(device_->fd(), entry->id);
    entry = entries_.erase(entry);
    --idle_;
  }
}

void FramebufferCache::trim() noexcept {
  const std::lock_guard lock(mutex_);
  drop_idle(0);
}

FramebufferCache::Statistics FramebufferCache::statistics() const noexcept {
  const std::lock_guard lock(mutex_);
  return {.imports = imports_, .hits = hits_, .live = entries_.size(), .idle = idle_};
}

} // namespace scanout::kms
