// The events that a DRM descriptor delivers to read(2).
#pragma once

#include <cstddef>
#include <cstdint>

namespace scanout::kms {

/// One event of a CRTC (drm_event_vblank, drm_event_crtc_sequence in drm.h).
struct Event {
  enum class Type : uint8_t {
    flip,    ///< a commit with DRM_MODE_PAGE_FLIP_EVENT has reached the screen
    vblank,  ///< a vblank that was waited for by the old ioctl
    sequence ///< a vblank that was waited for by DRM_IOCTL_CRTC_QUEUE_SEQUENCE
  };
  Type type;
  /// 0 for `sequence` (which carries none: tell CRTCs apart by user_data) and on kernels before 4.12.
  uint32_t crtc_id;
  /// Vblank counter: 32 bits wide, wrapping, for `flip` and `vblank`; 64 bits for `sequence`.
  uint64_t sequence;
  uint64_t user_data;
  /// CLOCK_MONOTONIC, of the vblank. Microseconds are exact for `flip` and `vblank`. Some drivers give 0.
  int64_t time_ns;
};

/// Told of events on the thread that reads them.
class EventHandler {
public:
  virtual void on_event(const Event& event) noexcept = 0;

protected:
  ~EventHandler() = default;
};

/// Reads what is there and tells `handler` of each event. Never blocks when the descriptor is O_NONBLOCK;
/// otherwise the caller knows that it is readable. Allocates nothing.
///
/// Records of unknown type are passed over. Returns the number of events told, or -errno (-EBADMSG for a
/// record whose length cannot be true, after which the rest of that read is dropped). Nothing to read is 0.
int read_events(int fd, EventHandler& handler) noexcept;

/// The parser of `read_events`, for one read's bytes. Returns as it does; records cut off at the end are
/// dropped.
int parse_events(const std::byte* data, size_t size, EventHandler& handler) noexcept;

} // namespace scanout::kms
