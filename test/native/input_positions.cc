// Positions of touch, pens and pointers: mapped through a guest's place, and told anew to another guest.
#include "input_rig.h"

using namespace scanout;
using namespace scanout::test;

namespace {

constexpr int X = ABS_MT_POSITION_X, Y = ABS_MT_POSITION_Y, ID = ABS_MT_TRACKING_ID;

/// Two guests side by side on an output of 1000 x 1000 pixels.
struct Halves : World {
  Halves(Class of, const Description& description, bool under = false) {
    for (TestGuest* guest : {&a, &b})
      guest->add(of, description);
    source = &add(of, description, 0);
    auto table = copy();
    table->under = under;
    table->places = {{.guest = &a.guest, .output = 0, .x = 0, .y = 0, .width = 500, .height = 1000},
                     {.guest = &b.guest, .output = 0, .x = 500, .y = 0, .width = 500, .height = 1000}};
    set(std::move(table));
    show(&a);
  }
  TestGuest& a = add_guest();
  TestGuest& b = add_guest();
  TestSource* source = nullptr;
};

/// One guest on the whole of an output.
struct Whole : World {
  explicit Whole(Class of, const Description& description) {
    for (TestGuest* guest : {&a, &b})
      guest->add(of, description);
    source = &add(of, description);
    show(&a);
    sink = a.sinks[of];
    other = b.sinks[of];
  }
  TestGuest& a = add_guest();
  TestGuest& b = add_guest();
  TestSource* source = nullptr;
  TestSink *sink = nullptr, *other = nullptr;
};

} // namespace

TEST(input_touch_goes_through_as_the_kernel_sent_it) {
  Whole w(Class::touchscreen, touchscreen());
  const std::vector<Events> frames = {
      {abs(ID, 1), abs(X, 10), abs(Y, 20), key(BTN_TOUCH, 1), abs(ABS_X, 10), abs(ABS_Y, 20)},
      {abs(X, 11), abs(ABS_MT_SLOT, 1), abs(ID, 2), abs(X, 500), abs(Y, 600), abs(ABS_X, 11)},
      {abs(Y, 601), abs(ABS_MT_SLOT, 0), abs(ID, -1)},
      {abs(ABS_MT_SLOT, 1), abs(ID, -1), key(BTN_TOUCH, 0)},
      {abs(ABS_MT_SLOT, 0), abs(ID, 3), key(BTN_TOUCH, 1)}, // where it was before
  };
  for (const Events& frame : frames) {
    w.send(*w.source, frame);
    CHECK_EQ(text(w.sink->take()), text(frame));
  }
}

TEST(input_contact_ends_with_its_guest_and_the_next_is_whole) {
  Whole w(Class::touchscreen, touchscreen());
  w.send(*w.source, {abs(ID, 1), abs(X, 10), abs(Y, 20), key(BTN_TOUCH, 1), abs(ABS_X, 10), abs(ABS_Y, 20)});
  w.sink->take();
  w.show(&w.b);
  CHECK(w.a.holds_nothing());
  w.send(*w.source, {abs(X, 12)}); // the contact is none of the new guest's
  CHECK(w.other->frames.empty());
  w.send(*w.source, {abs(ABS_MT_SLOT, 1), abs(ID, 2), abs(X, 300), abs(Y, 400)});
  CHECK_EQ(w.other->contacts.size(), size_t{1});
  CHECK(w.other->down.contains(BTN_TOUCH)); // which the kernel has pressed long ago
  CHECK_EQ(w.other->contacts[1][X], 300);
  w.send(*w.source, {abs(ABS_MT_SLOT, 0), abs(ID, -1)});
  CHECK(w.other->down.contains(BTN_TOUCH));
  w.send(*w.source, {abs(ABS_MT_SLOT, 1), abs(ID, -1), key(BTN_TOUCH, 0)});
  CHECK(w.b.holds_nothing());
  // Where the first finger was, of which the kernel has nothing new to say.
  w.send(*w.source, {abs(ABS_MT_SLOT, 0), abs(ID, 3), key(BTN_TOUCH, 1)});
  CHECK_EQ(w.other->contacts[0][X], 12);
  CHECK_EQ(w.other->contacts[0][Y], 20);
  CHECK_EQ(w.other->axes[ABS_X], 10);
}

