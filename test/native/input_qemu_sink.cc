// What QEMU's console is called for every class of device, byte for byte, and in which order.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "allocations.h"
#include "base/error.h"
#include "input/describe.h"
#include "input/qemu_sink.h"
#include "input_qemu_rig.h"
#include "qemu_fake.h"

using namespace scanout;
using namespace scanout::input;
using test::Bytes;

namespace {

struct Owner final : SinkOwner {
  void leds_set(Sink&, uint32_t to) noexcept override { leds = to, ++leds_told; }
  void delivered(Sink&, std::span<const int64_t> kernel_ns) noexcept override {
    CHECK_EQ(kernel_ns.size(), 1u);
    ++deliveries;
    last_ns = kernel_ns[0];
  }
  void renewed(Sink&) noexcept override {}
  void ended(Sink&, int with, const char*) noexcept override {
    ++ends;
    error = with;
  }
  uint32_t leds = 0;
  int leds_told = 0, deliveries = 0, ends = 0, error = 0;
  int64_t last_ns = 0;
};

template <typename T> T number(const Bytes& body, size_t at) {
  T value{};
  REQUIRE(at + sizeof value <= body.size());
  std::memcpy(&value, &body[at], sizeof value);
  return value;
}

/// "Press 30" and so on; fails the test for a call that is in no interface of QEMU's.
std::string text(const test::Called& call) {
  const std::string prefix = "org.qemu.Display1.";
  REQUIRE(call.interface.starts_with(prefix));
  const std::string name = call.interface.substr(prefix.size()) + "." + call.member;
  const auto u = [&](size_t at) { return std::to_string(number<uint32_t>(call.body, at)); };
  const auto i = [&](size_t at) { return std::to_string(number<int32_t>(call.body, at)); };
  CHECK_EQ(+call.flags, 1);
  CHECK(call.serial >= 1u << 31);
  if (name == "Keyboard.Press" || name == "Keyboard.Release" || name == "Mouse.Press" ||
      name == "Mouse.Release") {
    CHECK_EQ(call.signature, "u");
    CHECK_EQ(call.body.size(), 4u);
    return name + " " + u(0);
  }
  if (name == "Mouse.SetAbsPosition" || name == "Mouse.RelMotion") {
    const bool absolute = call.member == "SetAbsPosition";
    CHECK_EQ(call.signature, absolute ? "uu" : "ii");
    CHECK_EQ(call.body.size(), 8u);
    return name + " " + (absolute ? u(0) : i(0)) + "," + (absolute ? u(4) : i(4));
  }
  CHECK_EQ(name, "MultiTouch.SendEvent");
  CHECK_EQ(call.signature, "utdd");
  CHECK_EQ(call.body.size(), 32u);
  static constexpr const char* kinds[] = {"begin", "update", "end", "cancel"};
  REQUIRE(number<uint32_t>(call.body, 0) < 4);
  std::ostringstream out;
  out << kinds[number<uint32_t>(call.body, 0)] << number<uint64_t>(call.body, 8) << " "
      << number<double>(call.body, 16) << "," << number<double>(call.body, 24);
  return out.str();
}

class Console {
public:
  explicit Console(const QemuConsoleState& state, uint32_t number = 3, std::string_view destination = {})
      : sink(rig.relay, number, destination) {
    rig.greet();
    CHECK_EQ(sink.enter(rig.epoll, owner), 0);
    sink.set(state);
  }
  ~Console() { sink.leave(); }

  Sink::Delivery give(Class from, std::vector<Event> events) {
    events.push_back({EV_SYN, SYN_REPORT, 0});
    return sink.frame(from, events, ++now);
  }
  /// What one frame calls.
  std::string calls(Class from, std::vector<Event> events) {
    CHECK_EQ(give(from, std::move(events)), Sink::Delivery::done);
    return heard();
  }
  std::string heard() {
    std::string all;
    for (const test::Called& call : rig.called()) {
      CHECK_EQ(call.path, "/org/qemu/Display1/Console_3");
      if (!all.empty()) all += "; ";
      all += text(call);
    }
    return all;
  }

