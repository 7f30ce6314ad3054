// A split virtqueue, from the device's side (Virtio 1.2, section 2.7).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "guests/guest_memory.h"
#include "guests/vhost_inflight.h"

namespace scanout::guests {

/// One descriptor chain, copied and checked as far as its descriptors go: its addresses may lie anywhere and
/// are translated when they are used. First the parts that the device reads, then those that it writes.
struct DescriptorChain {
  static constexpr size_t max_segments = 1024;
  struct Segment {
    uint64_t address; // guest-physical
    uint32_t length;
  };
  uint16_t head = 0;
  bool again = false;               // a former process had taken it
  uint32_t readable = 0, count = 0; // segments
  std::array<Segment, max_segments> segments;

  /// Copies up to `size` bytes of the readable part from `offset` on; says how many there were before its end
  /// or an address outside of the memory.
  size_t read(const GuestMemory& memory, uint64_t offset, void* target, size_t size) const noexcept;
  /// Bytes of the readable part.
  [[nodiscard]] uint64_t readable_size() const noexcept;
};

/// The writable part of a chain, for an answer that comes later: no more of it than a short answer needs.
struct AnswerPlace {
  static constexpr size_t max_segments = 4;
  uint16_t head = 0;
  uint32_t count = 0;
  std::array<DescriptorChain::Segment, max_segments> segments;
};

/// Where a driver has put a ring; addresses are the VMM's.
struct VirtqueueSetup {
  uint32_t size = 0;
  uint64_t descriptors = 0, available = 0, used = 0;
  uint16_t base = 0; // index of the next entry of the available ring
  bool event_idx = false;
  bool resume = false; // goes on where a former process was, whatever `base` says
};

/// Thread of the device. The driver is hostile: everything in the rings is copied, then checked; a ring that
/// breaks the rules is told so by `pop`, and not to be used again.
class Virtqueue {
public:
  /// 0, EINVAL (size), EFAULT (not in the memory, or not aligned). `memory` and what `record` is in outlive
  /// the use of the queue. Chains that the record says are held come from `pop` first, in their order.
  int set(const GuestMemory& memory, const VirtqueueSetup& setup, InflightRing record = {}) noexcept;
  /// The same rings in another memory. 0 or EFAULT.
  int move(const GuestMemory& memory) noexcept;

  enum class Pop { empty, taken, broken };
  Pop pop(DescriptorChain& chain) noexcept;
  /// Gives a chain back, of which the device has written `written` bytes.
  void push(uint16_t head, uint32_t written) noexcept;
  /// Whether the driver wants to be told of what was pushed since it was asked last.
  bool wants_call() noexcept;
  /// Entries that the driver has made available and `pop` has not given; more than the ring has when it
  /// breaks the rules, as `pop` will say.
  [[nodiscard]] uint16_t waiting() const noexcept;
  /// Asks for a kick at the next entry, or at the one after `ahead` more. True when there is one already: it
  /// brings no kick.
  bool ask_for_kick(uint16_t ahead = 0) noexcept;
  /// Asks for no kicks, as far as that is possible.
  void refuse_kicks() noexcept;
  /// Chains of a former process that `pop` has not given yet.
  [[nodiscard]] bool resubmits() const noexcept { return resubmitted_ < held_count_; }
  /// The driver has taken the ring back: nothing is held any more.
  void forget_held() noexcept { record_.reset(next_used_); }

  /// Where to go on after a stop.
  [[nodiscard]] uint16_t next_available() const noexcept { return next_available_; }
  /// Why `pop` said broken.
  [[nodiscard]] const char* why() const noexcept { return why_; }

private:
  struct Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
  };
  Pop broken(const char* why) noexcept;
  bool take(uint16_t head, bool again, DescriptorChain& chain) noexcept;
  bool walk(const uint8_t* table, uint32_t table_size, uint16_t first, bool indirect,
            DescriptorChain& chain) noexcept;

  VirtqueueSetup setup_;
  InflightRing record_;
  InflightRing::Heads held_; // of a former process
  uint32_t held_count_ = 0, resubmitted_ = 0;
  const GuestMemory* memory_ = nullptr;
  uint8_t* descriptors_ = nullptr;
  uint8_t* available_ = nullptr;
  uint8_t* used_ = nullptr;
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  uint16_t told_used_ = 0; // next_used_ when wants_call was asked last
  const char* why_ = "";
};

/// The answer's place in a chain. False when its first `size` bytes are in too many pieces.
bool answer_place(const DescriptorChain& chain, size_t size, AnswerPlace& place) noexcept;
/// Writes `size` bytes into the writable part; says how many had room.
size_t write_answer(const GuestMemory& memory, const DescriptorChain::Segment* segments, size_t count,
                    const void* source, size_t size) noexcept;

} // namespace scanout::guests
