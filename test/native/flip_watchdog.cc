// Flip events that are lost, late, told twice or wrong.
#include <algorithm>

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Crtc;
using flip::Notice;
using flip::Policy;
using flip::Stream;
using test::Commit;
using test::Display;
using test::ms;
using test::period;

namespace {

constexpr int64_t second = 1000 * ms;

/// Loses so many flip events of a CRTC from now on.
struct Lose {
  uint32_t crtc;
  int left;
  bool operator()(uint32_t id, uint64_t) { return id != crtc || left-- <= 0; }
};

} // namespace

TEST(lost_event_is_recovered_from_and_the_guest_goes_on) {
  for (const Policy policy : {Policy::eager, Policy::deadline}) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1, policy);
    Crtc& other = d.sim.add_crtc(2);
    Stream& stream = d.show(crtc);
    Stream& neighbour = d.show(other);
    d.keep_flipping();
    d.submit(stream);
    d.submit(neighbour);
    d.sim.run_vblanks(10);
    const size_t before = d.shown(stream).size();
    d.sim.deliver = Lose{1, 1};
    d.sim.run_for(900 * ms);
    CHECK(d.shown(stream).size() == before);
    CHECK(d.sim.notices.empty());
    const uint64_t newest = d.submit(stream); // replaces whatever waits
    d.sim.run_for(2 * second);
    CHECK_EQ(d.sim.count(Notice::Type::stalled), 1u);
    CHECK_EQ(d.sim.count(Notice::Type::recovered), 1u);
    CHECK_EQ(crtc.stats.recovered.load(), 1u);
    CHECK(d.shown(stream).size() > before + 100);
    CHECK(d.shown(stream)[before + 1] >= newest);
    const auto record = std::find_if(d.sim.records.begin(), d.sim.records.end(), [](const auto& r) {
      return (r.flags & flip::presented_recovered) != 0;
    });
    REQUIRE(record != d.sim.records.end());
    CHECK_EQ(record->flags & (flip::presented_vsync | flip::presented_hw_clock), 0u);
    // The blocking commit shows again what was in flight, and nothing else.
    const auto blocking = std::find_if(d.sim.commits.begin(), d.sim.commits.end(),
                                       [](const Commit& c) { return c.flags == 0; });
    REQUIRE(blocking != d.sim.commits.end());
    CHECK_EQ(blocking->values.size(), 10u);
    CHECK_EQ(blocking->value(Display::plane(0), test::plane_properties.fb_id).value_or(0), record->sequence);
    // The neighbour noticed nothing.
    CHECK_EQ(other.stats.missed.load(), 0u);
    CHECK_EQ(d.shown(neighbour).size(), d.sim.records.back().vblank);
    // And vblanks are counted on where they are.
    CHECK_EQ((d.sim.records.back().flip_ns - d.sim.grid_ns) % period, 0);
  }
}

TEST(lost_event_of_a_plane_that_goes_off_is_recovered_from) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  d.sim.run_vblanks();
  d.sim.deliver = Lose{1, 1};
  stream.route(nullptr, 0);
  d.sim.run_for(2 * second);
  CHECK_EQ(crtc.held(stream), 0u);
  CHECK_EQ(d.sim.screen[Display::plane(0)].fb, 0u);
}

TEST(late_event_of_a_recovered_flip_is_passed_over) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  uint64_t lost_id = 0;
  d.sim.deliver = [&](uint32_t, uint64_t id) {
    return std::exchange(lost_id, lost_id == 0 ? id : lost_id) != 0;
  };
  d.submit(stream);
  d.sim.run_for(2 * second);
  CHECK_EQ(crtc.stats.recovered.load(), 1u);
  d.submit(stream);
  d.sim.run_for(1 * ms); // in flight
  crtc.on_flip(lost_id, d.sim.clock.now(), 5);
  CHECK_EQ(d.shown(stream).size(), 1u);
  CHECK_EQ(crtc.stats.stale_events.load(), 1u);
  d.sim.run_vblanks();
  CHECK_EQ(d.shown(stream).size(), 2u);
}

TEST(event_during_the_recovery_does_not_complete_twice) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  uint64_t lost_id = 0;
  d.sim.deliver = [&](uint32_t, uint64_t id) {
    return std::exchange(lost_id, lost_id == 0 ? id : lost_id) != 0;
  };
  d.sim.recovery_ns = 300 * ms;
  d.submit(stream);
  d.sim.run_for(1'150 * ms);
  CHECK_EQ(d.sim.count(Notice::Type::stalled), 1u);
  crtc.on_flip(lost_id, d.sim.clock.now(), 5); // while the blocking commit is under way
  CHECK(d.shown(stream).empty());
  d.submit(stream);
  d.sim.run_for(1 * second);
  CHECK_EQ(d.shown(stream).size(), 2u);
}

