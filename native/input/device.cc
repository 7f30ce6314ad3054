#include "input/device.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/clock.h"
#include "base/error.h"
#include "base/system_calls.h"
#include "input/describe.h"

namespace scanout::input {

/// Adds events to a list of limited length.
class Changes {
public:
  explicit Changes(std::span<Event> events) noexcept : events_(events) {}
  void add(uint16_t type, size_t code, int32_t value) noexcept {
    if (count_ < events_.size())
      events_[count_++] = {.type = type, .code = static_cast<uint16_t>(code), .value = value};
  }
  [[nodiscard]] size_t count() const noexcept { return count_; }

private:
  std::span<Event> events_;
  size_t count_ = 0;
};

namespace {

constexpr size_t events_a_read = 64;
/// So that one device cannot keep the thread from the others.
constexpr int reads_a_turn = 8;
/// More than any device's queue has.
constexpr int reads_of_what_is_left = 256;

int64_t time_of(const input_event& event) noexcept {
  return int64_t{event.input_event_sec} * 1'000'000'000 + int64_t{event.input_event_usec} * 1000;
}

template <size_t Count>
void compare(Changes& changes, uint16_t type, const Bits<Count>& before, const Bits<Count>& now) noexcept {
  for (size_t word = 0; word < before.words.size(); ++word) {
    for (uint64_t bits = before.words[word] ^ now.words[word]; bits != 0; bits &= bits - 1) {
      const size_t code = word * 64 + static_cast<size_t>(__builtin_ctzll(bits));
      changes.add(type, code, now.test(code) ? 1 : 0);
    }
  }
}

/// EVIOCGMTSLOTS: one axis of all slots.
struct SlotValues {
  uint32_t code = 0;
  std::array<int32_t, max_slots> values{};
};

} // namespace

// ---- state

std::span<const Event> RawDevice::RawSource::read_state() noexcept {
  Changes changes({changes_.data(), changes_.size() - 1}); // one for SYN_REPORT
  if (Bits<KEY_CNT> now; ioctl(fd_, EVIOCGKEY(sizeof now.words), now.words.data()) >= 0)
    compare(changes, EV_KEY, down, now);
  if (Bits<SW_CNT> now; ioctl(fd_, EVIOCGSW(sizeof now.words), now.words.data()) >= 0)
    compare(changes, EV_SW, switched, now);
  for (size_t axis = 0; axis < ABS_MT_SLOT; ++axis) {
    input_absinfo now{};
    if (!description.absolute.test(axis) || ioctl(fd_, EVIOCGABS(axis), &now) < 0) continue;
    if (now.value != values[axis]) changes.add(EV_ABS, axis, now.value);
  }
  if (!slots.empty()) read_slots(changes);
  size_t count = changes.count();
  if (count > 0) changes_[count++] = {.type = EV_SYN, .code = SYN_REPORT, .value = 0};
  return {changes_.data(), count};
}

void RawDevice::RawSource::read_slots(Changes& changes) noexcept {
  // Contacts end first: another finger in the same slot is another contact.
  std::array<SlotValues, ABS_MT_TOOL_Y - ABS_MT_TOUCH_MAJOR + 1> all;
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].code = static_cast<uint32_t>(ABS_MT_TOUCH_MAJOR + i);
    if (!description.absolute.test(all[i].code) || ioctl(fd_, EVIOCGMTSLOTS(sizeof(SlotValues)), &all[i]) < 0)
      all[i].code = 0;
  }
  const SlotValues& tracking = all[ABS_MT_TRACKING_ID - ABS_MT_TOUCH_MAJOR];
  for (size_t i = 0; i < slots.size(); ++i) {
    const Slot& before = slots[i];
    if (tracking.code != 0 && tracking.values[i] != before.tracking) {
      changes.add(EV_ABS, ABS_MT_SLOT, static_cast<int32_t>(i));
      if (before.tracking >= 0 && tracking.values[i] >= 0) changes.add(EV_ABS, ABS_MT_TRACKING_ID, -1);
      changes.add(EV_ABS, ABS_MT_TRACKING_ID, tracking.values[i]);
    }
    for (const SlotValues& axis : all) {
      if (axis.code == 0 || axis.code == ABS_MT_TRACKING_ID) continue;
      if (axis.values[i] == before.values[axis.code - ABS_MT_TOUCH_MAJOR]) continue;
      changes.add(EV_ABS, ABS_MT_SLOT, static_cast<int32_t>(i));
      changes.add(EV_ABS, axis.code, axis.values[i]);
    }
  }
  if (input_absinfo selected{}; ioctl(fd_, EVIOCGABS(ABS_MT_SLOT), &selected) >= 0)
    changes.add(EV_ABS, ABS_MT_SLOT, selected.value);
}

