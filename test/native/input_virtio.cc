// A virtio-input device: what its driver reads of it, and what it gets.
#include <linux/virtio_input.h>

#include <cstdio>
#include <cstring>

#include "allocations.h"
#include "check.h"
#include "input/virtio_config.h"
#include "input_virtio_rig.h"

using namespace scanout;
using namespace scanout::test;
using Delivery = Sink::Delivery;

namespace {

Event slot(int value) {
  return abs(ABS_MT_SLOT, value);
}
Event tracking(int value) {
  return abs(ABS_MT_TRACKING_ID, value);
}

Description repeating_keyboard() {
  Description description = keyboard();
  description.types.set(EV_REP);
  return description;
}

bool called(InputDriver& driver) {
  uint64_t count = 0;
  return read(driver.calls.get(), &count, sizeof count) == 8;
}

/// As QEMU does it: the selection by writing the whole, then reading the whole.
virtio_input_config select(VirtioConfig& config, uint8_t what, uint8_t of = 0) {
  std::array<uint8_t, VirtioConfig::size> bytes{};
  bytes.fill(0xee);
  bytes[0] = what;
  bytes[1] = of;
  CHECK(config.set(0, bytes));
  virtio_input_config read{};
  CHECK(config.get(0, {reinterpret_cast<uint8_t*>(&read), sizeof read}));
  return read;
}

std::string text_of(const virtio_input_config& config) {
  return {config.u.string, config.size};
}

} // namespace

TEST(virtio_input_config_is_the_devices) {
  Description description = touchscreen(4095, 10);
  std::snprintf(description.name.data(), description.name.size(), "Real touchscreen");
  std::snprintf(description.uniq.data(), description.uniq.size(), "S/N 4");
  description.id = {.bustype = BUS_USB, .vendor = 0x056a, .product = 0x1234, .version = 0x0110};
  description.properties.set(INPUT_PROP_DIRECT);
  description.axes[ABS_MT_POSITION_X] = {
      .value = 7, .minimum = -5, .maximum = 4095, .fuzz = 2, .flat = 3, .resolution = 12};
  VirtioConfig config(description);

  CHECK_EQ(text_of(select(config, VIRTIO_INPUT_CFG_ID_NAME)), "Real touchscreen");
  CHECK_EQ(text_of(select(config, VIRTIO_INPUT_CFG_ID_SERIAL)), "S/N 4");
  const auto ids = select(config, VIRTIO_INPUT_CFG_ID_DEVIDS);
  CHECK_EQ(ids.size, sizeof ids.u.ids);
  CHECK_EQ(ids.u.ids.bustype, BUS_USB);
  CHECK_EQ(ids.u.ids.vendor, 0x056a);
  CHECK_EQ(ids.u.ids.product, 0x1234);
  CHECK_EQ(ids.u.ids.version, 0x0110);
  const auto properties = select(config, VIRTIO_INPUT_CFG_PROP_BITS);
  CHECK_EQ(properties.size, 1);
  CHECK_EQ(properties.u.bitmap[0], 1 << INPUT_PROP_DIRECT);
  const auto axis = select(config, VIRTIO_INPUT_CFG_ABS_INFO, ABS_MT_POSITION_X);
  CHECK_EQ(axis.size, sizeof axis.u.abs);
  CHECK_EQ(static_cast<int32_t>(axis.u.abs.min), -5);
  CHECK_EQ(axis.u.abs.max, 4095u);
  CHECK_EQ(axis.u.abs.fuzz, 2u);
  CHECK_EQ(axis.u.abs.flat, 3u);
  CHECK_EQ(axis.u.abs.res, 12u);
  const auto axes = select(config, VIRTIO_INPUT_CFG_EV_BITS, EV_ABS);
  for (size_t code = 0; code < ABS_CNT; ++code) {
    const bool set = code / 8 < axes.size && (axes.u.bitmap[code / 8] >> (code % 8) & 1) != 0;
    CHECK_EQ(set, description.absolute.test(code));
  }
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_EV_BITS, EV_KEY).size, BTN_TOUCH / 8 + 1);
  // What it has not.
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_ABS_INFO, ABS_MISC).size, 0);
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_EV_BITS, EV_LED).size, 0);
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_EV_BITS, EV_REP).size, 0);
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_UNSET).size, 0);
}

TEST(virtio_input_config_says_leds_and_repetition) {
  VirtioConfig config(repeating_keyboard());
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_EV_BITS, EV_LED).u.bitmap[0],
           1 << LED_CAPSL | 1 << LED_NUML | 1 << LED_SCROLLL);
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_EV_BITS, EV_REP).size, 1);
}

