// The hot half of a console of QEMU's D-Bus display: its listener. The messages are the flips.
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "base/spsc_ring.h"
#include "base/unique_fd.h"
#include "flip/engine.h"
#include "flip/producer.h"
#include "guests/qemu_answer.h"
#include "guests/qemu_array.h"
#include "guests/qemu_call.h"
#include "guests/qemu_reader.h"
#include "guests/shadow.h"
#include "guests/socket.h"
#include "kms/implicit_fences.h"

namespace scanout::guests {

class QemuMirror;

constexpr uint32_t qemu_slots = 56;        // buffers of the picture; ids 0 to 55
constexpr uint32_t first_qemu_cursor = 56; // ids of the cursor's buffers are this and those after it
constexpr uint32_t qemu_cursors = 4;       // shown, committed, waiting, being received

/// What the JS thread is told. Descriptors in it are the receiver's.
struct QemuEvent {
  enum class Type : uint32_t {
    wanted, // a buffer: import it, or make memory for it, then `ready` or `failed`
    idle,   // no frame holds the buffer and none will: free it, then `freed`
    ended,  // the connection is over
  } type;
  uint32_t slot;
  QemuLayout layout;
  uint32_t fd_count;
  std::array<int, max_qemu_planes> fds;
  QemuFault fault;
  int32_t error; // errno of QemuFault::socket
};

struct QemuListenerOptions {
  uint32_t first_stream = 0;                       // the picture's; the cursor's follows
  base::UniqueFd socket;                           // ours of the pair whose other end QEMU has; non-blocking
  uint32_t uid = 0;                                // whom the kernel says we are to QEMU
  uint32_t cursor_width = 0, cursor_height = 0;    // of all cursors; pixels
  std::array<ShadowSurface, qemu_cursors> cursors; // with alpha; none: there are no cursors
};

/// Counters that any thread may read.
struct QemuStats {
  std::atomic<uint64_t> calls{0}, untimely{0}, disables{0}, late_replies{0}, imports{0};
};

/// How the picture fits into its area.
enum class QemuScale : uint32_t { fit, none };

/// Serves the calls that QEMU makes of one listener (org.qemu.Display1.Listener). Flips on updates, answers
/// UpdateDMABUF, on which the guest waits, at the flip event or after 45 ms, whichever comes first. Believes
/// Disable when neither a scanout nor an update follows for a second.
///
/// A dma-buf is told by its device and inode numbers: QEMU sends a duplicate of its descriptor with each
/// flip, and only the first is imported, on the JS thread. What QEMU gets wrong ends its connection and
/// leaves its picture where it is. Created and destroyed on the JS thread; allocates nothing on the flip
/// thread.
class QemuListener final : public flip::Producer, private base::Pollable {
public:
  /// Throws SystemError.
  QemuListener(QemuListenerOptions options, flip::Engine& engine);
  ~QemuListener() override;

  // JS thread.
  /// Readable when there is an event; reset it by reading.
  [[nodiscard]] int notify_fd() const noexcept { return notify_.get(); }
  std::optional<QemuEvent> event() noexcept { return events_.pop(); }
  [[nodiscard]] const PlaneStats& plane_stats(uint32_t plane) const noexcept { return plane_stats_[plane]; }
  [[nodiscard]] const QemuStats& stats() const noexcept { return stats_; }

  // Flip thread, by commands. 0, or ENOENT where no such answer is waited for.
  /// The buffer can be shown; `fb_id` 0: only by a copy. `mirror` (moved from) is its memory
  /// where it has no dma-buf.
  int ready(uint32_t slot, uint32_t fb_id, std::shared_ptr<QemuMirror>& mirror,
            kms::ImplicitFences& fences) noexcept;
  /// It cannot: what was shown before stays.
  int failed(uint32_t slot) noexcept;
  /// Gives the memory back, to be freed on another thread.
  int freed(uint32_t slot, std::shared_ptr<QemuMirror>& mirror, kms::ImplicitFences& fences) noexcept;
  /// Where the picture goes, in pixels of the CRTC. `whole`: there is nothing of the CRTC around it.
  void set_area(const flip::Rect& area, bool whole, QemuScale scale) noexcept;

  // Producer
  int on_enter(flip::Engine& engine) noexcept override;
  void on_leave(flip::Engine& engine) noexcept override;
  [[nodiscard]] uint32_t stream_count() const noexcept override { return 2; }
  flip::Stream& stream(uint32_t index) noexcept override { return index == 0 ? picture_ : pointer_; }
  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream&) noexcept override {}
  void on_unrouted(flip::Stream& stream) noexcept override;

private:
  struct Identity {
    uint64_t device = 0, inode = 0; // of its dma-bufs, or of its memfd
    bool operator==(const Identity&) const = default;
  };
  struct Slot {
    enum class State : uint8_t { free, wanted, ready, failed, idle } state = State::free;
    QemuLayout layout;
    Identity identity;
    uint32_t fb_id = 0;
    std::shared_ptr<QemuMirror> mirror;
    kms::ImplicitFences fences; // of the devices that draw into it
    uint32_t uses = 0;          // frames that the engine holds
    uint64_t shown_at = 0;      // when it was last the picture, in scanouts
    bool flip_wanted = false;   // updates came before it was ready
  };
  struct Reply {
    uint32_t call;     // serial
    uint64_t sequence; // of the frame that it waits for; `unsent`: there is none yet
    int64_t due_ns;
  };
  struct Timer final : base::Pollable {
    QemuListener* listener = nullptr;
    void on_ready(uint32_t) noexcept override { listener->on_timer(); }
  };

