// Commits that are refused for good: who is to blame is found, and whoever is not loses no vblank.

#include <algorithm>

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Frame;
using flip::Notice;
using flip::Policy;
using flip::Stream;
using test::Commit;
using test::Display;
using test::ms;

namespace {

size_t tests_made(const Display& d) {
  return static_cast<size_t>(std::count_if(d.sim.commits.begin(), d.sim.commits.end(),
                                           [](const Commit& c) { return c.test_only(); }));
}

} // namespace

TEST(a_refused_plane_is_found_and_the_others_flip_in_the_same_round) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  for (int i = 0; i < 3; ++i)
    d.show(crtc);
  d.keep_flipping();
  for (const auto& stream : d.streams)
    d.submit(*stream);
  d.sim.run_vblanks(5);
  Stream& culprit = *d.streams[1];
  d.sim.verdict = [](const Commit& commit) { return commit.names(Display::plane(1)) ? EINVAL : 0; };
  const uint64_t blamed = culprit.pending() != nullptr ? culprit.pending()->sequence : d.submit(culprit);
  d.sim.run_vblanks(20);
  CHECK_EQ(d.lender.refused.size(), 1u);
  CHECK_EQ(d.lender.refused[0].second, EINVAL);
  CHECK_EQ(d.sim.count(Notice::Type::refused), 1u);
  CHECK_EQ(d.sim.notices[0].plane_id, Display::plane(1));
  CHECK_EQ(d.sim.notices[0].stream, culprit.id());
  CHECK(culprit.blocked());
  CHECK(culprit.pending()->sequence >= blamed);
  for (const size_t i : {0u, 2u})
    CHECK_EQ(d.shown(*d.streams[i]).size(), 25u); // not one vblank lost
  CHECK_EQ(crtc.stats.missed.load(), 0u);
  CHECK_EQ(tests_made(d), 3u); // once, not a flip
}

TEST(every_refused_plane_is_found) {
  for (uint32_t bad = 1; bad < 16; ++bad) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1, bad % 2 == 0 ? Policy::eager : Policy::deadline);
    for (int i = 0; i < 4; ++i)
      d.show(crtc);
    d.sim.verdict = [bad](const Commit& commit) {
      for (size_t i = 0; i < 4; ++i) {
        if ((bad >> i & 1) != 0 && commit.names(Display::plane(i))) return ERANGE;
      }
      return 0;
    };
    for (const auto& stream : d.streams)
      d.submit(*stream);
    d.sim.run_vblanks(2);
    for (size_t i = 0; i < 4; ++i) {
      const bool blamed = (bad >> i & 1) != 0;
      CHECK_EQ(d.streams[i]->blocked(), blamed);
      CHECK_EQ(d.shown(*d.streams[i]).size(), blamed ? 0u : 1u);
    }
  }
}

TEST(what_does_not_fit_together_costs_the_upper_plane) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& lower = d.show(crtc);
  Stream& upper = d.show(crtc);
  d.sim.verdict = [](const Commit& commit) { // bandwidth for one
    return commit.names(Display::plane(0)) && commit.names(Display::plane(1)) ? EINVAL : 0;
  };
  d.submit(lower);
  d.submit(upper);
  d.sim.run_vblanks(2);
  CHECK_EQ(d.shown(lower).size(), 1u);
  CHECK(upper.blocked());
}

TEST(refused_after_a_passed_test_costs_the_culprit_alone) {
  for (size_t bad = 0; bad < 3; ++bad) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1);
    for (int i = 0; i < 3; ++i)
      d.show(crtc);
    d.lender.flipped = [&](Stream& s) { d.submit(s); };
    for (const auto& stream : d.streams)
      d.submit(*stream);
    d.sim.run_vblanks(3);
    d.sim.verdict = [bad](const Commit& commit) {
      return commit.names(Display::plane(bad)) && !commit.test_only() ? EINVAL : 0;
    };
    d.sim.run_vblanks(10);
    for (size_t i = 0; i < 3; ++i) {
      CHECK_EQ(d.streams[i]->blocked(), i == bad);
      if (i != bad) CHECK_EQ(d.shown(*d.streams[i]).size(), 13u);
    }
    CHECK_EQ(d.lender.refused.size(), 1u);
  }
}

