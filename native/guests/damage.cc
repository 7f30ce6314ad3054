#include "guests/damage.h"

#include <algorithm>

namespace scanout::guests {

namespace {

using flip::Rect;

constexpr uint32_t largest = 32767;

bool contains(const Rect& outer, const Rect& inner) noexcept {
  return outer.x1 <= inner.x1 && outer.y1 <= inner.y1 && outer.x2 >= inner.x2 && outer.y2 >= inner.y2;
}

Rect merge(const Rect& a, const Rect& b) noexcept {
  return {std::min(a.x1, b.x1), std::min(a.y1, b.y1), std::max(a.x2, b.x2), std::max(a.y2, b.y2)};
}

uint64_t area(const Rect& rect) noexcept {
  return static_cast<uint64_t>(int64_t{rect.x2} - rect.x1) *
         static_cast<uint64_t>(int64_t{rect.y2} - rect.y1);
}

// One axis: changed pixels [low, high) of the buffer; source from `from`, `span` long, in 16.16; destination
// from `at`, `length` long.
void map_axis(int32_t& low, int32_t& high, uint32_t from, uint32_t span, int32_t at, uint32_t length,
              bool scaled) noexcept {
  // A filter mixes in the neighbour; one pixel of the display more pays for the rounding of the scale.
  const int64_t reach = scaled ? 0x10000 : 0;
  const int64_t spare = scaled ? 1 : 0;
  // Unscaled, a fraction of the source's position is dropped, as when it is drawn.
  const int64_t start = scaled ? int64_t{from} : int64_t{from} & ~int64_t{0xffff};
  const int64_t first = std::clamp<int64_t>(int64_t{low} * 0x10000 - reach - start, 0, span);
  const int64_t last = std::clamp<int64_t>(int64_t{high} * 0x10000 + reach - start, 0, span);
  const int64_t begin = first * length / span - spare;
  const int64_t end = (last * length + span - 1) / span + spare;
  low = static_cast<int32_t>(at + std::clamp<int64_t>(begin, 0, length));
  high = static_cast<int32_t>(at + std::clamp<int64_t>(end, 0, length));
}

// Upside down within the source rectangle; what a fraction of a pixel makes uncertain is in it.
Rect mirrored(const Rect& rect, const flip::Placement& place) noexcept {
  const int64_t sum = (int64_t{place.src_y} * 2 + place.src_h) >> 16;
  const int64_t spare = (place.src_y * uint64_t{2} + place.src_h) % 0x10000 == 0 ? 0 : 1;
  return {rect.x1, static_cast<int32_t>(sum - rect.y2), rect.x2, static_cast<int32_t>(sum - rect.y1 + spare)};
}

} // namespace

void DamageSet::add(const Rect& rect) noexcept {
  if (is_empty(rect)) return;
  Rect grown = rect;
  for (;;) {
    for (size_t i = 0; i < count_;) {
      if (contains(rects_[i], grown)) return;
      if (contains(grown, rects_[i])) {
        rects_[i] = rects_[--count_];
      } else {
        ++i;
      }
    }
    if (count_ < most) break;
    const auto cost = [&](const Rect& with) { return area(merge(grown, with)) - area(with); };
    const auto nearest = std::min_element(rects_.begin(), rects_.end(),
                                          [&](const Rect& a, const Rect& b) { return cost(a) < cost(b); });
    grown = merge(grown, *nearest);
  }
  rects_[count_++] = grown;
}

void DamageSet::add(const DamageSet& other) noexcept {
  for (const Rect& rect : other.rects())
    add(rect);
}

Rect intersect(const Rect& a, const Rect& b) noexcept {
  return {std::max(a.x1, b.x1), std::max(a.y1, b.y1), std::min(a.x2, b.x2), std::min(a.y2, b.y2)};
}

Rect bounds(const flip::Placement& place) noexcept {
  const int64_t right = int64_t{place.x} + place.w;
  const int64_t bottom = int64_t{place.y} + place.h;
  if (right > INT32_MAX || bottom > INT32_MAX) return {};
  return {place.x, place.y, static_cast<int32_t>(right), static_cast<int32_t>(bottom)};
}

bool is_scaled(const flip::Placement& place) noexcept {
  return place.src_w != uint64_t{place.w} << 16 || place.src_h != uint64_t{place.h} << 16;
}

Rect source_of(const Rect& rect, const flip::Placement& place) noexcept {
  const Rect all = bounds(place);
  Rect found = intersect(rect, all);
  if (is_empty(found)) return {};
  const int64_t reach = is_scaled(place) ? 2 : 0; // the filter, and what rounding adds
  const auto back = [reach](int32_t& low, int32_t& high, uint32_t from, uint32_t span, int32_t at,
                            uint32_t length) {
    const int64_t first = (from + (int64_t{low} - at) * span / length) >> 16;
    const int64_t last = (from + (int64_t{high} - at) * span / length + 0xffff) >> 16;
    const int64_t end = (int64_t{from} + span + 0xffff) >> 16;
    low = static_cast<int32_t>(std::clamp<int64_t>(first - reach, from >> 16, end));
    high = static_cast<int32_t>(std::clamp<int64_t>(last + reach, from >> 16, end));
  };
  back(found.x1, found.x2, place.src_x, place.src_w, place.x, place.w);
  back(found.y1, found.y2, place.src_y, place.src_h, place.y, place.h);
  return place.reflect_y ? mirrored(found, place) : found;
}

Rect damaged(const Rect& rect, const flip::Placement& place) noexcept {
  const Rect all = bounds(place);
  if (is_empty(rect) || is_empty(all) || place.src_w == 0 || place.src_h == 0) return {};
  if (place.w > largest || place.h > largest) return all; // beyond what can be drawn, and computed below
  const bool scaled = is_scaled(place);
  Rect mapped = place.reflect_y ? mirrored(rect, place) : rect;
  map_axis(mapped.x1, mapped.x2, place.src_x, place.src_w, place.x, place.w, scaled);
  map_axis(mapped.y1, mapped.y2, place.src_y, place.src_h, place.y, place.h, scaled);
  return mapped;
}

} // namespace scanout::guests
