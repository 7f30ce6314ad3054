#include "guests/virtio_gpu.h"

#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/error.h"
#include "guests/virtio_scanout.h"

namespace scanout::guests {

namespace {

/// Our own, and never full: nobody else has it.
void signal_own(int eventfd) noexcept {
  const uint64_t one = 1;
  (void)!write(eventfd, &one, sizeof one);
}

} // namespace

VirtioGpu::VirtioGpu(uint32_t scanouts, flip::Engine& engine, std::shared_ptr<VirtioState> state)
    : engine_(engine), scanout_count_(scanouts), state_(std::move(state)),
      rings_(state_->records(), 2, *this, engine.epoll(), engine.signaller()),
      resources_(state_->gpu().resources), buffers_(state_->gpu().buffers),
      stopped_at_(state_->gpu().stopped_at),
      timer_(base::check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create")),
      again_event_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      notice_event_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  again_.gpu = this;
}

int VirtioGpu::open() noexcept {
  if (const int error = engine_.epoll().try_add(timer_.get(), EPOLLIN | EPOLLET, this); error != 0)
    return -error;
  return -engine_.epoll().try_add(again_event_.get(), EPOLLIN | EPOLLET, &again_);
}

void VirtioGpu::close() noexcept {
  engine_.epoll().remove(timer_.get());
  engine_.epoll().remove(again_event_.get());
}

void VirtioGpu::remove(uint32_t index) noexcept {
  scanouts_[index] = nullptr;
  for (uint32_t i = 0; i < parked_count_; ++i)
    parked_[(parked_first_ + i) % max_parked].scanouts &= ~(1u << index);
  answer_parked(false);
}

void VirtioGpu::tell(const GpuNotice& notice) noexcept {
  // Never full: each resource, buffer, ring and job is told of once until JavaScript has answered.
  notices_.push(notice);
  signal_own(notice_event_.get());
}

// ---- the rings

void VirtioGpu::on_start(uint32_t ring, uint16_t base) noexcept {
  // A ring that begins at 0 although it was stopped elsewhere is that of a driver that starts anew: the
  // device was reset. A paused machine goes on where it was.
  if (ring == control_ring && base == 0 && stopped_at_ != 0) reset();
}

void VirtioGpu::on_kick(uint32_t ring) noexcept {
  now_ = base::now_ns();
  if (ring == control_ring)
    serve_control();
  else
    serve_cursor();
}

void VirtioGpu::serve_both() noexcept {
  now_ = base::now_ns();
  serve_control();
  serve_cursor();
}

// Whatever a guest does, the others of its card have their turn after this many commands.
void VirtioGpu::come_back() noexcept {
  signal_own(again_event_.get());
}

void VirtioGpu::serve_control() noexcept {
  if (stalled_) return;
  int left = commands_a_turn;
  do {
    while (left > 0 && !stalled_ && rings_.pop(control_ring, chain_)) {
      --left;
      if (const uint32_t type = execute(); type != later) answer_type(type);
    }
  } while (left > 0 && !stalled_ && rings_.rest(control_ring));
  if (left == 0 && !stalled_) come_back();
  if (!stalled_) show_pending();
  rings_.call(control_ring);
}

// A scanout that was set and not flushed is shown all the same, when nothing more is to come.
void VirtioGpu::show_pending() noexcept {
  for (uint32_t i = 0; i < scanout_count_; ++i) {
    if (scanouts_[i] != nullptr && scanouts_[i]->pending()) scanouts_[i]->flush(nullptr, now_);
  }
}

void VirtioGpu::serve_cursor() noexcept {
  int left = commands_a_turn;
  do {
    while (left > 0 && rings_.pop(cursor_ring, cursor_chain_)) {
      --left;
      cursor_command();
      rings_.push(cursor_ring, cursor_chain_.head, 0);
    }
  } while (left > 0 && rings_.rest(cursor_ring));
  if (left == 0) come_back();
  for (uint32_t i = 0; i < scanout_count_; ++i) {
    if (scanouts_[i] != nullptr) scanouts_[i]->flush_cursor(now_);
  }
  rings_.call(cursor_ring);
}

void VirtioGpu::on_stop(uint32_t ring) noexcept {
  if (ring == control_ring) answer_parked(true);
  if (ring == control_ring && stalled_ && !abandoned_) {
    answer_type(VIRTIO_GPU_RESP_ERR_UNSPEC);
    abandoned_ = true;
  }
  refuse_resubmitted(ring);
  if (ring != control_ring) return;
  rings_.call(control_ring);
  stopped_at_ = rings_.next_available(control_ring);
}

// A stop in the middle of going on from a former process: what it had taken was not done.
void VirtioGpu::refuse_resubmitted(uint32_t ring) noexcept {
  const GuestMemory* memory = rings_.memory();
  while (rings_.resubmits(ring) && rings_.pop(ring, cursor_chain_)) { // chain_ may be a job's
    header_ = {};
    size_t written = 0;
    if (memory != nullptr && cursor_chain_.read(*memory, 0, &header_, sizeof header_) == sizeof header_) {
      const virtio_gpu_ctrl_hdr header = answer_header(VIRTIO_GPU_RESP_ERR_UNSPEC);
      written = write_answer(*memory, &cursor_chain_.segments[cursor_chain_.readable],
                             cursor_chain_.count - cursor_chain_.readable, &header, sizeof header);
    }
    rings_.push(ring, cursor_chain_.head, static_cast<uint32_t>(written));
  }
}

void VirtioGpu::on_broken(uint32_t ring, const char* why) noexcept {
  if (ring == control_ring) {
    parked_count_ = 0;
    if (stalled_) abandoned_ = true;
  }
  tell({.what = GpuNotice::What::broken, .resource = ring, .text = why});
}

void VirtioGpu::reset() noexcept {
  for (VirtioScanout* scanout : scanouts_) {
    if (scanout == nullptr) continue;
    scanout->hide();
    scanout->set_cursor(no_slot, 0, 0);
    scanout->flush_cursor(base::now_ns());
  }
  for (uint32_t i = 0; i < max_gpu_resources; ++i) {
    if (resources_[i].state == GpuResource::State::used) drop_resource(i);
  }
  stopped_at_ = 0;
}

// ---- another process

void VirtioGpu::restored(uint32_t buffer, const GpuJobResult& result) noexcept {
  buffers_[buffer].fb_id = result.fb_id;
  buffers_[buffer].copied = result.copied;
}

void VirtioGpu::show_again() noexcept {
  now_ = base::now_ns();
  for (VirtioScanout* scanout : scanouts_) {
    if (scanout != nullptr) scanout->show_again(now_);
  }
}

void VirtioGpu::suspend() noexcept {
  RingChange(RingChange::What::suspend).run(rings_);
  parked_count_ = 0;
  close();
}

// ---- answers

virtio_gpu_ctrl_hdr VirtioGpu::answer_header(uint32_t type) const noexcept {
  virtio_gpu_ctrl_hdr header{};
  header.type = type;
  if ((header_.flags & VIRTIO_GPU_FLAG_FENCE) != 0) {
    header.flags = VIRTIO_GPU_FLAG_FENCE;
    header.fence_id = header_.fence_id;
    header.ctx_id = header_.ctx_id;
  }
  return header;
}

void VirtioGpu::answer(const void* response, size_t size) noexcept {
  const GuestMemory* memory = rings_.memory();
  const size_t written = memory == nullptr ? 0
                                           : write_answer(*memory, &chain_.segments[chain_.readable],
                                                          chain_.count - chain_.readable, response, size);
  rings_.push(control_ring, chain_.head, static_cast<uint32_t>(written));
}

void VirtioGpu::answer_type(uint32_t type) noexcept {
  const virtio_gpu_ctrl_hdr header = answer_header(type);
  answer(&header, sizeof header);
}

bool VirtioGpu::park(uint32_t scanouts, const std::array<uint64_t, max_gpu_scanouts>& sequences) noexcept {
  if (parked_count_ == max_parked) return false;
  Parked& parked = parked_[(parked_first_ + parked_count_) % max_parked];
  if (!answer_place(chain_, sizeof(virtio_gpu_ctrl_hdr), parked.place)) return false;
  parked.header = answer_header(VIRTIO_GPU_RESP_OK_NODATA);
  parked.deadline_ns = now_ + answer_within_ns;
  parked.scanouts = scanouts;
  parked.sequences = sequences;
  ++parked_count_;
  if (!timer_armed_) arm_timer();
  return true;
}

// In the order of the commands: a driver takes a fence for the sign that all before it are done, too.
void VirtioGpu::answer_parked(bool all) noexcept {
  const GuestMemory* memory = rings_.memory();
  bool any = false;
  while (parked_count_ > 0) {
    const Parked& parked = parked_[parked_first_];
    if (parked.scanouts != 0 && !all) break;
    const size_t written = memory == nullptr
                               ? 0
                               : write_answer(*memory, parked.place.segments.data(), parked.place.count,
                                              &parked.header, sizeof parked.header);
    rings_.push(control_ring, parked.place.head, static_cast<uint32_t>(written));
    parked_first_ = (parked_first_ + 1) % max_parked;
    --parked_count_;
    any = true;
  }
  if (any) rings_.call(control_ring);
}

void VirtioGpu::presented(uint32_t scanout, uint64_t sequence) noexcept {
  for (uint32_t i = 0; i < parked_count_; ++i) {
    Parked& parked = parked_[(parked_first_ + i) % max_parked];
    if (parked.sequences[scanout] <= sequence) parked.scanouts &= ~(1u << scanout);
  }
  answer_parked(false);
}

void VirtioGpu::arm_timer() noexcept {
  timer_armed_ = parked_count_ > 0;
  if (!timer_armed_) return;
  const itimerspec when{.it_interval = {}, .it_value = base::to_timespec(parked_[parked_first_].deadline_ns)};
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

// Set for what was the oldest when it was armed, which is answered long since where flips come in time.
void VirtioGpu::on_ready(uint32_t) noexcept {
  const int64_t now = base::now_ns();
  for (uint32_t i = 0; i < parked_count_; ++i) {
    Parked& parked = parked_[(parked_first_ + i) % max_parked];
    if (parked.deadline_ns > now) break;
    if (parked.scanouts != 0) late_.fetch_add(1, std::memory_order_relaxed);
    parked.scanouts = 0;
  }
  answer_parked(false);
  arm_timer();
}

} // namespace scanout::guests
