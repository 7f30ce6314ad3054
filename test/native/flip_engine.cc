// The flip thread: commands, flips, leaving, with real threads over a fake card.
#include "flip/engine.h"

#include <fcntl.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "check.h"
#include "flip/picture.h"
#include "flip_rig.h"

using namespace scanout;
using flip::Engine;
using test::eventually;
using test::Rig;
using test::show;
using test::Teller;

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
