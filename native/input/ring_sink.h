// The input ring of a socket guest: evdev frames in memory that the guest reads.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <utility>

#include "base/eventfd_signal.h"
#include "base/unique_fd.h"
#include "input/backlog.h"
#include "input/ring_memory.h"
#include "input/sink.h"

namespace scanout::input {

/// A sink for all classes. The rules of the ring are told by guests/protocol.h: whole frames, published by
/// one store. What finds no room waits in a backlog until the guest has read; a guest that does not read, or
/// writes nonsense into its reply page, hurts itself alone.
class RingSink final : public Sink {
public:
  /// The guest's eventfds: `event` is signalled, never read or written; `room` is watched, never read.
  struct Descriptors {
    base::UniqueFd event, room;
  };
  using Device = std::pair<Class, Description>;

  /// JS thread. `signaller`, flushed by its owner at the end of each round of the input thread at the latest,
  /// outlives the sink's stay. Throws SystemError.
  RingSink(Descriptors descriptors, base::EventfdSignaller& signaller);
  ~RingSink() override = default;

  /// For the guest; owned by the sink.
  [[nodiscard]] int ring_fd() const noexcept { return memory_.ring_fd(); }
  [[nodiscard]] int reply_fd() const noexcept { return memory_.reply_fd(); }
  [[nodiscard]] const RingMemory& memory() const noexcept { return memory_; }

  /// What the guest has from now on; classes that are not named it has no more. Input thread, or before
  /// `enter`.
  void set_devices(std::span<const Device> devices) noexcept;

  // Sink
  int enter(base::Epoll& epoll, SinkOwner& owner) noexcept override;
  void leave() noexcept override;
  Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept override;
  void flush() noexcept override;
  [[nodiscard]] uint64_t merged() const noexcept override { return merged_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t dropped() const noexcept override {
    return dropped_.load(std::memory_order_relaxed);
  }

private:
  /// Hands what the loop tells on to a method of the sink.
  struct Entry final : base::Pollable {
    using Method = void (RingSink::*)() noexcept;
    Entry(RingSink& sink, Method method) noexcept : sink_(sink), method_(method) {}
    void on_ready(uint32_t) noexcept override { (sink_.*method_)(); }
    RingSink& sink_;
    Method method_;
  };

  void on_room() noexcept;  // the guest has signalled
  void on_pause() noexcept; // it may signal again
  void look() noexcept;
  bool take_read() noexcept;
  [[nodiscard]] bool has_room(size_t events) const noexcept;
  void keep(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept;
  void drain() noexcept;
  void write(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept;
  void set_waiting(bool waiting) noexcept;
  void take_leds() noexcept;
  void end(int error, const char* why) noexcept;

  RingMemory memory_;
  Descriptors descriptors_;
  base::UniqueFd timer_;
  base::EventfdSignaller& signaller_;
  Entry room_entry_{*this, &RingSink::on_room}, pause_entry_{*this, &RingSink::on_pause};
  base::Epoll* epoll_ = nullptr;
  SinkOwner* owner_ = nullptr;
  bool ended_ = false;
  bool waiting_ = false;

  // Ours; the ring has copies. Nothing that is shared is read back.
  uint64_t written_ = 0;
  uint64_t read_ = 0; // as the guest said last
  uint32_t epoch_ = 0;
  uint32_t led_mask_ = 0;
  uint32_t leds_ = 0; // as the guest set them last
  int64_t pause_until_ns_ = 0;
  // Of frames that are in the ring, and that the guest was not signalled of.
  size_t gathered_ = 0;
  std::array<int64_t, 64> gathered_ns_;
  Backlog backlog_;
  std::atomic<uint64_t> merged_{0}, dropped_{0};
};

} // namespace scanout::input
