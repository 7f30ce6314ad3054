// A display in virtual time for the tests of the scheduler: one thread, a clock that jumps from event to
// event.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "fake_clock.h"
#include "fake_ioctl.h"
#include "flip/crtc.h"

namespace scanout::test {

constexpr int64_t ms = 1'000'000;
constexpr int64_t period = 16'666'667;

/// The same property ids for every plane.
constexpr flip::PlaneProperties plane_properties{.fb_id = 1,
                                                 .crtc_id = 2,
                                                 .src_x = 3,
                                                 .src_y = 4,
                                                 .src_w = 5,
                                                 .src_h = 6,
                                                 .crtc_x = 7,
                                                 .crtc_y = 8,
                                                 .crtc_w = 9,
                                                 .crtc_h = 10};

/// One atomic commit as the kernel saw it.
struct Commit {
  struct Value {
    uint32_t object, property;
    uint64_t value;
  };
  uint32_t flags = 0;
  uint64_t user_data = 0;
  int64_t time_ns = 0;
  int error = 0; // what the kernel answered
  std::vector<Value> values;

  [[nodiscard]] bool test_only() const { return (flags & 0x0100) != 0; }
  [[nodiscard]] bool nonblocking() const { return (flags & 0x0200) != 0; }
  [[nodiscard]] std::optional<uint64_t> value(uint32_t object, uint32_t property) const;
  [[nodiscard]] bool names(uint32_t object) const;
};

/// What the hardware scans out on a plane.
struct Scanned {
  uint32_t crtc = 0;
  uint64_t fb = 0; // 0: off
};

/// Display, kernel and engine of the CRTCs under test.
class Sim final : public flip::CrtcHost {
public:
  Sim();

  flip::Crtc& add_crtc(uint32_t id, flip::Policy policy = flip::Policy::eager, int64_t period_ns = period);
  /// Adds the plane to the CRTC and routes the stream to it.
  static void attach(flip::Crtc& crtc, flip::Stream& stream, uint32_t plane);

  /// Turns the engine until nothing is due any more before `time_ns`, and stands there.
  void run_until(int64_t time_ns);
  void run_for(int64_t ns) { run_until(clock.now() + ns); }
  /// Runs to just after the next vblank of all CRTCs (they share one grid), and some vblanks more.
  void run_vblanks(int count = 1);
  /// First vblank after now.
  [[nodiscard]] int64_t next_vblank() const;

  FakeClock clock;
  int64_t grid_ns;              // one of the vblanks
  int64_t period_ns = period;   // of the display
  int64_t commit_ns = 100'000;  // how long a commit takes
  int64_t late_ns = 200'000;    // a commit that returns later than this before a vblank makes the next one
  bool vblanks = true;          // false: flips complete at once
  int64_t recovery_ns = 5 * ms; // how long the blocking commit of the watchdog takes

  /// The errno of a commit, 0 to accept it; asked for each.
  std::function<int(const Commit&)> verdict;
  /// Told of each flip event before it is delivered; false: it is lost.
  std::function<bool(uint32_t crtc, uint64_t user_data)> deliver;
  /// Runs before each turn of the engine.
  std::function<void()> before_turn;

  std::vector<Commit> commits; // accepted or not
  std::vector<flip::Notice> notices;
  std::vector<flip::Record> records;
  std::vector<int> captures;                       // errors of capture_committed
  std::map<uint32_t, Scanned> screen, next_screen; // by plane: shown now; from the next vblank on
  std::vector<std::unique_ptr<flip::Crtc>> crtcs;
  bool paused_flag = false;
  int collisions = 0; // commits to a CRTC whose flip was in flight

  [[nodiscard]] size_t count(flip::Notice::Type type) const;
  /// Accepted commits that were no tests.
  [[nodiscard]] std::vector<Commit> accepted() const;
  /// True while the hardware scans `fb` out or will do so.
  [[nodiscard]] bool in_use(uint64_t fb) const;