  // qemu_listener.cc: the connection
  void on_ready(uint32_t events) noexcept override;
  bool read() noexcept;
  bool receive() noexcept;
  bool receive_array(size_t& budget) noexcept;
  void take_early() noexcept;
  bool begin_call() noexcept;
  void end_call() noexcept;
  void send(std::span<const uint8_t> message) noexcept;
  void answer(const QemuCall& call) noexcept;
  void wait() noexcept;
  void resume() noexcept;
  void rest() noexcept;
  void watch() noexcept;
  void end(QemuFault fault, int error) noexcept;
  void tell(const QemuEvent& event) noexcept;

  // qemu_picture.cc: scanouts and updates
  bool begin_scanout(const QemuCall& call) noexcept;
  void begin_update(const QemuCall& call) noexcept;
  bool begin_map(const QemuCall& call) noexcept;
  bool begin_dmabuf(const QemuCall& call) noexcept;
  void end_scanout() noexcept;
  void end_update(const QemuCall& call) noexcept;
  void update(const QemuCall& call) noexcept;
  [[nodiscard]] std::span<const Slot> slots() const noexcept { return {slots_.data(), slot_end_}; }
  int find(const QemuLayout& layout, const Identity& identity) const noexcept;
  int want(const QemuLayout& layout, const Identity& identity) noexcept;
  bool identify(Identity& identity) noexcept;
  void choose(uint32_t slot) noexcept;
  void flip(const flip::Rect* damage) noexcept;
  void disable() noexcept;
  void hide(int64_t now) noexcept;
  void submit(uint32_t slot, const flip::Rect* damage, int64_t kick_ns) noexcept;
  void sweep() noexcept;
  [[nodiscard]] flip::Placement place_of(const QemuLayout& layout) const noexcept;

  // qemu_replies.cc: replies that wait for a flip, and the timer
  void owe(const QemuCall& call) noexcept;
  void pay(uint64_t presented, int64_t now) noexcept;
  void arm(int64_t due_ns) noexcept;
  void on_timer() noexcept;

  // qemu_pointer.cc: the cursor
  void begin_cursor(const QemuCall& call) noexcept;
  void end_cursor(const QemuCall& call) noexcept;
  void move_pointer(const QemuCall& call) noexcept;
  void point() noexcept;
  bool place_pointer(flip::Placement& place) const noexcept;

  flip::Engine& engine_;
  base::UniqueFd socket_, notify_, timer_fd_;
  Timer timer_;
  flip::Stream picture_, pointer_;
  uint32_t uid_;
  QemuReader reader_;
  QemuArray array_;
  QemuAnswer answer_;
  bool polled_ = false; // the socket is watched
  bool ended_ = false;
  bool map_refused_ = false;
  bool flipped_ = false; // a call that QEMU's guest waits for has submitted its frame
  bool waiting_ = false; // the call cannot go on before the JS thread has answered
  int64_t now_ns_ = 0;   // when the socket woke us
  bool resting_ = false; // more calls came than are read, until `rested_at_ns_`
  int64_t rested_at_ns_ = 0;
  int64_t paid_until_ns_ = 0; // in the future: too many were read

  std::array<Slot, qemu_slots> slots_;
  uint32_t slot_end_ = 0; // every slot from here on is free
  int current_ = -1;      // slot of the newest scanout
  int receiving_ = -1;    // slot that the array is received into
  uint64_t scanouts_ = 0;
  uint64_t sequence_ = 0;
  bool fresh_ = false; // no update has come since the newest scanout
  int64_t show_at_ns_ = 0;
  int64_t hide_at_ns_ = 0; // when a Disable that nothing follows is believed; 0: there is none
  bool hidden_ = false;    // it was
  flip::Rect area_;
  bool whole_ = true;
  QemuScale scale_ = QemuScale::fit;

  static constexpr uint32_t most_replies = 64;
  static constexpr uint64_t unsent = UINT64_MAX;
  std::array<Reply, most_replies> replies_;
  uint32_t reply_count_ = 0;
  int64_t armed_ns_ = 0; // 0: not

  uint32_t cursor_width_, cursor_height_;
  std::array<ShadowSurface, qemu_cursors> cursors_;
  std::array<uint32_t, qemu_cursors> cursor_uses_{};
  int cursor_ = -1, next_cursor_ = -1; // defined; being received
  int32_t hot_x_ = 0, hot_y_ = 0, pointer_x_ = 0, pointer_y_ = 0;
  bool pointer_on_ = false;

  std::array<PlaneStats, 2> plane_stats_;
  QemuStats stats_;
  base::SpscRing<QemuEvent, 256> events_;
};

} // namespace scanout::guests
