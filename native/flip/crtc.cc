// When to commit, building a commit, and what follows its flip event. Failures are in crtc_failure.cc.
#include "flip/crtc.h"

#include <drm_mode.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/clock.h"
#include "flip/errors.h"

namespace scanout::flip {

namespace {

constexpr int64_t never = std::numeric_limits<int64_t>::max();
// How late the timer of the deadline policy may wake us and still commit for the vblank that it was armed
// for.
constexpr int64_t smallest_grace_ns = 1'000'000;

// False when there is nothing to scan out, or no way to scan it out upright.
bool can_show(const Plane& plane, const Frame& frame) noexcept {
  return frame.fb_id != 0 && (!frame.place.reflect_y || plane.properties.rotation != 0);
}

} // namespace

Crtc::Crtc(CrtcHost& host, uint32_t id, int64_t period_ns, Policy policy) noexcept
    : host_(host), id_(id), policy_(policy), clock_(period_ns), margin_(period_ns) {}

[[gnu::hot]] int64_t Crtc::service(int64_t now) noexcept {
  paused_ = host_.paused() && !is_virtual();
  if (in_flight_) {
    if (!timed_flight_) return watch(now);
    if (now < virtual_due_ns_) return virtual_due_ns_;
    const uint64_t steps = static_cast<uint64_t>(std::max<int64_t>(
        1, (virtual_due_ns_ - clock_.last_ns() + clock_.period_ns() / 2) / clock_.period_ns()));
    complete(virtual_due_ns_, clock_.last_sequence() + (clock_.known() ? steps : 1), presented_synthetic);
  }
  look_for_planes();
  if (paused_) end_capture(EACCES); // it may last, and somebody waits for the picture
  if (!may_commit()) return never;
  const int64_t due = std::max(due_ns(now), retry_at_ns_);
  if (now < due) return due;
  commit(now);
  if (in_flight_) return timed_flight_ ? virtual_due_ns_ : watch(now);
  // Put off, or hidden planes alone, which complete at once and make room for the next frame.
  return may_commit() ? std::max(now, retry_at_ns_) : never;
}

[[gnu::hot]] bool Crtc::may_commit() const noexcept {
  if (parks_ != 0 || off_ || (revoked_ && !paused_)) return false;
  return (!lent_ && (dirty_ & ~waiting_) != 0) || capture_fb_ != 0;
}

// A plane that goes from one CRTC to another has to be taken off there first: a commit that moves it includes
// both, and is refused or delayed by what is in flight on the other. The engine turns whenever a flip lands.
[[gnu::hot]] void Crtc::look_for_planes() noexcept {
  waiting_ = 0;
  for (uint64_t rest = dirty_; rest != 0; rest &= rest - 1) {
    const int index = std::countr_zero(rest);
    const Plane& plane = planes_[index];
    if (!plane.active && plane.stream != nullptr && host_.plane_is_elsewhere(plane.id, *this))
      waiting_ |= uint64_t{1} << index;
  }
}

[[gnu::hot]] int64_t Crtc::due_ns(int64_t now) noexcept {
  // A device without vblanks completes at once; without a pace its guest would run away.
  if (no_vblank_ && !paused_) return clock_.last_ns() + clock_.period_ns();
  if (policy_ == Policy::eager || timed() || !clock_.foretells(now) || only_async()) return now;
  // Armed for a vblank that has not passed: commit, however late the timer woke us.
  if (target_ns_ > now && now >= target_ns_ - margin_.ns()) return now;
  int64_t target = clock_.next_after(now);
  if (now > target - margin_.ns()) target += clock_.period_ns(); // too late for the next one
  target_ns_ = target;
  return target - margin_.ns();
}

// Nobody on this CRTC waits for the vblank.
bool Crtc::only_async() const noexcept {
  for (uint64_t rest = dirty_ & ~waiting_; rest != 0; rest &= rest - 1) {
    const Stream* stream = planes_[std::countr_zero(rest)].stream;
    if (stream == nullptr || stream->mode() != PresentMode::async || stream->async_refused()) return false;
  }
  return dirty_ != 0;
}

[[gnu::hot]] bool Crtc::add_plane_changes(kms::AtomicRequest& request, Plane& plane) noexcept {
  const Frame* frame =
      plane.stream != nullptr && !plane.stream->blocked() ? plane.stream->pending() : nullptr;
  if (frame != nullptr && !frame->off) {
    request.add(plane.id, plane.properties.fb_id, frame->fb_id);
    if (!plane.active || !plane.placed) request.add(plane.id, plane.properties.crtc_id, id_);
    if (!plane.active || !plane.placed || !(plane.place == frame->place))
      add_placement(request, plane, *frame);
    return true;
  }
  const bool off = frame != nullptr || plane.off_wanted;
  if (!off || !plane.active)
    return frame != nullptr; // a hidden plane that is off already completes all the same
  request.add(plane.id, plane.properties.fb_id, 0);
  request.add(plane.id, plane.properties.crtc_id, 0);
  return true;
}

void Crtc::add_placement(kms::AtomicRequest& request, const Plane& plane, const Frame& frame) noexcept {
  const PlaneProperties& properties = plane.properties;
  const Placement& place = frame.place;
  request.add(plane.id, properties.src_x, place.src_x);
  request.add(plane.id, properties.src_y, place.src_y);
  request.add(plane.id, properties.src_w, place.src_w);
  request.add(plane.id, properties.src_h, place.src_h);
  request.add(plane.id, properties.crtc_x, static_cast<uint64_t>(static_cast<int64_t>(place.x)));
  request.add(plane.id, properties.crtc_y, static_cast<uint64_t>(static_cast<int64_t>(place.y)));
  request.add(plane.id, properties.crtc_w, place.w);
  request.add(plane.id, properties.crtc_h, place.h);
  request.add_if_present(plane.id, properties.rotation,
                         place.reflect_y ? DRM_MODE_ROTATE_0 | DRM_MODE_REFLECT_Y : DRM_MODE_ROTATE_0);
  request.add_if_present(plane.id, properties.hotspot_x,
                         static_cast<uint64_t>(static_cast<int64_t>(place.hot_x)));
  request.add_if_present(plane.id, properties.hotspot_y,
                         static_cast<uint64_t>(static_cast<int64_t>(place.hot_y)));
}

bool Crtc::request_capture(const WritebackProperties& writeback, uint32_t fb_id) noexcept {
  if (capture_fb_ != 0 || is_virtual() || writeback.connector == 0) return false;
  if (off_ || revoked_ || host_.paused()) return false;
  capture_ = writeback;
  capture_fb_ = fb_id;
  return true;
}

void Crtc::end_capture(int error) noexcept {
  if (std::exchange(capture_fb_, 0) != 0) host_.capture_committed(*this, error);
}

void Crtc::add_capture(kms::AtomicRequest& request) noexcept {
  capture_fence_ = -1;
  request.add(capture_.connector, capture_.fb_id, capture_fb_);
  request.add(capture_.connector, capture_.out_fence_ptr, reinterpret_cast<uint64_t>(&capture_fence_));
}

[[gnu::hot]] uint64_t Crtc::collect(kms::AtomicRequest& request, uint64_t mask, bool* async) noexcept {
  uint64_t used = 0;
  *async = true;
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
    const int index = std::countr_zero(rest);
    Plane& plane = planes_[index];
    const Frame* next = plane.stream != nullptr ? plane.stream->pending() : nullptr;
    if (next != nullptr && !next->off && !timed() && !plane.stream->blocked() && !can_show(plane, *next)) {
      refuse(plane, static_cast<uint32_t>(index), EINVAL);
    }
    // What was hidden, or came here without having been seen: it may want a plane of a display now.
    if (next != nullptr && !next->off && is_virtual() && !plane.active)
      plane.stream->owner().on_unrouted(*plane.stream);
    if (!add_plane_changes(request, plane)) {
      plane.off_wanted = false;
      continue;
    }
    used |= uint64_t{1} << index;
    const Frame* frame = plane.stream != nullptr ? plane.stream->pending() : nullptr;
    const bool steady = frame != nullptr && plane.active && plane.placed && plane.place == frame->place;
    *async = *async && steady && plane.stream->mode() == PresentMode::async && !plane.stream->async_refused();
  }
  *async = *async && used != 0;
  return used;
}

