#include "flip/stream.h"

#include <poll.h>

#include <utility>

#include "base/clock.h"

namespace scanout::flip {

Stream::~Stream() {
  drop_waiting();
}

void Stream::set_mode(PresentMode mode) noexcept {
  mode_ = mode;
  async_refused_ = false;
}

void Stream::submit(const Frame& frame, base::UniqueFd fence) noexcept {
  drop_waiting();
  if (!fence || epoll_.try_add(fence.get(), EPOLLIN, this) < 0) {
    // A fence that cannot be polled is no fence: its owner was checked for that before.
    make_pending(frame);
    return;
  }
  fence_ = std::move(fence);
  waiting_ = frame;
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

void Stream::make_pending(const Frame& frame) noexcept {
  if (pending_) owner_.on_released(*this, *pending_, true);
  pending_ = frame;
  if (sink_ != nullptr && !blocked_) sink_->on_pending(*this);
  if (sink_ == nullptr && !std::exchange(unrouted_told_, true)) owner_.on_unrouted(*this);
}

void Stream::route(StreamSink* sink, uint32_t slot) noexcept {
  if (sink_ != nullptr && (sink_ != sink || slot_ != slot)) {
    const Frame* shown = sink_->shown(*this);
    if (sink != nullptr && pending_ == std::nullopt && shown != nullptr) {
      pending_ = *shown;
      owner_.on_retained(*this, *pending_);
    }
    std::exchange(sink_, nullptr)->detach(*this);
  }
  sink_ = sink;
  slot_ = slot;
  blocked_ = false;
  unrouted_told_ = false;
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
  drop_waiting();
  if (pending_) owner_.on_released(*this, *pending_, true);
  pending_.reset();
}

Frame Stream::take_pending() noexcept {
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
}

} // namespace scanout::flip
