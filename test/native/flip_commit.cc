// What goes into a commit, and when it is made.
#include <drm_mode.h>
#include <xf86drmMode.h>

#include <algorithm>

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Frame;
using flip::Notice;
using flip::Policy;
using flip::PresentMode;
using flip::Stream;
using test::Commit;
using test::Display;
using test::ms;
using test::period;

namespace {

constexpr uint32_t flip_flags = DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT;
constexpr uint32_t fb_property = test::plane_properties.fb_id;

std::vector<uint64_t> numbers(uint64_t first, uint64_t last) {
  std::vector<uint64_t> list;
  for (uint64_t n = first; n <= last; ++n)
    list.push_back(n);
  return list;
}

} // namespace

TEST(steady_state_sends_the_framebuffer_alone) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(20);
  REQUIRE(d.sim.commits.size() >= 20);
  CHECK_EQ(d.sim.commits[0].values.size(), 10u); // framebuffer, CRTC, source, destination
  for (size_t i = 1; i < d.sim.commits.size(); ++i) {
    const Commit& commit = d.sim.commits[i];
    CHECK_EQ(commit.flags, flip_flags);
    CHECK_EQ(commit.values.size(), 1u);
    CHECK(commit.value(Display::plane(0), fb_property).has_value());
    CHECK(commit.user_data > d.sim.commits[i - 1].user_data);
  }
}

TEST(eager_shows_a_frame_at_every_vblank) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(120);
  CHECK((d.shown(stream) == numbers(1, 120)));
  CHECK_EQ(crtc.stats.missed.load(), 0u);
  CHECK_EQ(crtc.stats.busy.load(), 0u);
  for (size_t i = 1; i < d.sim.records.size(); ++i) {
    CHECK_EQ(d.sim.records[i].vblank, d.sim.records[i - 1].vblank + 1);
    CHECK_EQ(d.sim.records[i].flags,
             flip::presented_vsync | flip::presented_hw_clock | flip::presented_direct);
  }
}

TEST(a_moved_frame_sends_its_place_once) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.submit(stream);
  d.sim.run_vblanks();
  Frame moved = d.lender.frame();
  moved.place.x = -5;
  d.submit(stream, moved);
  d.sim.run_vblanks();
  const Commit& commit = d.sim.commits.back();
  CHECK_EQ(commit.value(Display::plane(0), test::plane_properties.crtc_x).value_or(0),
           static_cast<uint64_t>(-5));
  CHECK(!commit.value(Display::plane(0), test::plane_properties.crtc_id));
  Frame again = d.lender.frame();
  again.place = moved.place;
  d.submit(stream, again);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.back().values.size(), 1u);
}

TEST(eager_shows_the_newest_of_what_came_while_a_flip_was_in_flight) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.submit(stream);
  d.sim.run_for(2 * ms);
  for (int i = 0; i < 5; ++i) {
    d.submit(stream);
    d.sim.run_for(1 * ms);
  }
  CHECK_EQ(d.sim.commits.size(), 1u);
  d.sim.run_vblanks(2);
  CHECK((d.shown(stream) == std::vector<uint64_t>{1, 6}));
  CHECK((d.lender.superseded == numbers(2, 5)));
}

TEST(deadline_puts_all_planes_into_one_commit) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline);
  for (int i = 0; i < 3; ++i)
    d.show(crtc);
  for (const auto& stream : d.streams)
    d.submit(*stream);
  d.sim.run_vblanks(); // the first commit knows no vblank yet
  for (int round = 0; round < 50; ++round) {
    const size_t before = d.sim.commits.size();
    const int64_t vblank = d.sim.next_vblank();
    for (const auto& stream : d.streams) {
      d.sim.run_for(3 * ms);
      d.submit(*stream);
    }
    CHECK_EQ(d.sim.commits.size(), before);
    d.sim.run_until(vblank + 1000);
    REQUIRE(d.sim.commits.size() == before + 1);
    const Commit& commit = d.sim.commits.back();
    CHECK_EQ(commit.values.size(), 3u);
    CHECK(commit.time_ns < vblank);
    CHECK(commit.time_ns > vblank - 3 * ms);
  }
  CHECK_EQ(crtc.stats.missed.load(), 0u);
  CHECK(d.lender.superseded.empty());
}

TEST(deadline_takes_what_is_newest_at_the_deadline) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  const int64_t vblank = d.sim.next_vblank();
  uint64_t newest = 0;
  while (d.sim.clock.now() < vblank - 3 * ms) {
    newest = d.submit(stream);
    d.sim.run_for(1 * ms);
  }
  d.sim.run_until(vblank + 1000);
  CHECK_EQ(d.shown(stream).back(), newest);
  CHECK_EQ(crtc.stats.flips.load(), 2u);
}

TEST(deadline_commits_however_late_its_timer_woke_it) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  d.submit(stream);
  const int64_t due = crtc.service(d.sim.clock.now());
  const int64_t vblank = d.sim.next_vblank();
  CHECK(due < vblank);
  d.sim.clock.set(due + (vblank - due) / 2);
  crtc.service(d.sim.clock.now());
  CHECK_EQ(d.sim.commits.size(), 2u);
  d.sim.run_until(vblank + 1000);
  CHECK_EQ(d.shown(stream).size(), 2u);
}

