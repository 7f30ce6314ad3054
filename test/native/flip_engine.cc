// The flip thread: commands, mode sets, leaving, captures, pauses, with real threads over a fake card.
#include "flip/engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "check.h"
#include "flip/picture.h"
#include "flip_rig.h"

using namespace scanout;
using flip::Engine;
using flip::Frame;
using flip::ModesetCommand;
using flip::Notice;
using flip::Stream;
using test::eventually;
using test::Rig;

namespace {

Frame frame(uint32_t fb) {
  Frame made;
  made.fb_id = fb;
  made.sequence = fb;
  made.place = {.src_w = 64 << 16, .src_h = 64 << 16, .w = 64, .h = 64};
  return made;
}

/// A producer of one stream that tells another thread what came of its frames.
class Teller final : public flip::Producer {
public:
  explicit Teller(Engine& engine) : engine_(engine), stream_(1, *this, engine.epoll()) {}

  int on_enter(Engine&) noexcept override { return 0; }
  void on_leave(Engine&) noexcept override {}
  uint32_t stream_count() const noexcept override { return 1; }
  Stream& stream(uint32_t) noexcept override { return stream_; }
  void on_presented(Stream&, const Frame& shown, const flip::Presented&) noexcept override {
    presented = shown.fb_id;
    ++flips;
  }
  void on_retained(Stream&, const Frame&) noexcept override {}
  void on_released(Stream&, const Frame&, bool) noexcept override {
    ++released;
    engine_.signaller().add(signal.get());
  }
  void on_refused(Stream&, const Frame&, int error) noexcept override { refused = error; }
  void on_room(Stream&) noexcept override {}

  base::UniqueFd signal{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::atomic<uint32_t> presented{0}, flips{0}, released{0};
  std::atomic<int> refused{0};

private:
  Engine& engine_;
  Stream stream_;
};

int show(Rig& rig, flip::Producer& producer, uint32_t fb) {
  return rig.call([&producer, fb](Engine&) {
    producer.stream(0).submit(frame(fb));
    return 0;
  });
}

std::unique_ptr<ModesetCommand> modeset(uint32_t crtc, uint32_t primary, int64_t period_ns) {
  auto command = std::make_unique<ModesetCommand>();
  command->flags = DRM_MODE_ATOMIC_ALLOW_MODESET;
  command->request.add(crtc, 30, 1);
  command->targets.push_back({crtc, primary, period_ns});
  return command;
}

} // namespace

TEST(engine_runs_commands_in_order_on_its_own_thread) {
  Rig rig;
  const std::thread::id here = std::this_thread::get_id();
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) {
    const auto body = [&order, i, here](Engine&) {
      order.push_back(i);
      return std::this_thread::get_id() == here ? EDEADLK : i;
    };
    REQUIRE(rig.engine.post(std::make_unique<flip::SimpleCommand<decltype(body)>>(body)));
  }
  for (int i = 0; i < 100; ++i)
    CHECK_EQ(rig.next()->error, i);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST(engine_takes_any_number_of_commands) {
  // One that is turned down takes its producer with it, which the flip thread may be using.
  Rig rig;
  std::atomic<int> ran{0};
  for (int i = 0; i < 5000; ++i) {
    const auto body = [&ran](Engine&) { return ++ran, 0; };
    REQUIRE(rig.engine.post(std::make_unique<flip::SimpleCommand<decltype(body)>>(body)));
  }
  for (int i = 0; i < 5000; ++i)
    REQUIRE(rig.next() != nullptr);
  CHECK_EQ(ran.load(), 5000);
}

TEST(engine_never_waits_in_a_read_of_the_card) {
  Rig rig;
  CHECK((fcntl(rig.card.fd(), F_GETFL) & O_NONBLOCK) != 0);
}

TEST(engine_turns_when_it_is_woken) {
  Rig rig;
  const uint64_t before = rig.engine.heartbeat();
  rig.engine.wake();
  CHECK(eventually([&] { return rig.engine.heartbeat() > before; }));
}

TEST(engine_knows_a_crtc_once) {
  Rig rig;
  CHECK_EQ(rig.add_crtc(1), 0);
  CHECK_EQ(rig.add_crtc(1), EEXIST);
  CHECK(rig.engine.stats(1) != nullptr);
  CHECK(rig.engine.stats(2) == nullptr);
  for (uint32_t id = 2; id <= flip::max_crtcs; ++id)
    CHECK_EQ(rig.add_crtc(id), 0);
  CHECK_EQ(rig.add_crtc(99), ENOSPC);
}

TEST(engine_flips_and_records) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  for (uint32_t fb = 1; fb <= 20; ++fb) {
    show(rig, teller, fb);
    REQUIRE(eventually([&] { return teller.presented == fb; }));
  }
  CHECK_EQ(rig.card.framebuffer(101), 20u);
  for (uint32_t fb = 1; fb <= 20; ++fb) {
    const std::optional<flip::Record> record = rig.engine.record();
    REQUIRE(record.has_value());
    CHECK_EQ(record->sequence, fb);
    CHECK(record->commit_enter_ns <= record->commit_return_ns);
  }
  CHECK(!rig.engine.record().has_value());
  CHECK_EQ(rig.engine.stats(1)->flips.load(), 20u);
  CHECK(eventually([&] { return teller.released == 19; }));
  rig.leave(teller);
  CHECK_EQ(teller.released.load(), 20u);
}

