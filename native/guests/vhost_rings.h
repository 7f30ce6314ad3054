// The rings of a vhost-user device, on the thread that serves them.
#pragma once

#include <memory>
#include <vector>

#include "base/epoll.h"
#include "base/eventfd_signal.h"
#include "base/unique_fd.h"
#include "guests/guest_memory.h"
#include "guests/virtqueue.h"

namespace scanout::guests {

/// The device behind the rings. Thread of the device; nothing of it may block or allocate where that thread
/// may not.
class RingUser {
public:
  /// The ring starts with the entry `base`: 0 after a reset of the device, else where it was stopped. Not
  /// called where it goes on after a former process.
  virtual void on_start(uint32_t ring, uint16_t base) noexcept = 0;
  /// There may be something in the ring; or there was no room before.
  virtual void on_kick(uint32_t ring) noexcept = 0;
  /// The ring stops after this call: chains that were taken are to be given back now.
  virtual void on_stop(uint32_t ring) noexcept = 0;
  /// The driver broke its rules; the ring is not served until it is started anew. `why` is a literal.
  virtual void on_broken(uint32_t ring, const char* why) noexcept = 0;

protected:
  ~RingUser() = default;
};

/// Kicks, rings and calls of one device. Owns the eventfds that the VMM gave. All on the thread of the
/// device, but for construction and destruction.
///
/// Kicks are edge-triggered and never read, calls go through the signaller: the VMM shares these eventfds,
/// and can make any read or write of ours block.
class VhostRings {
public:
  /// `user`, `epoll` and `signaller` outlive it. `records` are the device's own, for front ends that bring
  /// none: so many as rings.
  VhostRings(std::shared_ptr<const InflightMemory> records, uint32_t count, RingUser& user,
             base::Epoll& epoll, base::EventfdSignaller& signaller);
  VhostRings(const VhostRings&) = delete;
  VhostRings& operator=(const VhostRings&) = delete;
  /// Every ring is stopped, or the thread has ended.
  ~VhostRings() = default;

  [[nodiscard]] const GuestMemory* memory() const noexcept { return memory_.get(); }
  /// Takes a chain. False when there is none, the ring is not served, or it just broke.
  bool pop(uint32_t ring, DescriptorChain& chain) noexcept;
  void push(uint32_t ring, uint16_t head, uint32_t written) noexcept;
  /// Chains that `pop` would give at once, if the driver keeps to the rules; 0 when the ring is not served.
  [[nodiscard]] uint16_t waiting(uint32_t ring) const noexcept {
    return rings_[ring]->serves() ? rings_[ring]->queue.waiting() : uint16_t{0};
  }
  /// After `pop` was false: waits for kicks again. True when there is something already. With `ahead`: a kick
  /// is wanted, and true said, only when more than so many chains wait.
  bool rest(uint32_t ring, uint16_t ahead = 0) noexcept;
  /// Asks for no kicks until `rest`, as far as that is possible.
  void refuse(uint32_t ring) noexcept {
    if (rings_[ring]->serves()) rings_[ring]->queue.refuse_kicks();
  }
  /// Calls the driver if it wants to know of what was pushed.
  void call(uint32_t ring) noexcept;
  /// Chains of a former process that `pop` has not given yet.
  [[nodiscard]] bool resubmits(uint32_t ring) const noexcept { return rings_[ring]->queue.resubmits(); }
  /// Index of the next entry that the ring would give.
  [[nodiscard]] uint16_t next_available(uint32_t ring) const noexcept {
    return rings_[ring]->queue.next_available();
  }
  /// Started, enabled and not broken.
  [[nodiscard]] bool serves(uint32_t ring) const noexcept { return rings_[ring]->serves(); }

private:
  friend class RingChange;

  struct Ring final : base::Pollable {
    [[nodiscard]] bool serves() const noexcept { return started && enabled && !broken; }
    void on_ready(uint32_t events) noexcept override;
    VhostRings* rings = nullptr;
    uint32_t index = 0;
    Virtqueue queue;
    base::UniqueFd kick, call, error;
    bool started = false, enabled = false, broken = false;
  };

  void break_ring(Ring& ring, const char* why) noexcept;
  void stop(Ring& ring) noexcept;
  void leave(Ring& ring) noexcept;

  RingUser& user_;
  base::Epoll& epoll_;
  base::EventfdSignaller& signaller_;
  std::shared_ptr<const GuestMemory> memory_;
  std::shared_ptr<const InflightMemory> own_records_,
      records_; // records_: the front end's, if it brought any
  std::vector<std::unique_ptr<Ring>> rings_;
};

/// One change to the rings. Made by the thread that speaks with the VMM, run by the thread of the device,
/// destroyed by the first again: what it replaced (mappings, descriptors) is freed there.
class RingChange {
public:
  enum class What {
    memory,   // `memory` instead of the former; rings that are not in it break
    start,    // with `setup` and the kick eventfd `fd`; enabled if `on`
    stop,     // gives `base`
    enable,   // or disable, by `on`
    call,     // the call eventfd `fd`, or none
    error_fd, // the error eventfd `fd`, or none
    inflight, // `records` of the front end's instead of the device's own
    stop_all, // every ring, disabled as well; the memory is let go
    suspend,  // every ring is left as it is for a process to come; the memory is let go
  };
  explicit RingChange(What what, uint32_t ring = 0) noexcept : what(what), ring(ring) {}
  /// Thread of the device.
  void run(VhostRings& rings) noexcept;

  What what;
  uint32_t ring;
  std::shared_ptr<const GuestMemory> memory;
  std::shared_ptr<const InflightMemory> records;
  VirtqueueSetup setup;
  base::UniqueFd fd; // given; afterwards what was there before
  bool on = false;
  uint16_t base = 0;
  int error = 0; // 0 or a positive errno

private:
  void start(VhostRings& rings) noexcept;
  void swap_memory(VhostRings& rings) noexcept;
};

} // namespace scanout::guests
