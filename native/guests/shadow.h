// The shadow copy: shows what the display refuses.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "flip/engine.h"
#include "flip/producer.h"
#include "guests/shadow_job.h"

namespace scanout::guests {

constexpr uint32_t max_shadow_buffers = 64; // of one layer; ids are 0 to 63

/// Memory that is scanned out and drawn into: a dumb buffer.
struct ShadowSurface {
  uint32_t fb_id = 0;
  std::byte* memory = nullptr;
  uint32_t stride = 0;          // bytes
  std::shared_ptr<void> keeper; // owns the three
};

struct ShadowOptions {
  uint32_t stream = 0;        // id of its own stream
  flip::Rect area;            // the pixels of the CRTC that it covers
  bool alpha = false;         // ARGB8888, for overlays and cursors; otherwise XRGB8888
  bool follows_layer = false; // a cursor: its place is that of its lowest layer, `area` is its size only
};

/// Counters that any thread may read.
struct ShadowStats {
  std::atomic<uint64_t> copies{0}, failures{0};
  std::atomic<int64_t> draw_ns{0}; // all drawings together
  std::atomic<uint64_t> pixels{0}; // in the rectangles that were drawn
};

class RemoveBufferCommand;
class ReplaceBufferCommand;

/// Draws streams that are routed to it (layers) into two surfaces of its own, and shows these as the frames
/// of a stream of its own, which is routed to a hardware plane as any other.
///
///   layer's pending --take--> next (being drawn, or drawn) --presented--> current --successor--> released
///
/// One drawing is under way from the taking to the presentation, so a layer's frame is taken at most once a
/// refresh, and newer ones wait in its mailbox. A guest's buffer comes back when its successor is shown, as
/// with the hardware. What was drawn when is kept for each surface, so that only what changed is copied.
///
/// Created and destroyed on the JS thread. Nothing that runs on the flip thread blocks, allocates or locks.
class Shadow final : public flip::Producer, public flip::StreamSink {
public:
  /// `host` outlives the shadow; `epoll` is the engine's.
  Shadow(const ShadowOptions& options, std::array<ShadowSurface, 2> surfaces,
         std::shared_ptr<ShadowHost> host, base::Epoll& epoll);
  ~Shadow() override;

  ShadowStats stats;

  // Flip thread, by commands.
  /// Routes `stream` here, above the layers with smaller `z`; one that is here already moves to that height.
  /// 0, or ENOSPC when there are eight others.
  int attach(flip::Stream& stream, int32_t z) noexcept;
  /// Makes a buffer of a stream readable, before or after its `attach`. Takes `mapped` over when it returns
  /// 0; null with `error`, why it could not be mapped, which frames of that buffer are then refused with.
  /// EINVAL: no such id, EEXIST: it is known, ENOSPC: eight streams are.
  int set_buffer(uint32_t stream, uint32_t buffer, std::unique_ptr<pixels::MappedBuffer>& mapped,
                 int error) noexcept;

  /// The drawing is done.
  void on_drawn() noexcept;

  // StreamSink, of the layers.
  void on_pending(flip::Stream& stream) noexcept override;
  void detach(flip::Stream& stream) noexcept override;
  [[nodiscard]] const flip::Frame* shown(const flip::Stream& stream) const noexcept override;
  [[nodiscard]] uint32_t held(const flip::Stream& stream) const noexcept override;

  // Producer, of its own stream.
  int on_enter(flip::Engine& engine) noexcept override;
  void on_leave(flip::Engine& engine) noexcept override;
  void on_left(flip::Engine& engine) noexcept override;
  [[nodiscard]] uint32_t stream_count() const noexcept override { return 1; }
  flip::Stream& stream(uint32_t) noexcept override { return stream_; }
  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream&) noexcept override {}

private:
  friend class RemoveBufferCommand;
  friend class ReplaceBufferCommand;

  /// A layer's frame that is kept, and whose it is.
  struct Held {
    flip::Stream* stream = nullptr; // null: nothing is held
    flip::Frame frame;
  };
  struct Buffer {
    bool known = false;
    int error = 0; // why it is not mapped
    std::unique_ptr<pixels::MappedBuffer> mapped;
    RemoveBufferCommand* removal = nullptr;
    ReplaceBufferCommand* replacement = nullptr; // waits for the drawing
  };
  /// What of a frame decides whether a plane takes it, but for its position.
  struct Shape {
    uint32_t w = 0, h = 0, src_w = 0, src_h = 0;
    bool reflect_y = false, on_display = false; // the display has a framebuffer of it
    const pixels::Format* format = nullptr;
    uint32_t width = 0, height = 0; // of the buffer
    bool operator==(const Shape&) const = default;
  };
  struct Layer {
    bool claimed = false; // it has buffers, a stream or frames
    uint32_t stream_id = 0;
    flip::Stream* stream = nullptr; // routed here
    int32_t z = 0;
    bool whole = true;     // its next frame counts as new everywhere
    bool room = false;     // fifo: its owner is to be told that the mailbox is empty
    uint32_t failures = 0; // frames that could not be drawn, in a row
    Shape shape;           // of the newest frame that was seen
    Held next, current;
    std::array<Buffer, max_shadow_buffers> buffers;
  };