[[gnu::hot]] void Crtc::commit(int64_t now) noexcept {
  kms::AtomicRequest& request = host_.request();
  request.clear();
  bool async = false;
  const uint64_t mask = lent_ ? 0 : collect(request, dirty_ & ~waiting_, &async);
  dirty_ = mask | waiting_;
  const bool capture = capture_fb_ != 0;
  if (capture) {
    add_capture(request);
    async = false;
  }
  if (mask == 0 && !capture) return;

  commit_id_ = host_.next_commit_id();
  const int64_t enter = base::now_ns();
  int error = 0;
  if (!timed() && !request.empty()) {
    const uint32_t flags =
        DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT | (async ? DRM_MODE_PAGE_FLIP_ASYNC : 0u);
    error = -request.commit(host_.drm_fd(), flags, commit_id_);
  }
  const int64_t leave = base::now_ns();
  if (error != 0) {
    failed(error, mask, async, now);
    return;
  }
  committed(mask, enter, leave, async);
  if (!timed() && request.empty()) complete(leave, clock_.last_sequence(), 0); // nothing but hidden planes
}

[[gnu::hot]] void Crtc::committed(uint64_t mask, int64_t enter_ns, int64_t return_ns, bool async) noexcept {
  in_flight_ = true;
  timed_flight_ = timed();
  resting_ = resting_ || paused_;
  async_flight_ = async;
  commit_enter_ns_ = enter_ns;
  commit_return_ns_ = return_ns;
  watched_since_ns_ = return_ns;
  virtual_due_ns_ = clock_.next_after(return_ns);
  dirty_ &= ~mask;
  if (!paused_) stats.commits.fetch_add(1, std::memory_order_relaxed);
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
    Plane& plane = planes_[std::countr_zero(rest)];
    plane.in_commit = true;
    const bool off = plane.stream == nullptr || plane.stream->pending() == nullptr;
    if (off) {
      // While it is paused, the kernel's state stays as it was.
      plane.active = plane.active && paused_;
      plane.off_wanted = false;
      continue;
    }
    plane.queued = {plane.stream, plane.stream->take_pending(), enter_ns, return_ns, failures_};
    if (!paused_) plane.active = !plane.queued.frame.off;
    plane.placed = plane.active;
    plane.place = plane.queued.frame.place;
  }
  failures_ = 0;
  backoff_ns_ = 0;
  retry_at_ns_ = 0;
  end_capture(0);
  for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
    Stream* stream = planes_[std::countr_zero(rest)].queued.stream;
    if (stream != nullptr && stream->mode() == PresentMode::fifo) stream->owner().on_room(*stream);
  }
}