TEST(engine_gives_a_producer_back_when_nothing_of_it_is_shown) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return teller.flips == 1; }));
  rig.card.hold(true);
  auto command = std::make_unique<flip::LeaveCommand>();
  command->producer = &teller;
  REQUIRE(rig.engine.post(std::move(command)));
  REQUIRE(eventually([&] { return rig.card.commits() == 2; }));
  CHECK(rig.engine.finished() == nullptr); // the plane is not off yet
  rig.card.land();
  CHECK(rig.next() != nullptr);
  CHECK_EQ(teller.released.load(), 1u);
  CHECK_EQ(rig.card.framebuffer(101), 0u);
}

TEST(engine_has_signalled_all_before_it_gives_a_producer_back) {
  // What was signalled later would be signalled on a descriptor that is closed, and perhaps another's.
  Rig rig;
  rig.add_crtc(1);
  for (int i = 0; i < 300; ++i) {
    Teller teller(rig.engine);
    rig.attach(teller.stream(0), 1, 101);
    show(rig, teller, 7);
    REQUIRE(eventually([&] { return teller.flips == 1; }));
    rig.leave(teller);
    uint64_t count = 0;
    CHECK_EQ(read(teller.signal.get(), &count, sizeof count), 8);
  }
}

TEST(engine_sets_a_mode_with_the_crtc_at_rest) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  rig.card.hold(true);
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return rig.card.commits() == 1; }));
  REQUIRE(rig.engine.post(modeset(1, 100, 1'000'000)));
  show(rig, teller, 8); // answered: the mode set waits, the thread does not
  CHECK_EQ(rig.card.commits(), 1);
  rig.card.land();
  CHECK_EQ(rig.next()->error, 0);
  CHECK_EQ(rig.card.commits(DRM_MODE_ATOMIC_ALLOW_MODESET), 1);
  rig.card.land();
  REQUIRE(eventually([&] { return rig.card.framebuffer(101) == 8; }));
  rig.card.land();
  CHECK(eventually([&] { return teller.presented == 8; }));
  rig.card.hold(false);
  rig.leave(teller);
}

TEST(engine_passes_on_why_a_mode_was_refused_and_goes_on) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  show(rig, teller, 7);
  rig.card.set_verdict([](uint32_t flags, const drm_mode_atomic&) {
    return (flags & DRM_MODE_ATOMIC_ALLOW_MODESET) != 0 ? ENOSPC : 0;
  });
  CHECK_EQ(rig.run(modeset(1, 100, 1'000'000)), ENOSPC);
  CHECK_EQ(rig.run(modeset(9, 900, 1'000'000)), ENOENT);
  show(rig, teller, 8);
  CHECK(eventually([&] { return teller.presented == 8; }));
  rig.leave(teller);
}