TEST(virtio_input_config_survives_hostile_drivers) {
  Description description = keyboard();
  description.name.fill('n'); // no end
  VirtioConfig config(description);
  for (unsigned what = 0; what < 256; ++what) {
    for (unsigned of = 0; of < 256; ++of) {
      const auto read = select(config, static_cast<uint8_t>(what), static_cast<uint8_t>(of));
      CHECK(read.size <= sizeof read.u);
      CHECK(read.select == what && read.subsel == of);
    }
  }
  CHECK_EQ(text_of(select(config, VIRTIO_INPUT_CFG_ID_NAME)), std::string(80, 'n'));
  CHECK_EQ(select(config, VIRTIO_INPUT_CFG_ID_NAME, 1).size, 0);
  std::array<uint8_t, 256> bytes{};
  CHECK(!config.set(1, std::span(bytes).first(VirtioConfig::size)));
  CHECK(!config.set(0xffffffff, std::span(bytes).first(2)));
  CHECK(!config.get(VirtioConfig::size, std::span(bytes).first(1)));
  select(config, VIRTIO_INPUT_CFG_ID_NAME);
  CHECK(config.get(8, bytes)); // more than there is
  CHECK_EQ(bytes[0], uint8_t{'n'});
  CHECK_EQ(bytes[255], 0);
  bytes[0] = VIRTIO_INPUT_CFG_ID_DEVIDS; // byte by byte
  CHECK(config.set(0, std::span(bytes).first(1)));
  CHECK(config.get(0, std::span(bytes).first(4)));
  CHECK_EQ(bytes[2], sizeof(virtio_input_devids));
}

TEST(virtio_input_gives_frames_exactly) {
  InputVm vm(Class::keyboard, repeating_keyboard());
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::lost); // nobody is there
  vm.boot();
  CHECK_EQ(vm.renewals, 1);
  Events sent, got;
  for (int i = 0; i < 300; ++i) {
    const Events frame{msc(MSC_SCAN, i), key(KEY_A + i % 9, i / 9 % 2 == 0 ? 1 : 0)};
    CHECK(vm.send(frame) == Delivery::done);
    vm.turn();
    CHECK(called(vm.events));
    for (const Event& event : frame_of(frame))
      sent.push_back(event);
    for (const Event& event : vm.events.take())
      got.push_back(event);
  }
  CHECK_EQ(text(got), text(sent));
  CHECK(vm.delivered_ns.empty() && vm.ends.empty());
}

TEST(virtio_input_merges_for_a_slow_guest_and_loses_no_release) {
  InputVm vm(Class::pointer, mouse());
  vm.boot();
  vm.events.kick();
  vm.turn();
  CHECK(vm.send({key(BTN_LEFT, 1)}) == Delivery::done);
  int64_t first = 0;
  Delivery last = Delivery::done;
  int moves = 0;
  for (; moves < 500; ++moves) {
    last = vm.send({rel(REL_X, 1)});
    if (last == Delivery::waiting && first == 0) first = vm.now;
  }
  CHECK(last == Delivery::waiting);
  CHECK(vm.send({key(BTN_LEFT, 0)}) == Delivery::waiting);
  int sum = 0;
  bool down = false;
  size_t frames = 0;
  for (int round = 0; round < 10; ++round) {
    for (const Event& event : vm.events.take()) {
      if (event.type == EV_REL) sum += event.value;
      if (event.type == EV_KEY) down = event.value != 0;
      if (event.type == EV_SYN) ++frames;
    }
    vm.events.kick();
    vm.turn();
  }
  CHECK_EQ(sum, moves);
  CHECK(!down);
  CHECK(frames < 40);
  CHECK_EQ(vm.sink.merged(), 500 - (frames - 2));
  CHECK_EQ(vm.delivered_ns.size(), 2u); // what was merged, and the release
  CHECK_EQ(vm.delivered_ns[0], first);
  CHECK(vm.send({rel(REL_X, 1)}) == Delivery::done);
}

TEST(virtio_input_releases_what_is_held_in_a_guest_that_sleeps_for_long) {
  InputVm vm(Class::keyboard, repeating_keyboard());
  vm.boot();
  CHECK(vm.send({key(KEY_LEFTSHIFT, 1)}) == Delivery::done);
  std::set<uint16_t> down;
  for (int i = 0; i < 5000; ++i)
    vm.send({key(KEY_A, 1 - i % 2)});
  vm.send({key(KEY_LEFTSHIFT, 0)});
  CHECK(vm.sink.dropped() > 0);
  for (int round = 0; round < 100; ++round) {
    for (const Event& event : vm.events.take()) {
      if (event.type != EV_KEY) continue;
      CHECK(event.value != 0 ? down.insert(event.code).second : down.erase(event.code) == 1);
    }
    vm.events.kick();
    vm.turn();
  }
  CHECK(down.empty());
}

TEST(virtio_input_gives_long_frames_in_pieces) {
  for (const bool event_idx : {false, true}) {
    InputVm vm(Class::touchscreen, touchscreen(1000, 10), 4);
    vm.boot(event_idx);
    Events frame;
    for (int i = 0; i < 10; ++i) {
      frame.push_back(slot(i));
      frame.push_back(tracking(i));
      frame.push_back(abs(ABS_MT_POSITION_X, 10 * i));
    }
    CHECK(vm.send(frame) == Delivery::waiting);
    Events got;
    for (int round = 0; round < 20; ++round) {
      const Events part = vm.events.take();
      CHECK(part.size() <= 4);
      for (const Event& event : part)
        got.push_back(event);
      if (!part.empty()) vm.events.kick();
      vm.turn();
    }
    CHECK_EQ(text(got), text(frame_of(frame)));
    CHECK_EQ(vm.delivered_ns.size(), 1u);
  }
}

