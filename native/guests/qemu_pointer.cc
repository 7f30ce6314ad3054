// The cursor: its pictures are received straight into memory that a cursor plane shows.
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "guests/qemu_listener.h"

namespace scanout::guests {

void QemuListener::begin_cursor(const QemuCall& call) noexcept {
  next_cursor_ = -1;
  for (uint32_t i = 0; i < qemu_cursors; ++i) {
    const bool free = cursor_uses_[i] == 0 && static_cast<int>(i) != cursor_ && cursors_[i].memory != nullptr;
    if (free) next_cursor_ = static_cast<int>(i);
  }
  if (next_cursor_ < 0) return; // there is no memory for cursors: the array goes nowhere
  const ShadowSurface& cursor = cursors_[static_cast<size_t>(next_cursor_)];
  // All cursors are of one size, since many planes take no other; what is around is transparent.
  std::memset(cursor.memory, 0, size_t{cursor.stride} * cursor_height_);
  array_.begin(call.data_bytes, call.layout.strides[0],
               {cursor.memory, cursor.stride, std::min(call.layout.width, cursor_width_) * 4,
                std::min(call.layout.height, cursor_height_)});
}

void QemuListener::end_cursor(const QemuCall& call) noexcept {
  if (next_cursor_ < 0) return;
  cursor_ = std::exchange(next_cursor_, -1);
  hot_x_ = std::clamp(call.hot_x, 0, static_cast<int32_t>(call.layout.width));
  hot_y_ = std::clamp(call.hot_y, 0, static_cast<int32_t>(call.layout.height));
  point();
}

void QemuListener::move_pointer(const QemuCall& call) noexcept {
  constexpr int32_t far = 1 << 20; // pixels; beyond any display, far from overflow
  pointer_x_ = std::clamp(call.x, -far, far);
  pointer_y_ = std::clamp(call.y, -far, far);
  pointer_on_ = call.on;
  point();
}

// Shows the cursor where it is now, or hides it.
void QemuListener::point() noexcept {
  if (cursor_ < 0) return;
  const bool known = plane_stats_[1].newest_buffer.load(std::memory_order_relaxed) >= 0;
  if (!pointer_on_ && !known) return; // it was never seen
  flip::Frame frame;
  frame.sequence = ++sequence_;
  frame.kick_ns = frame.ready_ns = base::now_ns();
  const auto index = static_cast<uint32_t>(cursor_);
  frame.buffer = first_qemu_cursor + index;
  frame.fb_id = cursors_[index].fb_id;
  frame.off = !place_pointer(frame.place) || !pointer_on_ || hidden_;
  ++cursor_uses_[index];
  plane_stats_[1].taken.fetch_add(1, std::memory_order_relaxed);
  plane_stats_[1].newest_buffer.store(static_cast<int32_t>(frame.buffer), std::memory_order_relaxed);
  pointer_.submit(frame);
}

// False when nothing of it is within the area. A position is that of the cursor's upper left corner, in
// pixels of the guest's picture (as QEMU's own displays take it: ui/egl-headless.c).
bool QemuListener::place_pointer(flip::Placement& place) const noexcept {
  place.src_w = cursor_width_ << 16;
  place.src_h = cursor_height_ << 16;
  place.w = cursor_width_;
  place.h = cursor_height_;
  place.hot_x = hot_x_;
  place.hot_y = hot_y_;
  place.x = area_.x1 + pointer_x_;
  place.y = area_.y1 + pointer_y_;
  if (current_ >= 0) {
    // The hot spot moves with the picture's scale, the cursor itself keeps its size.
    const QemuLayout& layout = slots_[static_cast<size_t>(current_)].layout;
    const flip::Placement picture = place_of(layout);
    const auto scaled = [](int32_t at, int32_t hot, uint32_t to, uint32_t from) {
      return from == 0 ? at : static_cast<int32_t>((int64_t{at} + hot) * to / from) - hot;
    };
    place.x = picture.x + scaled(pointer_x_, hot_x_, picture.w, picture.src_w >> 16);
    place.y = picture.y + scaled(pointer_y_, hot_y_, picture.h, picture.src_h >> 16);
  }
  const bool outside = place.x >= area_.x2 || place.y >= area_.y2 ||
                       place.x + static_cast<int32_t>(place.w) <= area_.x1 ||
                       place.y + static_cast<int32_t>(place.h) <= area_.y1;
  // Where the area is all of the display nothing is cut off: many cursor planes show whole buffers only.
  return !outside && (whole_ || clip(place, area_));
}

} // namespace scanout::guests
