// What a CRTC does when a commit is refused, or its flip event does not come.
#include <drm_mode.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/clock.h"
#include "flip/crtc.h"
#include "flip/errors.h"

namespace scanout::flip {

namespace {

constexpr int64_t stall_ns = 1'000'000'000; // a flip event that takes longer is lost
constexpr int64_t own_stall_ns = 500'000'000;

} // namespace

[[gnu::cold]] void Crtc::failed(int error, uint64_t mask, bool async, int64_t now) noexcept {
  ++failures_;
  stats.last_error.store(error, std::memory_order_relaxed);
  switch (classify(error)) {
  case Verdict::transient:
    stats.busy.fetch_add(1, std::memory_order_relaxed);
    retry_after(now, 250'000, clock_.period_ns());
    // Bursts are routine and not worth a word; a second of them is.
    if (failures_ >= 64 && std::has_single_bit(failures_))
      notice(Notice::Type::backing_off, error, nullptr, nullptr);
    return;
  case Verdict::paused:
    host_.pause();
    paused_ = !is_virtual();
    end_capture(error);
    notice(Notice::Type::paused, error, nullptr, nullptr);
    return;
  case Verdict::back_off:
    retry_after(now, 1'000'000, 250'000'000);
    if (std::has_single_bit(failures_)) notice(Notice::Type::backing_off, error, nullptr, nullptr);
    return;
  case Verdict::revoked:
  case Verdict::gone:
    revoked_ = true;
    end_capture(error);
    notice(Notice::Type::gone, error, nullptr, nullptr);
    return;
  case Verdict::fallback:
    isolate(mask, error, async, now);
    return;
  }
}

void Crtc::retry_after(int64_t now, int64_t shortest_ns, int64_t longest_ns) noexcept {
  backoff_ns_ = std::clamp(backoff_ns_ * 2, shortest_ns, longest_ns);
  retry_at_ns_ = now + backoff_ns_;
}

// Finds whose part of the commit the display refuses, so that one guest's frame costs nobody else a vblank:
// the parts are tested one on top of the other, and what passes is committed.
void Crtc::isolate(uint64_t mask, int error, bool async, int64_t now) noexcept {
  if (capture_fb_ != 0) {
    end_capture(error);
    commit(now);
    return;
  }
  if (async) {
    refuse_async(mask);
    commit(now);
    return;
  }
  kms::AtomicRequest& request = host_.request();
  request.clear();
  uint64_t accepted = 0;
  int later = 0; // why a test could not be made now
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
    const uint32_t index = static_cast<uint32_t>(std::countr_zero(rest));
    Plane& plane = planes_[index];
    const size_t mark = request.mark();
    add_plane_changes(request, plane);
    const int result = -request.commit(host_.drm_fd(), DRM_MODE_ATOMIC_TEST_ONLY, 0);
    if (result == 0) {
      accepted |= uint64_t{1} << index;
      continue;
    }
    request.rewind(mark);
    if (classify(result) == Verdict::fallback) {
      refuse(plane, index, result);
    } else {
      later = result; // it stays dirty
    }
  }
  if (accepted == 0 || request.empty()) {
    if (later != 0) failed(later, mask, false, now);
    return;
  }
  const int again = try_planes(accepted);
  if (again == 0) return;
  if (classify(again) == Verdict::fallback) {
    find_culprit(accepted, error, now);
  } else {
    failed(again, accepted, false, now);
  }
}

// The tests passed and the commit did not, so tests tell nothing: commits are made until one is accepted.
void Crtc::find_culprit(uint64_t mask, int error, int64_t now) noexcept {
  const auto top = [](uint64_t planes) { return static_cast<uint32_t>(std::bit_width(planes) - 1); };
  // All but one at a time, from the top: with one to blame, the others are on their way at once.
  for (uint64_t rest = mask; rest != 0 && !std::has_single_bit(mask); rest &= ~(uint64_t{1} << top(rest))) {
    const uint32_t left_out = top(rest);
    const int result = try_planes(mask & ~(uint64_t{1} << left_out));
    if (result < 0) continue;
    if (result == 0) return refuse(planes_[left_out], left_out, error);
    if (classify(result) != Verdict::fallback) return failed(result, mask, false, now);
  }
  // Several are to blame. Who is refused alone is one of them; the first who is not goes, the rest follow.
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
    const uint32_t index = static_cast<uint32_t>(std::countr_zero(rest));
    const int result = std::has_single_bit(mask) ? error : try_planes(uint64_t{1} << index);
    if (result < 0) continue;
    if (result == 0) return;
    if (classify(result) != Verdict::fallback) return failed(result, mask, false, now);
    refuse(planes_[index], index, result);
  }
}

// 0, or a positive errno and nothing changed; -1: hidden planes alone, of which there is nothing to ask.
int Crtc::try_planes(uint64_t mask) noexcept {
  kms::AtomicRequest& request = host_.request();
  request.clear();
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1)
    add_plane_changes(request, planes_[std::countr_zero(rest)]);
  if (request.empty()) return -1;
  commit_id_ = host_.next_commit_id();
  const int64_t enter = base::now_ns();
  const int error =
      -request.commit(host_.drm_fd(), DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT, commit_id_);
  if (error == 0) committed(mask, enter, base::now_ns(), false);
  return error;
}

