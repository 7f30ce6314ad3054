#include "input/ring_sink.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace scanout::input {

namespace {

// A guest that signals more often is looked at once in this time: what it can make the thread do is bounded.
constexpr int64_t pause_ns = 1'000'000;
constexpr uint64_t mask = SCANOUTD_INPUT_EVENTS - 1;

static_assert((SCANOUTD_INPUT_EVENTS & mask) == 0);
constexpr size_t longest = std::max(max_frame, Backlog::max_events);
static_assert(SCANOUTD_INPUT_EVENTS / 2 >= longest && SCANOUTD_INPUT_MAX_FRAME >= longest);
static_assert(class_count <= SCANOUTD_INPUT_DEVICES);
static_assert(static_cast<int>(Class::keyboard) == SCANOUTD_INPUT_KEYBOARD &&
              static_cast<int>(Class::absolute) == SCANOUTD_INPUT_ABSOLUTE &&
              static_cast<int>(Class::touchpad) == SCANOUTD_INPUT_TOUCHPAD &&
              static_cast<int>(Class::pad) == SCANOUTD_INPUT_PAD &&
              static_cast<int>(Class::joystick) == SCANOUTD_INPUT_JOYSTICK);

template <typename T> std::atomic_ref<T> shared(T& word) noexcept {
  return std::atomic_ref<T>(word);
}
/// Of memory that is mapped for reading only, where nothing but loads may be done.
template <typename T> T load(const T& word, std::memory_order order) noexcept {
  return std::atomic_ref<T>(const_cast<T&>(word)).load(order);
}

template <typename To, size_t Count> To low_word(const Bits<Count>& bits) noexcept {
  static_assert(Count <= 8 * sizeof(To));
  return static_cast<To>(bits.words[0]);
}

scanoutd_input_device describe(const Description& from) noexcept {
  scanoutd_input_device to{};
  to.present = 1;
  std::memcpy(to.name, from.name.data(), sizeof to.name - 1);
  to.bus = from.id.bustype;
  to.vendor = from.id.vendor;
  to.product = from.id.product;
  to.version = from.id.version;
  to.properties = low_word<uint32_t>(from.properties);
  to.types = low_word<uint32_t>(from.types);
  to.relative = low_word<uint32_t>(from.relative);
  to.misc = low_word<uint32_t>(from.misc);
  to.switches = low_word<uint32_t>(from.switches);
  to.leds = low_word<uint32_t>(from.leds);
  to.absolute = low_word<uint64_t>(from.absolute);
  static_assert(sizeof to.keys == sizeof from.keys.words && sizeof to.name == sizeof from.name);
  std::memcpy(to.keys, from.keys.words.data(), sizeof to.keys);
  for (size_t axis = 0; axis < ABS_CNT; ++axis) {
    if (!from.absolute.test(axis)) continue;
    const input_absinfo& range = from.axes[axis];
    to.axes[axis] = {range.value, range.minimum, range.maximum, range.fuzz, range.flat, range.resolution};
  }
  return to;
}

} // namespace

RingSink::RingSink(Descriptors descriptors, base::EventfdSignaller& signaller)
    : descriptors_(std::move(descriptors)),
      timer_(base::check(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create",
                         "input ring")),
      signaller_(signaller) {}

