// Pictures of the daemon's own: the idle picture, a held last frame.
#pragma once

#include "flip/engine.h"
#include "flip/producer.h"

namespace scanout::flip {

/// One stream whose frames the JS thread makes. Nothing is released before the end of `on_leave`'s command.
class Picture final : public Producer {
public:
  Picture(uint32_t stream_id, Engine& engine) : stream_(stream_id, *this, engine.epoll()) {}

  int on_enter(Engine&) noexcept override { return 0; }
  void on_leave(Engine&) noexcept override {}
  [[nodiscard]] uint32_t stream_count() const noexcept override { return 1; }
  Stream& stream(uint32_t) noexcept override { return stream_; }
  void on_presented(Stream&, const Frame&, const Presented&) noexcept override {}
  void on_retained(Stream&, const Frame&) noexcept override {}
  void on_released(Stream&, const Frame&, bool) noexcept override {}
  void on_refused(Stream&, const Frame&, int) noexcept override {}
  void on_room(Stream&) noexcept override {}

private:
  Stream stream_;
};

} // namespace scanout::flip