  test::RelayRig rig;
  Owner owner;
  QemuSink sink;
  int64_t now = 0;
};

constexpr QemuConsoleState relative{.width = 800, .height = 600};
constexpr QemuConsoleState absolute{.width = 800, .height = 600, .absolute = true};

} // namespace

TEST(qemu_input_call_is_that_of_the_specification) {
  QemuCalls calls(0, "");
  const std::span<const uint8_t> got = calls.key(0x80000001, true, 0x9d);
  test::FakeMessage wanted;
  wanted.path = "/org/qemu/Display1/Console_0";
  wanted.interface = "org.qemu.Display1.Keyboard";
  wanted.member = "Press";
  wanted.signature = "u";
  wanted.flags = 1;
  wanted.serial = 0x80000001;
  wanted.body.u32(0x9d);
  CHECK(Bytes(got.begin(), got.end()) == wanted.encode());
}

TEST(qemu_input_calls_have_a_destination_on_a_bus) {
  QemuCalls calls(12, "org.qemu");
  const std::vector<test::Called> made = test::calls_in(calls.motion(7 + (1u << 31), -1, 2));
  REQUIRE(made.size() == 1);
  CHECK_EQ(made[0].destination, "org.qemu");
  CHECK_EQ(made[0].path, "/org/qemu/Display1/Console_12");
  CHECK_EQ(made[0].serial, 7 + (1u << 31));
  CHECK_EQ(text(made[0]), "Mouse.RelMotion -1,2");
  CHECK_THROWS(QemuCalls(0, "no name"), base::UsageError);
  CHECK_THROWS(QemuCalls(0, std::string(60, 'a') + "." + std::string(60, 'a')), base::UsageError);
  QemuCalls(UINT32_MAX, ":1." + std::string(61, '1')); // the longest fits
}

TEST(qemu_input_keys_have_the_numbers_of_set_1) {
  CHECK_EQ(qnum_of(KEY_A), 0x1eu);
  CHECK_EQ(qnum_of(KEY_RIGHTALT), 0xb8u);
  CHECK_EQ(qnum_of(KEY_RIGHTCTRL), 0x9du);
  CHECK_EQ(qnum_of(KEY_KPDOT), 0x53u);
  CHECK_EQ(qnum_of(KEY_F12), 0x58u);
  CHECK_EQ(qnum_of(KEY_PAUSE), 0xc6u);
  CHECK_EQ(qnum_of(KEY_LEFTMETA), 0xdbu);
  for (const uint16_t key : {KEY_RESERVED, 84, BTN_LEFT, KEY_MAX})
    CHECK_EQ(qnum_of(key), 0u);
  std::set<uint32_t> numbers;
  size_t count = 0;
  for (uint16_t key = 0; key < KEY_CNT; ++key) {
    const uint32_t number = qnum_of(key);
    if (number == 0) continue;
    ++count;
    CHECK(number < 256);
    CHECK(numbers.insert(number).second); // no key is another one
  }
  CHECK(count > 130);
}

TEST(qemu_input_keyboard) {
  Console console(absolute);
  CHECK_EQ(console.calls(Class::keyboard, {{EV_KEY, KEY_LEFTCTRL, 1}, {EV_KEY, KEY_HOME, 1}}),
           "Keyboard.Press 29; Keyboard.Press 199");
  CHECK_EQ(console.calls(Class::keyboard, {{EV_KEY, KEY_HOME, 0}}), "Keyboard.Release 199");
  CHECK_EQ(console.calls(Class::keyboard, {{EV_KEY, KEY_HOME, 0}, {EV_KEY, KEY_LEFTCTRL, 1}}), "");
  CHECK_EQ(console.calls(Class::keyboard, {{EV_KEY, KEY_MACRO, 1}, {EV_MSC, MSC_SCAN, 4}}), "");
  CHECK_EQ(console.calls(Class::keyboard, {{EV_KEY, KEY_LEFTCTRL, 0}}), "Keyboard.Release 29");
}

