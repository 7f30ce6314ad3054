// Where events go, and that keys and contacts stay balanced wherever they go.
#include "allocations.h"
#include "input_rig.h"

using namespace scanout;
using namespace scanout::test;

namespace {

Hotkey both_ctrl_and(uint16_t key, uint32_t id, Guest* guest) {
  return {.held = {{KEY_LEFTCTRL}, {KEY_RIGHTCTRL}}, .key = key, .id = id, .guest = guest};
}

/// Two guests with a keyboard and a mouse each; the first has the seat.
struct Two : World {
  Two() {
    for (TestGuest* guest : {&a, &b}) {
      guest->add(Class::keyboard, test::keyboard());
      guest->add(Class::pointer, test::mouse());
    }
    auto table = copy();
    table->hotkeys = {both_ctrl_and(KEY_F1, 1, &a.guest), both_ctrl_and(KEY_F2, 2, &b.guest),
                      both_ctrl_and(KEY_F3, 3, nullptr)};
    set(std::move(table));
    show(&a);
  }
  TestGuest& a = add_guest();
  TestGuest& b = add_guest();
  TestSource& keys = add(Class::keyboard, test::keyboard());
  TestSource& pointer = add(Class::pointer, test::mouse());
  TestSink& a_keys() { return *a.sinks[Class::keyboard]; }
  TestSink& b_keys() { return *b.sinks[Class::keyboard]; }
};

} // namespace

TEST(input_goes_through_as_the_kernel_sent_it) {
  Two w;
  const Events typed = {msc(MSC_SCAN, 0x70004), key(KEY_A, 1)};
  w.send(w.keys, typed);
  CHECK_EQ(text(w.a_keys().take()), text(typed));
  const Events moved = {rel(REL_X, 3), rel(REL_Y, -2), key(BTN_LEFT, 1), rel(REL_WHEEL_HI_RES, 120),
                        rel(REL_WHEEL, 1)};
  w.send(w.pointer, moved);
  CHECK_EQ(text(w.a.sinks[Class::pointer]->take()), text(moved));
  CHECK(w.b_keys().frames.empty());
}

TEST(input_leaves_repeats_to_the_guest) {
  Two w;
  w.send(w.keys, {key(KEY_A, 1)});
  w.a_keys().take();
  w.send(w.keys, {key(KEY_A, 2)});
  CHECK(w.a_keys().frames.empty());
  w.send(w.keys, {msc(MSC_SCAN, 5), key(KEY_A, 2)});
  CHECK(w.a_keys().frames.empty());
}

TEST(input_releases_what_is_held_before_another_guest_is_shown) {
  Two w;
  w.send(w.keys, {key(KEY_LEFTSHIFT, 1)});
  w.send(w.keys, {key(KEY_Z, 1)});
  w.send(w.pointer, {key(BTN_LEFT, 1)});
  w.a_keys().take();
  w.show(&w.b);
  CHECK_EQ(text(w.a_keys().take()), text({key(KEY_Z, 0), key(KEY_LEFTSHIFT, 0)}));
  CHECK(w.a.holds_nothing());
  // Their releases are nothing to the new guest, a new press is.
  w.send(w.keys, {key(KEY_Z, 0)});
  w.send(w.pointer, {key(BTN_LEFT, 0)});
  CHECK(w.b_keys().frames.empty() && w.b.sinks[Class::pointer]->frames.empty());
  w.send(w.keys, {key(KEY_Z, 1)});
  CHECK_EQ(text(w.b_keys().take()), text({key(KEY_Z, 1)}));
}

TEST(input_hotkey_switches_at_once_and_reaches_no_guest) {
  Two w;
  w.send(w.keys, {key(KEY_LEFTCTRL, 1)});
  w.send(w.keys, {key(KEY_RIGHTCTRL, 1)});
  w.a_keys().take();
  w.send(w.keys, {msc(MSC_SCAN, 7), key(KEY_F2, 1)});
  CHECK_EQ(text(w.a_keys().take()), text({key(KEY_LEFTCTRL, 0), key(KEY_RIGHTCTRL, 0)}));
  CHECK(w.seat.table->guest == &w.b.guest);
  w.send(w.keys, {key(KEY_F2, 2)});
  w.send(w.keys, {msc(MSC_SCAN, 7), key(KEY_F2, 0)});
  CHECK(w.b_keys().frames.empty());
  REQUIRE(w.hotkeys.size() == 1);
  CHECK_EQ(w.hotkeys[0].first, 2u);
  CHECK_EQ(w.hotkeys[0].second, w.b.guest.id);
  // The keys are held still: the next one follows.
  w.send(w.keys, {key(KEY_F1, 1)});
  CHECK(w.seat.table->guest == &w.a.guest);
  w.send(w.keys, {key(KEY_F3, 1)});
  CHECK_EQ(w.hotkeys.size(), size_t{3});
  CHECK(w.seat.table->guest == &w.a.guest);
}

