#include "guests/virtio_scanout.h"

#include <algorithm>

#include "base/clock.h"
#include "guests/virtio_gpu.h"

namespace scanout::guests {

namespace {

constexpr int32_t farthest = 1 << 20; // pixels; far beyond any display, far from overflow

} // namespace

VirtioScanout::VirtioScanout(std::shared_ptr<VirtioGpu> device, uint32_t index, uint32_t first_stream,
                             flip::Engine& engine)
    : device_(std::move(device)), index_(index), engine_(engine),
      primary_(first_stream, *this, engine.epoll()), cursor_(first_stream + 1, *this, engine.epoll()),
      record_(device_->scanout_record(index)) {}

int VirtioScanout::on_enter(flip::Engine&) noexcept {
  device_->add(index_, *this);
  return 0;
}

void VirtioScanout::on_leave(flip::Engine&) noexcept {
  device_->remove(index_);
}

// A picture that is smaller than its area stands in the middle of it.
int32_t VirtioScanout::origin_x() const noexcept {
  const int32_t room = area_.x2 - area_.x1 - static_cast<int32_t>(record_.picture.source.width);
  return area_.x1 + std::max(room, 0) / 2;
}

int32_t VirtioScanout::origin_y() const noexcept {
  const int32_t room = area_.y2 - area_.y1 - static_cast<int32_t>(record_.picture.source.height);
  return area_.y1 + std::max(room, 0) / 2;
}

void VirtioScanout::place_picture(flip::Frame& frame) const noexcept {
  const GpuRect& source = record_.picture.source;
  frame.place = {.src_x = source.x << 16,
                 .src_y = source.y << 16,
                 .src_w = source.width << 16,
                 .src_h = source.height << 16,
                 .x = origin_x(),
                 .y = origin_y(),
                 .w = source.width,
                 .h = source.height};
  frame.off = !clip(frame.place, area_);
}

void VirtioScanout::place_cursor(flip::Frame& frame) const noexcept {
  const GpuRect& source = record_.pointer.source;
  frame.place = {.src_w = source.width << 16,
                 .src_h = source.height << 16,
                 .x = origin_x() + record_.cursor_x,
                 .y = origin_y() + record_.cursor_y,
                 .w = source.width,
                 .h = source.height,
                 .hot_x = static_cast<int32_t>(record_.hot_x),
                 .hot_y = static_cast<int32_t>(record_.hot_y)};
  frame.off = !clip(frame.place, area_);
}

void VirtioScanout::submit(uint32_t plane, flip::Frame& frame, int64_t now) noexcept {
  frame.sequence = ++sequences_[plane];
  frame.kick_ns = frame.ready_ns = now;
  if (frame.has_buffer) {
    GpuBuffer& buffer = device_->buffer(frame.buffer);
    frame.fb_id = buffer.fb_id;
    ++buffer.uses;
    stats_[plane].newest_buffer.store(static_cast<int32_t>(frame.buffer), std::memory_order_relaxed);
  }
  stats_[plane].taken.fetch_add(1, std::memory_order_relaxed);
  stream(plane).submit(frame);
}

void VirtioScanout::submit_hidden(uint32_t plane, int64_t now) noexcept {
  flip::Frame frame;
  frame.has_buffer = false;
  frame.off = true;
  submit(plane, frame, now);
}

void VirtioScanout::set_area(const flip::Rect& area) noexcept {
  area_ = area;
  move_along(0);
  move_along(1);
}

// The newest frame once more, at its new place.
void VirtioScanout::move_along(uint32_t plane) noexcept {
  if (shown(plane).buffer == no_slot || sequences_[plane] == 0 || (plane == 0 && pending_)) return;
  flip::Frame frame;
  frame.buffer = shown(plane).buffer;
  if (plane == 0)
    place_picture(frame);
  else
    place_cursor(frame);
  if (stream(plane).move_newest(frame.place, frame.off)) return; // it waits for its turn
  submit(plane, frame, base::now_ns());
}

void VirtioScanout::show(uint32_t buffer, const GpuRect& source) noexcept {
  if (record_.picture.buffer == buffer && record_.picture.source.x == source.x &&
      record_.picture.source.y == source.y && record_.picture.source.width == source.width &&
      record_.picture.source.height == source.height)
    return;
  const bool resized =
      record_.picture.source.width != source.width || record_.picture.source.height != source.height;
  record_.picture.buffer = buffer;
  record_.picture.source = source;
  pending_ = true;
  if (resized) move_along(1); // the cursor's place is told from the picture's
}

void VirtioScanout::hide() noexcept {
  pending_ = false;
  if (record_.picture.buffer == no_slot) return;
  record_.picture.buffer = no_slot;
  submit_hidden(0, base::now_ns());
  // Planned anew: on a primary plane the idle picture takes its place.
  engine_.tell({flip::Notice::Type::unrouted, 0, 0, primary_.id(), 0, 1, sequences_[0]});
}

uint64_t VirtioScanout::flush(const GpuRect* damage, int64_t now) noexcept {
  pending_ = false;
  flip::Frame frame;
  frame.buffer = record_.picture.buffer;
  place_picture(frame);
  if (damage != nullptr && damage->width > 0 && damage->height > 0) {
    frame.damage[frame.damage_count++] = {static_cast<int32_t>(damage->x), static_cast<int32_t>(damage->y),
                                          static_cast<int32_t>(damage->x + damage->width),
                                          static_cast<int32_t>(damage->y + damage->height)};
  }
  submit(0, frame, now);
  return sequences_[0];
}

void VirtioScanout::set_cursor(uint32_t buffer, uint32_t hot_x, uint32_t hot_y) noexcept {
  cursor_pending_ = true;
  record_.pointer.buffer = buffer;
  if (buffer != no_slot) {
    const GpuLayout& layout = device_->buffer(buffer).layout;
    record_.pointer.source = {.width = layout.width, .height = layout.height};
  }
  record_.hot_x = std::min(hot_x, max_gpu_side);
  record_.hot_y = std::min(hot_y, max_gpu_side);
}

void VirtioScanout::move_cursor(int32_t x, int32_t y) noexcept {
  cursor_pending_ = true;
  record_.cursor_x = std::clamp(x, -farthest, farthest);
  record_.cursor_y = std::clamp(y, -farthest, farthest);
}

void VirtioScanout::flush_cursor(int64_t now) noexcept {
  if (!cursor_pending_) return;
  cursor_pending_ = false;
  if (record_.pointer.buffer == no_slot) {
    if (sequences_[1] != 0) submit_hidden(1, now);
    return;
  }
  flip::Frame frame;
  frame.buffer = record_.pointer.buffer;
  place_cursor(frame);
  submit(1, frame, now);
}

void VirtioScanout::show_again(int64_t now) noexcept {
  if (shown(0).buffer != no_slot) flush(nullptr, now);
  cursor_pending_ = shown(1).buffer != no_slot;
  flush_cursor(now);
}

void VirtioScanout::forget(uint32_t buffer) noexcept {
  primary_.drop_buffer(buffer);
  cursor_.drop_buffer(buffer);
  if (record_.picture.buffer == buffer) hide();
  if (record_.pointer.buffer == buffer) {
    set_cursor(no_slot, 0, 0);
    flush_cursor(base::now_ns());
  }
}

void VirtioScanout::on_presented(flip::Stream& stream, const flip::Frame& frame,
                                 const flip::Presented& how) noexcept {
  const uint32_t plane = plane_of(stream);
  stats_[plane].flips.fetch_add(1, std::memory_order_relaxed);
  stats_[plane].missed.fetch_add(how.missed, std::memory_order_relaxed);
  constexpr uint32_t uncopied = flip::presented_direct | flip::presented_synthetic;
  const bool own_copy = frame.has_buffer && device_->buffer(frame.buffer).copied;
  if (own_copy || (how.flags & uncopied) == 0) stats_[plane].copied.fetch_add(1, std::memory_order_relaxed);
  if (plane == 0) device_->presented(index_, frame.sequence);
}

void VirtioScanout::on_retained(flip::Stream&, const flip::Frame& frame) noexcept {
  if (frame.has_buffer) ++device_->buffer(frame.buffer).uses;
}

void VirtioScanout::on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept {
  const uint32_t plane = plane_of(stream);
  if (superseded && frame.sequence != sequences_[plane])
    stats_[plane].superseded.fetch_add(1, std::memory_order_relaxed);
  if (frame.has_buffer) device_->unuse(frame.buffer);
}

void VirtioScanout::on_refused(flip::Stream& stream, const flip::Frame&, int) noexcept {
  stats_[plane_of(stream)].refused.fetch_add(1, std::memory_order_relaxed);
}

void VirtioScanout::on_unrouted(flip::Stream& stream) noexcept {
  engine_.tell({flip::Notice::Type::unrouted, 0, 0, stream.id(), 0, 1, stream.pending()->sequence});
}

} // namespace scanout::guests