TEST(virtio_input_waits_for_the_room_of_a_whole_frame) {
  for (const bool event_idx : {false, true}) {
    InputVm vm(Class::pointer, mouse(), 8);
    vm.boot(event_idx);
    const Events frame{rel(REL_X, 1), rel(REL_Y, 2), key(BTN_LEFT, 1)};
    CHECK(vm.send({rel(REL_X, 5), rel(REL_Y, 5), rel(REL_WHEEL, 1), key(BTN_RIGHT, 1)}) == Delivery::done);
    CHECK_EQ(vm.events.take(false).size(), 5u);
    CHECK(vm.send(frame) == Delivery::waiting); // 3 buffers are left
    CHECK_EQ(vm.events.take(false).size(), 0u);
    if (event_idx) {
      // A kick at the fourth, not before: 8 were offered, of which the device took 5.
      CHECK_EQ(vm.events.ring.avail_event(), 8);
    }
    vm.events.post(1);
    vm.events.kick();
    vm.turn();
    CHECK_EQ(text(vm.events.take()), text(frame_of(frame)));
  }
}

TEST(virtio_input_keeps_what_comes_while_the_machine_is_paused) {
  InputVm vm(Class::keyboard, repeating_keyboard());
  vm.boot();
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::done);
  const uint16_t base = vm.stop(VirtioDevice::event_ring);
  CHECK_EQ(base, 2);
  CHECK(vm.send({key(KEY_A, 0)}) == Delivery::waiting);
  vm.start(VirtioDevice::event_ring, base);
  CHECK_EQ(vm.renewals, 1);
  CHECK_EQ(text(vm.events.take()), text({key(KEY_A, 1), {}, key(KEY_A, 0), {}}));
}

TEST(virtio_input_starts_afresh_with_the_guest) {
  InputVm vm(Class::keyboard, repeating_keyboard());
  vm.boot();
  vm.status.send({EV_LED, LED_CAPSL, 1});
  vm.status.kick();
  vm.turn();
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::done);
  vm.stop(VirtioDevice::event_ring);
  vm.send({key(KEY_B, 1)});
  vm.reboot();
  CHECK_EQ(vm.renewals, 2);
  CHECK_EQ(vm.leds.size(), 2u);
  CHECK_EQ(vm.leds.back(), 0u);
  CHECK(vm.send({key(KEY_A, 0), key(KEY_B, 0), key(KEY_C, 1)}) == Delivery::done);
  CHECK_EQ(text(vm.events.take()), text(frame_of({key(KEY_C, 1)})));
}

TEST(virtio_input_releases_what_another_process_may_have_pressed) {
  InputVm vm(Class::touchscreen, touchscreen(1000, 3));
  guests::RingChange table(guests::RingChange::What::memory);
  table.memory = vm.memory.map();
  CHECK_EQ(vm.run(std::move(table)), 0);
  vm.events.ring.set_used(100);
  vm.events.ring.set_available(100);
  vm.start(VirtioDevice::event_ring, 100);
  vm.events.post(64);
  vm.events.kick();
  vm.turn();
  CHECK_EQ(vm.renewals, 0);
  const uint16_t given = static_cast<uint16_t>(vm.events.ring.used() - 100);
  {
    std::vector<Event> all;
    all.reserve(given);
    for (uint16_t i = 0; i < given; ++i)
      all.push_back(vm.memory.at<Event>(FakeMemory::guest_base + 0x3000 + 8 * i));
    CHECK_EQ(text(all), text(frame_of({key(BTN_TOUCH, 0), tracking(-1), slot(1), tracking(-1), slot(2),
                                       tracking(-1), slot(0)})));
  }
}

TEST(virtio_input_asks_for_no_memory) {
  InputVm vm(Class::pointer, mouse());
  vm.boot();
  vm.turn();
  const Events move = frame_of({rel(REL_X, 1), rel(REL_Y, 1)}), press = frame_of({key(BTN_LEFT, 1)}),
               release = frame_of({key(BTN_LEFT, 0)});
  vm.delivered_ns.reserve(10000);
  const size_t before = test::allocations();
  for (int i = 0; i < 3000; ++i) {
    vm.sink.frame(vm.of, move, i);
    vm.sink.frame(vm.of, i % 2 == 0 ? press : release, i);
  }
  CHECK_EQ(test::allocations(), before);
  CHECK(vm.sink.dropped() > 0);
  for (int i = 0; i < 200; ++i) {
    vm.events.take();
    vm.events.kick();
    const size_t now = test::allocations();
    vm.turn();
    CHECK_EQ(test::allocations(), now);
  }
}
