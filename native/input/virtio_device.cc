#include "input/virtio_device.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/error.h"
#include "input/describe.h"

namespace scanout::input {

namespace {

// An event is a virtio_input_event, whose numbers are little-endian.
static_assert(sizeof(Event) == 8 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

std::shared_ptr<const guests::InflightMemory> make_records() {
  constexpr uint32_t rings = VirtioDevice::ring_count, entries = guests::max_queue_size;
  return guests::InflightMemory::map(guests::InflightMemory::make(rings, entries),
                                     guests::InflightMemory::bytes(rings, entries), 0, rings, entries);
}

} // namespace

VirtioDevice::VirtioDevice(Class of, const Description& description, base::Epoll& epoll,
                           base::EventfdSignaller& signaller)
    : of_(of), keys_(description.keys), led_bits_(description.leds), slots_(slot_count(description)),
      epoll_(epoll), rings_(make_records(), ring_count, *this, epoll, signaller),
      timer_(base::check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create")) {}

int VirtioDevice::enter(Sink& sink, SinkOwner& owner) noexcept {
  const int error = -epoll_.try_add(timer_.get(), EPOLLIN | EPOLLET, this);
  if (error != 0) return error;
  sink_ = &sink;
  owner_ = &owner;
  return 0;
}

void VirtioDevice::leave() noexcept {
  stop();
  epoll_.remove(timer_.get());
  sink_ = nullptr;
}

void VirtioDevice::stop() noexcept {
  present_ = false;
  if (stopped_) return;
  stopped_ = true;
  stop_.run(rings_);
}

void VirtioDevice::run(guests::RingChange& change) noexcept {
  if (stopped_ || sink_ == nullptr)
    change.error = ESHUTDOWN;
  else
    change.run(rings_);
}

void VirtioDevice::end(int error, const char* why) noexcept {
  if (stopped_ || sink_ == nullptr) return;
  stop();
  owner_->ended(*sink_, error, why);
}

// ---- rings

void VirtioDevice::on_start(uint32_t ring, uint16_t base) noexcept {
  const bool anew = base == 0; // or it was stopped meanwhile
  if (ring == status_ring) {
    if (anew) leds_ = 0;
    tell_leds();
    return;
  }
  const bool first = !present_;
  present_ = true;
  if (anew) {
    current_at_ = current_count_ = 0;
    most_ = 0;
    backlog_.clear();
    owner_->renewed(*sink_);
  } else if (first) {
    // Another process served it before, and may have died in the middle of a key.
    backlog_.distrust(of_, keys_, slots_);
  }
}

void VirtioDevice::on_kick(uint32_t ring) noexcept {
  if (ring == event_ring)
    serve_events();
  else if (!resting_)
    serve_status();
}

/// Told from within the ring's own `pop`: it is let go of by whoever is told.
void VirtioDevice::on_broken(uint32_t, const char* why) noexcept {
  present_ = false;
  if (sink_ != nullptr) owner_->ended(*sink_, EPROTO, why);
}

// ---- events

[[gnu::hot]] Sink::Delivery VirtioDevice::frame(Class from, std::span<const Event> events,
                                                int64_t kernel_ns) noexcept {
  if (!present_) return Sink::Delivery::lost;
  at_once_ = current_at_ == current_count_ && backlog_.empty();
  const bool alone = at_once_;
  backlog_.push(from, events, kernel_ns);
  serve_events();
  at_once_ = false;
  if (!present_) return Sink::Delivery::lost;
  return alone && current_at_ == current_count_ && backlog_.empty() ? Sink::Delivery::done
                                                                    : Sink::Delivery::waiting;
}

[[gnu::hot]] void VirtioDevice::serve_events() noexcept {
  bool given = false, again = false;
  while (present_ && (current_at_ < current_count_ || !backlog_.empty())) {
    const uint32_t waiting = rings_.waiting(event_ring);
    most_ = std::max(most_, std::min(waiting, guests::max_queue_size));
    const size_t left =
        current_at_ < current_count_ ? current_count_ - current_at_ : backlog_.front().events.size();
    const size_t wanted = std::min<size_t>(left, std::max(most_, 1u));
    if (waiting < wanted) {
      // Twice in a row only with a driver that takes back what it gave.
      const bool there = rings_.rest(event_ring, static_cast<uint16_t>(wanted - 1));
      if (again || !there) break;
      again = true;
      continue;
    }
    again = false;
    if (current_at_ == current_count_) take_frame();
    for (size_t i = 0; i < wanted && present_ && put(current_[current_at_]); ++i)
      ++current_at_;
    given = true;
    if (current_at_ == current_count_ && !at_once_) owner_->delivered(*sink_, {&current_ns_, 1});
  }
  if (!present_) return;
  if (current_at_ == current_count_ && backlog_.empty()) rings_.refuse(event_ring);
  if (given) rings_.call(event_ring);
}

/// Takes a frame out of the backlog, where what comes later would be merged into it.
[[gnu::hot]] void VirtioDevice::take_frame() noexcept {
  const Backlog::Frame frame = backlog_.front();
  std::copy(frame.events.begin(), frame.events.end(), current_.begin());
  current_count_ = frame.events.size();
  current_at_ = 0;
  current_ns_ = frame.kernel_ns;
  backlog_.pop();
}

/// Gives one event. False when there is no buffer after all, or the driver broke the rules.
[[gnu::hot]] bool VirtioDevice::put(const Event& event) noexcept {
  if (!rings_.pop(event_ring, chain_)) return false;
  const size_t written = guests::write_answer(*rings_.memory(), chain_.segments.data() + chain_.readable,
                                              chain_.count - chain_.readable, &event, sizeof event);
  rings_.push(event_ring, chain_.head, static_cast<uint32_t>(written));
  if (written == sizeof event) return true;
  on_broken(event_ring, "a buffer of the event queue has no room for an event");
  return false;
}

// ---- status

void VirtioDevice::serve_status() noexcept {
  int taken = 0;
  for (; taken < status_a_turn && rings_.pop(status_ring, chain_); ++taken) {
    Event event;
    if (chain_.read(*rings_.memory(), 0, &event, sizeof event) == sizeof event) take_status(event);
    rings_.push(status_ring, chain_.head, 0);
  }
  if (taken == 0 && !rings_.rest(status_ring)) return;
  rings_.call(status_ring);
  resting_ = true;
  const itimerspec wait{.it_interval = {}, .it_value = base::to_timespec(status_every_ns)};
  timerfd_settime(timer_.get(), 0, &wait, nullptr);
  tell_leds();
}

void VirtioDevice::on_ready(uint32_t) noexcept {
  uint64_t count = 0;
  if (read(timer_.get(), &count, sizeof count) != sizeof count) return;
  resting_ = false;
  serve_status();
}

void VirtioDevice::take_status(const Event& event) noexcept {
  if (event.type != EV_LED || !led_bits_.test(event.code)) return;
  static_assert(LED_CNT <= 32);
  const uint32_t bit = 1u << event.code;
  leds_ = event.value != 0 ? leds_ | bit : leds_ & ~bit;
}

void VirtioDevice::tell_leds() noexcept {
  if (leds_ == told_leds_ || sink_ == nullptr) return;
  told_leds_ = leds_;
  owner_->leds_set(*sink_, leds_);
}

} // namespace scanout::input
