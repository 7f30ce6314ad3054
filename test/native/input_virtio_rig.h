// A virtio-input device with a driver by hand, all on one thread.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "check.h"
#include "input/virtio_sink.h"
#include "input_rig.h"
#include "virtio_rig.h"

namespace scanout::test {

/// What a driver does with its two rings. 8 bytes of memory for each descriptor.
class InputDriver {
public:
  InputDriver(FakeMemory& memory, uint64_t at, uint32_t size)
      : ring(memory, at, size), memory_(memory), buffers_(at + 0x3000) {}

  /// Offers so many more event buffers, kicking each time that it is asked for.
  void post(uint32_t count, uint32_t length = 8);
  /// Offers a status event.
  void send(const Event& event, uint32_t length = 8);
  /// The events in the used ring that were not taken yet; each buffer is offered again unless `keep`.
  Events take(bool repost = true);
  void kick() const;
  /// As a driver that starts anew.
  void reset() {
    ring.clear();
    next_ = seen_ = 0;
  }

  FakeRing ring;
  base::UniqueFd kicks{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}, calls{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};

private:
  void offer(uint16_t head, uint32_t length, uint16_t flags);
  FakeMemory& memory_;
  uint64_t buffers_;
  uint16_t next_ = 0, seen_ = 0;
};

class InputVm : private SinkOwner {
public:
  explicit InputVm(Class of, const Description& description, uint32_t queue = 64);
  InputVm(const InputVm&) = delete;
  InputVm& operator=(const InputVm&) = delete;
  ~InputVm() { sink.leave(); }

  /// Runs a change; its error.
  int run(guests::RingChange change);
  void start(uint32_t ring, uint16_t base = 0, bool event_idx = false);
  uint16_t stop(uint32_t ring);
  /// Memory and both rings, and as many event buffers as there are.
  void boot(bool event_idx = false);
  /// The driver resets the device and starts again.
  void reboot();
  /// Everything that is ready in the loop.
  void turn();
  Sink::Delivery send(Events events);

  FakeMemory memory;
  base::Epoll epoll;
  base::EventfdSignaller signaller;
  InputDriver events, status;
  std::shared_ptr<VirtioDevice> device;
  VirtioSink sink;
  const Class of;
  int64_t now = 1;

  // What was told.
  std::vector<uint32_t> leds;
  std::vector<int64_t> delivered_ns;
  std::vector<std::string> ends;
  int renewals = 0;

private:
  void leds_set(Sink&, uint32_t bits) noexcept override { leds.push_back(bits); }
  void delivered(Sink&, std::span<const int64_t> kernel_ns) noexcept override {
    delivered_ns.insert(delivered_ns.end(), kernel_ns.begin(), kernel_ns.end());
  }
  void renewed(Sink&) noexcept override { ++renewals; }
  void ended(Sink&, int error, const char* why) noexcept override {
    ends.push_back(std::to_string(error) + " " + why);
  }
};

} // namespace scanout::test