  // CrtcHost
  [[nodiscard]] int drm_fd() const noexcept override { return 9; }
  kms::AtomicRequest& request() noexcept override { return request_; }
  uint64_t next_commit_id() noexcept override { return ++commit_id_; }
  void notify(const flip::Notice& notice) noexcept override { notices.push_back(notice); }
  void record(const flip::Record& record) noexcept override { records.push_back(record); }
  void drain_events() noexcept override { deliver_due(); }
  void recover(flip::Crtc& crtc) noexcept override;
  [[nodiscard]] bool paused() const noexcept override { return paused_flag; }
  void pause() noexcept override { paused_flag = true; }
  void capture_committed(flip::Crtc&, int error) noexcept override { captures.push_back(error); }
  [[nodiscard]] bool plane_is_elsewhere(uint32_t plane_id, const flip::Crtc& asker) const noexcept override;

private:
  struct Flip {
    int64_t time_ns;
    uint32_t crtc;
    uint64_t user_data;
    uint64_t sequence;
  };
  struct Recovery {
    int64_t time_ns;
    flip::Crtc* crtc;
  };

  int answer(unsigned long request, void* argument);
  int check(const Commit& commit);
  bool collides(const std::set<uint32_t>& touched);
  void apply(const Commit& commit);
  void latch(uint32_t crtc);
  void deliver_due();
  void finish_recoveries();
  int64_t service();
  [[nodiscard]] int64_t next_event() const;
  [[nodiscard]] std::set<uint32_t> crtcs_of(const Commit& commit) const;

  FakeIoctl ioctl_;
  kms::AtomicRequest request_{128, 1024};
  uint64_t commit_id_ = 0;
  std::deque<Flip> flips_;
  std::vector<Recovery> recoveries_;
};

/// Owner of streams: counts what it lent, and complains when the release discipline is broken.
class Lender final : public flip::StreamOwner {
public:
  explicit Lender(Sim* sim = nullptr) : sim_(sim) {}

  /// A full-size frame with a framebuffer of its own, numbered upwards.
  flip::Frame frame();
  /// Makes a frame and submits it; gives its sequence, which is also its framebuffer.
  uint64_t submit(flip::Stream& stream, base::UniqueFd fence = {});

  std::map<uint64_t, int> uses;                    // by sequence, 0 when it came back
  std::map<uint32_t, std::vector<uint64_t>> shown; // by stream: sequences presented
  std::vector<uint64_t> released, superseded;      // sequences
  std::vector<std::pair<uint64_t, int>> refused;   // sequence, errno
  std::vector<flip::Presented> presented;
  std::function<void(flip::Stream&)> room, flipped;
  int violations = 0; // of the rules of lending

  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream& stream) noexcept override {
    if (room) room(stream);
  }

private:
  void expect(bool holds, const char* rule);
  Sim* sim_;
  uint64_t next_ = 0;
};

/// A display, streams for it, and their owner. Planes are numbered 31, 32, ... in the order of `show`.
struct Display {
  Sim sim;
  Lender lender{&sim};
  base::Epoll epoll;
  std::vector<std::unique_ptr<flip::Stream>> streams;

  /// One more stream, routed nowhere.
  flip::Stream& stream();
  /// One more stream, on a new plane of the CRTC.
  flip::Stream& show(flip::Crtc& crtc);
  /// The id of the plane that `show` gave to the n-th stream, from 0.
  [[nodiscard]] static uint32_t plane(size_t n) { return static_cast<uint32_t>(31 + n); }
  uint64_t submit(flip::Stream& stream) { return lender.submit(stream); }
  uint64_t submit(flip::Stream& stream, flip::Frame frame);
  /// Lets the owner submit a new frame on each of its streams whenever one is presented.
  void keep_flipping();
  /// Sequences presented on a stream so far.
  std::vector<uint64_t>& shown(const flip::Stream& stream) { return lender.shown[stream.id()]; }
};

} // namespace scanout::test
