// A queue in one piece of memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace scanout::input {

/// First in, first out, at most `Size`; what is in it is one span. Allocates nothing.
template <typename T, size_t Size> class Line {
public:
  [[nodiscard]] size_t size() const noexcept { return count_; }
  [[nodiscard]] bool full() const noexcept { return count_ == Size; }
  [[nodiscard]] std::span<T> all() noexcept { return {&items_[0] + first_, count_}; }
  [[nodiscard]] std::span<const T> all() const noexcept { return {&items_[0] + first_, count_}; }
  T& operator[](size_t index) noexcept { return items_[first_ + index]; }
  const T& operator[](size_t index) const noexcept { return items_[first_ + index]; }
  T& back() noexcept { return items_[first_ + count_ - 1]; }

  /// Not when it is full.
  void append(const T& item) noexcept {
    if (first_ + count_ == Size) {
      std::copy(all().begin(), all().end(), items_.begin());
      first_ = 0;
    }
    items_[first_ + count_++] = item;
  }
  void erase(size_t at, size_t count) noexcept {
    if (at == 0) {
      first_ += count;
    } else {
      const auto rest = all().subspan(at + count);
      std::copy(rest.begin(), rest.end(), all().begin() + static_cast<ptrdiff_t>(at));
    }
    count_ -= count;
    if (count_ == 0) first_ = 0;
  }
  void clear() noexcept { first_ = count_ = 0; }

private:
  std::array<T, Size> items_{};
  size_t first_ = 0, count_ = 0;
};

} // namespace scanout::input