TEST(deadline_learns_to_be_in_time) {
  Display d;
  d.sim.late_ns = 2 * ms; // a driver that wants its commits early
  d.sim.commit_ns = 1 * ms;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline);
  Stream& stream = d.show(crtc);
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(30);
  const size_t before = d.shown(stream).size();
  d.sim.run_vblanks(200);
  CHECK(d.shown(stream).size() - before >= 195);
}

TEST(deadline_does_not_trust_a_clock_that_saw_no_vblank_for_long) {
  // A mode's period and the real one differ by some parts in 10,000: after seconds at rest, by milliseconds.
  Display d;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline, period + period / 5000);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  for (int i = 0; i < 10; ++i) {
    d.sim.run_for(7'000 * ms + i * 1'700'000);
    const int64_t vblank = d.sim.next_vblank();
    if (vblank - d.sim.clock.now() < 4 * ms) continue; // too late for any policy
    d.submit(stream);
    d.sim.run_until(vblank + 1000);
    CHECK_EQ(d.shown(stream).back(), d.lender.uses.rbegin()->first);
  }
}

TEST(fifo_shows_every_frame) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  stream.set_mode(PresentMode::fifo);
  int left = 30;
  d.lender.room = [&](Stream& s) {
    CHECK(s.has_room());
    if (left-- > 0) d.submit(s);
  };
  d.submit(stream);
  d.sim.run_vblanks(40);
  CHECK((d.shown(stream) == numbers(1, 31)));
  CHECK(d.lender.superseded.empty());
  CHECK_EQ(d.sim.records.back().vblank, 31u); // without a gap
}

TEST(async_flips_at_once_where_only_the_framebuffer_changes) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  stream.set_mode(PresentMode::async);
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.back().flags, flip_flags); // the plane is placed in step
  for (int i = 0; i < 3; ++i) {
    d.submit(stream);
    d.sim.run_for(2 * ms);
    CHECK_EQ(d.sim.commits.back().flags, flip_flags | DRM_MODE_PAGE_FLIP_ASYNC);
    CHECK_EQ(d.shown(stream).back(), d.lender.uses.rbegin()->first);
    CHECK_EQ(d.sim.records.back().flags & flip::presented_vsync, 0u);
  }
  Frame moved = d.lender.frame();
  moved.place.x = 10;
  d.submit(stream, moved);
  d.sim.run_for(2 * ms);
  CHECK_EQ(d.sim.commits.back().flags, flip_flags);
}

TEST(async_goes_in_step_with_a_plane_that_does) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& async = d.show(crtc);
  Stream& other = d.show(crtc);
  async.set_mode(PresentMode::async);
  for (int i = 0; i < 2; ++i) {
    d.submit(async);
    d.submit(other);
    d.sim.run_vblanks();
  }
  CHECK_EQ(d.sim.commits.back().values.size(), 2u);
  CHECK_EQ(d.sim.commits.back().flags, flip_flags);
}

TEST(async_does_not_wait_for_the_deadline) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline);
  Stream& async = d.show(crtc);
  Stream& other = d.show(crtc);
  async.set_mode(PresentMode::async);
  d.submit(async);
  d.submit(other);
  d.sim.run_vblanks();
  const int64_t vblank = d.sim.next_vblank();
  d.sim.run_for(1 * ms);
  d.submit(async);
  d.sim.run_for(1 * ms);
  CHECK_EQ(d.shown(async).size(), 2u);
  // The other plane's frame keeps to its deadline, and its vblank.
  d.submit(other);
  d.sim.run_for(1 * ms);
  CHECK_EQ(d.shown(other).size(), 1u);
  d.sim.run_until(vblank + 1000);
  CHECK_EQ(d.shown(other).size(), 2u);
}

TEST(async_that_is_refused_goes_on_in_step) {
  Display d;
  d.sim.verdict = [](const Commit& commit) {
    return (commit.flags & DRM_MODE_PAGE_FLIP_ASYNC) != 0 ? EINVAL : 0;
  };
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  stream.set_mode(PresentMode::async);
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(10);
  CHECK_EQ(d.sim.count(Notice::Type::async_refused), 1u);
  CHECK_EQ(d.sim.notices[0].error, EINVAL);
  CHECK_EQ(d.sim.count(Notice::Type::refused), 0u);
  CHECK((d.shown(stream) == numbers(1, 10))); // not one vblank lost
  CHECK_EQ(std::count_if(d.sim.commits.begin(), d.sim.commits.end(),
                         [](const Commit& c) { return c.error != 0 || c.test_only(); }),
           1);
}

TEST(no_vblank_device_is_paced) {
  Display d;
  d.sim.vblanks = false;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_for(1000 * ms);
  CHECK_EQ(d.sim.count(Notice::Type::no_vblank), 1u);
  CHECK(d.shown(stream).size() >= 55);
  CHECK(d.shown(stream).size() <= 75);
  const uint32_t flags = d.sim.records.back().flags;
  CHECK_EQ(flags & (flip::presented_vsync | flip::presented_hw_clock), 0u);
  CHECK_EQ(crtc.stats.missed.load(), 0u);
}
