// Other processes.
#pragma once

#include <sys/types.h>

#include "base/unique_fd.h"

namespace scanout::base {

/// A pidfd of the process (pidfd_open(2)), close-on-exec: readable when the process has ended, and never
/// meaning another that gets its number later. Throws SystemError: ESRCH when there is none.
UniqueFd open_process(pid_t process);

} // namespace scanout::base