TEST(qemu_input_pointer_that_is_relative) {
  Console console(relative);
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, 5}, {EV_REL, REL_Y, -7}}), "Mouse.RelMotion 5,-7");
  CHECK_EQ(console.calls(Class::pointer, {{EV_KEY, BTN_LEFT, 1}, {EV_REL, REL_X, 5}}),
           "Mouse.RelMotion 5,0; Mouse.Press 0");
  CHECK_EQ(console.calls(Class::pointer, {{EV_KEY, BTN_MIDDLE, 1}, {EV_KEY, BTN_LEFT, 0}}),
           "Mouse.Press 1; Mouse.Release 0");
  CHECK_EQ(
      console.calls(Class::pointer, {{EV_KEY, BTN_RIGHT, 1}, {EV_KEY, BTN_SIDE, 1}, {EV_KEY, BTN_EXTRA, 1}}),
      "Mouse.Press 2; Mouse.Press 5; Mouse.Press 6");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, INT32_MAX}, {EV_REL, REL_X, INT32_MAX}}),
           "Mouse.RelMotion 32767,0");
}

TEST(qemu_input_wheel_turns_by_clicks) {
  Console console(relative);
  const std::string up = "Mouse.Press 3; Mouse.Release 3", down = "Mouse.Press 4; Mouse.Release 4";
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL, 1}}), up);
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL, -2}}), down + "; " + down);
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL, 1}, {EV_REL, REL_WHEEL_HI_RES, 120}}), up);
  // Finely: whole clicks are told when the device says so, which is not always when they are full.
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL_HI_RES, 60}}), "");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL_HI_RES, 59}, {EV_REL, REL_WHEEL, 1}}), "");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL_HI_RES, 2}}), up);
  // Back: what was left of a click is void.
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL_HI_RES, 100}}), "");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL_HI_RES, -119}}), "");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_WHEEL_HI_RES, -1}}), down);
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_HWHEEL, 1}, {EV_REL, REL_HWHEEL_HI_RES, 120}}), "");
  console.give(Class::pointer, {{EV_REL, REL_WHEEL, INT32_MIN}});
  CHECK_EQ(console.rig.called().size(), 32u);
}

TEST(qemu_input_pointer_in_a_guest_that_has_a_position) {
  Console console(absolute);
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 32768}, {EV_ABS, ABS_Y, 65535}}),
           "Mouse.SetAbsPosition 400,599");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, 5}, {EV_REL, REL_Y, -9}}),
           "Mouse.SetAbsPosition 405,590");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, 5000}}), "Mouse.SetAbsPosition 799,590");
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, -1}, {EV_REL, REL_Y, INT32_MIN}}),
           "Mouse.SetAbsPosition 798,0");
  console.sink.set({.width = 100, .height = 50, .absolute = true});
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, 1}}), "Mouse.SetAbsPosition 99,0");
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_Y, 0}}), "Mouse.SetAbsPosition 50,0");
  console.sink.set({.absolute = true}); // it shows nothing
  CHECK_EQ(console.calls(Class::pointer, {{EV_REL, REL_X, 1}, {EV_KEY, BTN_LEFT, 1}}), "Mouse.Press 0");
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 1}}), "");
}

TEST(qemu_input_position_in_a_guest_that_has_none) {
  Console console(relative);
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 0}, {EV_ABS, ABS_Y, 0}}), "");
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 32768}, {EV_KEY, BTN_LEFT, 1}}),
           "Mouse.RelMotion 400,0; Mouse.Press 0");
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_Y, 65535}, {EV_ABS, ABS_X, 0}}),
           "Mouse.RelMotion -400,599");
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 1}}), ""); // of the same pixel
  // The guest's pointer becomes another, and back: who knows where that is.
  console.sink.set(absolute);
  console.sink.set(relative);
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 32768}}), "");
  CHECK_EQ(console.calls(Class::absolute, {{EV_ABS, ABS_X, 0}}), "Mouse.RelMotion -400,0");
}

