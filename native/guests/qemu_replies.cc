// What comes of frames, and the answers that wait for them.
#include <sys/timerfd.h>

#include <algorithm>

#include "base/clock.h"
#include "guests/qemu_listener.h"

namespace scanout::guests {

namespace {

// QEMU gives up on an answer after a second, a Linux guest on its flip after 50 ms.
constexpr int64_t reply_ns = 45'000'000;

} // namespace

[[gnu::hot]] void QemuListener::owe(const QemuCall& call) noexcept {
  const Slot* slot = current_ < 0 ? nullptr : &slots_[static_cast<size_t>(current_)];
  const bool comes =
      slot != nullptr && (slot->state == Slot::State::ready || slot->state == Slot::State::wanted);
  if (!comes) {
    send(answer_.empty(call.serial));
    return;
  }
  if (reply_count_ == most_replies) {
    // More than QEMU has under way by far: whoever this is, it waits for nothing.
    send(answer_.empty(replies_[0].call));
    std::move(replies_.begin() + 1, replies_.begin() + reply_count_, replies_.begin());
    --reply_count_;
  }
  const uint64_t sequence = slot->state == Slot::State::ready ? sequence_ : unsent;
  flipped_ = sequence != unsent;
  replies_[reply_count_++] = {call.serial, sequence, now_ns_ + reply_ns};
  arm(now_ns_ + reply_ns);
}

// Answers what waits for frames up to `presented`, and what has waited long enough.
[[gnu::hot]] void QemuListener::pay(uint64_t presented, int64_t now) noexcept {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < reply_count_; ++i) {
    const Reply& reply = replies_[i];
    const bool shown = reply.sequence <= presented;
    if (!shown && now < reply.due_ns) {
      replies_[kept++] = reply;
      continue;
    }
    if (!shown) stats_.late_replies.fetch_add(1, std::memory_order_relaxed);
    send(answer_.empty(reply.call));
  }
  reply_count_ = kept;
}

[[gnu::hot]] void QemuListener::arm(int64_t due_ns) noexcept {
  if (armed_ns_ != 0 && armed_ns_ <= due_ns) return;
  armed_ns_ = due_ns;
  const itimerspec when{.it_value = base::to_timespec(due_ns)};
  timerfd_settime(timer_fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void QemuListener::on_timer() noexcept {
  if (ended_) return;
  const int64_t now = base::now_ns();
  armed_ns_ = 0;
  pay(0, now);
  if (fresh_ && show_at_ns_ <= now) {
    now_ns_ = now;
    flip(nullptr);
  }
  if (hide_at_ns_ != 0 && hide_at_ns_ <= now) hide(now);
  if (resting_ && rested_at_ns_ <= now) {
    resting_ = false;
    watch();
  }
  if (resting_) arm(rested_at_ns_);
  if (hide_at_ns_ != 0) arm(hide_at_ns_);
  if (fresh_) arm(show_at_ns_);
  if (reply_count_ > 0) arm(replies_[0].due_ns);
}

// ---- what comes of frames

[[gnu::hot]] void QemuListener::on_presented(flip::Stream& stream, const flip::Frame& frame,
                                             const flip::Presented& how) noexcept {
  PlaneStats& stats = plane_stats_[&stream == &picture_ ? 0 : 1];
  stats.flips.fetch_add(1, std::memory_order_relaxed);
  stats.missed.fetch_add(how.missed, std::memory_order_relaxed);
  constexpr uint32_t uncopied = flip::presented_direct | flip::presented_synthetic;
  if ((how.flags & uncopied) == 0) stats.copied.fetch_add(1, std::memory_order_relaxed);
  if (&stream != &picture_) return;
  pay(frame.sequence, base::now_ns());
  reader_.close_spent();
}

void QemuListener::on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept {
  if (!frame.has_buffer) return;
  ++(&stream == &picture_ ? slots_[frame.buffer].uses : cursor_uses_[frame.buffer - first_qemu_cursor]);
}

[[gnu::hot]] void QemuListener::on_released(flip::Stream& stream, const flip::Frame& frame,
                                            bool superseded) noexcept {
  const bool picture = &stream == &picture_;
  if (superseded) plane_stats_[picture ? 0 : 1].superseded.fetch_add(1, std::memory_order_relaxed);
  if (!frame.has_buffer) return;
  --(picture ? slots_[frame.buffer].uses : cursor_uses_[frame.buffer - first_qemu_cursor]);
  if (picture) sweep();
}

void QemuListener::on_refused(flip::Stream& stream, const flip::Frame&, int) noexcept {
  plane_stats_[&stream == &picture_ ? 0 : 1].refused.fetch_add(1, std::memory_order_relaxed);
}

void QemuListener::on_unrouted(flip::Stream& stream) noexcept {
  engine_.tell({flip::Notice::Type::unrouted, 0, 0, stream.id(), 0, 1, stream.pending()->sequence});
}

} // namespace scanout::guests