TEST(a_frame_that_was_left_behind_is_not_presented_after_newer_ones) {
  Display d;
  Crtc& left = d.sim.add_crtc(1);
  Crtc& right = d.sim.add_crtc(2);
  Stream& stream = d.show(left);
  d.submit(stream);
  d.sim.run_vblanks();
  d.sim.deliver = Lose{1, 1};
  d.submit(stream);
  d.sim.run_for(1 * ms);
  test::Sim::attach(right, stream, 77);
  const uint64_t newest = d.submit(stream);
  d.sim.run_for(3 * second); // the left CRTC recovers meanwhile
  CHECK_EQ(left.stats.recovered.load(), 1u);
  CHECK((d.shown(stream) == std::vector<uint64_t>{1, newest}));
  CHECK_EQ(d.lender.uses[2], 0);
}

TEST(event_told_twice_completes_once) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.keep_flipping();
  d.sim.deliver = [&](uint32_t, uint64_t id) {
    crtc.on_flip(id, d.sim.clock.now(), 1);
    return true;
  };
  d.submit(stream);
  d.sim.run_vblanks(30);
  CHECK_EQ(d.shown(stream).size(), 30u);
  CHECK_EQ(crtc.stats.stale_events.load(), 30u);
}

TEST(own_stall_is_not_blamed_on_the_driver) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.submit(stream);
  crtc.service(d.sim.clock.now());
  d.sim.clock.advance(5 * second); // nobody ran; the event is there since long
  d.sim.run_for(1 * ms);
  CHECK(d.sim.notices.empty());
  CHECK_EQ(d.shown(stream).size(), 1u);
}

TEST(an_event_that_is_still_away_after_an_own_stall_gets_another_while) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.sim.deliver = Lose{1, 1};
  d.submit(stream);
  crtc.service(d.sim.clock.now());
  d.sim.clock.advance(5 * second);
  d.sim.run_for(900 * ms);
  CHECK(d.sim.notices.empty());
  d.sim.run_for(200 * ms);
  CHECK_EQ(d.sim.count(Notice::Type::stalled), 1u);
  CHECK_EQ(d.shown(stream).size(), 1u);
}

TEST(recovery_that_is_refused_as_busy_is_tried_again) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  int busy = 3;
  d.sim.verdict = [&](const Commit& c) { return c.flags == 0 && busy-- > 0 ? EBUSY : 0; };
  d.sim.deliver = Lose{1, 1};
  d.submit(stream);
  d.sim.run_for(10 * second);
  CHECK_EQ(d.shown(stream).size(), 1u);
  CHECK_EQ(crtc.stats.recovered.load(), 1u);
}

TEST(recovery_that_fails_for_good_ends_the_wait) {
  for (const int error : {EINVAL, EACCES, ENODEV}) {
    Display d;
    Crtc& crtc = d.sim.add_crtc(1);
    Stream& stream = d.show(crtc);
    d.sim.verdict = [&](const Commit& c) { return c.flags == 0 ? error : 0; };
    d.sim.deliver = Lose{1, 1};
    d.submit(stream);
    d.sim.run_for(2 * second);
    CHECK_EQ(d.shown(stream).size(), 1u);
    CHECK_EQ(d.sim.notices.back().error, error);
    d.submit(stream);
    d.sim.run_vblanks(2);
    CHECK_EQ(d.shown(stream).size(), 2u);
  }
}

TEST(a_parked_crtc_recovers_too) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  d.sim.deliver = Lose{1, 1};
  d.submit(stream);
  d.sim.run_for(1 * ms);
  crtc.park();
  d.sim.run_for(2 * second);
  CHECK(crtc.parked());
}

TEST(timestamps_that_cannot_be_true_are_not_passed_on) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  int n = 0;
  d.sim.deliver = [&](uint32_t, uint64_t id) { // 0, the epoch of another clock, and a time to come
    const int64_t times[] = {0, 1'700'000'000 * second, d.sim.clock.now() + 60 * second};
    crtc.on_flip(id, times[n++ % 3], 0);
    return false;
  };
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(30);
  CHECK_EQ(d.sim.records.size(), 30u);
  for (const auto& r : d.sim.records) {
    CHECK_EQ(r.flags & flip::presented_hw_clock, 0u);
    CHECK(std::abs(r.flip_ns - d.sim.clock.now()) < 31 * period);
  }
  CHECK_EQ(crtc.stats.missed.load(), 0u);
}

TEST(the_kernels_counter_goes_on_beyond_32_bits) {
  Display d;
  Crtc& crtc = d.sim.add_crtc(1);
  Stream& stream = d.show(crtc);
  uint32_t sequence = 0xfffffff0;
  d.sim.deliver = [&](uint32_t, uint64_t id) {
    crtc.on_flip(id, d.sim.clock.now(), sequence++);
    return false;
  };
  d.keep_flipping();
  d.submit(stream);
  d.sim.run_vblanks(32);
  for (size_t i = 1; i < d.sim.records.size(); ++i)
    CHECK_EQ(d.sim.records[i].vblank, d.sim.records[i - 1].vblank + 1);
}
