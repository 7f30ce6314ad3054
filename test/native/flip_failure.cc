// Commits that are refused for a while: the newest frame is kept, and nothing else suffers.

#include <algorithm>

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Notice;
using flip::Stream;
using test::Commit;
using test::Display;
using test::ms;
using test::period;

namespace {

/// Answers commits (tests too unless said otherwise) with an errno, so many times.
struct Refuse {
  int error;
  int left;
  bool tests = false;
  int operator()(const Commit& commit) { return (tests || !commit.test_only()) && left-- > 0 ? error : 0; }
};

uint64_t newest(Display& d) {
  return d.lender.uses.rbegin()->first;
}

} // namespace

TEST(busy_storm_keeps_the_newest_frame_and_says_nothing) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Crtc& other = d.sim.add_crtc(2);
  Stream& stream = d.show(crtc);
  Stream& neighbour = d.show(other);
  d.lender.flipped = [&](Stream& s) {
    if (&s == &neighbour) d.submit(s);
  };
  d.submit(neighbour);
  d.submit(stream);
  d.sim.run_vblanks();
  int refused = 0;
  d.sim.verdict = [&](const Commit& commit) {
    if (!commit.names(Display::plane(0)) || refused == 12) return 0;
    ++refused;
    return EBUSY;
  };
  d.submit(stream);
  d.sim.run_for(1 * ms);
  d.submit(stream);
  d.sim.run_for(40 * ms);
  const uint64_t last = d.submit(stream);
  d.sim.run_for(1000 * ms);
  CHECK_EQ(refused, 12);
  CHECK_EQ(d.shown(stream).back(), last);
  CHECK_EQ(d.lender.uses[last], 1);
  CHECK_EQ(crtc.stats.busy.load(), 12u);
  const auto record = std::find_if(d.sim.records.begin(), d.sim.records.end(),
                                   [&](const auto& r) { return r.sequence == last; });
  REQUIRE(record != d.sim.records.end());
  CHECK_EQ(record->retries, 12u);
  CHECK(d.sim.notices.empty());
  CHECK_EQ(other.stats.missed.load(), 0u);
  CHECK_EQ(d.shown(neighbour).size(), d.sim.records.back().vblank); // one a vblank
}

TEST(busy_is_retried_within_the_same_vblank) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.submit(stream);
  d.sim.run_vblanks();
  d.sim.verdict = Refuse{EBUSY, 3};
  const uint64_t frame = d.submit(stream);
  d.sim.run_vblanks();
  CHECK_EQ(d.shown(stream).back(), frame);
}

TEST(busy_for_ever_is_told_and_costs_no_more_than_a_commit_a_refresh) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.sim.verdict = [](const Commit&) { return EBUSY; };
  d.submit(stream);
  d.sim.run_for(10'000 * ms);
  CHECK(d.sim.commits.size() < 620);
  CHECK(d.sim.count(Notice::Type::backing_off) > 0);
  CHECK(d.sim.notices.size() < 10);
  d.sim.verdict = nullptr;
  d.sim.run_vblanks(2);
  CHECK_EQ(d.shown(stream).size(), 1u);
}

TEST(no_memory_is_retried_more_and_more_slowly) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.sim.verdict = Refuse{ENOMEM, 12};
  d.submit(stream);
  d.sim.run_for(50 * ms);
  const size_t early = d.sim.commits.size();
  const uint64_t last = d.submit(stream);
  d.sim.run_for(2'005 * ms);
  CHECK(early <= 7);
  for (size_t i = 2; i < 12; ++i) {
    const auto gap = [&](size_t n) { return d.sim.commits[n].time_ns - d.sim.commits[n - 1].time_ns; };
    CHECK(gap(i) >= gap(i - 1) - ms);
  }
  CHECK_EQ(d.shown(stream).back(), last);
  CHECK_EQ(d.sim.count(Notice::Type::backing_off), 4u); // at 1, 2, 4, 8
  // And the next is quick again.
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK_EQ(d.shown(stream).back(), newest(d));
}

