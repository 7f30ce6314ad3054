// A device of VFIO that has a display plane: opened, or taken from the process that has it open.
//
// linux/vfio.h describes the interface (VFIO_DEVICE_QUERY_GFX_PLANE and what belongs to it). Control path,
// but for `query_plane`.
#pragma once

#include <linux/vfio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/unique_fd.h"

namespace scanout::guests {

/// How a device hands its planes out.
enum class VfioPlaneKind : uint8_t { dma_buf, region };

/// What a plane shows at the moment, as copied from the driver and not checked yet.
struct VfioPlane {
  uint32_t fourcc = 0; // 0: the plane is off
  uint64_t modifier = 0;
  uint32_t width = 0, height = 0, stride = 0, size = 0; // pixels, pixels, bytes, bytes
  int32_t x = 0, y = 0;                                 // of a cursor: its upper left corner
  int32_t hot_x = 0, hot_y = 0;
  uint32_t id = 0; // of the dma-buf, or the index of the region
  bool operator==(const VfioPlane&) const = default;
  /// The same memory in the same layout, wherever it is shown.
  [[nodiscard]] bool same_buffer(const VfioPlane& other) const noexcept;
};

/// DRM_PLANE_TYPE_*.
constexpr uint32_t vfio_primary = 1, vfio_cursor = 2;

/// Where the memory of a region is in the device's descriptor.
struct VfioRegionPlace {
  uint64_t offset = 0, size = 0;
  bool mappable = false;
};

class VfioDevice {
public:
  /// Opens the device of a directory in sysfs ("/sys/bus/mdev/devices/UUID") through its IOMMU group. Throws
  /// SystemError: EBUSY when another process has the group, ENODEV when the directory is no device of VFIO.
  static VfioDevice open(const std::string& path);
  /// Takes a duplicate of the device's descriptor from the process that has it open (pidfd_getfd(2), which
  /// needs the right to trace that process), and leaves the device to it. Throws SystemError: ENODEV when
  /// nobody has.
  static VfioDevice adopt(const std::string& path);
  /// A descriptor that somebody gave us. Throws SystemError EINVAL for any other file.
  explicit VfioDevice(base::UniqueFd device);

  [[nodiscard]] int fd() const noexcept { return device_.get(); }
  /// The owner's process and its descriptor, where the device was adopted; else 0 and -1.
  [[nodiscard]] int owner_pid() const noexcept { return owner_pid_; }
  [[nodiscard]] int owner_fd() const noexcept { return owner_fd_; }
  /// A pidfd of that process, readable when it has ended; else -1.
  [[nodiscard]] int owner_process() const noexcept { return owner_process_.get(); }

  /// How it hands out planes of this type; none when it does not.
  [[nodiscard]] std::optional<VfioPlaneKind> probe(uint32_t plane_type) const noexcept;
  /// A new dma-buf of a plane, by its id; the same one may be asked for once only while it is open, since
  /// some drivers count no reference for it. Throws SystemError.
  [[nodiscard]] base::UniqueFd dma_buf(uint32_t id) const;
  [[nodiscard]] VfioRegionPlace region(uint32_t index) const;

  /// Which irq tells of its flips; none where no irq does. Throws SystemError.
  [[nodiscard]] std::optional<uint32_t> display_irq() const;

  /// Gives the guest a monitor's EDID: link down, the blob, link up. False where the device has no region for
  /// it. Throws SystemError: E2BIG when it has no room.
  [[nodiscard]] bool write_edid(std::span<const uint8_t> edid) const;

private:
  VfioDevice() = default;
  [[nodiscard]] vfio_device_info info() const;
  base::UniqueFd container_, group_, device_; // the first two where it was opened
  base::UniqueFd owner_process_;
  int owner_pid_ = 0, owner_fd_ = -1;
};

/// Asks what a plane shows: one ioctl, which takes the driver's lock. 0 or a positive errno. Any thread.
int query_plane(int device, uint32_t plane_type, VfioPlaneKind kind, VfioPlane& plane) noexcept;

} // namespace scanout::guests
