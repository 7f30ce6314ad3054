// One CRTC: what is on its planes, what is in flight, and when the next commit is due.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "flip/schedule.h"
#include "flip/stream.h"
#include "flip/types.h"
#include "kms/atomic.h"

namespace scanout::flip {

class Crtc;

/// What a CRTC needs of its engine. Flip thread only.
class CrtcHost {
public:
  [[nodiscard]] virtual int drm_fd() const noexcept = 0;
  /// Scratch request, empty between commits.
  virtual kms::AtomicRequest& request() noexcept = 0;
  virtual uint64_t next_commit_id() noexcept = 0;
  virtual void notify(const Notice& notice) noexcept = 0;
  virtual void record(const Record& record) noexcept = 0;
  /// Reads what the kernel has for us, without blocking.
  virtual void drain_events() noexcept = 0;
  /// Hands `crtc.recovery()` to the thread for blocking commits; `Crtc::on_recovered` follows.
  virtual void recover(Crtc& crtc) noexcept = 0;
  /// True while commits are refused for lack of master.
  [[nodiscard]] virtual bool paused() const noexcept = 0;
  virtual void pause() noexcept = 0;
  virtual void capture_committed(Crtc& crtc, int error) noexcept = 0;
  /// True while another CRTC than `asker` has the plane.
  [[nodiscard]] virtual bool plane_is_elsewhere(uint32_t plane_id, const Crtc& asker) const noexcept = 0;

protected:
  ~CrtcHost() = default;
};

/// Counters that any thread may read.
struct CrtcStats {
  std::atomic<uint64_t> commits{0}, flips{0}, missed{0}, busy{0}, refused{0}, recovered{0}, stale_events{0};
  std::atomic<int32_t> last_error{0};
  std::atomic<int64_t> margin_ns{0};
};

/// A frame that the hardware has, and whose it is.
struct Held {
  Stream* stream = nullptr; // null: nothing is held
  Frame frame;
  int64_t commit_enter_ns = 0, commit_return_ns = 0;
  uint32_t retries = 0;
};

/// A hardware plane in this CRTC's use.
struct Plane {
  uint32_t id = 0;
  PlaneProperties properties{};
  Stream* stream = nullptr; // who may show frames here
  bool active = false;      // the kernel's state has it on this CRTC
  bool off_wanted = false;  // to be switched off at the next commit
  bool placed = false;      // `place` is what the kernel has
  Placement place;
  bool in_commit = false; // part of the commit in flight
  Held queued, current;
};

/// Schedules and commits the planes of one CRTC. Flip thread only, but for construction and `stats`.
///
/// A CRTC with an id from `first_virtual_crtc` on is virtual: no output shows its streams, and a timer at its
/// refresh completes their flips, so that a guest never hangs because a monitor went away. The same timer
/// completes the flips of every other CRTC while its card is paused: the screen is another master's, which
/// is no reason for a guest to wait, and what it draws meanwhile may have no buffer to spare.
class Crtc final : public StreamSink {
public:
  Crtc(CrtcHost& host, uint32_t id, int64_t period_ns, Policy policy) noexcept;
  Crtc(const Crtc&) = delete;
  Crtc& operator=(const Crtc&) = delete;

  [[nodiscard]] uint32_t id() const noexcept { return id_; }
  /// When its last commit was done, CLOCK_MONOTONIC; 0 when there was none.
  [[nodiscard]] int64_t commit_return_ns() const noexcept { return commit_return_ns_; }
  [[nodiscard]] bool is_virtual() const noexcept { return id_ >= first_virtual_crtc; }
  CrtcStats stats;

  // Routing.
  /// Index of the plane, or -1 when there is no more room. The same id gives the same index.
  int add_plane(uint32_t id, const PlaneProperties& properties) noexcept;
  /// Routes `stream` to the plane; the one that was there goes nowhere. The plane of a stream that leaves is
  /// switched off unless another stream takes it first.
  void attach(Stream& stream, uint32_t plane) noexcept;
  [[gnu::hot]] void on_pending(Stream& stream) noexcept override { mark_dirty(stream.slot()); }
  void detach(Stream& stream) noexcept override;
  [[nodiscard]] const Frame* shown(const Stream& stream) const noexcept override;
  [[nodiscard]] uint32_t held(const Stream& stream) const noexcept override;
  /// True while the plane is on this CRTC, or a commit in flight takes it off.
  [[nodiscard]] bool has_plane(uint32_t id) const noexcept;
  /// Calls `visit(const Plane&)` for every plane.
  template <typename Visit> void each_plane(Visit visit) const noexcept {
    for (uint32_t i = 0; i < plane_count_; ++i)
      visit(planes_[i]);
  }

  // Scheduling.
  void set_policy(Policy policy) noexcept { policy_ = policy; }
  /// Does what is due and returns when to be called next (CLOCK_MONOTONIC ns; INT64_MAX: when something
  /// happens).
  int64_t service(int64_t now) noexcept;
  /// A flip event for this CRTC, id 0 where the kernel named none.
  void on_flip(uint64_t commit_id, int64_t time_ns, uint32_t sequence) noexcept;

