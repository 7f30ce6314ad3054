// Copies what a plane of the region type shows into buffers that a display can scan out.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "base/epoll.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "flip/types.h"
#include "guests/vfio_device.h"
#include "kms/mapping.h"

namespace scanout::guests {

/// One to be shown, one on its way, one to draw into.
constexpr uint32_t vfio_canvases = 3;

/// A buffer to copy into: a udmabuf, and the memory it is made of.
struct VfioCanvas {
  uint32_t slot = 0;     // the guest's number for it
  base::UniqueFd dmabuf; // to tell caches of what was written
  kms::Mapping memory;
};

/// What came of a copy. Flip thread.
class VfioRegionHost {
public:
  /// `rows`: what differs from the former copy; empty when nothing does. `error`: 0 or a positive errno.
  virtual void on_copied(uint32_t canvas, const flip::Rect& rows, int error) noexcept = 0;

protected:
  ~VfioRegionHost() = default;
};

/// One copy at a time, on a thread of its own.
///
/// A mapped region of a device may vanish while it is read: the guest switches its memory off, the device
/// goes away, and a load from it would be a SIGBUS. So the kernel does the reading (a write to a file from
/// there fails with EFAULT instead), into memory of ours.
class VfioRegion final : private base::Pollable {
public:
  /// The region that `plane` names, which `device` keeps open. `canvases` have `plane`'s stride and height.
  /// Throws SystemError: EINVAL where the plane reaches beyond its region.
  VfioRegion(const VfioDevice& device, const VfioPlane& plane, std::array<VfioCanvas, vfio_canvases> canvases,
             VfioRegionHost& host);
  VfioRegion(const VfioRegion&) = delete;
  VfioRegion& operator=(const VfioRegion&) = delete;
  /// Waits for a copy that is under way; not on the flip thread.
  ~VfioRegion();

  [[nodiscard]] const VfioPlane& plane() const noexcept { return plane_; }
  [[nodiscard]] uint32_t slot(uint32_t canvas) const noexcept { return canvases_[canvas].slot; }

  // Flip thread.
  /// 0 or -errno.
  int enter(base::Epoll& epoll) noexcept;
  void leave(base::Epoll& epoll) noexcept;
  [[nodiscard]] bool busy() const noexcept { return busy_; }
  /// Begins a copy; only when not busy. `former`: the canvas of the copy before, -1 for none.
  void copy(uint32_t canvas, int32_t former) noexcept;

private:
  void on_ready(uint32_t events) noexcept override; // the copy is done
  void run() noexcept;
  int fetch() noexcept;
  int draw() noexcept;

  VfioPlane plane_;
  std::array<VfioCanvas, vfio_canvases> canvases_;
  VfioRegionHost& host_;
  int device_;
  VfioRegionPlace place_;
  size_t bytes_; // of the picture
  base::UniqueFd staging_fd_;
  kms::Mapping region_, staging_;
  base::UniqueFd wake_, done_;
  bool busy_ = false;
  std::atomic<bool> stop_{false};
  // The job, the thread's while busy.
  uint32_t canvas_ = 0;
  int32_t former_ = -1;
  flip::Rect rows_;
  int error_ = 0;
  base::Thread thread_;
};

} // namespace scanout::guests