TEST(two_refused_after_a_passed_test_are_found_within_two_vblanks) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  for (int i = 0; i < 4; ++i)
    d.show(crtc);
  d.lender.flipped = [&](Stream& s) { d.submit(s); };
  d.sim.verdict = [](const Commit& commit) {
    const bool bad = commit.names(Display::plane(0)) || commit.names(Display::plane(2));
    return bad && !commit.test_only() ? EINVAL : 0;
  };
  for (const auto& stream : d.streams)
    d.submit(*stream);
  d.sim.run_vblanks(10);
  for (size_t i = 0; i < 4; ++i) {
    CHECK_EQ(d.streams[i]->blocked(), i % 2 == 0);
    if (i % 2 == 1) CHECK(d.shown(*d.streams[i]).size() >= 8);
  }
}

TEST(a_hidden_plane_is_not_blamed_with_others) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& hider = d.show(crtc);
  for (int i = 0; i < 2; ++i)
    d.show(crtc);
  d.sim.verdict = [](const Commit& commit) { return commit.test_only() ? 0 : EINVAL; };
  Frame hidden = d.lender.frame();
  hidden.fb_id = 0;
  hidden.off = true;
  d.submit(hider, hidden);
  d.submit(*d.streams[1]);
  d.submit(*d.streams[2]);
  d.sim.run_for(5 * ms);
  CHECK(!hider.blocked());
  CHECK_EQ(d.shown(hider).size(), 1u);
  CHECK(d.streams[1]->blocked() && d.streams[2]->blocked());
}

TEST(a_plane_whose_test_failed_for_now_is_not_forgotten) {
  for (const int error : {EBUSY, ENOMEM}) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1);
    for (int i = 0; i < 3; ++i)
      d.show(crtc);
    bool first = true;
    d.sim.verdict = [&, error](const Commit& commit) {
      if (commit.names(Display::plane(0))) return EINVAL;
      // The test of the second plane fails for a reason that passes.
      if (commit.test_only() && commit.names(Display::plane(1)) && std::exchange(first, false)) return error;
      return 0;
    };
    for (const auto& stream : d.streams)
      d.submit(*stream);
    d.sim.run_for(200 * ms);
    CHECK(d.streams[0]->blocked());
    CHECK_EQ(d.shown(*d.streams[1]).size(), 1u);
    CHECK_EQ(d.shown(*d.streams[2]).size(), 1u);
  }
}

TEST(a_hidden_plane_completes_beside_a_refused_one) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& hider = d.show(crtc);
  d.show(crtc);
  d.sim.verdict = [](const Commit& commit) { return commit.names(Display::plane(1)) ? EINVAL : 0; };
  Frame hidden = d.lender.frame();
  hidden.fb_id = 0;
  hidden.off = true;
  d.submit(hider, hidden);
  d.submit(*d.streams[1]);
  d.sim.run_for(1 * ms); // nothing else wakes the engine
  CHECK_EQ(d.shown(hider).size(), 1u);
  CHECK(d.streams[1]->blocked());
}

TEST(a_refused_stream_is_shown_when_it_is_routed_anew) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.sim.verdict = [](const Commit& commit) { return commit.names(Display::plane(0)) ? EINVAL : 0; };
  d.submit(stream);
  d.sim.run_vblanks(2);
  const uint64_t last = d.submit(stream);
  d.sim.run_vblanks(2);
  CHECK_EQ(d.lender.refused.size(), 1u); // no storm: the display is not asked again
  test::Sim::attach(crtc, stream, 77);
  d.sim.run_vblanks(2);
  CHECK((d.shown(stream) == std::vector<uint64_t>{last}));
}

TEST(a_frame_that_the_display_has_none_of_is_refused_without_a_commit) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  Stream& other = d.show(crtc);
  Frame copied_only = d.lender.frame();
  copied_only.fb_id = 0;
  d.submit(stream, copied_only);
  d.submit(other);
  d.sim.run_vblanks();
  CHECK_EQ(d.lender.refused.size(), 1u);
  CHECK_EQ(d.shown(other).size(), 1u);
  CHECK_EQ(d.sim.commits.size(), 1u);
}
