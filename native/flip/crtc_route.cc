// Which stream is on which plane, and what a mode set does to all of them.
#include <cerrno>

#include "flip/crtc.h"

namespace scanout::flip {

int Crtc::add_plane(uint32_t id, const PlaneProperties& properties) noexcept {
  for (uint32_t i = 0; i < plane_count_; ++i) {
    Plane& plane = planes_[i];
    const bool free =
        plane.stream == nullptr && plane.queued.stream == nullptr && plane.current.stream == nullptr;
    if (is_virtual() ? free : plane.id == id) return static_cast<int>(i);
  }
  if (plane_count_ == max_planes) return -1;
  planes_[plane_count_].id = id;
  planes_[plane_count_].properties = properties;
  return static_cast<int>(plane_count_++);
}

void Crtc::attach(Stream& stream, uint32_t index) noexcept {
  Plane& plane = planes_[index];
  if (plane.stream != nullptr && plane.stream != &stream) {
    Stream& former = *plane.stream;
    plane.stream = nullptr;
    former.route(nullptr, 0, true);
  }
  stream.route(this, index);
  plane.stream = &stream;
  plane.off_wanted = false;
}

void Crtc::detach(Stream& stream) noexcept {
  Plane& plane = planes_[stream.slot()];
  if (plane.stream != &stream) return;
  plane.stream = nullptr;
  if (is_virtual()) {
    release(plane.current);
    plane.active = false;
  }
  plane.off_wanted = !is_virtual() && (plane.active || plane.in_commit);
  if (plane.off_wanted) mark_dirty(stream.slot());
}

const Frame* Crtc::shown(const Stream& stream) const noexcept {
  const Plane& plane = planes_[stream.slot()];
  const Held& held = plane.queued.stream == &stream ? plane.queued : plane.current;
  return held.stream == &stream && !held.frame.off ? &held.frame : nullptr;
}

uint32_t Crtc::held(const Stream& stream) const noexcept {
  uint32_t count = 0;
  each_plane([&](const Plane& plane) {
    count += (plane.queued.stream == &stream ? 1u : 0u) + (plane.current.stream == &stream ? 1u : 0u);
  });
  return count;
}

bool Crtc::has_plane(uint32_t id) const noexcept {
  bool found = false;
  each_plane(
      [&](const Plane& plane) { found = found || (plane.id == id && (plane.active || plane.in_commit)); });
  return found;
}

void Crtc::release(Held& held) noexcept {
  if (held.stream == nullptr) return;
  Stream& stream = *held.stream;
  held.stream = nullptr;
  stream.owner().on_released(stream, held.frame, false);
}

void Crtc::on_modeset(uint32_t primary_plane, int64_t period_ns) noexcept {
  off_ = false;
  lent_ = false;
  primary_ = primary_plane;
  clock_ = VblankClock(period_ns);
  margin_ = Margin(period_ns);
  no_vblank_ = false;
  early_flips_ = 0;
  target_ns_ = 0;
  for (uint32_t i = 0; i < plane_count_; ++i) {
    Plane& plane = planes_[i];
    plane.active = plane.id == primary_plane;
    plane.placed = false;
    plane.off_wanted = false;
    if (plane.current.stream != nullptr) {
      Held shown = plane.current;
      plane.current.stream = nullptr;
      if (plane.stream == shown.stream) {
        shown.stream->restore(shown.frame);
      } else {
        shown.stream->owner().on_released(*shown.stream, shown.frame, false);
      }
    }
    if (plane.stream == nullptr) continue;
    plane.stream->unblock();
    plane.stream->renew();
    if (plane.stream->pending() != nullptr) mark_dirty(i);
  }
}

void Crtc::on_off() noexcept {
  for (uint32_t i = 0; i < plane_count_; ++i) {
    Plane& plane = planes_[i];
    plane.active = plane.placed = plane.off_wanted = plane.in_commit = false;
    release(plane.queued);
    release(plane.current);
  }
  dirty_ = 0;
  in_flight_ = false;
  lent_ = false;
  off_ = true;
  end_capture(ENODEV);
}

void Crtc::lend() noexcept {
  lent_ = true;
  dirty_ = 0;
}

} // namespace scanout::flip
