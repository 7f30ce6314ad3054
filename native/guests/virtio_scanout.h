// One scanout of a virtio-gpu device: its picture and its cursor, as streams of the flip engine.
#pragma once

#include <memory>

#include "flip/producer.h"
#include "guests/socket.h"
#include "guests/virtio_gpu_types.h"

namespace scanout::guests {

class VirtioGpu;

/// Stream 0 is the picture, stream 1 the cursor. Flip thread but for construction and statistics. It keeps
/// its device, whose buffers its frames show.
class VirtioScanout final : public flip::Producer {
public:
  VirtioScanout(std::shared_ptr<VirtioGpu> device, uint32_t index, uint32_t first_stream,
                flip::Engine& engine);

  // Any thread.
  [[nodiscard]] const PlaneStats& stats(uint32_t plane) const noexcept { return stats_[plane]; }

  /// Moves what is shown along.
  void set_area(const flip::Rect& area) noexcept;
  /// Shows part of a buffer, from the next `flush` on.
  void show(uint32_t buffer, const GpuRect& source) noexcept;
  /// Shows nothing.
  void hide() noexcept;
  /// Submits the picture. `damage` in pixels of the buffer, null: everything. Gives the frame's sequence.
  uint64_t flush(const GpuRect* damage, int64_t now) noexcept;
  /// What `show` said is not submitted yet.
  [[nodiscard]] bool pending() const noexcept { return pending_; }
  [[nodiscard]] uint32_t buffer() const noexcept { return record_.picture.buffer; }

  void set_cursor(uint32_t buffer, uint32_t hot_x, uint32_t hot_y) noexcept;
  void move_cursor(int32_t x, int32_t y) noexcept;
  /// Submits what was said of the cursor since.
  void flush_cursor(int64_t now) noexcept;
  /// Submits what a former process showed.
  void show_again(int64_t now) noexcept;
  /// Whether frames of the buffer may come without the guest's doing.
  void forget(uint32_t buffer) noexcept;

  // Producer
  int on_enter(flip::Engine& engine) noexcept override;
  void on_leave(flip::Engine& engine) noexcept override;
  [[nodiscard]] uint32_t stream_count() const noexcept override { return 2; }
  flip::Stream& stream(uint32_t index) noexcept override { return index == 0 ? primary_ : cursor_; }
  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream&) noexcept override {}
  void on_unrouted(flip::Stream& stream) noexcept override;

private:
  [[nodiscard]] const GpuShown& shown(uint32_t plane) const noexcept {
    return plane == 0 ? record_.picture : record_.pointer;
  }
  [[nodiscard]] int32_t origin_x() const noexcept;
  [[nodiscard]] int32_t origin_y() const noexcept;
  void place_picture(flip::Frame& frame) const noexcept;
  void place_cursor(flip::Frame& frame) const noexcept;
  void submit(uint32_t plane, flip::Frame& frame, int64_t now) noexcept;
  void submit_hidden(uint32_t plane, int64_t now) noexcept;
  void move_along(uint32_t plane) noexcept;
  uint32_t plane_of(const flip::Stream& stream) const noexcept { return &stream == &primary_ ? 0 : 1; }

  std::shared_ptr<VirtioGpu> device_;
  uint32_t index_;
  flip::Engine& engine_;
  flip::Stream primary_, cursor_;
  std::array<PlaneStats, 2> stats_;
  flip::Rect area_;
  GpuScanoutRecord& record_; // in the device's state
  std::array<uint64_t, 2> sequences_{};
  bool pending_ = false, cursor_pending_ = false;
};

} // namespace scanout::guests
