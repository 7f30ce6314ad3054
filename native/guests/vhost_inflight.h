// Which chains of a ring the device holds, in memory that outlives the process (vhost-user, "Inflight I/O
// tracking", split virtqueues).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::guests {

constexpr uint32_t max_queue_size = 1024;

/// The record of one ring. Thread of the device. Its memory may be shared with a hostile front end: whatever
/// is read of it is copied, then checked.
class InflightRing {
public:
  struct Head {
    uint64_t counter; // the order in which they were taken
    uint16_t head;
  };
  using Heads = std::array<Head, max_queue_size>;

  /// Bytes of a record for so many descriptors.
  static constexpr size_t bytes(uint32_t entries) { return (16 + size_t{16} * entries + 63) / 64 * 64; }

  InflightRing() = default;
  /// `at`: `bytes(entries)`, 8-aligned, which outlive it.
  InflightRing(uint8_t* at, uint32_t entries) noexcept : at_(at), entries_(entries) {}
  explicit operator bool() const noexcept { return at_ != nullptr; }
  [[nodiscard]] uint32_t entries() const noexcept { return entries_; }

  /// Nothing is held; the used ring's index is `used`.
  void reset(uint16_t used) noexcept;
  void taken(uint16_t head) noexcept;
  /// Before the used ring's index is raised, and after.
  void giving(uint16_t head) noexcept;
  void given(uint16_t head, uint16_t used) noexcept;
  /// What was held when the former process died, oldest first; says how many. `used`: the used ring's index.
  uint32_t recover(uint16_t used, Heads& heads) noexcept;

private:
  struct Region { // followed by as many Entry as the ring has
    uint64_t features;
    uint16_t version, entries, last_head, used;
  };
  struct Entry {
    uint8_t held, padding[5];
    uint16_t next; // in the batch that was given back last
    uint64_t counter;
  };
  static_assert(sizeof(Region) == 16 && sizeof(Entry) == 16);
  static constexpr uint16_t version = 1;
  [[nodiscard]] Region& region() const noexcept { return *reinterpret_cast<Region*>(at_); }
  [[nodiscard]] Entry& entry(uint16_t head) const noexcept {
    return *reinterpret_cast<Entry*>(at_ + sizeof(Region) + sizeof(Entry) * head);
  }

  uint8_t* at_ = nullptr;
  uint32_t entries_ = 0;
  uint64_t counter_ = 0;
};

/// The records of a device's rings in one mapping. Immutable; any thread.
class InflightMemory {
public:
  /// In a file of `size` bytes from `offset` on. Takes the descriptor over. Throws SystemError: no memfd, one
  /// that could shrink, sizes that do not agree.
  static std::shared_ptr<const InflightMemory> map(base::UniqueFd fd, uint64_t size, uint64_t offset,
                                                   uint32_t rings, uint32_t entries);
  /// A new file for such records, zeroed, which nobody can shrink. Throws SystemError.
  static base::UniqueFd make(uint32_t rings, uint32_t entries);
  static constexpr uint64_t bytes(uint32_t rings, uint32_t entries) {
    return uint64_t{rings} * InflightRing::bytes(entries);
  }
  InflightMemory(const InflightMemory&) = delete;
  InflightMemory& operator=(const InflightMemory&) = delete;
  ~InflightMemory();

  [[nodiscard]] InflightRing ring(uint32_t index) const noexcept {
    return {memory_ + index * InflightRing::bytes(entries_), entries_};
  }

private:
  InflightMemory(uint8_t* memory, size_t size, uint32_t entries) noexcept
      : memory_(memory), size_(size), entries_(entries) {}
  uint8_t* memory_;
  size_t size_;
  uint32_t entries_;
};

} // namespace scanout::guests
