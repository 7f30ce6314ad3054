#include "kms/events.h"

#include <unistd.h>
#include <xf86drm.h>

#include <cerrno>
#include <cstring>

namespace scanout::kms {

namespace {

// drm_read hands out whole records only, as many as fit.
constexpr size_t read_size = 4096;

Event from_vblank(Event::Type type, const drm_event_vblank& record) noexcept {
  return {.type = type,
          .crtc_id = record.crtc_id,
          .sequence = record.sequence,
          .user_data = record.user_data,
          .time_ns = (int64_t{record.tv_sec} * 1'000'000 + record.tv_usec) * 1000};
}

Event from_sequence(const drm_event_crtc_sequence& record) noexcept {
  return {.type = Event::Type::sequence,
          .crtc_id = 0,
          .sequence = record.sequence,
          .user_data = record.user_data,
          .time_ns = record.time_ns};
}

// 1 for an event that was told, 0 for a type that is not known. `size` is the record's own length.
int parse_one(uint32_t type, const std::byte* data, size_t size, EventHandler& handler) noexcept {
  if (type == DRM_EVENT_FLIP_COMPLETE || type == DRM_EVENT_VBLANK) {
    drm_event_vblank record;
    if (size < sizeof record) return -EBADMSG;
    std::memcpy(&record, data, sizeof record);
    const auto kind = type == DRM_EVENT_VBLANK ? Event::Type::vblank : Event::Type::flip;
    handler.on_event(from_vblank(kind, record));
    return 1;
  }
  if (type == DRM_EVENT_CRTC_SEQUENCE) {
    drm_event_crtc_sequence record;
    if (size < sizeof record) return -EBADMSG;
    std::memcpy(&record, data, sizeof record);
    handler.on_event(from_sequence(record));
    return 1;
  }
  return 0;
}

} // namespace

[[gnu::hot]] int parse_events(const std::byte* data, size_t size, EventHandler& handler) noexcept {
  int count = 0;
  while (size >= sizeof(drm_event)) {
    drm_event header;
    std::memcpy(&header, data, sizeof header);
    if (header.length < sizeof header || header.length > size) return -EBADMSG;
    const int told = parse_one(header.type, data, header.length, handler);
    if (told < 0) return told;
    count += told;
    data += header.length;
    size -= header.length;
  }
  return count;
}

[[gnu::hot]] int read_events(int fd, EventHandler& handler) noexcept {
  std::byte buffer[read_size];
  for (;;) {
    const ssize_t size = read(fd, buffer, sizeof buffer);
    if (size >= 0) return parse_events(buffer, static_cast<size_t>(size), handler);
    if (errno != EINTR) return errno == EAGAIN ? 0 : -errno;
  }
}

} // namespace scanout::kms
