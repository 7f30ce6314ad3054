// A virtio-input device (Virtio 1.2, section 5.8), of which the front end is a VMM.
#pragma once

#include <array>
#include <memory>

#include "base/epoll.h"
#include "base/eventfd_signal.h"
#include "base/unique_fd.h"
#include "guests/vhost_rings.h"
#include "input/backlog.h"
#include "input/sink.h"

namespace scanout::input {

/// Serves both queues on the input thread. A frame goes to the guest when the guest has buffers for all of
/// it; longer ones than it ever has buffers for go in pieces. Until then frames wait, and are merged and
/// dropped as Backlog says.
///
/// The connection is the JS thread's, which has each change of the rings run here (`run`): whoever does that
/// holds the device meanwhile.
class VirtioDevice final : private guests::RingUser, private base::Pollable {
public:
  static constexpr uint32_t event_ring = 0, status_ring = 1, ring_count = 2;
  /// What a guest sends is looked at, and its LEDs are told, so often at most: it costs others their turn.
  static constexpr int64_t status_every_ns = 10'000'000;

  /// `epoll` and `signaller` are the input thread's, and outlive it. Throws base::SystemError.
  VirtioDevice(Class of, const Description& description, base::Epoll& epoll,
               base::EventfdSignaller& signaller);
  VirtioDevice(const VirtioDevice&) = delete;
  VirtioDevice& operator=(const VirtioDevice&) = delete;
  /// After `leave`, or when the thread has ended. Frees the guest's memory: the JS thread's.
  ~VirtioDevice() = default;

  // Input thread.
  int enter(Sink& sink, SinkOwner& owner) noexcept;
  void leave() noexcept;
  Sink::Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept;
  /// Its error is ESHUTDOWN when the device has left or ended.
  void run(guests::RingChange& change) noexcept;
  /// The front end is gone, or broke the rules. `why` is a literal.
  void end(int error, const char* why) noexcept;

  // Any thread.
  [[nodiscard]] uint64_t merged() const noexcept { return backlog_.merged(); }
  [[nodiscard]] uint64_t dropped() const noexcept { return backlog_.dropped(); }

private:
  static constexpr int status_a_turn = 32;

  // RingUser
  void on_start(uint32_t ring, uint16_t base) noexcept override;
  void on_kick(uint32_t ring) noexcept override;
  void on_stop(uint32_t) noexcept override {} // no chain is held between turns
  void on_broken(uint32_t ring, const char* why) noexcept override;

  void on_ready(uint32_t events) noexcept override; // the timer
  void serve_events() noexcept;
  void take_frame() noexcept;
  [[nodiscard]] bool put(const Event& event) noexcept;
  void serve_status() noexcept;
  void take_status(const Event& event) noexcept;
  void tell_leds() noexcept;
  void stop() noexcept;

  const Class of_;
  const Bits<KEY_CNT> keys_;
  const Bits<LED_CNT> led_bits_;
  const int32_t slots_;
  base::Epoll& epoll_;
  guests::VhostRings rings_;
  guests::RingChange stop_{guests::RingChange::What::stop_all}; // keeps what is to be freed elsewhere
  bool stopped_ = false;
  Sink* sink_ = nullptr;
  SinkOwner* owner_ = nullptr;
  bool present_ = false; // a driver was there once

  Backlog backlog_;
  // The frame that is being given.
  std::array<Event, Backlog::max_events> current_;
  size_t current_count_ = 0, current_at_ = 0;
  int64_t current_ns_ = 0;
  bool at_once_ = false; // and it did not wait
  uint32_t most_ = 0;    // buffers that the guest ever had ready
  guests::DescriptorChain chain_;

  base::UniqueFd timer_;
  bool resting_ = false; // until the timer
  uint32_t leds_ = 0, told_leds_ = 0;
};

} // namespace scanout::input
