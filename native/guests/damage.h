// What of a canvas has to be drawn anew.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "flip/types.h"

namespace scanout::guests {

/// A set of pixels that holds at least what was added: at most 16 rectangles, the nearest merged when there
/// are more. Never allocates.
class DamageSet {
public:
  static constexpr size_t most = 16;

  /// Empty rectangles are left out.
  void add(const flip::Rect& rect) noexcept;
  void add(const DamageSet& other) noexcept;
  void clear() noexcept { count_ = 0; }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  /// They may overlap.
  [[nodiscard]] std::span<const flip::Rect> rects() const noexcept { return {rects_.data(), count_}; }

private:
  std::array<flip::Rect, most> rects_;
  size_t count_ = 0;
};

[[nodiscard]] constexpr bool is_empty(const flip::Rect& rect) noexcept {
  return rect.x1 >= rect.x2 || rect.y1 >= rect.y2;
}

[[nodiscard]] flip::Rect intersect(const flip::Rect& a, const flip::Rect& b) noexcept;

/// The pixels of the display that `place` covers; empty when they are beyond what 32 bits hold.
[[nodiscard]] flip::Rect bounds(const flip::Placement& place) noexcept;

/// True when a buffer's pixels and the display's are not one to one.
[[nodiscard]] bool is_scaled(const flip::Placement& place) noexcept;

/// The pixels of the buffer that a drawing of `rect`, in pixels of the display, can read.
[[nodiscard]] flip::Rect source_of(const flip::Rect& rect, const flip::Placement& place) noexcept;

/// The pixels of the display that can have changed when `rect`, in pixels of the buffer, did: within
/// `bounds(place)`, and with what the filter of a scaled copy mixes in.
[[nodiscard]] flip::Rect damaged(const flip::Rect& rect, const flip::Placement& place) noexcept;

} // namespace scanout::guests