void Crtc::refuse(Plane& plane, uint32_t index, int error) noexcept {
  dirty_ &= ~(uint64_t{1} << index);
  stats.refused.fetch_add(1, std::memory_order_relaxed);
  if (plane.stream == nullptr) {
    // Not even switching it off was accepted; it stays as it is until something else changes.
    plane.off_wanted = false;
    notice(Notice::Type::refused, error, &plane, nullptr);
    return;
  }
  Stream& stream = *plane.stream;
  stream.block();
  notice(Notice::Type::refused, error, &plane, stream.pending());
  stream.owner().on_refused(stream, *stream.pending(), error);
}

void Crtc::refuse_async(uint64_t mask) noexcept {
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
    Plane& plane = planes_[std::countr_zero(rest)];
    if (plane.stream == nullptr) continue;
    plane.stream->refuse_async();
    notice(Notice::Type::async_refused, stats.last_error.load(std::memory_order_relaxed), &plane,
           plane.stream->pending());
  }
}

[[gnu::hot]] int64_t Crtc::watch(int64_t now) noexcept {
  if (recovering_) return INT64_MAX;
  const int64_t lost_at = watched_since_ns_ + stall_ns;
  if (now < lost_at) return lost_at;
  // The event may be there and only we were late: look before the driver is blamed.
  const bool we_stalled = now - lost_at > own_stall_ns;
  host_.drain_events();
  if (!in_flight_) return now;
  if (we_stalled) {
    watched_since_ns_ = now;
    return now + stall_ns;
  }
  if (paused_) { // its event is lost with the master
    complete(now, clock_.last_sequence() + 1, presented_synthetic);
    return now;
  }
  recovering_ = true;
  notice(Notice::Type::stalled, ETIMEDOUT, nullptr, nullptr);
  recovery_.clear();
  for (uint32_t i = 0; i < plane_count_; ++i) {
    const Plane& plane = planes_[i];
    if (!plane.in_commit) continue;
    const bool on = plane.queued.stream != nullptr && !plane.queued.frame.off;
    recovery_.add(plane.id, plane.properties.fb_id, on ? plane.queued.frame.fb_id : 0);
    recovery_.add(plane.id, plane.properties.crtc_id, on ? id_ : 0);
    if (on) add_placement(recovery_, plane, plane.queued.frame);
  }
  host_.recover(*this);
  return recovering_ ? INT64_MAX : watched_since_ns_ + stall_ns; // there was no room for it
}

void Crtc::on_recovered(int error) noexcept {
  recovering_ = false;
  if (!in_flight_) return;
  if (error == EBUSY) {
    // The driver still works on the flip: give it another while.
    watched_since_ns_ = base::now_ns();
    return;
  }
  stats.recovered.fetch_add(1, std::memory_order_relaxed);
  notice(Notice::Type::recovered, error, nullptr, nullptr);
  // Shown or not, the wait is over: what was queued counts as shown, so that its guest goes on.
  complete(base::now_ns(), clock_.last_sequence() + 1, presented_recovered);
}

void Crtc::resume() noexcept {
  revoked_ = false;
  retry_at_ns_ = 0;
  backoff_ns_ = 0;
  if (lent_) return;
  take_back_flight();
  for (uint32_t i = 0; i < plane_count_; ++i) {
    Plane& plane = planes_[i];
    plane.placed = false;
    if (resting_) show_again(plane);
    if (plane.stream != nullptr) plane.stream->renew();
    if (plane.off_wanted || (plane.stream != nullptr && plane.stream->pending() != nullptr)) mark_dirty(i);
  }
  // The kernel counts on from elsewhere.
  if (resting_) clock_ = VblankClock(clock_.period_ns());
  resting_ = false;
}

// What a timer has in flight was not shown: it is pending again, unless something newer is.
void Crtc::take_back_flight() noexcept {
  if (!in_flight_ || !timed_flight_ || is_virtual()) return;
  in_flight_ = false;
  for (uint32_t i = 0; i < plane_count_; ++i) {
    Plane& plane = planes_[i];
    plane.in_commit = false;
    const Held queued = std::exchange(plane.queued, {});
    if (queued.stream == nullptr) continue;
    if (plane.stream == queued.stream) {
      queued.stream->restore(queued.frame);
    } else {
      queued.stream->owner().on_released(*queued.stream, queued.frame, false);
    }
  }
}

// What counts as shown may never have been on the screen. It is kept as what is shown all the same, as it may
// have been there before.
void Crtc::show_again(Plane& plane) noexcept {
  Stream* stream = plane.stream;
  if (stream != nullptr && stream->pending() == nullptr && plane.current.stream == stream) {
    stream->owner().on_retained(*stream, plane.current.frame);
    stream->restore(plane.current.frame);
  }
  const bool shows = stream != nullptr && stream->pending() != nullptr;
  // The daemon's picture of a mode set stays where nothing replaces it.
  plane.off_wanted = plane.active && !shows && plane.id != primary_;
}

void Crtc::notice(Notice::Type type, int error, const Plane* plane, const Frame* frame) noexcept {
  const Stream* stream = plane != nullptr ? plane->stream : nullptr;
  host_.notify({type, id_, plane != nullptr ? plane->id : 0, stream != nullptr ? stream->id() : 0, error,
                failures_, frame != nullptr ? frame->sequence : 0});
}

} // namespace scanout::flip
