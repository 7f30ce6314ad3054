// One open DRM device.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kms/gem.h"

namespace scanout::kms {

/// DRM_IOCTL_VERSION.
struct DriverVersion {
  std::string name; // "vkms", "i915"
  std::string description;
  int major = 0, minor = 0, patch = 0;
};

/// An open DRM file: its descriptor, its GEM handles, and the ioctls that concern it as a whole.
///
/// Whatever was made from it holds it by shared_ptr, so the descriptor outlives every handle. Two Devices
/// must not share one open file description (a dup), for handles are counted per Device.
class Device {
public:
  /// Opens `path` with O_RDWR, O_CLOEXEC and O_NONBLOCK. The first to open a primary node becomes master.
  /// Throws SystemError (ENOTTY: not a DRM device).
  static std::shared_ptr<Device> open(const std::string& path);
  /// Takes over a descriptor that somebody else opened: logind, a lease. Sets O_NONBLOCK and close-on-exec
  /// on it. Throws SystemError.
  static std::shared_ptr<Device> adopt(base::UniqueFd fd);

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  /// The device node, from the descriptor; for messages.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Major and minor of the node.
  [[nodiscard]] dev_t number() const noexcept { return number_; }
  [[nodiscard]] const DriverVersion& driver() const noexcept { return driver_; }
  GemTable& gem() noexcept { return gem_; }

  /// DRM_CAP_*; none when the kernel or the driver does not know it.
  [[nodiscard]] std::optional<uint64_t> cap(uint64_t capability) const;
  /// DRM_CLIENT_CAP_*. False when the kernel or the driver refuses; the order matters: the kernel wants
  /// ATOMIC before WRITEBACK_CONNECTORS and CURSOR_PLANE_HOTSPOT (drm_setclientcap).
  bool set_client_cap(uint64_t capability, uint64_t value) const noexcept;

  /// Also true of a lease whose lessor is master.
  [[nodiscard]] bool is_master() const noexcept;
  /// Throws SystemError: EBUSY when another is master; EACCES when this one never was and may not be (as of
  /// a descriptor from logind, which sets it itself); EINVAL on a lease whose lessor is not master.
  void set_master() const;
  /// Throws SystemError: EINVAL when it is not master, or a lease.
  void drop_master() const;

private:
  explicit Device(base::UniqueFd fd);

  base::UniqueFd fd_;
  std::string path_;
  dev_t number_ = 0;
  DriverVersion driver_;
  GemTable gem_;
};

/// A file of the node at `path` by which somebody else may look at the card: neither authenticated nor
/// master. For a moment it is master where nobody else is, as the first to open a node becomes that. Throws
/// SystemError.
base::UniqueFd open_without_master(const std::string& path);

} // namespace scanout::kms