TEST(input_touch_is_mapped_into_its_guest_and_begins_in_it) {
  Halves w(Class::touchscreen, touchscreen());
  TestSink& sink = *w.a.sinks[Class::touchscreen];
  w.send(*w.source,
         {abs(ID, 1), abs(X, 250), abs(Y, 500), key(BTN_TOUCH, 1), abs(ABS_X, 250), abs(ABS_Y, 500)});
  CHECK_EQ(sink.contacts[0][X], 500);
  CHECK_EQ(sink.contacts[0][Y], 500);
  CHECK_EQ(sink.axes[ABS_X], 500);
  // Beside the guest: no contact of it, and nothing is pressed by it.
  w.send(*w.source, {abs(ABS_MT_SLOT, 1), abs(ID, 2), abs(X, 800), abs(Y, 500)});
  CHECK_EQ(sink.contacts.size(), size_t{1});
  w.send(*w.source, {abs(ABS_MT_SLOT, 0), abs(ID, -1)});
  CHECK(w.a.holds_nothing()); // although the kernel has BTN_TOUCH pressed
  w.send(*w.source, {abs(ABS_MT_SLOT, 1), abs(ID, -1), key(BTN_TOUCH, 0)});
  CHECK(w.a.holds_nothing());
  CHECK(w.b.sinks[Class::touchscreen]->frames.empty());
}

TEST(input_touch_goes_to_the_guest_under_it) {
  Halves w(Class::touchscreen, touchscreen(), true);
  TestSink& b = *w.b.sinks[Class::touchscreen];
  w.send(*w.source, {abs(ID, 1), abs(X, 750), abs(Y, 500), key(BTN_TOUCH, 1)});
  CHECK_EQ(b.contacts[0][X], 500);
  w.send(*w.source, {abs(X, 100)}); // it stays with the guest it began in
  CHECK_EQ(b.contacts[0][X], 0);
  CHECK(w.a.sinks[Class::touchscreen]->frames.empty());
  w.send(*w.source, {abs(ID, -1), key(BTN_TOUCH, 0)});
  w.send(*w.source, {abs(ID, 2), key(BTN_TOUCH, 1)});
  CHECK(w.b.holds_nothing());
  CHECK_EQ(w.a.sinks[Class::touchscreen]->contacts[0][X], 200);
}

TEST(input_two_touchscreens_share_the_slots_of_their_guest) {
  Whole w(Class::touchscreen, touchscreen());
  TestSource& second = w.add(Class::touchscreen, touchscreen(2000));
  w.send(*w.source, {abs(ID, 1), abs(X, 10), abs(Y, 20), key(BTN_TOUCH, 1)});
  w.send(second, {abs(ID, 7), abs(X, 1000), abs(Y, 2000), key(BTN_TOUCH, 1)});
  CHECK_EQ(w.sink->contacts.size(), size_t{2});
  CHECK_EQ(w.sink->contacts[1][X], 500);
  CHECK_EQ(w.sink->contacts[1][Y], 1000);
  w.send(*w.source, {abs(X, 11)});
  CHECK_EQ(w.sink->contacts[0][X], 11);
  w.send(*w.source, {abs(ID, -1), key(BTN_TOUCH, 0)});
  CHECK(w.sink->down.contains(BTN_TOUCH));
  w.send(second, {abs(ID, -1), key(BTN_TOUCH, 0)});
  CHECK(w.a.holds_nothing());
}

TEST(input_pen_that_is_near_comes_along_without_pressing) {
  Whole w(Class::tablet, pen());
  w.send(*w.source, {key(BTN_TOOL_PEN, 1), abs(ABS_X, 100), abs(ABS_Y, 200), abs(ABS_TILT_X, 30)});
  w.send(*w.source, {key(BTN_TOUCH, 1), abs(ABS_PRESSURE, 900)});
  w.sink->take();
  w.show(&w.b);
  CHECK(w.a.holds_nothing());
  CHECK(w.other->down == std::set<uint16_t>{BTN_TOOL_PEN});
  CHECK_EQ(w.other->axes[ABS_X], 100);
  CHECK_EQ(w.other->axes[ABS_TILT_X], 30);
  w.send(*w.source, {abs(ABS_PRESSURE, 950), abs(ABS_X, 101)});
  CHECK_EQ(w.other->axes[ABS_PRESSURE], 0);
  w.send(*w.source, {key(BTN_TOUCH, 0), abs(ABS_PRESSURE, 0)});
  w.send(*w.source, {abs(ABS_PRESSURE, 400), key(BTN_TOUCH, 1)});
  CHECK_EQ(w.other->axes[ABS_PRESSURE], 400);
  CHECK(w.other->down.contains(BTN_TOUCH));
}

