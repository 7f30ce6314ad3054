// Counts durations on one thread for another that reads their quantiles.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace scanout::base {

/// Buckets that grow with the value: each is at most 1/32 of its lower bound wide, from 1 ns to 2^41 ns (37
/// minutes), what is longer counts as that. One thread adds; any thread reads, and may see a value counted
/// that was added meanwhile.
class Histogram {
public:
  /// Negative counts as 0.
  void add(int64_t ns) noexcept {
    const uint64_t value = ns < 0 ? 0 : static_cast<uint64_t>(ns);
    bump(counts_[index_of(value)]);
    bump(total_);
    if (value > max_.load(std::memory_order_relaxed)) max_.store(value, std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t count() const noexcept { return total_.load(std::memory_order_relaxed); }
  /// The largest value that was added, exactly.
  [[nodiscard]] uint64_t max() const noexcept { return max_.load(std::memory_order_relaxed); }
  /// An upper bound of the value below which are `part` (0 to 1) of those that were added; 0 when none was.
  [[nodiscard]] uint64_t quantile(double part) const noexcept {
    const uint64_t wanted = static_cast<uint64_t>(part * static_cast<double>(count()));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i].load(std::memory_order_relaxed);
      if (seen > wanted || (seen > 0 && seen == count())) return std::min(upper_bound_of(i), max());
    }
    return max();
  }

private:
  static constexpr unsigned sub_bits = 5;
  static constexpr size_t sub = size_t{1} << sub_bits;
  static constexpr unsigned top_bit = 41;
  static constexpr size_t buckets = (top_bit - sub_bits + 2) * sub;

  static size_t index_of(uint64_t value) noexcept {
    if (value < sub) return value;
    const unsigned bit = static_cast<unsigned>(std::bit_width(value)) - 1;
    if (bit >= top_bit) return buckets - 1;
    const unsigned shift = bit - sub_bits;
    return (shift + 1) * sub + ((value >> shift) & (sub - 1));
  }
  static uint64_t upper_bound_of(size_t index) noexcept {
    if (index < sub) return index;
    const size_t shift = index / sub - 1;
    return ((sub + index % sub + 1) << shift) - 1;
  }
  // A plain increment: there is one writer.
  static void bump(std::atomic<uint64_t>& counter) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  std::array<std::atomic<uint64_t>, buckets> counts_{};
  std::atomic<uint64_t> total_{0}, max_{0};
};

} // namespace scanout::base