TEST(input_table_that_knows_less_than_a_hotkey_does_not_take_it_back) {
  Two w;
  w.send(w.keys, {key(KEY_LEFTCTRL, 1), key(KEY_RIGHTCTRL, 1)});
  auto former = w.copy(); // shows the first guest, and was made before
  w.send(w.keys, {key(KEY_F2, 1)});
  w.set(std::move(former));
  CHECK(w.seat.table->guest == &w.b.guest);
  w.send(w.keys, {key(KEY_A, 1)});
  CHECK(w.a.holds_nothing());
  CHECK(w.b_keys().down.contains(KEY_A));
  // Nobody's input, as of a seat that is locked, needs to know nothing.
  former = w.copy();
  former->switches = 0;
  former->guest = nullptr;
  w.set(std::move(former));
  CHECK(w.seat.table->guest == nullptr && w.b.holds_nothing());
  // One that knows is obeyed.
  auto table = w.copy();
  table->switches = w.seat.switches;
  table->guest = &w.a.guest;
  w.set(std::move(table));
  CHECK(w.seat.table->guest == &w.a.guest);
}

TEST(input_hotkey_needs_all_of_its_keys_and_minds_no_other) {
  Two w;
  TestSource& other = w.add(Class::keyboard, test::keyboard());
  w.send(w.keys, {key(KEY_LEFTCTRL, 1)});
  w.send(w.keys, {key(KEY_F2, 1)});
  CHECK(w.hotkeys.empty());
  CHECK(w.a_keys().down.contains(KEY_F2));
  w.send(w.keys, {key(KEY_F2, 0)});
  w.send(w.keys, {key(KEY_Q, 1)}); // stuck
  w.send(other, {key(KEY_RIGHTCTRL, 1)});
  w.send(other, {key(KEY_F2, 1)});
  CHECK_EQ(w.hotkeys.size(), size_t{1});
}

TEST(input_device_that_is_gone_holds_no_hotkey) {
  Two w;
  TestSource& other = w.add(Class::keyboard, test::keyboard());
  w.send(other, {key(KEY_LEFTCTRL, 1)});
  w.send(other, {key(KEY_X, 1)});
  w.router.forget_device(w.seat, other.device);
  CHECK(w.a.holds_nothing());
  w.send(w.keys, {key(KEY_RIGHTCTRL, 1)});
  w.send(w.keys, {key(KEY_F2, 1)});
  CHECK(w.hotkeys.empty());
}

TEST(input_key_on_two_keyboards_is_released_by_the_last) {
  Two w;
  TestSource& other = w.add(Class::keyboard, test::keyboard());
  w.send(w.keys, {key(KEY_LEFTSHIFT, 1)});
  w.send(other, {key(KEY_LEFTSHIFT, 1)});
  w.send(w.keys, {key(KEY_LEFTSHIFT, 0)});
  CHECK(w.a_keys().down.contains(KEY_LEFTSHIFT));
  w.send(other, {key(KEY_LEFTSHIFT, 0)});
  CHECK(w.a.holds_nothing());
}

TEST(input_carries_lock_state_and_shows_it) {
  Two w;
  auto table = w.copy();
  table->carry_locks = true;
  w.set(std::move(table));
  w.router.leds(w.a.guest, 1U << LED_CAPSL, w.seats);
  w.router.leds(w.b.guest, 1U << LED_NUML, w.seats);
  CHECK_EQ(w.keys.shown, 1U << LED_CAPSL);
  w.show(&w.b);
  CHECK_EQ(text(w.b_keys().take()),
           text({key(KEY_NUMLOCK, 1), key(KEY_NUMLOCK, 0), key(KEY_CAPSLOCK, 1), key(KEY_CAPSLOCK, 0)}));
  CHECK_EQ(w.keys.shown, 1U << LED_CAPSL);
  // Without, each guest has its own.
  table = w.copy();
  table->carry_locks = false;
  w.set(std::move(table));
  w.router.leds(w.b.guest, 1U << LED_NUML, w.seats);
  w.show(&w.a);
  CHECK_EQ(w.keys.shown, 1U << LED_CAPSL);
  CHECK(w.a_keys().take().empty());
}

