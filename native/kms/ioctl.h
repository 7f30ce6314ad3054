// ioctls whose failure is an exception that names the ioctl and the object.
#pragma once

#include <xf86drm.h>

#include <cerrno>
#include <string>

#include "base/error.h"

namespace scanout::kms {

/// drmIoctl (which repeats on EINTR and EAGAIN) for control paths. Throws SystemError with `op`, the ioctl's
/// C name, and `subject`.
inline void checked_ioctl(int fd, unsigned long request, void* argument, const char* op,
                          const std::string& subject = {}) {
  if (drmIoctl(fd, request, argument) < 0) throw base::SystemError(errno, op, subject);
}

/// The same for callers that want -errno.
inline int try_ioctl(int fd, unsigned long request, void* argument) noexcept {
  return drmIoctl(fd, request, argument) < 0 ? -errno : 0;
}

/// "connector 35": how errors name an object.
inline std::string named(const char* kind, uint64_t id) {
  return std::string(kind) + " " + std::to_string(id);
}

} // namespace scanout::kms
