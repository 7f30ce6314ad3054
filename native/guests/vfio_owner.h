// Finds the process that has a device of VFIO open. A group of devices can be opened by one process only, so
// that a display of a running virtual machine is reached through the machine's own descriptor.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace scanout::guests {

struct VfioOwner {
  int pid = 0;
  int fd = -1;            // its descriptor
  base::UniqueFd device;  // ours, of the same open file
  base::UniqueFd process; // a pidfd: readable when it has ended
};

/// `device`: the device's directory in sysfs, all links resolved. `group`: its group's node. Throws
/// SystemError: ENODEV when no process has the device, EPERM when one has and lets us not have it.
VfioOwner find_vfio_owner(const std::string& device, const std::string& group);

/// The directory in sysfs of a device that this process has open, all links resolved; empty where the kernel
/// does not say.
std::string vfio_device_path(int fd);

/// True while that descriptor of that process is a device of VFIO.
bool still_owns_vfio(int pid, int fd) noexcept;

} // namespace scanout::guests
