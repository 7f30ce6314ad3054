// A flip engine with its real threads, over a card that is a pipe.
#pragma once

#include <sys/eventfd.h>
#include <xf86drmMode.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/unique_fd.h"
#include "fake_ioctl.h"
#include "flip/engine.h"

namespace scanout::test {

/// Answers commits and writes their flip events. Plane P belongs to CRTC P / 100.
class FakeCard {
public:
  FakeCard();

  /// Where the engine reads events.
  [[nodiscard]] int fd() const { return reader_.get(); }
  /// Keeps the events of commits back until `land`.
  void hold(bool wanted);
  /// Writes the events that were kept back.
  void land();
  /// errno for a commit, 0 to accept it. Runs on the thread that commits.
  void set_verdict(std::function<int(uint32_t flags, const drm_mode_atomic&)> verdict);
  [[nodiscard]] int commits(uint32_t flags_set = 0) const; // accepted or not, with all of these flags
  /// The framebuffer of the newest commit to the plane, 0 when there was none.
  [[nodiscard]] uint64_t framebuffer(uint32_t plane) const;
  /// The errno of any other ioctl than a commit, of any file; EINVAL without it. Runs on the thread that
  /// makes it.
  void set_other(std::function<int(unsigned long request, void* argument)> other);
  /// A descriptor for the next out-fence; taken over.
  void give_fence(base::UniqueFd fence);

private:
  struct Event {
    uint32_t crtc;
    uint64_t user_data;
  };
  int answer(unsigned long request, void* argument);
  void write_event(const Event& event);

  mutable std::mutex mutex_;
  base::UniqueFd reader_, writer_;
  bool hold_ = false;
  uint32_t sequence_ = 0;
  std::vector<Event> held_;
  std::vector<uint32_t> flags_;
  std::map<uint32_t, uint64_t> framebuffers_;
  std::function<int(uint32_t, const drm_mode_atomic&)> verdict_;
  std::function<int(unsigned long, void*)> other_;
  base::UniqueFd fence_;
  FakeIoctl ioctl_; // last: it calls into the others
};

/// Property ids of the card; the same for every plane.
flip::PlaneProperties card_properties();
constexpr flip::WritebackProperties card_writeback{.connector = 900, .fb_id = 20, .out_fence_ptr = 21};

struct Rig {
  FakeCard card;
  flip::Engine engine{card.fd(), 0};

  /// Posts and waits for the answer; gives its errno.
  int run(std::unique_ptr<flip::Command> command);
  template <typename Body> int call(Body body) {
    return run(std::make_unique<flip::SimpleCommand<Body>>(std::move(body)));
  }
  /// Waits until some command is back; null after some seconds.
  std::unique_ptr<flip::Command> next();
  int add_crtc(uint32_t id, int64_t period_ns = 2'000'000, flip::Policy policy = flip::Policy::eager);
  int attach(flip::Stream& stream, uint32_t crtc, uint32_t plane);
  int leave(flip::Producer& producer);
  /// Waits until the thread has done all that it had to do.
  void settle();
  std::vector<flip::Notice> notices();
};

/// A producer of one stream that tells another thread what came of its frames.
class Teller final : public flip::Producer {
public:
  explicit Teller(flip::Engine& engine) : engine_(engine), stream_(1, *this, engine.epoll()) {}

  int on_enter(flip::Engine&) noexcept override { return 0; }
  void on_leave(flip::Engine&) noexcept override {}
  uint32_t stream_count() const noexcept override { return 1; }
  flip::Stream& stream(uint32_t) noexcept override { return stream_; }
  void on_presented(flip::Stream&, const flip::Frame& shown, const flip::Presented&) noexcept override {
    presented = shown.fb_id;
    ++flips;
  }
  void on_retained(flip::Stream&, const flip::Frame&) noexcept override {}
  void on_released(flip::Stream&, const flip::Frame&, bool) noexcept override {
    ++released;
    engine_.signaller().add(signal.get());
  }
  void on_refused(flip::Stream&, const flip::Frame&, int error) noexcept override { refused = error; }
  void on_room(flip::Stream&) noexcept override {}

  base::UniqueFd signal{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::atomic<uint32_t> presented{0}, flips{0}, released{0};
  std::atomic<int> refused{0};

private:
  flip::Engine& engine_;
  flip::Stream stream_;
};

/// Submits a small frame with the framebuffer, which is its sequence too.
int show(Rig& rig, flip::Producer& producer, uint32_t fb);

/// Waits some seconds for what another thread does.
bool eventually(const std::function<bool()>& condition);

} // namespace scanout::test