TEST(input_lock_that_a_guest_has_not_answered_yet_is_not_carried_twice) {
  Two w;
  auto table = w.copy();
  table->carry_locks = true;
  w.set(std::move(table));
  w.router.leds(w.a.guest, 1U << LED_CAPSL, w.seats);
  w.router.leds(w.b.guest, 0, w.seats);
  w.show(&w.b);
  CHECK_EQ(text(w.b_keys().take()), text({key(KEY_CAPSLOCK, 1), key(KEY_CAPSLOCK, 0)}));
  w.show(&w.a);
  w.show(&w.b);
  CHECK(w.a_keys().take().empty() && w.b_keys().take().empty());
}

TEST(input_guest_that_starts_afresh_is_told_of_switches) {
  World w;
  TestGuest& guest = w.add_guest();
  Description lid;
  lid.types.set(EV_SW);
  lid.switches.set(SW_LID);
  TestSink& sink = guest.add(Class::switches, lid);
  TestSource& source = w.add(Class::switches, lid);
  w.show(&guest);
  w.send(source, {{.type = EV_SW, .code = SW_LID, .value = 1}});
  sink.take();
  w.router.renewed(*source.port, w.seats);
  CHECK_EQ(text(sink.take()), text({{.type = EV_SW, .code = SW_LID, .value = 1}}));
}

TEST(input_events_of_a_former_watch_are_known) {
  Two w;
  w.router.watch(&w.seat, true, 1);
  w.send(w.keys, {key(KEY_P, 1)});
  w.router.watch(&w.seat, false, 2);
  w.send(w.keys, {key(KEY_P, 0)});
  auto one = w.router.watched();
  CHECK(one && one->watch == 1 && one->event.code == KEY_P);
  one = w.router.watched();
  CHECK(one && one->watch == 2 && one->event.code == UINT16_MAX);
}

TEST(input_of_another_seat_is_of_no_concern) {
  Two w;
  Seat other{2};
  w.seats.push_back(&other);
  TestSource foreign(900, Class::keyboard, test::keyboard());
  auto table = std::make_unique<SeatTable>();
  table->members = {{.source = &foreign, .output = -1}};
  table->guest = &w.b.guest;
  w.router.set(other, std::move(table));
  w.router.frame(foreign, frame_of({key(KEY_S, 1)}), 1);
  CHECK(w.a_keys().frames.empty());
  CHECK_EQ(text(w.b_keys().take()), text({key(KEY_S, 1)}));
  w.router.forget(other);
  CHECK_EQ(text(w.b_keys().take()), text({key(KEY_S, 0)}));
  w.router.frame(foreign, frame_of({key(KEY_S, 0)}), 1);
  CHECK(w.b_keys().frames.empty());
}

TEST(input_guest_that_goes_is_in_no_table) {
  Two w;
  w.send(w.keys, {key(KEY_A, 1)});
  w.router.forget(w.a.guest, w.seats);
  CHECK(w.seat.table->guest == nullptr);
  CHECK(w.keys.port == nullptr);
  w.send(w.keys, {key(KEY_B, 1)});
  CHECK(w.a.holds_nothing());
}

TEST(input_watched_keys_are_told_only_when_asked_for) {
  Two w;
  w.router.watch(&w.seat, false);
  w.send(w.keys, {msc(MSC_SCAN, 9), key(KEY_P, 1)});
  w.send(w.pointer, {key(BTN_LEFT, 1)});
  auto one = w.router.watched();
  CHECK(one && one->event.type == EV_MSC && one->event.code == UINT16_MAX && one->event.value == 0);
  one = w.router.watched();
  CHECK(one && one->event.code == UINT16_MAX && one->event.value == 1 && one->guest == w.a.guest.id);
  one = w.router.watched();
  CHECK(one && one->event.code == BTN_LEFT);
  w.router.watch(&w.seat, true);
  w.send(w.keys, {key(KEY_P, 0)});
  one = w.router.watched();
  CHECK(one && one->event.code == KEY_P);
  w.router.watch(nullptr, true);
  w.send(w.keys, {key(KEY_P, 1)});
  CHECK(!w.router.watched());
}

TEST(input_routing_allocates_nothing) {
  Two w;
  for (TestGuest* guest : {&w.a, &w.b}) {
    for (auto& [of, sink] : guest->sinks)
      sink->keep = false;
  }
  const Events down = frame_of({key(KEY_ENTER, 1)}), up = frame_of({key(KEY_ENTER, 0)});
  const Events moved = frame_of({rel(REL_X, 1), rel(REL_Y, 1)});
  w.router.frame(w.keys, down, 1); // the set of the test's sink has its node now
  const size_t before = allocations();
  for (int i = 0; i < 1000; ++i)
    w.router.frame(w.pointer, moved, i);
  w.router.frame(w.keys, up, 2);
  CHECK_EQ(allocations() - before, size_t{0});
}