[[gnu::hot]] void Crtc::on_flip(uint64_t commit_id, int64_t time_ns, uint32_t sequence) noexcept {
  if (!in_flight_ || timed_flight_ || commit_id != commit_id_ || recovering_) {
    // Of a commit that the watchdog gave up, or of one that was never ours.
    stats.stale_events.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const int64_t now = base::now_ns();
  uint32_t flags = async_flight_ ? presented_async : presented_vsync;
  // Drivers without a real vblank counter give 0, the epoch or a time to come.
  const bool plausible =
      time_ns > commit_enter_ns_ - 2 * clock_.period_ns() && time_ns < now + 2 * clock_.period_ns();
  if (plausible) flags |= presented_hw_clock;
  const uint64_t counted = clock_.last_sequence() +
                           static_cast<uint32_t>(sequence - static_cast<uint32_t>(clock_.last_sequence()));
  complete(plausible ? time_ns : now, counted, flags);
}

[[gnu::hot]] void Crtc::complete(int64_t time_ns, uint64_t sequence, uint32_t flags) noexcept {
  if (!is_virtual() && (flags & presented_vsync) != 0) detect_no_vblank(time_ns);
  const int64_t duration = commit_return_ns_ - commit_enter_ns_;
  const bool at_vblank = (flags & (presented_vsync | presented_synthetic)) != 0;
  if (target_ns_ != 0 && policy_ == Policy::deadline && at_vblank) {
    time_ns > target_ns_ + clock_.period_ns() / 2 ? margin_.miss(duration) : margin_.hit(duration);
    stats.margin_ns.store(margin_.ns(), std::memory_order_relaxed);
  }
  // Async flips, recoveries and hidden planes complete at any time, which is nobody's vblank.
  if (at_vblank) clock_.observe(time_ns, sequence);
  in_flight_ = false;
  target_ns_ = 0;
  stats.flips.fetch_add(1, std::memory_order_relaxed);
  for (uint32_t i = 0; i < plane_count_; ++i) {
    if (planes_[i].in_commit) present(planes_[i], time_ns, sequence, flags);
  }
  free_ns_ = time_ns;
}

[[gnu::hot]] void Crtc::present(Plane& plane, int64_t time_ns, uint64_t sequence, uint32_t flags) noexcept {
  plane.in_commit = false;
  Held former = std::exchange(plane.current, {});
  const Held shown = std::exchange(plane.queued, {});
  if (shown.stream != nullptr) tell_presented(plane, shown, time_ns, sequence, flags);
  release(former); // after the feedback of its successor, as the guest protocol says
}

[[gnu::hot]] void Crtc::tell_presented(Plane& plane, const Held& shown, int64_t time_ns, uint64_t sequence,
                                       uint32_t flags) noexcept {
  const Frame& frame = shown.frame;
  if (frame.direct && (flags & presented_synthetic) == 0) flags |= presented_direct;
  if (no_vblank_) flags &= ~uint32_t{presented_vsync | presented_hw_clock};
  const int64_t grace =
      policy_ == Policy::deadline ? std::max(margin_.ns(), smallest_grace_ns) : smallest_grace_ns;
  const bool paced =
      (flags & (presented_async | presented_synthetic | presented_recovered)) == 0 && !no_vblank_;
  const uint32_t missed = paced ? missed_vblanks(clock_, frame.ready_ns, free_ns_, time_ns, grace) : 0;
  stats.missed.fetch_add(missed, std::memory_order_relaxed);
  host_.record({id_, plane.id, shown.stream->id(), flags, frame.sequence, frame.kick_ns,
                shown.commit_enter_ns, shown.commit_return_ns, time_ns, sequence, missed, shown.retries});
  const Presented how{time_ns, sequence, static_cast<uint32_t>(clock_.period_ns()), flags, missed};
  // Nothing of a hidden frame stays on the screen, nor of one that left a virtual CRTC: no successor ends it.
  const bool over = frame.off || (is_virtual() && plane.stream != shown.stream);
  if (!over) plane.current = shown;
  shown.stream->tell_presented(frame, how);
  if (over) shown.stream->owner().on_released(*shown.stream, frame, false);
}

[[gnu::hot]] void Crtc::detect_no_vblank(int64_t time_ns) noexcept {
  // Several flips in a row that came much earlier than a refresh after the one before: nobody waits for a
  // vblank.
  constexpr uint32_t enough = 8;
  const bool early = clock_.known() && time_ns - clock_.last_ns() < clock_.period_ns() / 2;
  early_flips_ = early ? early_flips_ + 1 : 0;
  if (no_vblank_ || early_flips_ < enough) return;
  no_vblank_ = true;
  notice(Notice::Type::no_vblank, 0, nullptr, nullptr);
}

} // namespace scanout::flip
