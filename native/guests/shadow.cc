// Layers and what is kept of them. What is drawn, and when, is in shadow_draw.cc.
#include "guests/shadow.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace scanout::guests {

Shadow::Shadow(const ShadowOptions& options, std::array<ShadowSurface, 2> surfaces,
               std::shared_ptr<ShadowHost> host, base::Epoll& epoll)
    : options_(options), canvas_{0, 0, options.area.x2 - options.area.x1, options.area.y2 - options.area.y1},
      surfaces_(std::move(surfaces)), host_(std::move(host)), stream_(options.stream, *this, epoll) {
  job_.shadow = this;
  for (DamageSet& stale : stale_)
    stale.add(canvas_);
}

Shadow::~Shadow() {
  // The engine was stopped with the shadow in it: the drawing thread may still be at its surfaces.
  if (entered_) host_->stop();
  for (Layer& layer : layers_) {
    for (Buffer& buffer : layer.buffers) {
      delete buffer.removal;
      delete buffer.replacement;
    }
  }
}

// ---- layers

Shadow::Layer* Shadow::claim(uint32_t stream_id) noexcept {
  Layer* free = nullptr;
  uint32_t claimed = 0;
  for (Layer& layer : layers_) {
    if (layer.claimed && layer.stream_id == stream_id) return &layer;
    claimed += layer.claimed ? 1 : 0;
    if (!layer.claimed && free == nullptr) free = &layer;
  }
  if (free == nullptr || (options_.follows_layer && claimed > 0)) return nullptr;
  free->claimed = true;
  free->stream_id = stream_id;
  free->whole = true;
  return free;
}

int Shadow::attach(flip::Stream& stream, int32_t z) noexcept {
  if (!entered_ || leaving_) return ESHUTDOWN;
  Layer* layer = claim(stream.id());
  if (layer == nullptr) return ENOSPC;
  if (layer->stream == &stream) {
    if (std::exchange(layer->z, z) == z) return 0;
    add_damage(visible(source(*layer)));
    try_start();
    return 0;
  }
  layer->z = z;
  layer->whole = true;
  layer->stream = &stream;
  const flip::Frame* newest = stream.newest();
  if (newest == nullptr && stream.sink() != nullptr) newest = stream.sink()->shown(stream);
  layer->shape = newest == nullptr ? Shape{} : shape_of(*layer, *newest);
  stream.route(this, static_cast<uint32_t>(layer - layers_.data()));
  return 0;
}

void Shadow::detach(flip::Stream& stream) noexcept {
  Layer& layer = layers_[stream.slot()];
  if (layer.stream != &stream) return;
  add_damage(visible(source(layer)));
  layer.stream = nullptr;
  layer.whole = true;
  // Nothing of the guest's is scanned out: its frames come back at once, unless they are being read.
  if (!drawing_) give_up(layer);
  try_start();
}

const flip::Frame* Shadow::shown(const flip::Stream& stream) const noexcept {
  const Held& held = source(layers_[stream.slot()]);
  return held.stream == &stream && !held.frame.off ? &held.frame : nullptr;
}

uint32_t Shadow::held(const flip::Stream& stream) const noexcept {
  const bool own = &stream == &stream_;
  // Of its own stream a shadow is no sink, but it must not go while it keeps anything of others.
  uint32_t count = own && drawing_ ? 1 : 0;
  for (const Layer& layer : layers_) {
    for (const Held* held : {&layer.next, &layer.current}) {
      if (held->stream != nullptr && (own || held->stream == &stream)) ++count;
    }
  }
  return count;
}

void Shadow::on_pending(flip::Stream&) noexcept {
  try_start();
}

// ---- buffers

int Shadow::set_buffer(uint32_t stream, uint32_t buffer, std::unique_ptr<pixels::MappedBuffer>& mapped,
                       int error) noexcept {
  if (!entered_ || leaving_) return ESHUTDOWN;
  if (buffer >= max_shadow_buffers) return EINVAL;
  Layer* layer = claim(stream);
  if (layer == nullptr) return ENOSPC;
  Buffer& slot = layer->buffers[buffer];
  if (slot.known) return EEXIST;
  slot.known = true;
  slot.error = error;
  slot.mapped = std::move(mapped);
  return 0;
}

void Shadow::remove_buffer(RemoveBufferCommand& command) noexcept {
  const auto layer = std::find_if(layers_.begin(), layers_.end(), [&](const Layer& one) {
    return one.claimed && one.stream_id == command.stream_;
  });
  const bool there = layer != layers_.end() && command.buffer_ < max_shadow_buffers;
  if (!there || !layer->buffers[command.buffer_].known ||
      layer->buffers[command.buffer_].removal != nullptr) {
    command.error = ENOENT;
    host_->finish(command);
    return;
  }
  layer->buffers[command.buffer_].removal = &command;
  settle(*layer);
}

void Shadow::replace_buffer(ReplaceBufferCommand& command) noexcept {
  const auto layer = std::find_if(layers_.begin(), layers_.end(), [&](const Layer& one) {
    return one.claimed && one.stream_id == command.stream_;
  });
  Buffer* buffer = layer != layers_.end() && command.buffer_ < max_shadow_buffers
                       ? &layer->buffers[command.buffer_]
                       : nullptr;
  if (buffer == nullptr || !buffer->known || buffer->removal != nullptr || buffer->replacement != nullptr) {
    command.error = ENOENT;
    host_->finish(command);
  } else if (drawing_) {
    buffer->replacement = &command;
    ++replacements_;
  } else {
    replace(*buffer, command);
  }
}