  Layer* claim(uint32_t stream_id) noexcept;
  void settle(Layer& layer) noexcept;
  void remove_buffer(RemoveBufferCommand& command) noexcept;
  void replace_buffer(ReplaceBufferCommand& command) noexcept;
  void finish_replacements() noexcept;
  void replace(Buffer& buffer, ReplaceBufferCommand& command) noexcept;
  static void release(Held& held, bool superseded) noexcept;
  void give_up(Layer& layer) noexcept;
  void put_back(Layer& layer) noexcept;
  void lose_batch() noexcept;

  // shadow_draw.cc
  void try_start() noexcept;
  void start() noexcept;
  bool take_frames() noexcept;
  void refuse(Layer& layer, const flip::Frame& frame, int error) noexcept;
  void fill_job(uint32_t surface) noexcept;
  void submit(bool off) noexcept;
  void draw_failed() noexcept;
  [[nodiscard]] bool wants_frame() const noexcept;
  [[nodiscard]] int free_surface() const noexcept;
  [[nodiscard]] int check(const Layer& layer, const flip::Frame& frame) const noexcept;
  [[nodiscard]] static Shape shape_of(const Layer& layer, const flip::Frame& frame) noexcept;
  void watch_shape(Layer& layer, const flip::Frame& frame) noexcept;
  void add_damage(const flip::Rect& rect) noexcept;
  void add_frame_damage(const Layer& layer, const flip::Frame& frame) noexcept;
  [[nodiscard]] flip::Placement on_canvas(const flip::Placement& place) const noexcept;
  [[nodiscard]] flip::Rect visible(const Held& held) const noexcept;
  [[nodiscard]] const Layer* lowest() const noexcept;
  [[nodiscard]] static const Held& source(const Layer& layer) noexcept {
    return layer.next.stream != nullptr ? layer.next : layer.current;
  }

  ShadowOptions options_;
  flip::Rect canvas_; // its own pixels, from (0, 0)
  std::array<ShadowSurface, 2> surfaces_;
  std::shared_ptr<ShadowHost> host_;
  flip::Stream stream_;
  std::array<Layer, max_shadow_layers> layers_;

  std::array<uint32_t, 2> uses_{}; // frames with the surface that the engine holds
  std::array<DamageSet, 2> stale_; // where the surface differs from what the layers show
  DamageSet fresh_, batch_damage_; // changed since the last drawing began; in that one
  uint32_t surface_ = 0;           // drawn last
  ShadowJob job_;
  bool drawing_ = false;      // the job is with the drawing thread
  uint32_t replacements_ = 0; // buffers that have one
  uint64_t batch_ = 0;        // sequence of the drawing that was not presented yet; 0: there is none
  uint64_t sequence_ = 0;
  int64_t kick_ns_ = 0, ready_ns_ = 0; // of the newest frame in the drawing
  uint32_t failures_ = 0;              // in a row
  bool starting_ = false, again_ = false;
  bool leaving_ = false;
  std::atomic<bool> entered_{false}; // the engine or the drawing thread may use it
};

/// Ends the use of a buffer; finished when no frame of it is kept and nothing reads it. Unmapped with the
/// command, on the JS thread.
class RemoveBufferCommand final : public flip::Command {
public:
  RemoveBufferCommand(Shadow& shadow, uint32_t stream, uint32_t buffer)
      : shadow_(shadow), stream_(stream), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    shadow_.remove_buffer(*this);
    return Result::later;
  }

private:
  friend class Shadow;
  Shadow& shadow_;
  uint32_t stream_, buffer_;
  std::unique_ptr<pixels::MappedBuffer> mapped_;
};

/// Reads a known buffer by another mapping, or refuses its frames with `map_error`. Finished when the former
/// one is not read any more; it is unmapped with the command, on the JS thread. ENOENT: the buffer is not
/// known, or goes.
class ReplaceBufferCommand final : public flip::Command {
public:
  ReplaceBufferCommand(Shadow& shadow, uint32_t stream, uint32_t buffer)
      : shadow_(shadow), stream_(stream), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    shadow_.replace_buffer(*this);
    return Result::later;
  }
  std::unique_ptr<pixels::MappedBuffer> mapped;
  int map_error = 0;

private:
  friend class Shadow;
  Shadow& shadow_;
  uint32_t stream_, buffer_;
};

} // namespace scanout::guests
