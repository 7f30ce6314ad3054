// Both ends of an input ring: the daemon's sink on a loop of the test's own, and a guest that reads word by
// word.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <atomic>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/epoll.h"
#include "base/error.h"
#include "base/eventfd_signal.h"
#include "check.h"
#include "input/ring_sink.h"

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_release(void* address); // NOLINT(bugprone-reserved-identifier)
#endif

namespace scanout::test {

/// Events of one frame, without its SYN_REPORT.
struct RingFrame {
  input::Class from = input::Class::keyboard;
  int64_t time_ns = 0;
  uint32_t epoch = 0;
  std::vector<input::Event> events;
  bool operator==(const RingFrame&) const = default;
};

template <typename T> T* map_shared(int fd, int protection) {
  void* memory = ::mmap(nullptr, sizeof(T), protection, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap");
  return static_cast<T*>(memory);
}

/// The guest's end, by the rules of protocol.h.
class RingGuest {
public:
  /// `ring`: the daemon's mapping of it, where a race is to be one for ThreadSanitizer as well; null: its
  /// own.
  RingGuest(const input::RingSink& sink, int room, const scanoutd_input_ring* ring = nullptr)
      : room_(room), own_(map_shared<const scanoutd_input_ring>(sink.ring_fd(), PROT_READ)),
        ring_(ring != nullptr ? ring : own_),
        reply(map_shared<scanoutd_input_reply>(sink.reply_fd(), PROT_READ | PROT_WRITE)) {}
  RingGuest(const RingGuest&) = delete;
  RingGuest& operator=(const RingGuest&) = delete;
  ~RingGuest() {
    ::munmap(const_cast<scanoutd_input_ring*>(own_), sizeof *own_);
    ::munmap(reply, sizeof *reply);
  }

  /// Reads `most` frames at most, and gives their room back after each. Fails the test on what is no frame.
  std::vector<RingFrame> read(size_t most = SIZE_MAX) {
    std::vector<RingFrame> frames;
    const uint64_t written = load(ring_->written, std::memory_order_acquire);
    while (at != written && frames.size() < most) {
      frames.push_back(next(written));
      give_back();
    }
    return frames;
  }

  /// Stores `read`, and signals where the rules say so.
  void give_back() {
#if defined(__SANITIZE_THREAD__)
    // The daemon's mapping of the page is another: the sanitizer cannot know them for one memory.
    if (ours != nullptr) __tsan_release(const_cast<uint64_t*>(&ours->read));
#endif
    std::atomic_ref(reply->read).store(at, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (load(ring_->waiting, std::memory_order_relaxed) == 0) return;
    if (load(ring_->written, std::memory_order_relaxed) - at <= SCANOUTD_INPUT_EVENTS / 2) signal();
  }
  void signal() const {
    const uint64_t one = 1;
    (void)!::write(room_, &one, sizeof one);
    ++signals;
  }
  void set_leds(uint32_t leds) {
    std::atomic_ref(reply->leds).store(leds | SCANOUTD_INPUT_LEDS_SET, std::memory_order_release);
    signal();
  }

  template <typename T> static T load(const T& word, std::memory_order order) {
    return std::atomic_ref<T>(const_cast<T&>(word)).load(order);
  }
  [[nodiscard]] const scanoutd_input_ring& ring() const { return *ring_; }

  uint64_t at = 0;
  mutable uint64_t signals = 0;

private:
  RingFrame next(uint64_t written) {
    RingFrame frame;
    for (bool first = true;; first = false) {
      REQUIRE(at != written); // whole frames only
      const scanoutd_input_event event = ring_->events[at++ % SCANOUTD_INPUT_EVENTS];
      CHECK_EQ(event.reserved, 0);
      if (first) {
        frame.from = static_cast<input::Class>(event.device);
        frame.time_ns = static_cast<int64_t>(event.time_ns);
        frame.epoch = event.epoch;
      }
      const bool same = event.device == static_cast<uint16_t>(frame.from) && event.epoch == frame.epoch &&
                        event.time_ns == static_cast<uint64_t>(frame.time_ns);
      CHECK(same);
      if (event.type == EV_SYN && event.code == SYN_REPORT) return frame;
      frame.events.push_back({event.type, event.code, event.value});
    }
  }

  int room_;
  const scanoutd_input_ring* own_;
  const scanoutd_input_ring* ring_;

public:
  scanoutd_input_reply* reply;
  const scanoutd_input_reply* ours = nullptr; // the daemon's mapping, for ThreadSanitizer
};

/// The sink with its loop, and what it told.
class RingRig : public input::SinkOwner {
public:
  RingRig() {
    sink.set_devices(devices());
    REQUIRE(sink.enter(epoll, *this) == 0);
    signaller.flush();
    (void)signalled();
  }
  virtual ~RingRig() { sink.leave(); }

  void leds_set(input::Sink&, uint32_t set) noexcept override {
    leds = set;
    ++leds_told;
  }
  void renewed(input::Sink&) noexcept override {}
  void delivered(input::Sink&, std::span<const int64_t> kernel_ns) noexcept override {
    delivered_count += static_cast<uint32_t>(kernel_ns.size());
    delivered_ns = kernel_ns.back();
  }
  void ended(input::Sink&, int code, const char* text) noexcept override {
    error = code;
    why = text;
    ++ends;
  }

  /// Turns the loop until nothing is ready, or for so long.
  int turn(int64_t for_ns = 0) {
    int ready = 0;
    const int64_t end = base::now_ns() + for_ns;
    for (;;) {
      const int count = epoll.wait(end);
      if (count <= 0) break;
      ready += count;
    }
    signaller.flush(); // the sink's own signals are the sink's business
    return ready;
  }
  /// The end of a batch.
  void flush() {
    sink.flush();
    signaller.flush();
  }
  /// What the guest's eventfd counts; 0 when it was not signalled.
  [[nodiscard]] uint64_t signalled() const {
    uint64_t count = 0;
    return ::read(event, &count, sizeof count) == sizeof count ? count : 0;
  }
  /// One frame with its SYN_REPORT.
  input::Sink::Delivery send(input::Class from, std::vector<input::Event> events, int64_t time_ns = 1) {
    events.push_back({EV_SYN, SYN_REPORT, 0});
    const auto delivery = sink.frame(from, events, time_ns);
    const bool lost = delivery == input::Sink::Delivery::lost;
    // That it waits for the signal alone is the same to these tests as that it is done.
    return lost || sink.memory().ring().waiting != 0 ? delivery : input::Sink::Delivery::done;
  }
  input::Sink::Delivery key(uint16_t code, int32_t value, int64_t time_ns = 1) {
    return send(input::Class::keyboard, {{EV_MSC, MSC_SCAN, code + 1000}, {EV_KEY, code, value}}, time_ns);
  }
  input::Sink::Delivery move(int32_t x, int32_t y, int64_t time_ns = 1) {
    return send(input::Class::pointer, {{EV_REL, REL_X, x}, {EV_REL, REL_Y, y}}, time_ns);
  }
  /// Moves until a frame has to wait.
  size_t fill() {
    for (size_t sent = 0;; ++sent) {
      REQUIRE(sent <= SCANOUTD_INPUT_EVENTS);
      if (move(1, static_cast<int32_t>(sent)) == input::Sink::Delivery::waiting) return sent;
    }
  }

  static std::vector<input::RingSink::Device> devices() {
    std::vector<input::RingSink::Device> made(2);
    made[0].first = input::Class::keyboard;
    input::Description& keyboard = made[0].second;
    std::string("Keys of brass").copy(keyboard.name.data(), keyboard.name.size() - 1);
    keyboard.id = {.bustype = 3, .vendor = 0x46d, .product = 0xc31c, .version = 0x110};
    keyboard.types.set(EV_KEY);
    keyboard.keys.set(KEY_A);
    keyboard.keys.set(KEY_MAX);
    keyboard.leds.set(LED_NUML);
    keyboard.leds.set(LED_CAPSL);
    made[1].first = input::Class::joystick;
    input::Description& joystick = made[1].second;
    joystick.absolute.set(ABS_RZ);
    joystick.axes[ABS_RZ] = {.value = 3, .minimum = -7, .maximum = 9, .fuzz = 1, .flat = 2, .resolution = 12};
    joystick.axes[ABS_X] = {.value = 1, .minimum = 1, .maximum = 1, .fuzz = 1, .flat = 1, .resolution = 1};
    joystick.properties.set(INPUT_PROP_ACCELEROMETER);
    return made;
  }

  base::Epoll epoll;
  base::EventfdSignaller signaller;
  int event = base::check(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
  int room = base::check(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
  input::RingSink sink{{base::UniqueFd(event), base::UniqueFd(room)}, signaller};
  uint32_t leds = 0, leds_told = 0, delivered_count = 0, ends = 0;
  int64_t delivered_ns = 0;
  int error = 0;
  std::string why;
};

} // namespace scanout::test