  // Blocking commits by others (mode set, recovery). Parked: nothing in flight, and nothing is committed.
  /// Asks for it; `parked` becomes true when nothing is in flight any more. Each one ends with its own
  /// `unpark`: several mode sets may be waiting at once.
  void park() noexcept { ++parks_; }
  [[nodiscard]] bool parked() const noexcept { return parks_ != 0 && !in_flight_; }
  void unpark() noexcept { --parks_; }
  /// The mode was set: all planes are off but `primary`, which shows a picture of the daemon's own until its
  /// stream's frame comes. What was on the screen becomes pending again.
  void on_modeset(uint32_t primary_plane, int64_t period_ns) noexcept;
  /// The CRTC was switched off: everything held is released, and nothing is committed until its mode is set.
  void on_off() noexcept;
  kms::AtomicRequest& recovery() noexcept { return recovery_; }
  void on_recovered(int error) noexcept;
  /// Commits again after an error that waited for someone (pause, revoked). After a pause everything is shown
  /// anew, whatever a timer has completed meanwhile.
  void resume() noexcept;

  // Lending: somebody else drives the CRTC, and nothing but captures is committed to it until its mode is
  // set.
  /// True when nothing is in flight and nothing is left to be committed.
  [[nodiscard]] bool settled() const noexcept {
    return !in_flight_ && ((dirty_ & ~waiting_) == 0 || off_ || revoked_);
  }
  void lend() noexcept;

  // Capture: the next commit writes the picture back into `fb_id`.
  /// False when there will be no such commit.
  bool request_capture(const WritebackProperties& writeback, uint32_t fb_id) noexcept;
  /// Signals when the picture is complete; owned by the caller once the commit succeeded.
  [[nodiscard]] int capture_fence() const noexcept { return capture_fence_; }

private:
  void mark_dirty(uint32_t plane) noexcept { dirty_ |= uint64_t{1} << plane; }
  bool add_plane_changes(kms::AtomicRequest& request, Plane& plane) noexcept;
  void add_placement(kms::AtomicRequest& request, const Plane& plane, const Frame& frame) noexcept;
  void add_capture(kms::AtomicRequest& request) noexcept;
  void end_capture(int error) noexcept;
  void look_for_planes() noexcept;
  [[nodiscard]] bool may_commit() const noexcept;
  /// A timer completes what is committed now; the kernel hears nothing of it.
  [[nodiscard]] bool timed() const noexcept { return is_virtual() || paused_; }
  void take_back_flight() noexcept;
  void show_again(Plane& plane) noexcept;
  int64_t due_ns(int64_t now) noexcept;
  [[nodiscard]] bool only_async() const noexcept;
  void commit(int64_t now) noexcept;
  uint64_t collect(kms::AtomicRequest& request, uint64_t mask, bool* async) noexcept;
  void committed(uint64_t mask, int64_t enter_ns, int64_t return_ns, bool async) noexcept;
  void failed(int error, uint64_t mask, bool async, int64_t now) noexcept;
  void isolate(uint64_t mask, int error, bool async, int64_t now) noexcept;
  void find_culprit(uint64_t mask, int error, int64_t now) noexcept;
  int try_planes(uint64_t mask) noexcept;
  void refuse(Plane& plane, uint32_t index, int error) noexcept;
  void refuse_async(uint64_t mask) noexcept;
  void retry_after(int64_t now, int64_t shortest_ns, int64_t longest_ns) noexcept;
  int64_t watch(int64_t now) noexcept;
  void complete(int64_t time_ns, uint64_t sequence, uint32_t flags) noexcept;
  void present(Plane& plane, int64_t time_ns, uint64_t sequence, uint32_t flags) noexcept;
  void tell_presented(Plane& plane, const Held& shown, int64_t time_ns, uint64_t sequence,
                      uint32_t flags) noexcept;
  void detect_no_vblank(int64_t time_ns) noexcept;
  void notice(Notice::Type type, int error, const Plane* plane, const Frame* frame) noexcept;
  static void release(Held& held) noexcept;

  CrtcHost& host_;
  uint32_t id_;
  Policy policy_;
  VblankClock clock_;
  Margin margin_;
  uint32_t plane_count_ = 0;
  uint64_t dirty_ = 0;   // planes with something to commit
  uint64_t waiting_ = 0; // planes of `dirty_` that another CRTC has still

  bool in_flight_ = false;
  bool timed_flight_ = false; // what is in flight the kernel knows nothing of
  bool paused_ = false;       // its host is, as of the newest turn
  bool resting_ = false;      // something was completed by a timer since it was paused
  bool lent_ = false;         // waits for a mode
  uint32_t primary_ = 0;      // plane of the newest mode set
  uint32_t parks_ = 0;
  bool recovering_ = false;
  bool revoked_ = false; // waits for `resume`
  bool off_ = false;     // waits for a mode
  bool async_flight_ = false;
  uint64_t commit_id_ = 0;
  int64_t commit_enter_ns_ = 0;
  int64_t commit_return_ns_ = 0;
  int64_t target_ns_ = 0; // the vblank that the deadline policy aims at, 0: none
  int64_t free_ns_ = 0;   // when the former flip was done
  int64_t virtual_due_ns_ = 0;
  int64_t watched_since_ns_ = 0;

  int64_t retry_at_ns_ = 0;
  int64_t backoff_ns_ = 0;
  uint32_t failures_ = 0; // in a row

  uint32_t early_flips_ = 0; // in a row
  bool no_vblank_ = false;

  WritebackProperties capture_;
  uint32_t capture_fb_ = 0; // 0: none wanted
  int32_t capture_fence_ = -1;

  kms::AtomicRequest recovery_;
  std::array<Plane, max_planes> planes_; // last: what a flip needs of it stays near the rest
};

} // namespace scanout::flip