TEST(qemu_input_pen) {
  Console console(absolute);
  CHECK_EQ(console.calls(Class::tablet, {{EV_KEY, BTN_TOOL_PEN, 1}, {EV_ABS, ABS_X, 65535}}),
           "Mouse.SetAbsPosition 799,0");
  CHECK_EQ(console.calls(Class::tablet, {{EV_KEY, BTN_TOUCH, 1}, {EV_ABS, ABS_Y, 32768}}),
           "Mouse.SetAbsPosition 799,300; Mouse.Press 0");
  CHECK_EQ(console.calls(Class::tablet, {{EV_KEY, BTN_STYLUS, 1}, {EV_KEY, BTN_STYLUS2, 1}}),
           "Mouse.Press 2; Mouse.Press 1");
  // A mouse beside it presses the same button.
  CHECK_EQ(console.calls(Class::pointer, {{EV_KEY, BTN_LEFT, 1}}), "");
  CHECK_EQ(console.calls(Class::tablet, {{EV_KEY, BTN_TOUCH, 0}}), "");
  CHECK_EQ(console.calls(Class::pointer, {{EV_KEY, BTN_LEFT, 0}}), "Mouse.Release 0");
  CHECK_EQ(console.calls(Class::pointer, {{EV_KEY, BTN_LEFT, 0}}), "");
}

TEST(qemu_input_touchscreen) {
  Console console(absolute);
  const Class touch = Class::touchscreen;
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_TRACKING_ID, 41},
                                 {EV_ABS, ABS_MT_POSITION_X, 32768},
                                 {EV_ABS, ABS_MT_POSITION_Y, 16384},
                                 {EV_KEY, BTN_TOUCH, 1},
                                 {EV_ABS, ABS_X, 32768},
                                 {EV_ABS, ABS_Y, 16384}}),
           "begin0 400,150");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_SLOT, 9},
                                 {EV_ABS, ABS_MT_TRACKING_ID, 42},
                                 {EV_ABS, ABS_MT_POSITION_X, 65535},
                                 {EV_ABS, ABS_MT_POSITION_Y, 0},
                                 {EV_ABS, ABS_MT_SLOT, 0},
                                 {EV_ABS, ABS_MT_POSITION_X, 0}}),
           "update0 0,150; begin9 799.988,0");
  // Another finger without an end of the former one's.
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_TRACKING_ID, 43}}), "end0 0,150; begin0 0,150");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_TRACKING_ID, -1},
                                 {EV_ABS, ABS_MT_SLOT, 9},
                                 {EV_ABS, ABS_MT_TRACKING_ID, -1},
                                 {EV_KEY, BTN_TOUCH, 0}}),
           "end0 0,150; end9 799.988,0");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_SLOT, 10}, {EV_ABS, ABS_MT_TRACKING_ID, 44}}), "");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_SLOT, -1}, {EV_ABS, ABS_MT_TRACKING_ID, 44}}), "");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_SLOT, 1}, {EV_ABS, ABS_MT_TRACKING_ID, -1}}), "");
}

TEST(qemu_input_touchscreen_without_slots) {
  Console console(absolute);
  const Class touch = Class::touchscreen;
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_X, 32768}, {EV_ABS, ABS_Y, 0}}), "");
  CHECK_EQ(console.calls(touch, {{EV_KEY, BTN_TOUCH, 1}}), "begin0 400,0");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_Y, 16384}}), "update0 400,150");
  CHECK_EQ(console.calls(touch, {{EV_KEY, BTN_TOUCH, 0}}), "end0 400,150");
  // One with slots takes its contact over.
  CHECK_EQ(console.calls(touch, {{EV_KEY, BTN_TOUCH, 1}}), "begin0 400,150");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_TRACKING_ID, 1}, {EV_ABS, ABS_MT_POSITION_X, 0}}),
           "end0 0,150; begin0 0,150");
  CHECK_EQ(console.calls(touch, {{EV_KEY, BTN_TOUCH, 0}}), "");
  CHECK_EQ(console.calls(touch, {{EV_ABS, ABS_MT_TRACKING_ID, -1}}), "end0 0,150");
}

TEST(qemu_input_classes_that_it_does_not_have) {
  Console console(absolute);
  for (const Class from : {Class::touchpad, Class::pad, Class::switches, Class::joystick}) {
    CHECK_EQ(console.calls(from, {{EV_KEY, BTN_LEFT, 1}, {EV_ABS, ABS_X, 5}, {EV_SW, SW_LID, 1}}), "");
    CHECK(!QemuSink::describe(from).types.any());
  }
}

