// Mode sets, CRTCs that are off, and how many planes there can be.

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Notice;
using flip::Stream;
using test::Display;
using test::ms;
using test::period;

namespace {

constexpr uint32_t fb_property = test::plane_properties.fb_id;
constexpr uint32_t crtc_property = test::plane_properties.crtc_id;

/// What the engine must have the owner see at the flip event of a frame.
void expect_shown(Display& d, uint32_t plane, uint64_t fb) {
  CHECK_EQ(d.sim.screen[plane].fb, fb);
}

} // namespace

TEST(a_parked_crtc_lands_its_flip_and_starts_none) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_for(1 * ms);
  crtc.park();
  CHECK(!crtc.parked());
  d.sim.run_vblanks();
  CHECK(crtc.parked());
  d.sim.run_vblanks(5);
  CHECK_EQ(d.sim.commits.size(), 1u);
  crtc.unpark();
  d.sim.run_vblanks();
  CHECK_EQ(d.shown(stream).size(), 2u);
}

TEST(a_crtc_is_parked_until_the_last_has_done_with_it) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  crtc.park();
  crtc.park();
  crtc.unpark();
  d.submit(stream);
  d.sim.run_vblanks(2);
  CHECK(crtc.parked());
  CHECK(d.sim.commits.empty());
  crtc.unpark();
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.size(), 1u);
}

TEST(after_a_mode_set_everything_is_shown_again) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& primary = d.show(crtc);
  Stream& overlay = d.show(crtc);
  Stream& left = d.show(crtc);
  for (Stream* stream : {&primary, &overlay, &left})
    d.submit(*stream);
  d.sim.run_vblanks();
  crtc.park();
  left.route(nullptr, 0);
  const uint64_t newer = d.submit(overlay);
  d.sim.run_for(500 * ms); // a mode set takes its time
  d.sim.screen.clear();
  d.sim.screen[Display::plane(0)] = {1, 900}; // the daemon's own picture
  d.sim.next_screen = d.sim.screen;
  crtc.on_modeset(Display::plane(0), period);
  crtc.unpark();
  CHECK_EQ(d.lender.uses[3], 0); // nobody wants it any more
  CHECK_EQ(d.lender.uses[2], 0); // a newer is there
  d.sim.run_vblanks(2);
  expect_shown(d, Display::plane(0), 1);
  expect_shown(d, Display::plane(1), newer);
  CHECK_EQ(d.sim.accepted().back().values.size(), 2 * 10u);
  CHECK_EQ(crtc.stats.missed.load(), 0u);
  CHECK_EQ(d.sim.count(Notice::Type::refused), 0u);
}

TEST(a_crtc_that_is_off_commits_nothing_until_its_mode_is_set) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  crtc.park();
  d.sim.screen.clear();
  d.sim.next_screen.clear();
  crtc.on_off();
  crtc.unpark();
  CHECK_EQ(d.lender.uses[1], 0);
  const uint64_t newest = d.submit(stream);
  d.sim.run_vblanks(3);
  CHECK_EQ(d.sim.commits.size(), 1u);
  CHECK(!crtc.request_capture({.connector = 1001, .fb_id = 20, .out_fence_ptr = 21}, 50));
  d.sim.screen[Display::plane(0)] = {1, 900}; // the daemon's own picture
  d.sim.next_screen = d.sim.screen;
  crtc.on_modeset(Display::plane(0), period);
  d.sim.run_vblanks();
  expect_shown(d, Display::plane(0), newest);
}

TEST(an_unknown_plane_has_room_until_there_are_too_many) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  CHECK_EQ(crtc.add_plane(5, test::plane_properties), 0);
  CHECK_EQ(crtc.add_plane(6, test::plane_properties), 1);
  CHECK_EQ(crtc.add_plane(5, test::plane_properties), 0);
  for (uint32_t id = 100; id < 100 + flip::max_planes - 2; ++id)
    CHECK(crtc.add_plane(id, test::plane_properties) >= 0);
  CHECK_EQ(crtc.add_plane(999, test::plane_properties), -1);
}

TEST(sixty_four_planes_flip_together) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  for (size_t i = 0; i < flip::max_planes; ++i)
    d.show(crtc);
  for (const auto& stream : d.streams)
    d.submit(*stream);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.size(), 1u);
  CHECK_EQ(d.sim.commits[0].values.size(), 10 * flip::max_planes);
  for (const auto& stream : d.streams)
    CHECK_EQ(d.shown(*stream).size(), 1u);
}
