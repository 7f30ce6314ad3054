#include "flip/stream.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace scanout::flip {

namespace {

// `older` is never shown: what it changed, `frame` changes as well.
void carry_damage(Frame& frame, const Frame& older) noexcept {
  if (frame.damage_count == 0) return; // everything
  if (older.damage_count == 0 || !older.has_buffer) {
    frame.damage_count = 0;
    return;
  }
  const bool fits = frame.damage_count + older.damage_count <= max_damage;
  for (uint32_t i = 0; i < older.damage_count; ++i) {
    const Rect& rect = older.damage[i];
    if (fits) {
      frame.damage[frame.damage_count++] = rect;
      continue;
    }
    Rect& all = frame.damage[0];
    all = {std::min(all.x1, rect.x1), std::min(all.y1, rect.y1), std::max(all.x2, rect.x2),
           std::max(all.y2, rect.y2)};
  }
}

} // namespace

Stream::~Stream() {
  drop_waiting();
}

void Stream::set_mode(PresentMode mode) noexcept {
  mode_ = mode;
  async_refused_ = false;
}

[[gnu::hot]] void Stream::submit(Frame frame, base::UniqueFd fence) noexcept {
  if (waiting_) carry_damage(frame, *waiting_);
  if (std::exchange(damage_lost_, false)) frame.damage_count = 0;
  drop_waiting();
  if (!fence) {
    make_pending(frame);
    return;
  }
  fence_ = std::move(fence);
  waiting_ = frame;
  watch_fence();
}

// A fence that cannot be polled is no fence: its owner was checked for that before.
[[gnu::hot]] void Stream::watch_fence() noexcept {
  if (epoll_.try_add(fence_.get(), EPOLLIN, this) == 0) return;
  fence_.reset();
  Frame frame = *waiting_;
  waiting_.reset();
  make_pending(frame);
}

void Stream::on_ready(uint32_t) noexcept {
  // The event may be that of a fence which a newer frame replaced in this same round.
  pollfd state{.fd = fence_.get(), .events = POLLIN, .revents = 0};
  if (!waiting_ || poll(&state, 1, 0) <= 0) return;
  // A sync_file is readable once it signalled, with success or not; a picture is better than none in either
  // case.
  epoll_.remove(fence_.get());
  fence_.reset();
  Frame frame = *waiting_;
  waiting_.reset();
  frame.ready_ns = base::now_ns();
  make_pending(frame);
}

[[gnu::hot]] void Stream::make_pending(Frame& frame) noexcept {
  if (pending_) {
    carry_damage(frame, *pending_);
    owner_.on_released(*this, *pending_, true);
  }
  pending_ = frame;
  if (sink_ != nullptr && !blocked_) sink_->on_pending(*this);
  if (sink_ == nullptr && !std::exchange(unrouted_told_, true)) owner_.on_unrouted(*this);
}

void Stream::route(StreamSink* sink, uint32_t slot, bool keep) noexcept {
  if (sink_ != nullptr && (sink_ != sink || slot_ != slot)) {
    const Frame* shown = sink_->shown(*this);
    if ((sink != nullptr || keep) && pending_ == std::nullopt && shown != nullptr) {
      pending_ = *shown;
      pending_->kick_ns = base::now_ns(); // nobody waits for it since its own
      owner_.on_retained(*this, *pending_);
    }
    std::exchange(sink_, nullptr)->detach(*this);
  }
  sink_ = sink;
  slot_ = slot;
  blocked_ = false;
  unrouted_told_ = false;
  renew();
  if (sink_ != nullptr && pending_) sink_->on_pending(*this);
}

void Stream::drop_waiting() noexcept {
  if (!waiting_) return;
  epoll_.remove(fence_.get());
  fence_.reset();
  owner_.on_released(*this, *waiting_, true);
  waiting_.reset();
}

void Stream::drop() noexcept {
  damage_lost_ = damage_lost_ || pending_ || waiting_;
  drop_waiting();
  if (pending_) owner_.on_released(*this, *pending_, true);
  pending_.reset();
}

void Stream::drop_buffer(uint32_t buffer) noexcept {
  const auto has = [buffer](const std::optional<Frame>& frame) {
    return frame && frame->has_buffer && frame->buffer == buffer;
  };
  damage_lost_ = damage_lost_ || has(pending_) || has(waiting_);
  if (has(waiting_)) drop_waiting();
  if (!has(pending_)) return;
  if (waiting_) waiting_->damage_count = 0; // everything, since its predecessor's is lost
  owner_.on_released(*this, *pending_, true);
  pending_.reset();
}

uint32_t Stream::renew_buffer(uint32_t buffer, uint32_t fb_id, uint32_t generation,
                              const kms::ImplicitFences& fences) noexcept {
  const auto renew = [&](std::optional<Frame>& frame) -> uint32_t {
    if (!frame || !frame->has_buffer || frame->buffer != buffer) return 0;
    frame->fb_id = fb_id;
    frame->generation = generation;
    frame->damage_count = 0;
    return 1;
  };
  const uint32_t ready = renew(pending_), waits = renew(waiting_);
  if (waits > 0 && !fences.empty()) {
    epoll_.remove(fence_.get());
    fence_ = fences.pending(std::move(fence_));
    watch_fence();
  }
  // Who still draws into the new memory would hold up everybody else of the commit.
  base::UniqueFd fence = ready > 0 ? fences.pending({}) : base::UniqueFd{};
  if (!fence) return ready + waits;
  if (waiting_) {
    waiting_->damage_count = 0;
    owner_.on_released(*this, *pending_, true);
    pending_.reset();
    return ready + waits;
  }
  waiting_ = std::exchange(pending_, std::nullopt);
  fence_ = std::move(fence);
  watch_fence();
  return ready + waits;
}

bool Stream::move_newest(const Placement& place, bool off) noexcept {
  std::optional<Frame>& newest = waiting_ ? waiting_ : pending_;
  if (!newest) return false;
  newest->place = place;
  newest->off = off;
  return true;
}

[[gnu::hot]] Frame Stream::take_pending() noexcept {
  const Frame frame = *pending_;
  pending_.reset();
  return frame;
}

void Stream::restore(const Frame& frame) noexcept {
  if (pending_) {
    owner_.on_released(*this, frame, false);
    return;
  }
  pending_ = frame;
  pending_->kick_ns = base::now_ns();
  renew();
}

[[gnu::hot]] void Stream::tell_presented(const Frame& frame, const Presented& how) noexcept {
  if (frame.sequence < presented_) return;
  presented_ = frame.sequence;
  owner_.on_presented(*this, frame, how);
}

void Stream::renew() noexcept {
  if (pending_) pending_->ready_ns = base::now_ns();
}

} // namespace scanout::flip
