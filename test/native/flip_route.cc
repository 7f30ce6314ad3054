// Which plane shows which stream: hiding, moving, leaving, virtual CRTCs.

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Frame;
using flip::Policy;
using flip::PresentMode;
using flip::Stream;
using test::Commit;
using test::Display;
using test::ms;
using test::period;

namespace {

constexpr uint32_t fb_property = test::plane_properties.fb_id;
constexpr uint32_t crtc_property = test::plane_properties.crtc_id;

Frame hidden(Display& d) {
  Frame frame = d.lender.frame();
  frame.fb_id = 0;
  frame.has_buffer = false;
  frame.off = true;
  return frame;
}

/// What the engine must have the owner see at the flip event of a frame.
void expect_shown(Display& d, uint32_t plane, uint64_t fb) {
  CHECK_EQ(d.sim.screen[plane].fb, fb);
}

} // namespace

TEST(hiding_switches_the_plane_off_and_a_frame_on_again) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.submit(stream);
  d.sim.run_vblanks();
  d.submit(stream, hidden(d));
  d.sim.run_vblanks();
  const Commit& off = d.sim.commits.back();
  CHECK_EQ(off.value(Display::plane(0), fb_property).value_or(9), 0u);
  CHECK_EQ(off.value(Display::plane(0), crtc_property).value_or(9), 0u);
  CHECK_EQ(d.lender.uses[1] + d.lender.uses[2], 0);
  CHECK_EQ(d.shown(stream).back(), 2u);
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.back().values.size(), 10u);
  expect_shown(d, Display::plane(0), 3);
}

TEST(hiding_what_is_hidden_is_done_without_the_kernel) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.submit(stream, hidden(d));
  d.sim.run_for(1 * ms);
  CHECK(d.sim.commits.empty());
  CHECK((d.shown(stream) == std::vector<uint64_t>{1}));
  CHECK_EQ(d.lender.uses[1], 0);
}

TEST(hiding_what_is_hidden_leaves_the_others_vblanks_alone) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1, Policy::deadline);
  Stream& steady = d.show(crtc);
  Stream& hider = d.show(crtc);
  d.submit(steady);
  d.sim.run_vblanks(2);
  for (int i = 0; i < 50; ++i) {
    for (int n = 0; n < 5; ++n) {
      d.submit(hider, hidden(d)); // completes at no vblank
      d.sim.run_vblanks();
    }
    const int64_t vblank = d.sim.next_vblank();
    const uint64_t frame = d.submit(steady);
    d.sim.run_until(vblank + 1000);
    CHECK_EQ(d.shown(steady).back(), frame);
    CHECK(d.sim.commits.back().time_ns > vblank - 3 * ms);
  }
  CHECK_EQ(crtc.stats.missed.load(), 0u);
}

TEST(hidden_frames_of_a_fifo_follow_each_other) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  stream.set_mode(PresentMode::fifo);
  int left = 4;
  d.lender.room = [&](Stream& s) {
    if (left-- > 0) d.submit(s, hidden(d));
  };
  d.submit(stream, hidden(d));
  d.sim.run_for(1 * ms); // nothing else wakes the engine
  CHECK_EQ(d.shown(stream).size(), 5u);
}

TEST(feedback_comes_before_the_release_that_follows_from_it) {
  Display d;
  Stream& stream = d.show(d.sim.add_crtc(1));
  d.submit(stream);
  d.sim.run_vblanks();
  size_t released_then = 99;
  d.lender.flipped = [&](Stream&) { released_then = d.lender.released.size(); };
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK_EQ(released_then, 0u);
  CHECK_EQ(d.lender.released.size(), 1u);
}

TEST(leaving_switches_the_plane_off_and_only_then_gives_back) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  d.submit(stream);
  d.sim.run_for(1 * ms); // in flight
  stream.route(nullptr, 0);
  stream.drop();
  CHECK_EQ(crtc.held(stream), 2u);
  d.sim.run_vblanks();
  CHECK_EQ(crtc.held(stream), 1u);
  expect_shown(d, Display::plane(0), 2);
  d.sim.run_vblanks();
  CHECK_EQ(crtc.held(stream), 0u);
  expect_shown(d, Display::plane(0), 0);
  CHECK((d.lender.released == std::vector<uint64_t>{1, 2}));
}