void Shadow::replace(Buffer& buffer, ReplaceBufferCommand& command) noexcept {
  std::swap(buffer.mapped, command.mapped);
  buffer.error = command.map_error;
  host_->finish(command);
}

// The drawing thread reads nothing now.
void Shadow::finish_replacements() noexcept {
  if (replacements_ == 0) return;
  replacements_ = 0;
  for (Layer& layer : layers_) {
    for (Buffer& buffer : layer.buffers) {
      if (buffer.replacement != nullptr) replace(buffer, *std::exchange(buffer.replacement, nullptr));
    }
  }
}

// Finishes what waited for the layer's frames, and frees the layer when nothing is left of it.
void Shadow::settle(Layer& layer) noexcept {
  const auto keeps = [](const Held& held, uint32_t buffer) {
    return held.stream != nullptr && held.frame.has_buffer && held.frame.buffer == buffer;
  };
  bool empty = layer.stream == nullptr && layer.next.stream == nullptr && layer.current.stream == nullptr;
  for (uint32_t i = 0; i < max_shadow_buffers; ++i) {
    Buffer& buffer = layer.buffers[i];
    if (buffer.removal != nullptr && !keeps(layer.next, i) && !keeps(layer.current, i)) {
      if (buffer.replacement != nullptr) {
        --replacements_;
        replace(buffer, *std::exchange(buffer.replacement, nullptr));
      }
      RemoveBufferCommand& command = *std::exchange(buffer.removal, nullptr);
      command.mapped_ = std::move(buffer.mapped);
      buffer.known = false;
      host_->finish(command);
    }
    empty = empty && !buffer.known;
  }
  if (empty) layer.claimed = false;
}

void Shadow::release(Held& held, bool superseded) noexcept {
  if (held.stream == nullptr) return;
  flip::Stream& stream = *std::exchange(held.stream, nullptr);
  stream.owner().on_released(stream, held.frame, superseded);
}

void Shadow::give_up(Layer& layer) noexcept {
  release(layer.next, false);
  release(layer.current, false);
  settle(layer);
}

// The frame was taken and is not shown now: it waits in its mailbox again, unless a newer one does.
void Shadow::put_back(Layer& layer) noexcept {
  if (layer.next.stream == nullptr) return;
  add_damage(visible(layer.next));
  add_damage(visible(layer.current));
  layer.whole = true;
  if (layer.stream == layer.next.stream) {
    layer.stream->restore(layer.next.frame);
    layer.next.stream = nullptr;
  }
  release(layer.next, false);
}

void Shadow::lose_batch() noexcept {
  batch_ = 0;
  fresh_.add(batch_damage_);
  for (Layer& layer : layers_)
    put_back(layer);
}

// ---- its own stream

int Shadow::on_enter(flip::Engine& engine) noexcept {
  int error = engine.add_sink(*this);
  if (error != 0) return -error;
  error = host_->enter();
  if (error != 0) engine.remove_sink(*this);
  entered_ = error == 0;
  return -error;
}

void Shadow::on_leave(flip::Engine&) noexcept {
  leaving_ = true;
  for (Layer& layer : layers_) {
    if (layer.stream != nullptr) layer.stream->route(nullptr, 0);
  }
}

void Shadow::on_left(flip::Engine& engine) noexcept {
  if (!entered_) return;
  engine.remove_sink(*this);
  host_->leave();
  entered_ = false;
}

void Shadow::on_presented(flip::Stream&, const flip::Frame& frame, const flip::Presented& how) noexcept {
  // A frame that is shown a second time, at another place, is no news to the guests.
  if (batch_ == 0 || frame.sequence != batch_) return;
  flip::Presented told = how;
  told.flags &= ~uint32_t{flip::presented_direct};
  for (Layer& layer : layers_) {
    if (layer.next.stream == nullptr) continue;
    Held former = std::exchange(layer.current, std::exchange(layer.next, {}));
    flip::Stream& stream = *layer.current.stream;
    stream.tell_presented(layer.current.frame, told);
    release(former, false);
    if (layer.current.frame.off) release(layer.current, false);
    settle(layer);
  }
  batch_ = 0;
  try_start();
}

void Shadow::on_retained(flip::Stream&, const flip::Frame& frame) noexcept {
  if (frame.has_buffer) ++uses_[frame.buffer];
}

void Shadow::on_released(flip::Stream&, const flip::Frame& frame, bool) noexcept {
  if (frame.has_buffer) --uses_[frame.buffer];
  const bool last = !frame.has_buffer || uses_[frame.buffer] == 0;
  if (batch_ != 0 && frame.sequence == batch_ && last) lose_batch(); // it was never shown
  try_start();
}

void Shadow::on_refused(flip::Stream&, const flip::Frame&, int error) noexcept {
  for (const Layer& layer : layers_) {
    if (layer.next.stream == nullptr) continue;
    layer.next.stream->owner().on_refused(*layer.next.stream, layer.next.frame, error);
  }
}

} // namespace scanout::guests
