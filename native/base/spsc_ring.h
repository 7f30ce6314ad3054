// A bounded single-producer, single-consumer ring without locks or allocation after construction.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>

namespace scanout::base {

/// One thread pushes, one thread pops. `Capacity` is a power of two. A full ring refuses; the caller counts
/// the loss.
template <typename T, size_t Capacity> class SpscRing {
  static_assert((Capacity & (Capacity - 1)) == 0, "capacity must be a power of two");
  static_assert(std::is_trivially_copyable_v<T>);

public:
  /// Producer thread. False when full.
  bool push(const T& value) noexcept {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head - tail_cache_ == Capacity) {
      tail_cache_ = tail_.load(std::memory_order_acquire);
      if (head - tail_cache_ == Capacity) return false;
    }
    items_[head & (Capacity - 1)] = value;
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

  /// Consumer thread. Empty when there is nothing.
  std::optional<T> pop() noexcept {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail == head_cache_) {
      head_cache_ = head_.load(std::memory_order_acquire);
      if (tail == head_cache_) return std::nullopt;
    }
    T value = items_[tail & (Capacity - 1)];
    tail_.store(tail + 1, std::memory_order_release);
    return value;
  }

  /// Any thread; exact only for the consumer.
  [[nodiscard]] size_t size() const noexcept {
    return head_.load(std::memory_order_acquire) - tail_.load(std::memory_order_acquire);
  }

private:
  alignas(64) std::atomic<size_t> head_{0};
  size_t tail_cache_ = 0; // the producer's last view of tail_
  alignas(64) std::atomic<size_t> tail_{0};
  size_t head_cache_ = 0; // the consumer's last view of head_
  std::unique_ptr<T[]> items_ = std::make_unique<T[]>(Capacity);
};

} // namespace scanout::base