TEST(without_master_nothing_is_committed_until_it_is_back) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Crtc& other = d.sim.add_crtc(2);
  Crtc& unseen = d.sim.add_crtc(flip::first_virtual_crtc);
  Stream& stream = d.show(crtc);
  Stream& neighbour = d.show(other);
  Stream& ghost = d.show(unseen);
  for (Stream* s : {&stream, &neighbour, &ghost})
    d.submit(*s);
  d.sim.run_vblanks(2);
  d.sim.verdict = [](const Commit&) { return EACCES; };
  d.submit(stream);
  d.sim.run_for(5'000 * ms);
  d.submit(neighbour);
  d.submit(ghost);
  d.sim.run_for(5'000 * ms);
  CHECK(d.sim.paused());
  CHECK_EQ(d.sim.count(Notice::Type::paused), 1u);
  CHECK_EQ(d.sim.commits.size(), 3u);
  CHECK_EQ(d.shown(ghost).size(), 2u); // goes on
  const uint64_t last = d.submit(stream);
  d.sim.verdict = nullptr;
  d.sim.paused_flag = false;
  for (const auto& c : d.sim.crtcs)
    c->resume();
  d.sim.run_vblanks(2);
  CHECK_EQ(d.shown(stream).back(), last);
  CHECK_EQ(d.shown(neighbour).back(), d.shown(neighbour)[1]); // by the timer, then on the screen
  CHECK_EQ(d.shown(neighbour).size(), 3u);
  CHECK_EQ(d.sim.commits.back().values.size(), 10u); // another may have moved the plane or switched it off
  // The frames were there all the time, but nobody could have shown them.
  CHECK_EQ(crtc.stats.missed.load() + other.stats.missed.load(), 0u);
}

namespace {

// Master is taken away, and comes back.
void lose_master(Display& d) {
  d.sim.paused_flag = true;
}
void regain_master(Display& d) {
  d.sim.paused_flag = false;
  for (const auto& crtc : d.sim.crtcs)
    crtc->resume();
}

} // namespace

TEST(without_master_a_timer_completes_flips_at_the_refresh) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(3);
  lose_master(d);
  d.sim.run_vblanks(2); // what was in flight lands
  const size_t commits = d.sim.commits.size(), shown = d.shown(stream).size();
  d.sim.run_for(60 * period + ms);
  CHECK_EQ(d.sim.commits.size(), commits);
  CHECK(d.shown(stream).size() - shown >= 59 && d.shown(stream).size() - shown <= 61);
  CHECK_EQ(d.lender.presented.back().flags, flip::presented_synthetic + 0u);
  // All but what is shown and what waits came back, with two buffers as with three.
  int lent = 0;
  for (const auto& [sequence, uses] : d.lender.uses)
    lent += uses;
  CHECK_EQ(lent, 2);
  d.lender.flipped = nullptr;
  regain_master(d);
  d.sim.run_vblanks(3);
  CHECK_EQ(d.sim.screen[Display::plane(0)].fb, d.shown(stream).back());
  CHECK_EQ(d.sim.commits[commits].values.size(), 10u); // the whole plane, not the framebuffer alone
}

TEST(what_a_timer_completed_is_on_the_screen_afterwards_without_another_frame) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  Stream& hidden = d.show(crtc);
  Stream& gone = d.show(crtc);
  for (Stream* s : {&stream, &hidden, &gone})
    d.submit(*s);
  d.sim.run_vblanks(2);
  lose_master(d);
  const uint64_t last = d.submit(stream);
  flip::Frame off = d.lender.frame();
  off.off = true;
  d.submit(hidden, off);
  gone.route(nullptr, 0);
  d.sim.run_vblanks(4);
  CHECK_EQ(d.shown(stream).back(), last);
  CHECK_EQ(d.sim.screen[Display::plane(1)].fb, 2u); // untouched
  regain_master(d);
  d.sim.run_vblanks(3);
  CHECK_EQ(d.sim.screen[Display::plane(0)].fb, last);
  CHECK_EQ(d.sim.screen[Display::plane(1)].fb, 0u);
  CHECK_EQ(d.sim.screen[Display::plane(2)].fb, 0u);
}

TEST(a_flip_that_lands_while_paused_counts_as_what_it_is_and_one_that_never_does_is_given_up) {
  for (const bool lost : {false, true}) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1);
    Stream& stream = d.show(crtc);
    d.sim.deliver = [&](uint32_t, uint64_t) { return !lost; };
    d.submit(stream);
    d.sim.run_for(ms); // committed
    lose_master(d);
    d.sim.run_for(1'100 * ms);
    REQUIRE(d.lender.presented.size() == 1);
    CHECK_EQ((d.lender.presented[0].flags & flip::presented_synthetic) != 0, lost);
    CHECK_EQ(d.sim.commits.size(), 1u); // no recovery either
    CHECK_EQ(d.sim.count(Notice::Type::stalled), 0u);
  }
}

TEST(a_lent_crtc_is_left_alone_through_pauses_and_losses_until_its_mode_is_set) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& idle = d.show(crtc);
  Stream& guest = d.show(crtc);
  d.submit(idle);
  d.submit(guest);
  d.sim.run_vblanks(2);
  guest.route(nullptr, 0);
  CHECK(!crtc.settled()); // its plane goes off first
  d.sim.run_vblanks(2);
  REQUIRE(crtc.settled());
  CHECK_EQ(d.sim.screen[Display::plane(1)].fb, 0u);
  crtc.lend();
  const size_t commits = d.sim.commits.size();
  lose_master(d);
  d.sim.run_vblanks(3);
  regain_master(d);
  d.sim.run_vblanks(3);
  d.submit(idle);
  d.sim.run_vblanks(3);
  CHECK_EQ(d.sim.commits.size(), commits);
  d.sim.screen[Display::plane(0)] = d.sim.next_screen[Display::plane(0)] = {1, 9999}; // by the mode set
  crtc.on_modeset(Display::plane(0), period);
  d.sim.run_vblanks(3);
  CHECK(d.sim.commits.size() > commits);
  CHECK_EQ(d.sim.screen[Display::plane(0)].fb, d.shown(idle).back());
}

TEST(a_crtc_whose_objects_are_gone_waits_to_be_told) {
  for (const int error : {ENOENT, ENODEV}) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1);
    Stream& stream = d.show(crtc);
    d.sim.verdict = Refuse{error, 1};
    d.submit(stream);
    d.sim.run_vblanks(60);
    CHECK_EQ(d.sim.commits.size(), 1u);
    CHECK_EQ(d.sim.count(Notice::Type::gone), 1u);
    crtc.resume();
    d.sim.run_vblanks();
    CHECK_EQ(d.shown(stream).size(), 1u);
  }
}
