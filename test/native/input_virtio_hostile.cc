// Guests that break virtio-input's rules, and front ends that go away.
#include "check.h"
#include "input_virtio_rig.h"

using namespace scanout;
using namespace scanout::test;
using Delivery = Sink::Delivery;

namespace {

void wait_a_status_turn(InputVm& vm) {
  const int64_t until = base::now_ns() + 4 * VirtioDevice::status_every_ns;
  while (base::now_ns() < until) {
    usleep(1000);
    vm.turn();
  }
}

} // namespace

TEST(virtio_input_tells_leds_of_the_guest) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.status.send({EV_LED, LED_CAPSL, 1});
  vm.status.send({EV_LED, LED_NUML, 7});
  vm.status.kick();
  vm.turn();
  CHECK(vm.leds == std::vector<uint32_t>{1u << LED_CAPSL | 1u << LED_NUML});
  CHECK_EQ(vm.status.ring.used(), 2);
  // Soon after: later.
  vm.status.send({EV_LED, LED_CAPSL, 0});
  vm.status.kick();
  vm.turn();
  CHECK_EQ(vm.leds.size(), 1u);
  wait_a_status_turn(vm);
  CHECK_EQ(vm.leds.size(), 2u);
  CHECK_EQ(vm.leds.back(), 1u << LED_NUML);
  // And at once again.
  vm.status.send({EV_LED, LED_NUML, 0});
  vm.status.kick();
  vm.turn();
  CHECK_EQ(vm.leds.back(), 0u);
}

TEST(virtio_input_ignores_what_else_a_guest_sends) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.status.send({EV_LED, LED_COMPOSE, 1}); // it has no such LED
  vm.status.send({EV_LED, 0xffff, 1});
  vm.status.send({EV_REP, REP_DELAY, 250});
  vm.status.send({0xffff, LED_CAPSL, 1});
  vm.status.send({EV_LED, LED_CAPSL, 1}, 7); // cut short
  vm.status.send({EV_LED, LED_CAPSL, 1}, 0);
  vm.status.kick();
  vm.turn();
  CHECK(vm.leds.empty());
  CHECK_EQ(vm.status.ring.used(), 6);
  CHECK(vm.ends.empty());
  // Of what lies outside of its memory nothing is read.
  vm.status.ring.descriptor(6) = {~uint64_t{0} - 4, 8, 0, 0};
  vm.status.ring.offer(6);
  wait_a_status_turn(vm);
  CHECK_EQ(vm.status.ring.used(), 7);
  CHECK(vm.leds.empty());
}

TEST(virtio_input_gives_a_flood_no_more_than_its_turn) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  for (int i = 0; i < 64; ++i)
    vm.status.send({EV_LED, LED_CAPSL, (i + 1) % 2});
  for (int i = 0; i < 10; ++i) {
    vm.status.kick();
    vm.turn();
  }
  CHECK_EQ(vm.status.ring.used(), 32);
  wait_a_status_turn(vm);
  CHECK_EQ(vm.status.ring.used(), 64);
  CHECK(vm.leds.size() <= 2);
}

TEST(virtio_input_ends_when_the_event_queue_breaks_the_rules) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.events.ring.set_available(30000);
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::lost);
  REQUIRE(vm.ends.size() == 1);
  CHECK(vm.ends[0].find(std::to_string(EPROTO) + " ") == 0);
  CHECK(vm.send({key(KEY_A, 0)}) == Delivery::lost);
}

TEST(virtio_input_ends_when_a_buffer_has_no_room) {
  for (const uint32_t length : {0u, 7u}) {
    InputVm vm(Class::keyboard, keyboard());
    vm.boot();
    for (uint16_t i = 0; i < 64; ++i)
      vm.events.ring.descriptor(i).length = length;
    CHECK(vm.send({key(KEY_A, 1)}) == Delivery::lost);
    CHECK_EQ(vm.ends.size(), 1u);
  }
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.events.ring.descriptor(0).flags = 0; // not writable
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::lost);
  CHECK_EQ(vm.ends.size(), 1u);
}

TEST(virtio_input_never_writes_outside_of_the_guest) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.events.ring.descriptor(0).address = FakeMemory::guest_base + FakeMemory::size - 4;
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::lost);
  CHECK_EQ(vm.ends.size(), 1u);
}

TEST(virtio_input_survives_buffers_that_are_taken_back) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.send({key(KEY_A, 1)});
  vm.events.ring.set_available(2);
  CHECK(vm.send({key(KEY_A, 0)}) == Delivery::waiting);
  vm.events.ring.set_available(64);
  vm.events.kick();
  vm.turn();
  CHECK_EQ(text(vm.events.take()), text({key(KEY_A, 1), {}, key(KEY_A, 0), {}}));
}

TEST(virtio_input_has_no_more_to_do_with_a_front_end_that_is_gone) {
  InputVm vm(Class::keyboard, keyboard());
  vm.boot();
  vm.device->end(0, "gone");
  CHECK(vm.ends == std::vector<std::string>{"0 gone"});
  CHECK(vm.send({key(KEY_A, 1)}) == Delivery::lost);
  guests::RingChange change(guests::RingChange::What::start);
  change.setup = vm.events.ring.setup();
  change.fd.reset(dup(vm.events.kicks.get()));
  CHECK_EQ(vm.run(std::move(change)), ESHUTDOWN);
  vm.events.kick();
  vm.turn();
  vm.device->end(0, "gone"); // told once
  CHECK_EQ(vm.ends.size(), 1u);
}