TEST(engine_sets_many_modes_at_once) {
  Rig rig;
  rig.add_crtc(1);
  rig.add_crtc(2);
  for (int i = 0; i < 200; ++i)
    REQUIRE(rig.engine.post(modeset(1 + static_cast<uint32_t>(i % 2), 100, 1'000'000)));
  for (int i = 0; i < 200; ++i) {
    const auto back = rig.next();
    REQUIRE(back != nullptr);
    CHECK_EQ(back->error, 0);
  }
  CHECK_EQ(rig.card.commits(DRM_MODE_ATOMIC_ALLOW_MODESET), 200);
}

TEST(engine_switches_a_crtc_off_and_gives_back_what_it_showed) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return teller.flips == 1; }));
  CHECK_EQ(rig.run(modeset(1, 0, 0)), 0);
  CHECK_EQ(teller.released.load(), 1u);
  const int before = rig.card.commits();
  show(rig, teller, 8);
  CHECK_EQ(rig.leave(teller), 0);
  CHECK_EQ(rig.card.commits(), before);
}

TEST(engine_pauses_without_master_and_goes_on_when_told) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  rig.card.set_verdict([](uint32_t, const drm_mode_atomic&) { return EACCES; });
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return rig.engine.is_paused(); }));
  show(rig, teller, 8);
  CHECK_EQ(rig.card.commits(), 1);
  rig.card.set_verdict(nullptr);
  rig.call([](Engine& e) {
    e.resume();
    return 0;
  });
  CHECK(eventually([&] { return teller.presented == 8; }));
  const std::vector<Notice> notices = rig.notices();
  REQUIRE(notices.size() == 1);
  CHECK(notices[0].type == Notice::Type::paused);
  rig.leave(teller);
}

TEST(engine_blames_the_refused_stream) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  rig.card.set_verdict([](uint32_t, const drm_mode_atomic&) { return ERANGE; });
  show(rig, teller, 7);
  CHECK(eventually([&] { return teller.refused == ERANGE; }));
  rig.leave(teller);
}

TEST(engine_captures_what_is_shown) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return teller.flips == 1; }));
  const auto capture = [] {
    auto command = std::make_unique<flip::CaptureCommand>();
    command->crtc_id = 1;
    command->fb_id = 55;
    command->writeback = test::card_writeback;
    return command;
  };
  base::UniqueFd fence(eventfd(0, EFD_CLOEXEC));
  const base::UniqueFd signal(dup(fence.get()));
  rig.card.give_fence(std::move(fence));
  REQUIRE(rig.engine.post(capture()));
  CHECK_EQ(rig.run(capture()), EBUSY);
  REQUIRE(eventually([&] { return rig.card.commits() == 2; }));
  CHECK(rig.engine.finished() == nullptr); // the picture is not written yet
  const uint64_t one = 1;
  CHECK_EQ(write(signal.get(), &one, sizeof one), 8);
  const std::unique_ptr<flip::Command> back = rig.next();
  REQUIRE(back != nullptr);
  const auto& done = static_cast<const flip::CaptureCommand&>(*back);
  CHECK_EQ(done.error, 0);
  REQUIRE(done.shown_count == 1);
  CHECK_EQ(done.shown[0].fb_id, 7u);
  CHECK_EQ(done.shown[0].plane_id, 101u);
  CHECK_EQ(rig.run(capture()), EIO); // the driver gave no fence
  rig.card.set_verdict([](uint32_t, const drm_mode_atomic&) { return EINVAL; });
  CHECK_EQ(rig.run(capture()), EINVAL);
  rig.card.set_verdict(nullptr);
  rig.leave(teller);
}

TEST(engine_ends_with_commands_under_way) {
  for (int i = 0; i < 20; ++i) {
    Rig rig;
    rig.add_crtc(1);
    rig.card.hold(true);
    auto picture = std::make_unique<flip::Picture>(1, rig.engine);
    rig.attach(picture->stream(0), 1, 101);
    show(rig, *picture, 7);
    auto leave = std::make_unique<flip::LeaveCommand>();
    leave->producer = picture.get();
    leave->owned = std::move(picture);
    REQUIRE(rig.engine.post(std::move(leave)));
    REQUIRE(rig.engine.post(modeset(1, 100, 1'000'000)));
    if (i % 2 == 0) rig.engine.stop();
  }
}