TEST(input_pen_that_hovers_goes_to_the_guest_under_it) {
  Halves w(Class::tablet, pen(), true);
  TestSink &a = *w.a.sinks[Class::tablet], &b = *w.b.sinks[Class::tablet];
  w.send(*w.source, {key(BTN_TOOL_PEN, 1), abs(ABS_X, 250), abs(ABS_Y, 500)});
  CHECK_EQ(a.axes[ABS_X], 500);
  w.send(*w.source, {abs(ABS_X, 750)});
  CHECK(w.a.holds_nothing());
  CHECK(b.down == std::set<uint16_t>{BTN_TOOL_PEN});
  CHECK_EQ(b.axes[ABS_X], 500);
  w.send(*w.source, {key(BTN_TOUCH, 1), abs(ABS_PRESSURE, 9)});
  w.send(*w.source, {abs(ABS_X, 250)}); // a stroke stays with its guest
  CHECK(b.down.contains(BTN_TOUCH));
}

TEST(input_pointer_has_a_position_under_which_a_guest_is_found) {
  Halves w(Class::absolute, position(), true);
  TestSource& mouse = w.add(Class::pointer, test::mouse(), 0);
  TestSink &a = *w.a.sinks[Class::absolute], &b = *w.b.sinks[Class::absolute];
  w.send(mouse, {rel(REL_X, 250), rel(REL_Y, 100)});
  CHECK_EQ(a.axes[ABS_X], 500);
  CHECK_EQ(a.axes[ABS_Y], 100);
  w.send(mouse, {rel(REL_X, 500)});
  CHECK_EQ(b.axes[ABS_X], 500);
  w.send(mouse, {key(BTN_LEFT, 1)});
  CHECK(b.down.contains(BTN_LEFT));
  w.send(mouse, {rel(REL_X, -700)}); // a drag stays with its guest
  CHECK_EQ(b.axes[ABS_X], 0);
  w.send(mouse, {key(BTN_LEFT, 0), rel(REL_WHEEL, 1)});
  CHECK(w.b.holds_nothing());
  w.send(mouse, {rel(REL_X, -5000)});
  CHECK_EQ(a.axes[ABS_X], 0);
  CHECK_EQ(w.seat.pointer_x, 0.0);
}

TEST(input_ranges_are_scaled_from_one_whole_to_the_other) {
  World w;
  TestGuest& guest = w.add_guest();
  TestSink& sink = guest.add(Class::absolute, position(32767));
  TestSource& source = w.add(Class::absolute, position(100));
  w.show(&guest);
  w.send(source, {abs(ABS_X, 50), abs(ABS_Y, 100)});
  CHECK_EQ(sink.axes[ABS_X], 16384);
  CHECK_EQ(sink.axes[ABS_Y], 32767);
}

TEST(input_device_that_starts_afresh_is_told_all) {
  Whole w(Class::absolute, position());
  w.send(*w.source, {abs(ABS_X, 5), abs(ABS_Y, 6)});
  w.send(*w.source, {key(BTN_LEFT, 1)});
  Port& port = *w.source->port;
  w.router.renewed(port, w.seats);
  w.sink->down.clear();
  w.sink->axes.clear();
  w.send(*w.source, {abs(ABS_X, 7)});
  CHECK_EQ(w.sink->axes[ABS_X], 7);
  CHECK_EQ(w.sink->axes[ABS_Y], 6);
}

TEST(input_nonsense_of_a_device_hurts_nobody) {
  Whole w(Class::touchscreen, touchscreen());
  w.send(*w.source, {abs(ABS_MT_SLOT, 4000), abs(ID, 1), abs(X, 1), abs(ABS_MT_SLOT, -3), abs(ID, 2)});
  CHECK(w.sink->contacts.empty());
  w.send(*w.source,
         {abs(ABS_MT_SLOT, 0), abs(ID, 5), abs(X, INT32_MAX), abs(Y, INT32_MIN), key(BTN_TOUCH, 1)});
  w.send(*w.source, {abs(ID, 6), key(KEY_MAX, 1), {.type = 0x1f, .code = 0xffff, .value = -1}});
  CHECK_EQ(w.sink->contacts.size(), size_t{1});
  w.send(*w.source, {{.type = EV_ABS, .code = 0xffff, .value = 1},
                     {.type = EV_SW, .code = 0xffff, .value = 1},
                     {.type = EV_KEY, .code = 0xffff, .value = 1},
                     {.type = EV_REL, .code = 0xffff, .value = 1}});
  w.show(nullptr);
  CHECK(w.a.holds_nothing());
}
