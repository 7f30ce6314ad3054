// The arithmetic between libinput and evdev.
#include "input/libinput_frames.h"

#include <cmath>
#include <limits>

#include "input_rig.h"

namespace scanout::test {

namespace {

Events finished(FrameMaker& frame) {
  const std::span<const Event> events = frame.finish();
  if (events.empty()) return {};
  CHECK(events.back() == (Event{.type = EV_SYN, .code = SYN_REPORT, .value = 0}));
  return {events.begin(), events.end() - 1};
}

void check(FrameMaker& frame, const Events& wanted, int line) {
  const Events got = finished(frame);
  if (got != wanted) fail(__FILE__, line, "got " + text(got) + "wanted " + text(wanted));
}
#define CHECK_FRAME(...) check(frame, __VA_ARGS__, __LINE__)

constexpr input_absinfo range(int32_t minimum, int32_t maximum) {
  return {.minimum = minimum, .maximum = maximum};
}

} // namespace

TEST(libinput_motion_keeps_its_fractions) {
  FrameMaker frame;
  PointerFrames pointer;
  pointer.motion(frame, 0.4, -0.4);
  CHECK_FRAME({});
  pointer.motion(frame, 0.7, -0.4);
  CHECK_FRAME({rel(REL_X, 1)});
  pointer.motion(frame, 0, -0.4);
  CHECK_FRAME({rel(REL_Y, -1)});
  int32_t sum = 0;
  for (int i = 0; i < 1000; ++i) {
    pointer.motion(frame, 0.37, 0);
    for (const Event& event : finished(frame))
      sum += event.value;
  }
  CHECK(std::abs(sum - 370) <= 1);
  // What no device moves, and what is no number.
  pointer.motion(frame, 1e300, std::numeric_limits<double>::quiet_NaN());
  pointer.motion(frame, std::numeric_limits<double>::infinity(), -1e10);
  CHECK_FRAME({});
  pointer.motion(frame, 2, 2);
  const Events after = finished(frame);
  CHECK(after.size() == 2 && after[0].value == 2);
}

TEST(libinput_wheels_count_detents) {
  FrameMaker frame;
  PointerFrames pointer;
  pointer.wheel(frame, 120, 0); // towards the user
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -120), rel(REL_WHEEL, -1)});
  pointer.wheel(frame, 0, 240);
  CHECK_FRAME({rel(REL_HWHEEL_HI_RES, 240), rel(REL_HWHEEL, 2)});
  pointer.wheel(frame, -90, 0);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, 90)});
  pointer.wheel(frame, -45, 0);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, 45), rel(REL_WHEEL, 1)});
  pointer.wheel(frame, 15, 0);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -15)});
  pointer.wheel(frame, -120, 0);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, 120), rel(REL_WHEEL, 1)});
}

TEST(libinput_fingers_scroll_in_small_steps_and_begin_afresh) {
  FrameMaker frame;
  PointerFrames pointer;
  pointer.continuous(frame, 7.5, std::nullopt);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -60)});
  pointer.continuous(frame, 7.5, -0.1);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -60), rel(REL_WHEEL, -1)});
  pointer.continuous(frame, 7.5, -0.1);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -60), rel(REL_HWHEEL_HI_RES, -1)});
  pointer.continuous(frame, 0, 0); // the fingers are lifted
  CHECK_FRAME({});
  pointer.continuous(frame, 7.5, std::nullopt);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -60)});
  // A wheel has a memory of its own.
  pointer.wheel(frame, 60, 0);
  CHECK_FRAME({rel(REL_WHEEL_HI_RES, -60)});
}

TEST(libinput_contacts_are_multitouch_with_slots) {
  FrameMaker frame;
  TouchFrames touch(3);
  touch.down(0, 10, 20);
  touch.frame(frame);
  CHECK_FRAME({abs(ABS_MT_TRACKING_ID, 0), abs(ABS_MT_POSITION_X, 10), abs(ABS_MT_POSITION_Y, 20),
               key(BTN_TOUCH, 1), abs(ABS_X, 10), abs(ABS_Y, 20)});
  touch.down(2, 10, 30);
  touch.move(0, 11, 20);
  touch.frame(frame);
  CHECK_FRAME({abs(ABS_MT_POSITION_X, 11), abs(ABS_MT_SLOT, 2), abs(ABS_MT_TRACKING_ID, 1),
               abs(ABS_MT_POSITION_X, 10), abs(ABS_MT_POSITION_Y, 30), abs(ABS_X, 11)});
  touch.frame(frame); // nothing new
  CHECK_FRAME({});
  touch.up(0); // the other one is the first now
  touch.frame(frame);
  CHECK_FRAME({abs(ABS_MT_SLOT, 0), abs(ABS_MT_TRACKING_ID, -1), abs(ABS_X, 10), abs(ABS_Y, 30)});
  touch.move(0, 99, 99); // of a contact that is none
  touch.up(2);
  touch.frame(frame);
  CHECK_FRAME({abs(ABS_MT_SLOT, 2), abs(ABS_MT_TRACKING_ID, -1), key(BTN_TOUCH, 0)});
  touch.down(3, 1, 1); // beyond the slots
  touch.up(3);
  touch.frame(frame);
  CHECK_FRAME({});
}

TEST(libinput_contact_that_follows_another_in_one_frame_ends_it) {
  FrameMaker frame;
  TouchFrames touch(1);
  touch.down(-1, 5, 5); // a device without slots
  touch.frame(frame);
  finished(frame);
  touch.up(-1);
  touch.down(-1, 5, 6);
  touch.frame(frame);
  CHECK_FRAME({abs(ABS_MT_TRACKING_ID, -1), abs(ABS_MT_TRACKING_ID, 1), abs(ABS_MT_POSITION_X, 5),
               abs(ABS_MT_POSITION_Y, 6), abs(ABS_X, 5), abs(ABS_Y, 6)});
}

