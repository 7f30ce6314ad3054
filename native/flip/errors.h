// The one table that says what a refused commit means.
#pragma once

#include <cerrno>

namespace scanout::flip {

enum class Verdict {
  transient, // try again soon; nothing is wrong
  paused,    // no master: wait until told
  fallback,  // this configuration does not work: find out whose, and show it another way
  revoked,   // an object is no more: rescan
  back_off,  // short of memory or bandwidth: try again, more and more slowly
  gone,      // the card is no more
};

/// `error` is a positive errno of DRM_IOCTL_MODE_ATOMIC.
constexpr Verdict classify(int error) noexcept {
  switch (error) {
  case EBUSY: // a flip is in flight, or the driver's whim
  case EINTR:
  case EAGAIN:
  case EDEADLK:
    return Verdict::transient;
  case EACCES: // not master
  case EPERM:
    return Verdict::paused;
  case ENOENT: // object id unknown: a lease revoked, a connector of a dock gone
    return Verdict::revoked;
  case ENOSPC: // bandwidth, or space in the aperture
  case ENOMEM:
  case EIO:
  case ETIMEDOUT:
    return Verdict::back_off;
  case ENODEV:
  case ENXIO:
  case EBADF:
    return Verdict::gone;
  default: // EINVAL, ERANGE, E2BIG, EOPNOTSUPP: the kernel's check of the state said no
    return Verdict::fallback;
  }
}

} // namespace scanout::flip
