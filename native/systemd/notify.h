// What the daemon and its service manager tell each other.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::systemd {

/// Sends assignments such as "READY=1\nSTATUS=..." to NOTIFY_SOCKET, with copies of `fds` (borrowed).
/// False where nobody listens (NOTIFY_SOCKET is not set). Throws SystemError.
bool notify(const std::string& state, std::span<const int> fds);

/// Microseconds within which a keep-alive is expected; 0 when this process is not watched. Throws
/// SystemError.
uint64_t watchdog_usec();

struct PassedFd {
  std::string name; ///< FileDescriptorName= or FDNAME=; "unknown" when none was given
  base::UniqueFd fd;
};
/// What was passed on start, by socket activation or from the fd store; closed on exec from here on.
///
/// To be asked once in a process: the descriptors belong to the caller, and the environment that tells of
/// them is removed, so that children do not take them for theirs. Throws SystemError.
std::vector<PassedFd> take_passed_fds();

/// Whether systemd is this system's manager.
bool is_booted();

} // namespace scanout::systemd
