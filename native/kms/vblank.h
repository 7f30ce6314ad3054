// A CRTC's vblank counter. Throws SystemError: EOPNOTSUPP where the driver has no vblanks.
#pragma once

#include <cstdint>

namespace scanout::kms {

struct CrtcSequence {
  uint64_t sequence; // of the last vblank
  int64_t time_ns;   // when its first pixel left, CLOCK_MONOTONIC; 0: unknown
  bool active;       // the CRTC is on; counters of others stand still
};

/// DRM_IOCTL_CRTC_GET_SEQUENCE. EINVAL where vblank interrupts cannot be had, as of a CRTC that is off.
CrtcSequence get_sequence(int fd, uint32_t crtc);

/// DRM_IOCTL_CRTC_QUEUE_SEQUENCE: asks for a `sequence` event. `flags` are DRM_CRTC_SEQUENCE_*. Returns the
/// vblank that it will be of.
uint64_t queue_sequence(int fd, uint32_t crtc, uint64_t sequence, uint32_t flags, uint64_t user_data);

} // namespace scanout::kms
