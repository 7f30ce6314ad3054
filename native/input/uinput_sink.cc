#include "input/uinput_sink.h"

#include <fcntl.h>
#include <linux/uinput.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/error.h"
#include "base/system_calls.h"

namespace scanout::input {

namespace {

constexpr const char* path = "/dev/uinput";
/// LEDs are looked at so often at most: whoever has the device may set them without end.
constexpr int64_t pause_ns = 10'000'000;

void set(int fd, unsigned long request, int value, const char* op) {
  base::check(ioctl(fd, request, value), op);
}

template <size_t Count> void set_all(int fd, unsigned long request, const Bits<Count>& bits, const char* op) {
  for (size_t code = 0; code < Count; ++code) {
    if (bits.test(code)) set(fd, request, static_cast<int>(code), op);
  }
}

} // namespace

// libevdev's uinput takes no phys, which names the guest.
UinputSink::UinputSink(const Description& description)
    : fd_(base::check(open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), "open", path)),
      timer_(base::check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create")) {
  const int fd = fd_.get();
  set_all(fd, UI_SET_KEYBIT, description.keys, "UI_SET_KEYBIT");
  set_all(fd, UI_SET_RELBIT, description.relative, "UI_SET_RELBIT");
  set_all(fd, UI_SET_MSCBIT, description.misc, "UI_SET_MSCBIT");
  set_all(fd, UI_SET_SWBIT, description.switches, "UI_SET_SWBIT");
  set_all(fd, UI_SET_LEDBIT, description.leds, "UI_SET_LEDBIT");
  set_all(fd, UI_SET_PROPBIT, description.properties, "UI_SET_PROPBIT");
  for (size_t axis = 0; axis < ABS_CNT; ++axis) {
    if (!description.absolute.test(axis)) continue;
    uinput_abs_setup setup{.code = static_cast<uint16_t>(axis), .absinfo = description.axes[axis]};
    base::check(ioctl(fd, UI_ABS_SETUP, &setup), "UI_ABS_SETUP", "axis " + std::to_string(axis));
  }
  // Force feedback, sounds and power buttons have no way back; the others have their bits.
  for (const int type : {EV_KEY, EV_REL, EV_ABS, EV_MSC, EV_SW, EV_LED, EV_REP}) {
    if (description.types.test(static_cast<size_t>(type))) set(fd, UI_SET_EVBIT, type, "UI_SET_EVBIT");
  }
  base::check(ioctl(fd, UI_SET_PHYS, description.phys.data()), "UI_SET_PHYS");
  uinput_setup setup{.id = description.id, .name = {}, .ff_effects_max = 0};
  std::memcpy(setup.name, description.name.data(), std::min(sizeof setup.name, description.name.size()));
  setup.name[sizeof setup.name - 1] = '\0';
  base::check(ioctl(fd, UI_DEV_SETUP, &setup), "UI_DEV_SETUP", description.name.data());
  base::check(ioctl(fd, UI_DEV_CREATE), "UI_DEV_CREATE", description.name.data());
  find_nodes();
}

UinputSink::~UinputSink() {
  ioctl(fd_.get(), UI_DEV_DESTROY);
}

void UinputSink::find_nodes() {
  std::array<char, 64> name{};
  base::check(ioctl(fd_.get(), UI_GET_SYSNAME(name.size()), name.data()), "UI_GET_SYSNAME");
  sys_path_ = std::string("/sys/devices/virtual/input/") + name.data();
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(sys_path_, error)) {
    const std::string child = entry.path().filename();
    if (child.starts_with("event")) node_ = "/dev/input/" + child;
  }
}

int UinputSink::enter(base::Epoll& epoll, SinkOwner& owner) noexcept {
  epoll_ = &epoll;
  owner_ = &owner;
  if (const int result = epoll.try_add(timer_.get(), EPOLLIN, &pause_); result < 0) return -result;
  const int result = epoll.try_add(fd_.get(), EPOLLIN, this);
  if (result < 0) leave();
  return -result;
}

void UinputSink::leave() noexcept {
  if (epoll_ == nullptr) return;
  if (!paused_) epoll_->remove(fd_.get());
  epoll_->remove(timer_.get());
  epoll_ = nullptr;
}

[[gnu::hot]] Sink::Delivery UinputSink::frame(Class /*from*/, std::span<const Event> events,
                                              int64_t kernel_ns) noexcept {
  if (frame_count_ == max_frames) flush();
  for (const Event& event : events) {
    if (event_count_ == max_events) flush();
    input_event& into = events_[event_count_++];
    into.time = {};
    into.type = event.type;
    into.code = event.code;
    into.value = event.value;
  }
  kernel_ns_[frame_count_++] = kernel_ns;
  return Delivery::waiting;
}

// The kernel takes it at once; a reader that is slow loses its own (SYN_DROPPED).
[[gnu::hot]] void UinputSink::flush() noexcept {
  const size_t size = event_count_ * sizeof(input_event), frames = frame_count_;
  event_count_ = frame_count_ = 0;
  if (size == 0) return;
  if (base::write_call(fd_.get(), events_.data(), size) != static_cast<ssize_t>(size)) {
    owner_->ended(*this, errno, "its uinput device cannot be written");
    return;
  }
  owner_->delivered(*this, {kernel_ns_.data(), frames});
}

/// What is sent to the device: LEDs.
void UinputSink::on_ready(uint32_t) noexcept {
  std::array<input_event, 32> events;
  const ssize_t got = read(fd_.get(), events.data(), sizeof events);
  if (got < 0 && errno != EAGAIN && errno != EINTR) {
    leave();
    owner_->ended(*this, errno, "its uinput device cannot be read");
    return;
  }
  bool changed = false;
  for (ssize_t at = 0; at < got / static_cast<ssize_t>(sizeof(input_event)); ++at) {
    const input_event& event = events[static_cast<size_t>(at)];
    if (event.type != EV_LED || event.code >= 32) continue;
    const uint32_t bit = 1U << event.code;
    leds_ = event.value != 0 ? leds_ | bit : leds_ & ~bit;
    changed = true;
  }
  if (changed) owner_->leds_set(*this, leds_);
  pause();
}

void UinputSink::pause() noexcept {
  const itimerspec after{.it_interval = {}, .it_value = base::to_timespec(pause_ns)};
  if (timerfd_settime(timer_.get(), 0, &after, nullptr) < 0) return;
  epoll_->remove(fd_.get());
  paused_ = true;
}

void UinputSink::on_pause() noexcept {
  uint64_t expired = 0;
  if (epoll_ == nullptr || read(timer_.get(), &expired, sizeof expired) < 0) return;
  paused_ = false;
  if (const int result = epoll_->try_add(fd_.get(), EPOLLIN, this); result < 0) {
    leave();
    owner_->ended(*this, -result, "its uinput device cannot be watched");
  }
}

} // namespace scanout::input
