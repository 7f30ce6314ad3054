// What a shadow copy asks of its drawing thread.
#pragma once

#include <array>
#include <cstdint>

#include "flip/commands.h"
#include "flip/types.h"
#include "guests/damage.h"
#include "pixels/compose.h"
#include "pixels/mapped_buffer.h"

namespace scanout::guests {

class Shadow;

constexpr uint32_t max_shadow_layers = 8;

/// One drawing. Belongs to the drawing thread from `draw` until `Shadow::on_drawn`.
struct ShadowJob {
  struct Layer {
    const pixels::MappedBuffer* buffer;
    flip::Placement place; // on the canvas
    uint32_t index;        // of the shadow's layer
  };
  Shadow* shadow = nullptr; // who is told
  pixels::Canvas canvas;
  DamageSet damage;                            // pixels of the canvas
  std::array<Layer, max_shadow_layers> layers; // bottom to top
  uint32_t layer_count = 0;

  // Answer.
  int error = 0;                     // 0 or a positive errno
  uint32_t failed_layer = 0;         // the index of the one that could not be read; max_shadow_layers: none
  int64_t began_ns = 0, done_ns = 0; // CLOCK_MONOTONIC
};

/// What a shadow needs of its surroundings. Flip thread only, but for `stop`.
class ShadowHost {
public:
  /// Has `job` drawn; `Shadow::on_drawn` follows, on the flip thread. False when 64 jobs are under way.
  virtual bool draw(ShadowJob& job) noexcept = 0;
  virtual void tell(const flip::Notice& notice) noexcept = 0;
  /// Gives a command back whose `run` said `later`.
  virtual void finish(flip::Command& command) noexcept = 0;
  /// A shadow comes into use. 0 or a positive errno.
  virtual int enter() noexcept = 0;
  /// It is out of use.
  virtual void leave() noexcept = 0;
  /// JS thread, when the flip thread has stopped: nothing is drawn any more when it returns.
  virtual void stop() noexcept = 0;

protected:
  ~ShadowHost() = default;
};

/// The layer that shows `buffer` at `place` of the canvas.
pixels::Layer to_pixels(const pixels::MappedBuffer& buffer, const flip::Placement& place) noexcept;

/// Draws `job`. Takes as long as the pixels and their writers' fences take. Never throws.
void draw(ShadowJob& job, pixels::Composer& composer) noexcept;

} // namespace scanout::guests
