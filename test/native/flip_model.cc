// Anything at any time, thousands of times: nothing on the screen is released, everything is released once,
// and the newest frame is shown in the end.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

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

constexpr uint32_t unseen = flip::first_virtual_crtc;
constexpr uint32_t idle_fb = 900'000;
// Planes of their own of the CRTCs 1 and 2, and one that both can use.
constexpr uint32_t planes_of[2][4] = {{11, 12, 13, 77}, {21, 22, 23, 77}};

class Model {
public:
  explicit Model(uint64_t seed) : random_(seed) {
    d_.sim.add_crtc(1, Policy::eager);
    d_.sim.add_crtc(2, Policy::deadline);
    d_.sim.add_crtc(unseen);
    for (int i = 0; i < 5; ++i)
      d_.stream();
    d_.sim.verdict = [this](const Commit& commit) { return judge(commit); };
    d_.sim.deliver = [this](uint32_t, uint64_t) { return std::exchange(lose_, 0) == 0; };
    d_.sim.before_turn = [this] { d_.epoll.wait(0); };
    d_.lender.room = [this](Stream& stream) {
      if (chance(2)) submit(stream);
    };
  }

  /// False when a rule was broken.
  bool run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      d_.sim.run_for(static_cast<int64_t>(pick(8 * ms)));
    }
    settle();
    leave();
    return d_.lender.violations + broken_ == 0;
  }

