// Captures go with a commit, cost no frame, and end in any case.

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Stream;
using test::Commit;
using test::Display;
using test::ms;

namespace {

constexpr int64_t second = 1000 * ms;

/// Loses so many flip events of a CRTC from now on.
struct Lose {
  uint32_t crtc;
  int left;
  bool operator()(uint32_t id, uint64_t) { return id != crtc || left-- <= 0; }
};

} // namespace

TEST(capture_goes_with_the_next_commit_or_alone) {
  const flip::WritebackProperties writeback{.connector = 1001, .fb_id = 20, .out_fence_ptr = 21};
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  CHECK(!crtc.request_capture({}, 50)); // no writeback connector
  CHECK(crtc.request_capture(writeback, 50));
  CHECK(!crtc.request_capture(writeback, 51));
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.size(), 1u);
  CHECK_EQ(d.sim.commits[0].value(1001, 20).value_or(0), 50u);
  CHECK_EQ(d.shown(stream).size(), 1u);
  CHECK(crtc.request_capture(writeback, 51));
  d.sim.run_vblanks();
  CHECK_EQ(d.sim.commits.back().values.size(), 2u);
  CHECK((d.sim.captures == std::vector<int>{0, 0}));
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK(!d.sim.commits.back().names(1001));
}

TEST(capture_that_is_refused_costs_no_frame) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.sim.verdict = [](const Commit& commit) { return commit.names(1001) ? EINVAL : 0; };
  CHECK(crtc.request_capture({.connector = 1001, .fb_id = 20, .out_fence_ptr = 21}, 50));
  d.submit(stream);
  d.sim.run_vblanks();
  CHECK((d.sim.captures == std::vector<int>{EINVAL}));
  CHECK_EQ(d.shown(stream).size(), 1u);
  CHECK(d.lender.refused.empty());
}

TEST(capture_ends_when_nothing_can_be_committed) {
  const flip::WritebackProperties writeback{.connector = 1001, .fb_id = 20, .out_fence_ptr = 21};
  for (const int error : {EACCES, ENODEV}) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1);
    d.sim.verdict = [error](const Commit&) { return error; };
    CHECK(crtc.request_capture(writeback, 50));
    d.sim.run_vblanks();
    CHECK((d.sim.captures == std::vector<int>{error}));
    CHECK(!crtc.request_capture(writeback, 50)); // not before somebody resumes
  }
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  crtc.park();
  CHECK(crtc.request_capture(writeback, 50));
  crtc.on_off();
  CHECK_EQ(d.sim.captures.size(), 1u);
}
