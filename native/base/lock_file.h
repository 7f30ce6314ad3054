// Lock files that programs agree on by name.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace scanout::base {

/// Opens the file at `path`, making it with mode 0660 where it is missing, and takes its lock (flock(2)) for
/// as long as the descriptor is open. Never waits, follows no link. Throws SystemError: EWOULDBLOCK when
/// another program has the lock.
UniqueFd lock_file(const std::string& path);

} // namespace scanout::base
