#include <algorithm>

#include "guests/socket.h"

namespace scanout::guests {

namespace {

// One axis: destination [at, at + length), source [from, from + span) in 16.16.
bool clip_axis(int32_t& at, uint32_t& length, uint32_t& from, uint32_t& span, int32_t low,
               int32_t high) noexcept {
  const int64_t begin = std::max<int64_t>(at, low);
  const int64_t end = std::min<int64_t>(int64_t{at} + length, high);
  if (begin >= end) return false;
  if (begin == at && end == int64_t{at} + length) return true;
  const uint64_t cut = static_cast<uint64_t>(begin - at) * span / length;
  const uint64_t kept = static_cast<uint64_t>(end - begin) * span / length;
  if (kept == 0) return false;
  from += static_cast<uint32_t>(cut);
  span = static_cast<uint32_t>(kept);
  at = static_cast<int32_t>(begin);
  length = static_cast<uint32_t>(end - begin);
  return true;
}

} // namespace

[[gnu::hot]] bool clip(flip::Placement& place, const flip::Rect& area) noexcept {
  return clip_axis(place.x, place.w, place.src_x, place.src_w, area.x1, area.x2) &&
         clip_axis(place.y, place.h, place.src_y, place.src_h, area.y1, area.y2);
}

} // namespace scanout::guests