TEST(qemu_input_descriptions_are_of_their_class) {
  for (const Class each : QemuSink::classes) {
    const Description description = QemuSink::describe(each);
    CHECK(classify(description) == each);
    for (size_t axis = 0; axis < ABS_CNT; ++axis) {
      if (description.absolute.test(axis))
        CHECK(description.axes[axis].minimum < description.axes[axis].maximum);
    }
  }
  CHECK_EQ(slot_count(QemuSink::describe(Class::touchscreen)), 10);
  CHECK_EQ(QemuSink::describe(Class::absolute).axes[ABS_X].maximum, 65535);
}

TEST(qemu_input_leds_are_told_by_the_modifiers) {
  Console console(absolute);
  CHECK_EQ(console.owner.leds_told, 1); // all of them, from the first on
  CHECK_EQ(console.owner.leds, 0u);
  console.sink.set({.width = 800, .height = 600, .absolute = true, .modifiers = 2 | 4});
  CHECK_EQ(console.owner.leds, 1u << LED_NUML | 1u << LED_CAPSL);
  console.sink.set({.width = 640, .height = 480, .absolute = true, .modifiers = 2 | 4});
  CHECK_EQ(console.owner.leds_told, 2);
  console.sink.set({.width = 640, .height = 480, .absolute = true, .modifiers = 1});
  CHECK_EQ(console.owner.leds, 1u << LED_SCROLLL);
}

TEST(qemu_input_waits_for_what_is_known_of_the_console) {
  test::RelayRig rig;
  Owner owner;
  QemuSink sink(rig.relay, 3, "");
  CHECK_EQ(sink.enter(rig.epoll, owner), 0);
  const std::vector<Event> frame = {{EV_KEY, KEY_A, 1}, {EV_SYN, SYN_REPORT, 0}};
  CHECK_EQ(sink.frame(Class::keyboard, frame, 77), Sink::Delivery::waiting);
  sink.set(absolute); // not greeted yet
  CHECK_EQ(owner.deliveries, 0);
  rig.greet();
  CHECK_EQ(owner.deliveries, 1);
  CHECK_EQ(owner.last_ns, 77);
  sink.leave();
}

TEST(qemu_input_waits_for_a_qemu_that_does_not_read) {
  Console console(relative);
  int done = 0;
  while (console.give(Class::pointer, {{EV_REL, REL_X, 1}}) == Sink::Delivery::done)
    ++done;
  CHECK(done > 10);
  // One of motion is on its way; those that come now are one.
  for (int i = 0; i < 100; ++i)
    CHECK_EQ(console.give(Class::pointer, {{EV_REL, REL_X, 1}, {EV_REL, REL_Y, -1}}),
             Sink::Delivery::waiting);
  console.give(Class::pointer, {{EV_KEY, BTN_LEFT, 1}});
  console.give(Class::keyboard, {{EV_KEY, KEY_A, 1}});
  console.give(Class::keyboard, {{EV_KEY, KEY_A, 0}});
  CHECK(console.sink.merged() > 0);
  CHECK_EQ(console.owner.deliveries, 0);
  std::vector<std::string> all;
  for (int i = 0; i < 1000; ++i) {
    console.rig.at_qemu.read(console.rig.qemu.get());
    console.rig.spin();
  }
  for (const test::Called& call : console.rig.called())
    all.push_back(text(call));
  REQUIRE(all.size() == static_cast<size_t>(done) + 5);
  const auto end = std::vector<std::string>(all.end() - 4, all.end());
  CHECK_EQ(end[0], "Mouse.RelMotion 100,-100");
  CHECK_EQ(end[1], "Mouse.Press 0");
  CHECK_EQ(end[2], "Keyboard.Press 30");
  CHECK_EQ(end[3], "Keyboard.Release 30");
  CHECK(console.owner.deliveries >= 4);
  CHECK_EQ(console.owner.last_ns, console.now);
  CHECK_EQ(console.calls(Class::pointer, {{EV_KEY, BTN_LEFT, 0}}), "Mouse.Release 0");
}