TEST(a_successor_takes_the_plane_without_a_gap) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& first = d.show(crtc);
  Stream& second = d.stream();
  d.submit(first);
  d.submit(second);
  d.sim.run_vblanks();
  test::Sim::attach(crtc, second, Display::plane(0));
  CHECK(first.sink() == nullptr);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.accepted().size(), 2u);
  CHECK_EQ(d.sim.commits.back().values.size(), 1u); // the framebuffer: the place is the same
  expect_shown(d, Display::plane(0), 2);
  CHECK_EQ(crtc.held(first), 0u);
}

TEST(a_stream_moves_to_another_plane_with_its_picture) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  test::Sim::attach(crtc, stream, 77);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.accepted().size(), 2u); // off here and on there in one
  expect_shown(d, Display::plane(0), 0);
  expect_shown(d, 77, 1);
  CHECK_EQ(d.lender.uses[1], 1);
}

TEST(a_stream_moves_to_another_crtc_with_its_picture) {
  Display d;
  Crtc& left = d.sim.add_crtc(1);
  Crtc& right = d.sim.add_crtc(2);
  Stream& stream = d.show(left);
  d.submit(stream);
  d.sim.run_vblanks(100);
  test::Sim::attach(right, stream, 77);
  d.sim.run_vblanks();
  expect_shown(d, Display::plane(0), 0);
  expect_shown(d, 77, 1);
  CHECK_EQ(left.held(stream), 0u);
  CHECK_EQ(right.held(stream), 1u);
  // It was ready long ago, but not here.
  CHECK_EQ(right.stats.missed.load(), 0u);
}

TEST(a_plane_that_two_crtcs_can_use_is_given_up_before_it_is_taken) {
  Display d;
  Crtc& left = d.sim.add_crtc(1);
  Crtc& right = d.sim.add_crtc(2);
  Stream& former = d.stream();
  test::Sim::attach(left, former, 77);
  Stream& other = d.show(left); // keeps the left CRTC busy
  d.lender.flipped = [&](Stream& stream) {
    if (&stream == &other) d.submit(stream);
  };
  d.submit(former);
  d.submit(other);
  d.sim.run_vblanks(3);
  Stream& next = d.stream();
  former.route(nullptr, 0);
  test::Sim::attach(right, next, 77);
  const uint64_t frame = d.submit(next);
  d.sim.run_vblanks(4);
  expect_shown(d, 77, frame);
  CHECK_EQ(d.sim.screen[77].crtc, 2u);
  CHECK_EQ(left.stats.busy.load() + right.stats.busy.load(), 0u);
  CHECK_EQ(right.stats.stale_events.load() + left.stats.stale_events.load(), 0u);
  CHECK_EQ(left.stats.missed.load(), 0u);
}

TEST(a_virtual_crtc_completes_at_its_period) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(flip::first_virtual_crtc);
  Stream& first = d.show(crtc);
  Stream& second = d.show(crtc);
  d.keep_flipping();
  d.submit(first);
  d.submit(second);
  d.sim.run_for(60 * period);
  CHECK(d.sim.commits.empty());
  for (const Stream* stream : {&first, &second}) {
    CHECK(d.shown(*stream).size() >= 58);
    CHECK(d.shown(*stream).size() <= 61);
  }
  for (size_t i = 2; i < d.sim.records.size(); ++i) {
    CHECK_EQ(d.sim.records[i].flags, flip::presented_synthetic);
    CHECK_EQ(d.sim.records[i].vblank, d.sim.records[i - 2].vblank + 1);
  }
  // After a rest the counter has gone on.
  d.lender.flipped = nullptr;
  d.sim.run_for(2 * period);
  const uint64_t before = d.sim.records.back().vblank;
  d.sim.run_for(100 * period);
  d.submit(first);
  d.sim.run_for(2 * period);
  CHECK(d.sim.records.back().vblank >= before + 99);
}

TEST(a_stream_leaves_a_virtual_crtc_in_mid_flip) {
  Display d;
  Crtc& unseen = d.sim.add_crtc(flip::first_virtual_crtc);
  Crtc& lit = d.sim.add_crtc(1);
  Stream& stream = d.show(unseen);
  d.submit(stream);
  d.sim.run_vblanks(2);
  d.submit(stream);
  d.sim.run_for(1 * ms); // in flight
  test::Sim::attach(lit, stream, 77);
  d.sim.run_vblanks(2);
  expect_shown(d, 77, 2);
  CHECK_EQ(unseen.held(stream), 0u);
  CHECK_EQ(d.lender.uses[1], 0);
  CHECK_EQ(d.lender.uses[2], 1);
}
