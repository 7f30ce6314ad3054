// Random streams, switch points, devices that go: nothing stays pressed, nothing reaches another seat.
#include "input_rig.h"

using namespace scanout;
using namespace scanout::test;

namespace {

constexpr std::array<uint16_t, 8> some_keys = {KEY_A,         KEY_B,        KEY_LEFTCTRL, KEY_RIGHTCTRL,
                                               KEY_LEFTSHIFT, KEY_CAPSLOCK, KEY_F1,       KEY_F2};

/// What a driver may send: keys and contacts that change, as the kernel filters them.
class Player {
public:
  Player(World& world, TestSource& source, std::mt19937& random)
      : world_(world), source_(source), random_(random) {}

  void play() {
    Events events;
    if (source_.of == Class::touchscreen)
      touch(events);
    else
      keys(events);
    if (!events.empty()) world_.send(source_, events);
  }

private:
  uint32_t below(uint32_t limit) { return random_() % limit; }
  void keys(Events& events) {
    const bool buttons = source_.of == Class::pointer;
    const auto code =
        buttons ? static_cast<uint16_t>(BTN_LEFT + below(5)) : some_keys[below(some_keys.size())];
    if (below(8) == 0 && source_.down.test(code))
      events.push_back(key(code, 2));
    else
      events.push_back(key(code, source_.down.test(code) ? 0 : 1));
    if (buttons && below(2) == 0) events.push_back(rel(REL_X, static_cast<int>(below(400)) - 200));
  }
  void touch(Events& events) {
    const auto slot = static_cast<int32_t>(below(5));
    const Source::Slot& now = source_.slots[static_cast<size_t>(slot)];
    if (slot != source_.slot) events.push_back(abs(ABS_MT_SLOT, slot));
    const int32_t before = source_.contacts();
    int32_t after = before;
    if (now.tracking < 0) {
      events.push_back(abs(ABS_MT_TRACKING_ID, ++tracking_));
      ++after;
    } else if (below(3) == 0) {
      events.push_back(abs(ABS_MT_TRACKING_ID, -1));
      --after;
    }
    if (after >= before) {
      events.push_back(abs(ABS_MT_POSITION_X, static_cast<int32_t>(below(1001))));
      if (below(2) == 0) events.push_back(abs(ABS_MT_POSITION_Y, static_cast<int32_t>(below(1001))));
    }
    if ((before > 0) != (after > 0)) events.push_back(key(BTN_TOUCH, after > 0 ? 1 : 0));
  }

  World& world_;
  TestSource& source_;
  std::mt19937& random_;
  int32_t tracking_ = 0;
};

void check_contacts(const TestSource& source, const TestGuest& guest) {
  // Every contact that the guest has of this device is where the device has it.
  const TestSink& sink = *guest.sinks.at(Class::touchscreen);
  for (const Source::Slot& slot : source.slots) {
    if (slot.given_slot < 0) continue;
    const auto found = sink.contacts.find(slot.given_slot);
    REQUIRE(found != sink.contacts.end());
    const auto x = found->second.find(ABS_MT_POSITION_X);
    const int32_t wanted = slot.values[ABS_MT_POSITION_X - ABS_MT_TOUCH_MAJOR];
    CHECK_EQ(x == found->second.end() ? 0 : x->second, wanted);
  }
}

void run(uint32_t seed) {
  std::mt19937 random(seed);
  World w;
  std::vector<TestGuest*> guests;
  for (int i = 0; i < 3; ++i) {
    TestGuest& guest = w.add_guest();
    guest.add(Class::keyboard, keyboard());
    guest.add(Class::pointer, mouse());
    guest.add(Class::touchscreen, touchscreen());
    guests.push_back(&guest);
  }
  std::vector<Player> players;
  for (int i = 0; i < 2; ++i) {
    players.emplace_back(w, w.add(Class::keyboard, keyboard()), random);
    players.emplace_back(w, w.add(Class::pointer, mouse()), random);
    players.emplace_back(w, w.add(Class::touchscreen, touchscreen()), random);
  }
  auto table = w.copy();
  for (uint32_t i = 0; i < 2; ++i) {
    table->hotkeys.push_back({.held = {{KEY_LEFTCTRL}, {KEY_RIGHTCTRL}},
                              .key = static_cast<uint16_t>(KEY_F1 + i),
                              .id = i,
                              .guest = &guests[i]->guest});
  }
  table->carry_locks = random() % 2 == 0;
  w.set(std::move(table));
  w.show(guests[0]);

  for (int step = 0; step < 2000; ++step) {
    players[random() % players.size()].play();
    // What does not have the seat holds nothing.
    for (TestGuest* guest : guests)
      CHECK(&guest->guest == w.seat.table->guest || guest->holds_nothing());
    if (step % 16 == 0) {
      for (const auto& source : w.sources) {
        if (source->of != Class::touchscreen) continue;
        for (TestGuest* guest : guests) {
          if (source->port != nullptr && &source->port->guest == &guest->guest)
            check_contacts(*source, *guest);
        }
      }
    }
    switch (random() % 100) {
    case 0:
      w.show(guests[random() % guests.size()]);
      break;
    case 1:
      w.show(nullptr);
      break;
    case 2:
      w.router.leds(guests[random() % guests.size()]->guest, random() % 8, w.seats);
      break;
    case 3:
      w.router.forget_device(w.seat, w.sources[random() % w.sources.size()]->device);
      break;
    default:
      break;
    }
  }
  // Everything that is released by hand is released in the guest as well.
  w.show(guests[1]);
  for (const auto& source : w.sources) {
    Events up;
    for (size_t i = 0; i < source->slots.size(); ++i) {
      if (source->slots[i].tracking < 0) continue;
      up.push_back(abs(ABS_MT_SLOT, static_cast<int32_t>(i)));
      up.push_back(abs(ABS_MT_TRACKING_ID, -1));
    }
    for (uint16_t code = 0; code < KEY_CNT; ++code) {
      if (source->down.test(code)) up.push_back(key(code, 0));
    }
    if (!up.empty()) w.send(*source, up);
  }
  for (TestGuest* guest : guests)
    CHECK(guest->holds_nothing());
}

} // namespace

TEST(input_random_streams_leave_nothing_pressed) {
  for (uint32_t seed = 1; seed <= 60; ++seed)
    run(seed);
}
