// The shadow copy on real threads: an engine with a virtual output, whose timer completes the flips.
#include "guests/shadow_thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "base/clock.h"
#include "check.h"
#include "guests/shadow.h"

using namespace scanout;

namespace {

constexpr uint32_t width = 64, height = 48;
constexpr uint32_t output = flip::first_virtual_crtc;

/// Shows its two buffers in turn, a new frame at each presentation.
class Flipper final : public flip::Producer {
public:
  explicit Flipper(flip::Engine& engine) : stream_(7, *this, engine.epoll()) {
    for (uint32_t i = 0; i < 2; ++i)
      buffers[i].assign(size_t{width} * height, 0xff000000 + 0x111111 * (i + 1));
  }

  int on_enter(flip::Engine&) noexcept override { return 0; }
  void on_leave(flip::Engine&) noexcept override { running = false; }
  [[nodiscard]] uint32_t stream_count() const noexcept override { return 1; }
  flip::Stream& stream(uint32_t) noexcept override { return stream_; }

  void submit() noexcept {
    flip::Frame frame;
    frame.sequence = ++sequence_;
    frame.buffer = static_cast<uint32_t>(sequence_ % 2);
    frame.place = {.src_w = width << 16, .src_h = height << 16, .w = width, .h = height};
    frame.kick_ns = frame.ready_ns = base::now_ns();
    uses[frame.buffer] += 1;
    stream_.submit(frame);
  }
  void on_presented(flip::Stream&, const flip::Frame&, const flip::Presented&) noexcept override {
    presented.fetch_add(1);
    if (running) submit();
  }
  void on_retained(flip::Stream&, const flip::Frame& frame) noexcept override { uses[frame.buffer] += 1; }
  void on_released(flip::Stream&, const flip::Frame& frame, bool) noexcept override {
    uses[frame.buffer] -= 1;
  }
  void on_refused(flip::Stream&, const flip::Frame&, int) noexcept override { refused.fetch_add(1); }
  void on_room(flip::Stream&) noexcept override {}

  std::array<std::vector<uint32_t>, 2> buffers;
  std::array<std::atomic<int>, 2> uses{};
  std::atomic<uint32_t> presented{0}, refused{0};
  std::atomic<bool> running{true};

private:
  flip::Stream stream_;
  uint64_t sequence_ = 0;
};

class Rig {
public:
  Rig()
      : drm_(eventfd(0, EFD_CLOEXEC)), engine(drm_.get(), 0),
        thread(std::make_shared<guests::ShadowThread>(engine)) {
    std::array<guests::ShadowSurface, 2> surfaces;
    for (uint32_t i = 0; i < 2; ++i) {
      memory[i].resize(size_t{width} * height);
      surfaces[i] = {1 + i, reinterpret_cast<std::byte*>(memory[i].data()), width * 4, nullptr};
    }
    shadow = std::make_unique<guests::Shadow>(guests::ShadowOptions{1, {0, 0, width, height}, false, false},
                                              surfaces, thread, engine.epoll());
    flipper = std::make_unique<Flipper>(engine);
    auto crtc = std::make_unique<flip::Crtc>(engine.host(), output, 2'000'000, flip::Policy::eager);
    CHECK_EQ(run([&](flip::Engine& e) { return e.add_crtc(crtc); }), 0);
    CHECK_EQ(run([&](flip::Engine& e) { return -shadow->on_enter(e); }), 0);
    for (uint32_t i = 0; i < 2; ++i) {
      auto mapped = std::make_unique<pixels::MappedBuffer>(
          pixels::Picture{.format = pixels::find_format(0x34325258),
                          .width = width,
                          .height = height,
                          .planes = {reinterpret_cast<const std::byte*>(flipper->buffers[i].data())},
                          .strides = {width * 4}});
      CHECK_EQ(run([&](flip::Engine&) { return shadow->set_buffer(7, i, mapped, 0); }), 0);
    }
    CHECK_EQ(run([&](flip::Engine& e) {
               flip::Crtc& crtc_of = *e.crtc(output);
               crtc_of.attach(shadow->stream(0), static_cast<uint32_t>(crtc_of.add_plane(3, {})));
               return shadow->attach(flipper->stream(0), 0);
             }),
             0);
    run([&](flip::Engine&) {
      flipper->submit();
      return 0;
    });
  }

  template <typename Body> int run(Body body) {
    return finish(std::make_unique<flip::SimpleCommand<Body>>(std::move(body)));
  }
  int finish(std::unique_ptr<flip::Command> command) {
    REQUIRE(engine.post(std::move(command)));
    for (;;) {
      if (const auto done = engine.finished()) return done->error;
      pollfd state{.fd = engine.notify_fd(), .events = POLLIN, .revents = 0};
      REQUIRE(poll(&state, 1, 5000) > 0);
      uint64_t count = 0;
      (void)!read(engine.notify_fd(), &count, sizeof count);
    }
  }
  void leave(flip::Producer& producer) {
    auto command = std::make_unique<flip::LeaveCommand>();
    command->producer = &producer;
    CHECK_EQ(finish(std::move(command)), 0);
  }
  void wait_for(uint32_t frames) {
    for (int i = 0; i < 5000 && flipper->presented < frames; ++i)
      usleep(1000);
    CHECK(flipper->presented >= frames);
  }

private:
  base::UniqueFd drm_;

public:
  flip::Engine engine;
  std::shared_ptr<guests::ShadowThread> thread;
  std::array<std::vector<uint32_t>, 2> memory;
  std::unique_ptr<Flipper> flipper;
  std::unique_ptr<guests::Shadow> shadow;
};

} // namespace

TEST(shadow_thread_copies_frame_after_frame) {
  Rig rig;
  rig.wait_for(50);
  rig.leave(*rig.flipper);
  CHECK_EQ(rig.flipper->uses[0] + rig.flipper->uses[1], 0);
  CHECK_EQ(rig.flipper->refused, 0u);
  rig.leave(*rig.shadow);
  CHECK(rig.shadow->stats.copies >= 50);
  CHECK(rig.shadow->stats.draw_ns > 0);
  CHECK_EQ(rig.shadow->stats.failures, 0u);
  rig.shadow.reset();
  rig.thread.reset(); // with the engine still running
}

TEST(shadow_thread_shadow_may_leave_before_its_guests) {
  Rig rig;
  rig.wait_for(10);
  rig.leave(*rig.shadow);
  rig.shadow.reset();
  CHECK_EQ(rig.flipper->uses[0] + rig.flipper->uses[1], 0);
  rig.leave(*rig.flipper);
}

TEST(shadow_thread_may_be_stopped_at_any_time) {
  for (int i = 0; i < 20; ++i) {
    Rig rig;
    usleep(static_cast<useconds_t>(300 * i));
    rig.engine.stop();
    rig.shadow.reset(); // entered, and never left
  }
}

TEST(shadow_thread_frees_buffers_by_command) {
  Rig rig;
  rig.wait_for(5);
  rig.flipper->running = false;
  CHECK_EQ(rig.finish(std::make_unique<guests::RemoveBufferCommand>(*rig.shadow, 7, 9)), ENOENT);
  rig.run([&](flip::Engine&) {
    rig.flipper->stream(0).route(nullptr, 0);
    rig.flipper->stream(0).drop();
    return 0;
  });
  for (uint32_t i = 0; i < 2; ++i)
    CHECK_EQ(rig.finish(std::make_unique<guests::RemoveBufferCommand>(*rig.shadow, 7, i)), 0);
  rig.leave(*rig.flipper);
  rig.leave(*rig.shadow);
}
