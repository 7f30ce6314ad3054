// The input ring under chance: random streams to a guest of random sloth, and a reader on a thread of its
// own.
#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "base/clock.h"
#include "ring_rig.h"

namespace scanout::test {

using input::Class;
using Delivery = input::Sink::Delivery;

namespace {

/// Who presses, and what the guest makes of it.
class Hands {
public:
  Hands(RingRig& rig, uint32_t seed) : rig_(rig), random_(seed) {}

  /// One frame of a random device: motion mostly, now and then a key or a contact.
  void act() {
    const uint32_t what = random_() % 16;
    if (what < 2)
      toggle(Class::keyboard, static_cast<uint16_t>(KEY_1 + random_() % 12));
    else if (what == 2)
      toggle(Class::pointer, static_cast<uint16_t>(BTN_LEFT + random_() % 3));
    else if (what == 3)
      touch(static_cast<int32_t>(random_() % 5));
    else
      move(static_cast<int32_t>(random_() % 7) - 3);
  }
  void let_go() {
    while (!down_.empty())
      toggle(down_.begin()->first, down_.begin()->second);
    while (!touched_.empty())
      touch(*touched_.begin());
  }
  void note(const std::vector<RingFrame>& frames) {
    for (const RingFrame& frame : frames)
      for (const input::Event& event : frame.events)
        note(frame.from, event);
  }

  int64_t moved = 0, seen_moved = 0;
  std::vector<std::pair<uint16_t, int32_t>> keys, seen_keys;
  std::set<std::pair<Class, uint16_t>> seen_down;
  std::set<int32_t> seen_touched;

private:
  void toggle(Class from, uint16_t key) {
    const bool press = down_.insert({from, key}).second;
    if (!press) down_.erase({from, key});
    keys.emplace_back(key, press ? 1 : 0);
    rig_.send(from, {{EV_KEY, key, press ? 1 : 0}}, ++time_);
  }
  void touch(int32_t slot) {
    const bool begins = touched_.insert(slot).second;
    if (!begins) touched_.erase(slot);
    rig_.send(Class::touchscreen,
              {{EV_ABS, ABS_MT_SLOT, slot},
               {EV_ABS, ABS_MT_TRACKING_ID, begins ? static_cast<int32_t>(time_ & 0xffff) : -1}},
              ++time_);
  }
  void move(int32_t by) {
    moved += by;
    rig_.send(Class::pointer, {{EV_REL, REL_X, by}, {EV_REL, REL_Y, 1}}, ++time_);
  }
  void note(Class from, const input::Event& event) {
    if (event.type == EV_REL && event.code == REL_X) seen_moved += event.value;
    if (event.type == EV_KEY) {
      seen_keys.emplace_back(event.code, event.value);
      if (event.value != 0)
        CHECK(seen_down.insert({from, event.code}).second); // never pressed twice
      else
        seen_down.erase({from, event.code});
    }
    if (event.type != EV_ABS) return;
    if (event.code == ABS_MT_SLOT) slot_ = event.value;
    if (event.code != ABS_MT_TRACKING_ID) return;
    if (event.value >= 0)
      seen_touched.insert(slot_);
    else
      seen_touched.erase(slot_);
  }

