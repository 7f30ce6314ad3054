#include "base/lock_file.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/error.h"

namespace scanout::base {

UniqueFd lock_file(const std::string& path) {
  UniqueFd fd(check(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660), "open", path));
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0)
    if (errno != EINTR) throw SystemError(errno, "flock", path);
  return fd;
}

} // namespace scanout::base