void RawDevice::RawSource::set_leds(uint32_t leds) noexcept {
  write_leds(fd_, description, leds);
}

// ---- the device

RawDevice::RawDevice(uint32_t id, base::UniqueFd fd, const RawOptions& options)
    : Device(id), fd_(std::move(fd)), source_(id, options.of, describe(fd_.get()), fd_.get()) {
  const int flags = base::check(fcntl(fd_.get(), F_GETFL), "fcntl(F_GETFL)");
  base::check(fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK), "fcntl(F_SETFL)");
  const int clock = CLOCK_MONOTONIC;
  base::check(ioctl(fd_.get(), EVIOCSCLOCKID, &clock), "EVIOCSCLOCKID");
  if (options.grab) base::check(ioctl(fd_.get(), EVIOCGRAB, 1), "EVIOCGRAB");
  // What is pressed already belongs to whoever had the device before: its release must find no press.
  source_.take(source_.read_state());
}

int RawDevice::enter(base::Epoll& epoll, DeviceOwner& owner) noexcept {
  epoll_ = &epoll;
  owner_ = &owner;
  return -epoll.try_add(fd_.get(), EPOLLIN, this);
}

void RawDevice::leave() noexcept {
  if (epoll_ == nullptr) return;
  epoll_->remove(fd_.get());
  epoll_ = nullptr;
}

void RawDevice::end(int error) noexcept {
  leave();
  owner_->gone(id, error);
}

[[gnu::hot]] void RawDevice::on_ready(uint32_t) noexcept {
  std::array<input_event, events_a_read> events;
  for (int i = 0; i < reads_a_turn && epoll_ != nullptr; ++i) {
    const ssize_t got = base::read_call(fd_.get(), events.data(), sizeof events);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      end(got == 0 ? ENODEV : errno);
      return;
    }
    const size_t count = static_cast<size_t>(got) / sizeof(input_event);
    if (!take({events.data(), count})) {
      resync(); // nothing of what came with it is of use
      return;
    }
    owner_->read_done();
    if (count < events_a_read) return;
  }
}

/// False when the kernel has dropped events.
[[gnu::hot]] bool RawDevice::take(std::span<const input_event> events) noexcept {
  std::array<Event, events_a_read> frame;
  size_t count = 0;
  for (const input_event& event : events) {
    if (event.type == EV_SYN && event.code == SYN_DROPPED) return false;
    frame[count++] = {.type = event.type, .code = event.code, .value = event.value};
    if (event.type != EV_SYN || event.code != SYN_REPORT) continue;
    if (kept_count_ > 0)
      keep({frame.data(), count}, time_of(event));
    else
      owner_->frame(source_, {frame.data(), count}, time_of(event));
    count = 0;
  }
  if (count > 0) keep({frame.data(), count}, time_of(events.back()));
  return true;
}

/// Adds to what is kept, and tells of it once it is whole, or as long as a frame may be.
void RawDevice::keep(std::span<const Event> events, int64_t kernel_ns) noexcept {
  std::array<Event, max_frame>& kept = *kept_;
  for (const Event& event : events) {
    const bool report = event.type == EV_SYN && event.code == SYN_REPORT;
    kept[kept_count_++] = event;
    if (!report && kept_count_ < max_frame - 1) continue;
    if (!report) kept[kept_count_++] = {.type = EV_SYN, .code = SYN_REPORT, .value = 0};
    owner_->frame(source_, {kept.data(), std::exchange(kept_count_, 0)}, kernel_ns);
  }
}

/// Asking for the state takes events of the same kind out of the queue, but none of those that were read
/// already, and what is left there begins in a slot that nobody knows: all of it is read and left out first
/// (Documentation/input/event-codes.rst, SYN_DROPPED).
void RawDevice::resync() noexcept {
  kept_count_ = 0;
  owner_->dropped(id);
  std::array<input_event, events_a_read> events;
  for (int i = 0; i < reads_of_what_is_left; ++i) {
    const ssize_t got = base::read_call(fd_.get(), events.data(), sizeof events);
    if (got < 0 && errno == EAGAIN) break;
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      end(got == 0 ? ENODEV : errno);
      return;
    }
  }
  const std::span<const Event> changes = source_.read_state();
  if (!changes.empty()) owner_->resync(source_, changes, base::now_ns());
  owner_->read_done();
}

} // namespace scanout::input
