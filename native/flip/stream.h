// A stream of frames for one plane: the mailbox between a guest and the hardware.
#pragma once

#include <cstdint>
#include <optional>

#include "base/epoll.h"
#include "base/unique_fd.h"
#include "flip/types.h"
#include "kms/implicit_fences.h"

namespace scanout::flip {

class Stream;

/// Where a stream's frames go: the planes of a CRTC, or a shadow copy. Flip thread only.
class StreamSink {
public:
  /// `stream.pending()` is new.
  virtual void on_pending(Stream& stream) noexcept = 0;
  /// Ends the routing; what is held is released when its successor is shown.
  virtual void detach(Stream& stream) noexcept = 0;
  /// The frame of `stream` that is on the screen, or null.
  [[nodiscard]] virtual const Frame* shown(const Stream& stream) const noexcept = 0;
  /// How many frames of `stream` are held, routed here or not any more.
  [[nodiscard]] virtual uint32_t held(const Stream& stream) const noexcept = 0;

protected:
  ~StreamSink() = default;
};

/// Whoever makes the frames of a stream: the hot half of a guest, or the daemon's own pictures. Everything
/// here runs on the flip thread and must neither block nor allocate.
class StreamOwner {
public:
  /// The flip event of `frame` came.
  virtual void on_presented(Stream& stream, const Frame& frame, const Presented& how) noexcept = 0;
  /// The engine keeps one more use of `frame` (a second plane shows it for a while).
  virtual void on_retained(Stream& stream, const Frame& frame) noexcept = 0;
  /// One use of `frame` is over: its successor is on the screen, or it was never shown (`superseded`).
  virtual void on_released(Stream& stream, const Frame& frame, bool superseded) noexcept = 0;
  /// The display refused `frame` (errno). It stays pending; the stream is blocked until it is routed anew.
  virtual void on_refused(Stream& stream, const Frame& frame, int error) noexcept = 0;
  /// Fifo: the stream takes a frame again.
  virtual void on_room(Stream& stream) noexcept = 0;
  /// A frame is pending and the stream is routed nowhere. Told once for each time that it loses its route.
  virtual void on_unrouted(Stream& stream) noexcept { (void)stream; }

protected:
  ~StreamOwner() = default;
};

/// The mailbox. Flip thread only, but for construction.
///
///   waiting   newest frame whose acquire fence has not signalled; a newer one replaces it
///   pending   newest frame that can be committed; a newer one replaces it (mailbox, async)
///   queued    committed, its flip event has not come        } these two are of the
///   current   on the screen                                 } sink (see crtc.h)
class Stream final : private base::Pollable {
public:
  /// `owner` outlives the stream. `epoll` is the flip thread's.
  Stream(uint32_t id, StreamOwner& owner, base::Epoll& epoll) noexcept
      : id_(id), owner_(owner), epoll_(epoll) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  [[nodiscard]] uint32_t id() const noexcept { return id_; }
  [[nodiscard]] StreamOwner& owner() const noexcept { return owner_; }
  [[nodiscard]] PresentMode mode() const noexcept { return mode_; }
  void set_mode(PresentMode mode) noexcept;

  /// Takes a frame; `fence` is a sync_file or none. In mailbox and async mode an older frame that was not
  /// committed is released, its damage goes on in the new one; in fifo mode the caller asks `has_room` first.
  void submit(Frame frame, base::UniqueFd fence = {}) noexcept;
  /// Fifo: true when `submit` would replace nothing.
  [[nodiscard]] bool has_room() const noexcept { return !pending_ && !waiting_; }
  /// Releases what was not committed.
  void drop() noexcept;
  /// Releases what was not committed and has this buffer.
  void drop_buffer(uint32_t buffer) noexcept;
  /// Frames with this buffer that were not committed get its new framebuffer, and wait for what is drawn into
  /// its new memory; how many there were.
  uint32_t renew_buffer(uint32_t buffer, uint32_t fb_id, uint32_t generation,
                        const kms::ImplicitFences& fences) noexcept;
  /// Gives the newest frame that was not committed another place. False when there is none.
  bool move_newest(const Placement& place, bool off) noexcept;

  [[nodiscard]] const Frame* pending() const noexcept { return pending_ ? &*pending_ : nullptr; }
  /// Newest frame that the stream was given and that is not shown yet, or null.
  [[nodiscard]] const Frame* newest() const noexcept { return waiting_ ? &*waiting_ : pending(); }

  // For the sink.
  Frame take_pending() noexcept;
  /// Makes `frame` pending again, unless something newer is.
  void restore(const Frame& frame) noexcept;
  /// Tells the owner that `frame` was presented, unless it was told of a newer one: a frame that its stream
  /// left behind on another CRTC may land late.
  void tell_presented(const Frame& frame, const Presented& how) noexcept;
  /// The pending frame could not have been shown before now: it has lost no vblank yet.
  void renew() noexcept;
  void block() noexcept { blocked_ = true; }
  void unblock() noexcept { blocked_ = false; }
  [[nodiscard]] bool blocked() const noexcept { return blocked_; }
  [[nodiscard]] bool async_refused() const noexcept { return async_refused_; }
  void refuse_async() noexcept { async_refused_ = true; }

  /// Moves the stream to `sink`; what it shows now at its former place becomes pending here too, unless newer
  /// is. Where `sink` is nowhere, that is done with `keep`: another stream took its place, and it waits for a
  /// new one.
  void route(StreamSink* sink, uint32_t slot, bool keep = false) noexcept;
  [[nodiscard]] StreamSink* sink() const noexcept { return sink_; }
  /// Index in the sink's list.
  [[nodiscard]] uint32_t slot() const noexcept { return slot_; }

private:
  void on_ready(uint32_t events) noexcept override; // the fence signalled
  void make_pending(Frame& frame) noexcept;
  void watch_fence() noexcept;
  void drop_waiting() noexcept;

  uint32_t id_;
  StreamSink* sink_ = nullptr; // null: nowhere
  uint32_t slot_ = 0;
  StreamOwner& owner_;
  base::Epoll& epoll_;
  PresentMode mode_ = PresentMode::mailbox;
  bool blocked_ = false;
  bool unrouted_told_ = false;
  bool async_refused_ = false;
  uint64_t presented_ = 0;   // newest sequence that the owner was told of
  bool damage_lost_ = false; // a frame was dropped: the next one counts as new everywhere
  std::optional<Frame> pending_;
  std::optional<Frame> waiting_;
  base::UniqueFd fence_;
};

} // namespace scanout::flip