void RingSink::set_devices(std::span<const Device> devices) noexcept {
  scanoutd_input_ring& ring = memory_.ring();
  shared(ring.epoch).store(epoch_ + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  std::memset(ring.devices, 0, sizeof ring.devices);
  led_mask_ = 0;
  for (const auto& [of, description] : devices) {
    ring.devices[static_cast<size_t>(of)] = describe(description);
    led_mask_ |= low_word<uint32_t>(description.leds);
  }
  epoch_ += 2;
  shared(ring.epoch).store(epoch_, std::memory_order_release);
  if (owner_ != nullptr && !ended_) signaller_.add(descriptors_.event.get());
}

int RingSink::enter(base::Epoll& epoll, SinkOwner& owner) noexcept {
  epoll_ = &epoll;
  owner_ = &owner;
  if (const int result = epoll.try_add(timer_.get(), EPOLLIN, &pause_entry_); result < 0) return -result;
  // Edge-triggered and never read: there is no read that the guest could make block.
  const int result = epoll.try_add(descriptors_.room.get(), EPOLLIN | EPOLLET, &room_entry_);
  if (result < 0) epoll.remove(timer_.get());
  return -result;
}

void RingSink::leave() noexcept {
  epoll_->remove(timer_.get());
  epoll_->remove(descriptors_.room.get());
}

[[gnu::hot]] Sink::Delivery RingSink::frame(Class from, std::span<const Event> events,
                                            int64_t kernel_ns) noexcept {
  if (ended_) return Delivery::lost;
  if (backlog_.empty() && (has_room(events.size()) || (take_read() && has_room(events.size())))) {
    backlog_.passed(from, events);
    write(from, events, kernel_ns);
  } else if (!ended_) {
    keep(from, events, kernel_ns);
  }
  return ended_ ? Delivery::lost : Delivery::waiting;
}

[[gnu::hot]] bool RingSink::has_room(size_t events) const noexcept {
  return written_ - read_ + events <= SCANOUTD_INPUT_EVENTS;
}

/// False when the guest wrote nonsense: the ring has ended then.
bool RingSink::take_read() noexcept {
  const uint64_t read = load(memory_.reply().read, std::memory_order_acquire);
  if (read < read_) end(EPROTO, "the guest's read index went back");
  if (read > written_) end(EPROTO, "the guest's read index is beyond what was written");
  if (!ended_) read_ = read;
  return !ended_;
}

[[gnu::cold]] void RingSink::keep(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept {
  backlog_.push(from, events, kernel_ns);
  if (!waiting_) {
    set_waiting(true);
    // The guest stores `read`, then looks at `waiting`; we the other way round. One of us sees the other.
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  drain();
}

void RingSink::drain() noexcept {
  if (!take_read()) return;
  while (!backlog_.empty()) {
    const Backlog::Frame frame = backlog_.front();
    if (!has_room(frame.events.size())) break;
    write(frame.from, frame.events, frame.kernel_ns);
    backlog_.pop();
  }
  if (waiting_ && backlog_.empty()) set_waiting(false);
  scanoutd_input_ring& ring = memory_.ring();
  merged_.store(backlog_.merged(), std::memory_order_relaxed);
  dropped_.store(backlog_.dropped(), std::memory_order_relaxed);
  shared(ring.merged).store(backlog_.merged(), std::memory_order_relaxed);
  shared(ring.dropped).store(backlog_.dropped(), std::memory_order_relaxed);
}

[[gnu::hot]] void RingSink::write(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept {
  scanoutd_input_ring& ring = memory_.ring();
  uint64_t at = written_;
  for (const Event& event : events) {
    ring.events[at++ & mask] = {.time_ns = static_cast<uint64_t>(kernel_ns),
                                .epoch = epoch_,
                                .device = static_cast<uint16_t>(from),
                                .type = event.type,
                                .code = event.code,
                                .reserved = 0,
                                .value = event.value};
  }
  written_ = at;
  shared(ring.written).store(written_, std::memory_order_release);
  if (gathered_ == gathered_ns_.size()) flush();
  gathered_ns_[gathered_++] = kernel_ns;
}

[[gnu::hot]] void RingSink::flush() noexcept {
  const size_t count = std::exchange(gathered_, 0);
  if (count == 0 || ended_) return;
  signaller_.add(descriptors_.event.get());
  signaller_.flush();
  owner_->delivered(*this, {gathered_ns_.data(), count});
}

void RingSink::set_waiting(bool waiting) noexcept {
  waiting_ = waiting;
  shared(memory_.ring().waiting).store(waiting ? 1 : 0, std::memory_order_relaxed);
}

void RingSink::on_room() noexcept {
  if (ended_) return;
  const int64_t now = base::now_ns();
  if (now < pause_until_ns_) {
    epoll_->remove(descriptors_.room.get());
    const itimerspec timeout{.it_interval = {}, .it_value = base::to_timespec(pause_until_ns_)};
    timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &timeout, nullptr);
    return;
  }
  pause_until_ns_ = now + pause_ns;
  look();
}

void RingSink::on_pause() noexcept {
  uint64_t expired = 0;
  if (read(timer_.get(), &expired, sizeof expired) < 0 || ended_) return;
  // The loop tells at once of a counter that is not 0, as it is: `on_room` comes next.
  pause_until_ns_ = 0;
  if (const int result = epoll_->try_add(descriptors_.room.get(), EPOLLIN | EPOLLET, &room_entry_);
      result < 0)
    end(-result, "its eventfd cannot be watched");
}

void RingSink::look() noexcept {
  drain();
  flush();
  if (!ended_) take_leds();
}

void RingSink::take_leds() noexcept {
  const uint32_t word = load(memory_.reply().leds, std::memory_order_acquire);
  const uint32_t leds = (word & led_mask_) | (word & SCANOUTD_INPUT_LEDS_SET);
  if ((leds & SCANOUTD_INPUT_LEDS_SET) == 0 || leds == leds_) return;
  leds_ = leds;
  owner_->leds_set(*this, leds & ~SCANOUTD_INPUT_LEDS_SET);
}

[[gnu::cold]] void RingSink::end(int error, const char* why) noexcept {
  if (ended_) return;
  ended_ = true;
  backlog_.clear();
  epoll_->remove(descriptors_.room.get());
  owner_->ended(*this, error, why);
}

} // namespace scanout::input
