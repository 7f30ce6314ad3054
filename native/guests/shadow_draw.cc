// When a shadow draws, and what.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "guests/shadow.h"

namespace scanout::guests {

namespace {

// A drawing that fails for no frame's fault is tried again this often, then when something new comes.
constexpr uint32_t most_tries = 3;

} // namespace

flip::Placement Shadow::on_canvas(const flip::Placement& place) const noexcept {
  flip::Placement moved = place;
  moved.x = options_.follows_layer ? 0 : place.x - options_.area.x1;
  moved.y = options_.follows_layer ? 0 : place.y - options_.area.y1;
  moved.hot_x = moved.hot_y = 0;
  return moved;
}

flip::Rect Shadow::visible(const Held& held) const noexcept {
  if (held.stream == nullptr || held.frame.off || !held.frame.has_buffer) return {};
  return intersect(bounds(on_canvas(held.frame.place)), canvas_);
}

const Shadow::Layer* Shadow::lowest() const noexcept {
  const Layer* found = nullptr;
  for (const Layer& layer : layers_) {
    if (layer.stream == nullptr || is_empty(visible(source(layer)))) continue;
    if (found == nullptr || layer.z < found->z) found = &layer;
  }
  return found;
}

void Shadow::add_damage(const flip::Rect& rect) noexcept {
  const flip::Rect inside = intersect(rect, canvas_);
  fresh_.add(inside);
  for (DamageSet& stale : stale_)
    stale.add(inside);
}

int Shadow::free_surface() const noexcept {
  // In turns, so that what is shown is drawn over as late as possible.
  const uint32_t other = surface_ ^ 1;
  if (uses_[other] == 0) return static_cast<int>(other);
  return uses_[surface_] == 0 ? static_cast<int>(surface_) : -1;
}

// The plane shows nothing of it, though there is something to show: it was switched off and comes back.
bool Shadow::wants_frame() const noexcept {
  return uses_[0] == 0 && uses_[1] == 0 && lowest() != nullptr;
}

void Shadow::try_start() noexcept {
  // Owners may submit from within what they are told here: that is seen to when the state is whole again.
  again_ = true;
  if (starting_) return;
  starting_ = true;
  for (uint32_t tries = 0; again_ && tries < most_tries; ++tries) {
    again_ = false;
    start();
    for (Layer& layer : layers_) {
      if (std::exchange(layer.room, false) && layer.stream != nullptr)
        layer.stream->owner().on_room(*layer.stream);
    }
  }
  starting_ = false;
}

void Shadow::start() noexcept {
  if (!entered_ || leaving_ || drawing_ || batch_ != 0 || stream_.newest() != nullptr) return;
  const int surface = free_surface();
  if (surface < 0) return;
  kick_ns_ = ready_ns_ = 0;
  if (!take_frames() && fresh_.empty() && !wants_frame()) return;
  if (ready_ns_ == 0) kick_ns_ = ready_ns_ = base::now_ns();
  batch_damage_ = fresh_;
  fresh_.clear();
  if (options_.alpha && lowest() == nullptr) {
    submit(true); // a plane without a picture is better off
    return;
  }
  surface_ = static_cast<uint32_t>(surface);
  fill_job(surface_);
  drawing_ = host_->draw(job_);
  if (drawing_) return;
  job_.error = EAGAIN;
  job_.failed_layer = max_shadow_layers;
  draw_failed();
}

bool Shadow::take_frames() noexcept {
  bool taken = false;
  for (Layer& layer : layers_) {
    if (layer.stream == nullptr || layer.stream->blocked() || layer.stream->pending() == nullptr) continue;
    const int error = check(layer, *layer.stream->pending());
    const flip::Frame frame = layer.stream->take_pending();
    layer.room = layer.stream->mode() == flip::PresentMode::fifo;
    if (error != 0) {
      refuse(layer, frame, error);
      continue;
    }
    add_frame_damage(layer, frame);
    watch_shape(layer, frame);
    layer.next = {layer.stream, frame};
    layer.whole = false;
    layer.failures = 0;
    if (frame.ready_ns > ready_ns_) {
      kick_ns_ = frame.kick_ns;
      ready_ns_ = frame.ready_ns;
    }
    taken = true;
  }
  return taken;
}

// 0, or why the frame cannot be drawn.
int Shadow::check(const Layer& layer, const flip::Frame& frame) const noexcept {
  if (frame.off || !frame.has_buffer) return 0;
  if (frame.buffer >= max_shadow_buffers || !layer.buffers[frame.buffer].known) return ENOENT;
  const Buffer& buffer = layer.buffers[frame.buffer];
  if (buffer.mapped == nullptr) return buffer.error != 0 ? buffer.error : ENOENT;
  return pixels::is_drawable(to_pixels(*buffer.mapped, on_canvas(frame.place))) ? 0 : EINVAL;
}

Shadow::Shape Shadow::shape_of(const Layer& layer, const flip::Frame& frame) noexcept {
  const flip::Placement& place = frame.place;
  Shape shape{place.w, place.h, place.src_w, place.src_h, place.reflect_y, frame.fb_id != 0};
  const bool known = frame.has_buffer && frame.buffer < max_shadow_buffers;
  const pixels::MappedBuffer* mapped = known ? layer.buffers[frame.buffer].mapped.get() : nullptr;
  if (mapped == nullptr) return shape;
  const pixels::Picture& picture = mapped->picture();
  shape.format = picture.format;
  shape.width = picture.width;
  shape.height = picture.height;
  return shape;
}

// A plane may take what none took before. A position alone is not told of: windows move with every frame.
void Shadow::watch_shape(Layer& layer, const flip::Frame& frame) noexcept {
  if (frame.off || !frame.has_buffer) return;
  const Shape shape = shape_of(layer, frame);
  const Shape former = std::exchange(layer.shape, shape);
  if (former == shape || former == Shape{}) return;
  host_->tell({flip::Notice::Type::reshaped, 0, 0, layer.stream->id(), 0, 1, frame.sequence});
}

void Shadow::refuse(Layer& layer, const flip::Frame& frame, int error) noexcept {
  flip::Stream& stream = *layer.stream;
  layer.whole = true;
  ++layer.failures;
  stats.failures.fetch_add(1, std::memory_order_relaxed);
  if (std::has_single_bit(layer.failures)) {
    host_->tell(
        {flip::Notice::Type::shadow_failed, 0, 0, stream.id(), error, layer.failures, frame.sequence});
  }
  stream.owner().on_refused(stream, frame, error);
  stream.owner().on_released(stream, frame, true);
}

void Shadow::add_frame_damage(const Layer& layer, const flip::Frame& frame) noexcept {
  const Held& old = layer.current;
  const flip::Placement place = on_canvas(frame.place);
  const auto picture = [&](const flip::Frame& of) -> const pixels::Picture& {
    return layer.buffers[of.buffer].mapped->picture();
  };
  const auto alike = [](const pixels::Picture& a, const pixels::Picture& b) {
    return a.format == b.format && a.width == b.width && a.height == b.height && a.colors == b.colors;
  };
  const flip::Rect former = visible(old);
  const flip::Rect fresh = visible({layer.stream, frame});
  const bool stays = !layer.whole && !is_empty(former) && !is_empty(fresh) && frame.damage_count > 0 &&
                     on_canvas(old.frame.place) == place && alike(picture(old.frame), picture(frame));
  if (!stays) {
    add_damage(former);
    add_damage(fresh);
    return;
  }
  for (uint32_t i = 0; i < frame.damage_count; ++i)
    add_damage(damaged(frame.damage[i], place));
}

void Shadow::fill_job(uint32_t surface) noexcept {
  const ShadowSurface& target = surfaces_[surface];
  job_.canvas = {target.memory, target.stride, static_cast<uint32_t>(canvas_.x2),
                 static_cast<uint32_t>(canvas_.y2), options_.alpha};
  job_.damage = stale_[surface];
  stale_[surface].clear();
  job_.layer_count = 0;
  const auto changed = [&](const flip::Rect& rect) {
    const auto rects = job_.damage.rects();
    return std::any_of(rects.begin(), rects.end(),
                       [&](const flip::Rect& one) { return !is_empty(intersect(one, rect)); });
  };
  for (uint32_t i = 0; i < max_shadow_layers; ++i) {
    const Layer& layer = layers_[i];
    const Held& held = source(layer);
    if (layer.stream == nullptr || !changed(visible(held))) continue;
    job_.layers[job_.layer_count++] = {layer.buffers[held.frame.buffer].mapped.get(),
                                       on_canvas(held.frame.place), i};
  }
  std::sort(job_.layers.begin(), job_.layers.begin() + job_.layer_count,
            [&](const ShadowJob::Layer& a, const ShadowJob::Layer& b) {
              return layers_[a.index].z != layers_[b.index].z ? layers_[a.index].z < layers_[b.index].z
                                                              : a.index < b.index;
            });
}

void Shadow::on_drawn() noexcept {
  drawing_ = false;
  finish_replacements();
  stats.draw_ns.fetch_add(job_.done_ns - job_.began_ns, std::memory_order_relaxed);
  for (Layer& layer : layers_) {
    if (layer.claimed && layer.stream == nullptr) give_up(layer);
  }
  if (leaving_) return;
  if (job_.error != 0) {
    draw_failed();
    return;
  }
  failures_ = 0;
  stats.copies.fetch_add(1, std::memory_order_relaxed);
  uint64_t pixels = 0;
  for (const flip::Rect& rect : job_.damage.rects())
    pixels += static_cast<uint64_t>(rect.x2 - rect.x1) * static_cast<uint64_t>(rect.y2 - rect.y1);
  stats.pixels.fetch_add(pixels, std::memory_order_relaxed);
  submit(false);
}

void Shadow::draw_failed() noexcept {
  stale_[surface_].add(canvas_); // drawn in part, or not at all
  fresh_.add(batch_damage_);
  ++failures_;
  stats.failures.fetch_add(1, std::memory_order_relaxed);
  Layer* failed = job_.failed_layer < max_shadow_layers ? &layers_[job_.failed_layer] : nullptr;
  const uint32_t culprit = failed != nullptr ? failed->stream_id : stream_.id();
  const Held* held = failed != nullptr ? &source(*failed) : nullptr;
  const uint64_t sequence = held != nullptr && held->stream != nullptr ? held->frame.sequence : 0;
  const bool new_frame = failed != nullptr && failed->stream != nullptr && failed->next.stream != nullptr;
  if (new_frame) {
    const flip::Frame frame = failed->next.frame;
    add_damage(visible(failed->next));
    add_damage(visible(failed->current));
    failed->next.stream = nullptr;
    refuse(*failed, frame, job_.error);
    settle(*failed);
  } else if (std::has_single_bit(failures_)) {
    host_->tell({flip::Notice::Type::shadow_failed, 0, 0, culprit, job_.error, failures_, sequence});
  }
  for (Layer& layer : layers_)
    put_back(layer);
  // Without the frame that failed the others can be shown.
  if (new_frame || failures_ < most_tries) try_start();
}

void Shadow::submit(bool off) noexcept {
  flip::Frame frame;
  frame.sequence = ++sequence_;
  frame.direct = false;
  frame.kick_ns = kick_ns_;
  frame.ready_ns = ready_ns_;
  frame.off = off;
  frame.has_buffer = !off;
  batch_ = sequence_;
  if (!off) {
    const uint32_t width = static_cast<uint32_t>(canvas_.x2);
    const uint32_t height = static_cast<uint32_t>(canvas_.y2);
    frame.fb_id = surfaces_[surface_].fb_id;
    frame.buffer = surface_;
    frame.place = {.src_w = width << 16,
                   .src_h = height << 16,
                   .x = options_.area.x1,
                   .y = options_.area.y1,
                   .w = width,
                   .h = height};
    const Layer* leader = options_.follows_layer ? lowest() : nullptr;
    if (leader != nullptr) {
      const flip::Placement& place = source(*leader).frame.place;
      frame.place.x = place.x;
      frame.place.y = place.y;
      frame.place.hot_x = place.hot_x;
      frame.place.hot_y = place.hot_y;
    }
    const auto rects = batch_damage_.rects();
    if (rects.size() <= flip::max_damage) {
      std::copy(rects.begin(), rects.end(), frame.damage.begin());
      frame.damage_count = static_cast<uint32_t>(rects.size());
    }
    ++uses_[surface_];
  }
  stream_.submit(frame);
}

} // namespace scanout::guests