  RingRig& rig_;
  std::mt19937 random_;
  int64_t time_ = 0;
  int32_t slot_ = 0;
  std::set<std::pair<Class, uint16_t>> down_;
  std::set<int32_t> touched_;
};

/// `sloth`: frames that are sent for each that is read, about. True when the guest lost something.
bool one_stream(uint32_t seed, uint32_t sloth) {
  RingRig rig;
  const bool mute = seed % 3 == 0; // some never signal: the next event finds their room
  RingGuest guest(rig.sink, mute ? -1 : rig.room);
  Hands hands(rig, seed);
  std::mt19937 random(seed + 1);
  for (int i = 0; i < 20000; ++i) {
    hands.act();
    if (random() % (8 * sloth) == 0) hands.note(guest.read(1 + random() % 16));
    if (random() % 64 == 0) rig.turn();
  }
  hands.let_go();
  // Reads on some day, until nothing comes any more.
  for (int turns = 0; turns < 100; ++turns) {
    const std::vector<RingFrame> frames = guest.read();
    hands.note(frames);
    if (frames.empty() && guest.ring().waiting == 0) break;
    if (mute)
      rig.send(Class::switches, {});
    else
      rig.turn(3'000'000);
  }
  CHECK(hands.seen_down.empty());
  CHECK(hands.seen_touched.empty());
  CHECK_EQ(guest.ring().waiting, 0u);
  CHECK_EQ(rig.ends, 0u);
  if (rig.sink.dropped() > 0) return true;
  CHECK_EQ(hands.seen_moved, hands.moved);
  CHECK(hands.seen_keys == hands.keys);
  return false;
}

} // namespace

TEST(ring_leaves_nothing_pressed_however_slow_the_guest) {
  uint32_t lost = 0, whole = 0;
  for (uint32_t seed = 0; seed < 40; ++seed)
    ++(one_stream(seed, 1u << seed % 10) ? lost : whole);
  // The streams have both.
  CHECK(lost > 0);
  CHECK(whole > 0);
}

/// Both threads as fast as they can. The writer waits for room where there is none: every frame comes, whole
/// and in its order, and no wake-up is lost.
TEST(ring_stress_with_a_reader_thread) {
  constexpr int64_t frames = 200000;
  RingRig rig;
  RingGuest guest(rig.sink, rig.room, &rig.sink.memory().ring());
  guest.ours = &rig.sink.memory().reply();
  std::atomic<bool> failed{false};
  std::thread reader([&] {
    std::mt19937 random(3);
    bool away = false;
    for (int64_t next = 0; next < frames && !failed;) {
      // Once for so long that the daemon has to wait, however slow it is.
      if (!away && next > frames / 4) {
        const int64_t limit = base::now_ns() + 20'000'000'000;
        while (RingGuest::load(guest.ring().waiting, std::memory_order_relaxed) == 0 &&
               base::now_ns() < limit)
          std::this_thread::sleep_for(std::chrono::microseconds(100));
        away = true;
      }
      const std::vector<RingFrame> got = guest.read(1 + random() % 1500);
      for (const RingFrame& frame : got) {
        const auto value = static_cast<int32_t>(next);
        const bool good =
            frame.time_ns == next && frame.events.size() == 1 + static_cast<size_t>(next % 5) &&
            std::ranges::all_of(frame.events, [&](const auto& event) { return event.value == value; });
        if (!good) failed = true;
        ++next;
      }
      // Sleeps as a guest does, or is away for a while.
      pollfd signalled{rig.event, POLLIN, 0};
      if (got.empty() && ::poll(&signalled, 1, 2000) == 0) failed = true;
      (void)rig.signalled();
      if (random() % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    }
  });
  uint64_t waited = 0;
  for (int64_t i = 0; i < frames && !failed; ++i) {
    const std::vector<input::Event> events(1 + static_cast<size_t>(i % 5),
                                           {EV_MSC, MSC_RAW, static_cast<int32_t>(i)});
    const Delivery delivery = rig.send(Class::pad, events, i);
    rig.sink.flush();
    if (delivery == Delivery::done) continue;
    ++waited;
    const int64_t limit = base::now_ns() + 5'000'000'000;
    while (RingGuest::load(guest.ring().waiting, std::memory_order_relaxed) != 0 && !failed) {
      if (base::now_ns() > limit) failed = true; // the guest's signal was lost
      rig.epoll.wait(limit);
      rig.sink.flush();
    }
  }
  reader.join();
  CHECK(!failed);
  CHECK(waited > 0);
  CHECK_EQ(rig.ends, 0u);
  CHECK_EQ(rig.sink.merged() + rig.sink.dropped(), 0u);
}

} // namespace scanout::test
