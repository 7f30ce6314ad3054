// The hot half of whoever shows frames: a guest, the shadow copy, the daemon's own pictures.
#pragma once

#include <cstdint>

#include "flip/stream.h"

namespace scanout::base {
class EventfdSignaller;
}

namespace scanout::flip {

class Engine;

/// Created and destroyed on the JS thread; between `on_enter` and the end of `on_leave` it belongs to the
/// flip thread. A guest kind implements this and nothing else of the engine's.
class Producer : public StreamOwner {
public:
  virtual ~Producer() = default;
  /// Registers descriptors. 0 or -errno.
  virtual int on_enter(Engine& engine) noexcept = 0;
  /// Unregisters descriptors. The streams are dropped and detached by the engine, and the producer is given
  /// back when no plane holds a frame of theirs any more.
  virtual void on_leave(Engine& engine) noexcept = 0;
  /// No plane holds a frame of its streams any more; the last call on the flip thread.
  virtual void on_left(Engine& engine) noexcept { (void)engine; }
  [[nodiscard]] virtual uint32_t stream_count() const noexcept = 0;
  virtual Stream& stream(uint32_t index) noexcept = 0;
};

} // namespace scanout::flip