private:
  uint64_t pick(uint64_t count) { return std::uniform_int_distribution<uint64_t>(0, count - 1)(random_); }
  bool chance(uint64_t one_in) { return pick(one_in) == 0; }
  Stream& any_stream() { return *d_.streams[pick(d_.streams.size())]; }
  Crtc& crtc(uint32_t id) {
    return **std::find_if(d_.sim.crtcs.begin(), d_.sim.crtcs.end(), [&](auto& c) { return c->id() == id; });
  }

  int judge(const Commit& commit) {
    if (commit.flags == 0) return 0; // recoveries
    if (refuse_ > 0 && !commit.test_only()) return --refuse_, errno_;
    return bad_plane_ != 0 && commit.names(bad_plane_) && (!commit.test_only() || tests_tell_) ? EINVAL : 0;
  }

  void submit(Stream& stream) {
    if (stream.mode() == PresentMode::fifo && !stream.has_room()) return;
    Frame frame = d_.lender.frame();
    d_.lender.uses[frame.sequence] = 1;
    newest_[stream.id()] = frame.sequence;
    if (chance(8)) {
      frame.off = true;
      frame.fb_id = 0;
    }
    frame.place.x = static_cast<int32_t>(chance(3) ? pick(10) : 0);
    base::UniqueFd fence;
    if (chance(4)) {
      fence.reset(eventfd(chance(2) ? 1 : 0, EFD_CLOEXEC));
      fences_.emplace_back(dup(fence.get()));
    }
    stream.submit(frame, std::move(fence));
  }

  void signal_fences() {
    const uint64_t one = 1;
    for (const base::UniqueFd& fence : fences_)
      CHECK_EQ(write(fence.get(), &one, sizeof one), 8);
    fences_.clear();
  }

  void route(Stream& stream) {
    const uint64_t where = pick(10);
    if (where < 4) test::Sim::attach(crtc(1), stream, planes_of[0][where]);
    if (where >= 4 && where < 8) test::Sim::attach(crtc(2), stream, planes_of[1][where - 4]);
    if (where == 8) test::Sim::attach(crtc(unseen), stream, 0);
    if (where == 9) stream.route(nullptr, 0);
  }

  // As the engine does it: at rest, then everything is off but the primary plane, with the daemon's own
  // picture.
  void set_mode(uint32_t id, bool on) {
    Crtc& there = crtc(id);
    there.park();
    for (int i = 0; i < 4000 && !there.parked(); ++i)
      d_.sim.run_for(1 * ms);
    REQUIRE(there.parked());
    const uint32_t primary = planes_of[id - 1][0];
    for (auto& [plane, scanned] : d_.sim.next_screen) {
      if (scanned.crtc == id) scanned = {};
    }
    if (on) d_.sim.next_screen[primary] = {id, idle_fb + id};
    for (auto& [plane, scanned] : d_.sim.screen) {
      if (scanned.crtc == id) scanned = {};
    }
    if (on) d_.sim.screen[primary] = {id, idle_fb + id};
    lit_[id] = on;
    on ? there.on_modeset(primary, period) : there.on_off();
    there.unpark();
  }

  // As the daemon does it: after another master every mode is set anew, while it is paused still.
  void resume() {
    refuse_ = 0;
    for (const uint32_t id : {1u, 2u}) {
      if (d_.sim.paused_flag && lit_[id]) set_mode(id, true);
    }
    d_.sim.paused_flag = false;
    for (const auto& c : d_.sim.crtcs)
      c->resume();
  }

  void fail_some() {
    constexpr int errors[] = {EBUSY, ENOMEM, EINVAL, EACCES, ENOENT, ENOSPC};
    errno_ = errors[pick(std::size(errors))];
    refuse_ = static_cast<int>(1 + pick(4));
  }

  void step() {
    switch (pick(20)) {
    case 0:
      return route(any_stream());
    case 1:
      return any_stream().set_mode(static_cast<PresentMode>(pick(3)));
    case 2:
      return crtc(static_cast<uint32_t>(1 + pick(2))).set_policy(static_cast<Policy>(pick(2)));
    case 3:
      return fail_some();
    case 4:
      return resume();
    case 5:
      bad_plane_ = chance(3) ? planes_of[pick(2)][pick(4)] : 0;
      tests_tell_ = chance(2);
      return;
    case 6:
      if (chance(10)) lose_ = 1;
      return;
    case 7:
      if (chance(4)) set_mode(static_cast<uint32_t>(1 + pick(2)), !chance(3));
      return;
    case 8:
      return chance(4) ? any_stream().drop() : signal_fences();
    case 9:
      return d_.sim.run_for(static_cast<int64_t>(pick(1500 * ms)));
    default:
      return submit(any_stream());
    }
  }

  void expect(bool holds, const char* rule) {
    if (holds) return;
    ++broken_;
    test::fail(__FILE__, __LINE__, rule);
  }

  // Without faults, on planes that work: every stream shows its newest frame.
  void settle() {
    bad_plane_ = 0;
    lose_ = 0;
    resume();
    signal_fences();
    d_.lender.room = nullptr;
    for (const uint32_t id : {1u, 2u})
      set_mode(id, true);
    for (const auto& stream : d_.streams)
      stream->route(nullptr, 0);
    d_.sim.run_for(3000 * ms);
    for (uint32_t i = 0; i < d_.streams.size(); ++i) {
      Stream& stream = *d_.streams[i];
      test::Sim::attach(crtc(1 + i % 2), stream, planes_of[i % 2][i / 2]);
      stream.set_mode(PresentMode::mailbox);
      submit(stream);
    }
    signal_fences();
    d_.sim.run_for(500 * ms);
    for (const auto& stream : d_.streams) {
      const std::vector<uint64_t>& shown = d_.shown(*stream);
      expect(stream->newest() == nullptr, "nothing is left to be shown");
      expect(shown.back() == newest_[stream->id()], "the newest is shown");
      expect(std::is_sorted(shown.begin(), shown.end()), "frames are shown in order");
    }
  }

  void leave() {
    for (const auto& stream : d_.streams) {
      stream->route(nullptr, 0);
      stream->drop();
    }
    d_.sim.run_for(500 * ms);
    for (const auto& [sequence, uses] : d_.lender.uses)
      expect(uses == 0, "everything comes back");
    for (const auto& stream : d_.streams) {
      for (const auto& c : d_.sim.crtcs)
        expect(c->held(*stream) == 0, "nothing is held");
    }
    expect(d_.sim.collisions == 0, "nothing is committed into a flip that is in flight");
  }

  std::mt19937_64 random_;
  Display d_;
  std::vector<base::UniqueFd> fences_;
  std::map<uint32_t, uint64_t> newest_;
  uint32_t bad_plane_ = 0;
  bool tests_tell_ = true;
  bool lit_[3] = {false, true, true}; // by CRTC id
  int refuse_ = 0, errno_ = 0;
  int lose_ = 0;
  int broken_ = 0;
};

} // namespace

TEST(any_order_of_events_keeps_the_release_discipline) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    if (Model(seed).run(150)) continue;
    test::fail(__FILE__, __LINE__, "with seed " + std::to_string(seed));
    break;
  }
}
