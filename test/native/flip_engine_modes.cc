// Mode sets, pauses, captures and the end of an engine, with real threads over a fake card.
#include "flip/engine.h"

#include <sys/eventfd.h>
#include <xf86drmMode.h>

#include <cerrno>

#include "check.h"
#include "flip/picture.h"
#include "flip_rig.h"

using namespace scanout;
using flip::Engine;
using flip::ModesetCommand;
using flip::Notice;
using test::eventually;
using test::Rig;
using test::show;
using test::Teller;

namespace {

std::unique_ptr<ModesetCommand> modeset(uint32_t crtc, uint32_t primary, int64_t period_ns) {
  auto command = std::make_unique<ModesetCommand>();
  command->flags = DRM_MODE_ATOMIC_ALLOW_MODESET;
  command->request.add(crtc, 30, 1);
  command->targets.push_back({crtc, primary, period_ns});
  return command;
}

} // namespace

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

TEST(engine_pauses_at_once_when_it_is_told_and_refuses_mode_sets_but_the_one_that_retakes) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return teller.flips == 1; }));
  CHECK(rig.engine.pause(std::chrono::seconds(10)));
  CHECK(rig.engine.is_paused());
  const int before = rig.card.commits();
  show(rig, teller, 8);
  REQUIRE(eventually([&] { return teller.presented == 8; })); // by a timer
  CHECK_EQ(rig.run(modeset(1, 101, 2'000'000)), EACCES);
  CHECK_EQ(rig.card.commits(), before);
  auto retake = modeset(1, 101, 2'000'000);
  retake->retakes = true;
  CHECK_EQ(rig.run(std::move(retake)), 0);
  CHECK(rig.engine.is_paused());
  CHECK_EQ(rig.card.commits(), before + 1);
  rig.call([](Engine& e) {
    e.resume();
    return 0;
  });
  CHECK(eventually([&] { return rig.card.framebuffer(101) == 8; }));
  CHECK(rig.engine.pause(std::chrono::seconds(10))); // again
  rig.leave(teller);
}

TEST(engine_pause_waits_for_the_blocking_commit_that_is_under_way_and_ends_those_that_wait) {
  Rig rig;
  rig.add_crtc(1);
  rig.add_crtc(2);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 2, 201);
  rig.card.hold(true);
  show(rig, teller, 7); // its flip is in flight: mode sets of CRTC 2 wait
  REQUIRE(eventually([&] { return rig.card.commits() == 1; }));
  std::atomic<bool> in_commit{false}, go_on{false};
  rig.card.set_verdict([&](uint32_t flags, const drm_mode_atomic&) {
    if ((flags & DRM_MODE_ATOMIC_NONBLOCK) != 0) return 0;
    in_commit = true;
    return eventually([&] { return go_on.load(); }) ? 0 : EIO;
  });
  auto first = modeset(1, 101, 2'000'000), second = modeset(2, 201, 2'000'000);
  const flip::Command* waits = second.get();
  REQUIRE(rig.engine.post(std::move(first)));
  REQUIRE(rig.engine.post(std::move(second)));
  REQUIRE(eventually([&] { return in_commit.load(); }));
  CHECK(!rig.engine.pause(std::chrono::milliseconds(1)));
  const auto ended = rig.next();
  REQUIRE(ended != nullptr);
  CHECK(ended.get() == waits);
  CHECK_EQ(ended->error, EACCES);
  go_on = true;
  CHECK(rig.engine.pause(std::chrono::seconds(10)));
  REQUIRE(rig.next() != nullptr); // the one that was under way
  rig.card.set_verdict(nullptr);
  rig.card.hold(false);
  rig.card.land();
  rig.leave(teller);
}

TEST(engine_lends_a_crtc_when_nothing_of_its_own_is_left_to_be_committed) {
  Rig rig;
  rig.add_crtc(1);
  Teller teller(rig.engine);
  rig.attach(teller.stream(0), 1, 101);
  rig.card.hold(true);
  show(rig, teller, 7);
  REQUIRE(eventually([&] { return rig.card.commits() == 1; }));
  // Its plane is to go off, which has to wait for the flip.
  rig.call([&](Engine&) {
    teller.stream(0).route(nullptr, 0);
    return 0;
  });
  REQUIRE(rig.engine.post(std::make_unique<flip::LendCommand>(1)));
  rig.settle();
  CHECK_EQ(rig.card.commits(), 1);
  rig.card.land();
  REQUIRE(eventually([&] { return rig.card.commits() == 2; }));
  CHECK_EQ(rig.card.framebuffer(101), 0u);
  rig.card.land();
  const auto lent = rig.next();
  REQUIRE(lent != nullptr);
  CHECK_EQ(lent->error, 0);
  rig.attach(teller.stream(0), 1, 101);
  show(rig, teller, 8);
  rig.settle();
  CHECK_EQ(rig.card.commits(), 2);
  CHECK_EQ(rig.run(std::make_unique<flip::LendCommand>(9)), ENOENT);
  rig.card.hold(false);
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