TEST(libinput_tracking_ids_begin_again) {
  FrameMaker frame;
  TouchFrames touch(2);
  for (int i = 0; i < 65535; ++i) {
    touch.down(0, 0, 0);
    touch.up(0);
  }
  touch.down(0, 1, 1);
  touch.frame(frame);
  CHECK_EQ(finished(frame)[0].value, 65535);
  touch.down(1, 2, 2);
  touch.frame(frame);
  // The older one keeps its place although its number is greater.
  CHECK_FRAME({abs(ABS_MT_SLOT, 1), abs(ABS_MT_TRACKING_ID, 0), abs(ABS_MT_POSITION_X, 2),
               abs(ABS_MT_POSITION_Y, 2)});
}

TEST(libinput_all_contacts_that_there_can_be_fit_a_frame) {
  FrameMaker frame;
  TouchFrames touch(max_slots);
  for (int32_t turn = 0; turn < 2; ++turn) {
    for (int32_t slot = 0; slot < max_slots; ++slot)
      touch.down(slot, slot + turn, slot);
    touch.frame(frame);
    const Events events = finished(frame);
    CHECK(events.size() < max_frame - 1);
    int32_t farthest = 0; // the last contact's
    for (const Event& event : events)
      farthest = event.code == ABS_MT_POSITION_X ? event.value : farthest;
    CHECK_EQ(farthest, max_slots - 1 + turn);
    CHECK_EQ(events.back().code, static_cast<uint16_t>(ABS_Y)); // and what follows them
  }
}

TEST(libinput_tools_tell_what_changed) {
  FrameMaker frame;
  ToolFrames tool;
  tool.identifies(true, true);
  using Axes = std::vector<ToolFrames::Axis>;
  tool.near(frame, BTN_TOOL_RUBBER, 0x89abcdef, 0x80a);
  tool.axes(frame, Axes{{ABS_X, 0}, {ABS_Y, 7}});
  const auto serial = static_cast<int32_t>(0x89abcdef);
  CHECK_FRAME(
      {key(BTN_TOOL_RUBBER, 1), abs(ABS_MISC, 0x80a), msc(MSC_SERIAL, serial), abs(ABS_X, 0), abs(ABS_Y, 7)});
  tool.axes(frame, Axes{{ABS_X, 0}, {ABS_Y, 8}});
  tool.tip(frame, true);
  CHECK_FRAME({abs(ABS_Y, 8), key(BTN_TOUCH, 1)});
  tool.tip(frame, true);
  tool.far(frame); // with its tip down
  CHECK_FRAME({key(BTN_TOUCH, 0), key(BTN_TOOL_RUBBER, 0), abs(ABS_MISC, 0), msc(MSC_SERIAL, serial)});
  tool.far(frame);
  CHECK_FRAME({});
  tool.near(frame, BTN_TOOL_PEN, 1, 2);
  tool.axes(frame, Axes{{ABS_X, 0}});
  CHECK_FRAME({key(BTN_TOOL_PEN, 1), abs(ABS_MISC, 2), msc(MSC_SERIAL, 1), abs(ABS_X, 0)});
}

TEST(libinput_positions_stay_in_their_ranges) {
  const input_absinfo odd = range(-100, 899);
  CHECK_EQ(width(odd), 1000U);
  CHECK_EQ(input::position(odd, 0), -100);
  CHECK_EQ(input::position(odd, 999), 899);
  CHECK_EQ(input::position(odd, 999.7), 899);
  CHECK_EQ(input::position(odd, -3), -100);
  CHECK_EQ(width(range(-(1 << 30), 1 << 30)), (1U << 31) + 1);
  CHECK_EQ(scale(range(0, 2047), 0.5), 1024);
  CHECK_EQ(scale(range(0, 2047), 1.5), 2047);
}

TEST(libinput_turns_are_told_as_drivers_tell_them) {
  // Back and forth: what libinput makes of a ring, whose 0 is at the left.
  const input_absinfo wheel = range(0, 71);
  for (int32_t value = 0; value < 72; ++value) {
    double part = value / 72.0 - 0.25;
    if (part < 0) part += 1;
    CHECK_EQ(ring(wheel, part * 360), value);
  }
  const input_absinfo barrel_range = range(-900, 899);
  for (int32_t value = -900; value < 900; ++value) {
    const double degrees = std::fmod((value + 900) / 1800.0 * 360 + 90, 360);
    CHECK_EQ(barrel(barrel_range, degrees), value);
  }
  const input_absinfo places = range(0, 4096);
  for (int32_t place = 0; place <= 12; ++place)
    CHECK_EQ(strip(places, place / 12.0), 1 << place);
}

TEST(libinput_pad_buttons_are_counted_as_the_kernel_does) {
  Bits<KEY_CNT> keys;
  for (const int code : {BTN_0, BTN_1, BTN_9, BTN_BASE, BTN_C, BTN_RIGHT, BTN_STYLUS})
    keys.set(static_cast<size_t>(code));
  const std::vector<uint16_t> wanted{BTN_0, BTN_1, BTN_9, BTN_BASE, BTN_C, BTN_RIGHT, 0};
  for (uint32_t i = 0; i < wanted.size(); ++i)
    CHECK_EQ(pad_button(keys, i), wanted[i]);
}

} // namespace scanout::test