TEST(qemu_input_leaves_nothing_pressed_when_what_waits_is_dropped) {
  Console console(relative);
  console.give(Class::keyboard, {{EV_KEY, KEY_LEFTSHIFT, 1}});
  while (console.give(Class::pointer, {{EV_REL, REL_X, 1}}) == Sink::Delivery::done) {
  }
  std::set<std::string> down;
  for (int round = 0; round < 3000; ++round) {
    const auto key = static_cast<uint16_t>(KEY_Q + round % 10);
    console.give(Class::keyboard, {{EV_KEY, key, 1}});
    console.give(Class::keyboard, {{EV_KEY, key, 0}});
  }
  CHECK(console.sink.dropped() > 0);
  console.give(Class::keyboard, {{EV_KEY, KEY_LEFTSHIFT, 0}});
  for (int i = 0; i < 1000; ++i) {
    console.rig.at_qemu.read(console.rig.qemu.get());
    console.rig.spin();
  }
  for (const test::Called& call : console.rig.called()) {
    const std::string what = text(call);
    if (what.starts_with("Keyboard.Press ")) CHECK(down.insert(what.substr(15)).second);
    if (what.starts_with("Keyboard.Release ")) CHECK_EQ(down.erase(what.substr(17)), 1u);
  }
  CHECK(down.empty());
}

TEST(qemu_input_longest_frame_fits) {
  Console console(absolute, 3, ":1." + std::string(61, '1'));
  std::vector<Event> events;
  for (size_t i = 0; events.size() < max_frame - 1; ++i) {
    events.push_back({EV_KEY, KEY_A, 1});
    events.push_back({EV_KEY, KEY_A, 0});
  }
  events.resize(max_frame - 1);
  console.give(Class::keyboard, events);
  for (int i = 0; i < 1000; ++i) {
    console.rig.at_qemu.read(console.rig.qemu.get());
    console.rig.spin();
  }
  CHECK_EQ(console.rig.called().size(), max_frame - 1);
}

TEST(qemu_input_ends_with_its_connection) {
  Console console(absolute);
  console.rig.qemu.reset();
  console.rig.spin();
  CHECK_EQ(console.owner.ends, 1);
  CHECK_EQ(console.owner.error, 0);
  CHECK_EQ(console.give(Class::keyboard, {{EV_KEY, KEY_A, 1}}), Sink::Delivery::lost);

  Console other(absolute);
  other.rig.qemu.reset(); // it is heard of by a frame
  CHECK_EQ(other.give(Class::keyboard, {{EV_KEY, KEY_A, 1}}), Sink::Delivery::lost);
  CHECK_EQ(other.owner.ends, 1);
  other.rig.spin();
  CHECK_EQ(other.owner.ends, 1);
}

TEST(qemu_input_allocates_nothing) {
  Console console(absolute);
  const std::vector<Event> keyboard = {{EV_KEY, KEY_A, 1}, {EV_KEY, KEY_A, 0}, {EV_SYN, SYN_REPORT, 0}};
  const std::vector<Event> pointer = {
      {EV_REL, REL_X, 1}, {EV_REL, REL_WHEEL, 1}, {EV_KEY, BTN_LEFT, 1}, {EV_SYN, SYN_REPORT, 0}};
  const std::vector<Event> touch = {
      {EV_ABS, ABS_MT_TRACKING_ID, 1}, {EV_ABS, ABS_MT_POSITION_X, 5}, {EV_SYN, SYN_REPORT, 0}};
  for (const bool reads : {true, false}) {
    const size_t before = test::allocations();
    for (int i = 0; i < 2000; ++i) {
      console.sink.frame(Class::keyboard, keyboard, i);
      console.sink.frame(Class::pointer, pointer, i);
      console.sink.frame(Class::touchscreen, touch, i);
      console.rig.spin();
      uint8_t nowhere[4096];
      while (reads && read(console.rig.qemu.get(), nowhere, sizeof nowhere) > 0) {
      }
    }
    console.sink.set(absolute);
    CHECK_EQ(test::allocations(), before);
  }
}
