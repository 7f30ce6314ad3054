// The input ring: what goes in comes out, by whole frames, whatever the guest does to its page.
#include <fcntl.h>
#include <sys/stat.h>

#include <random>

#include "allocations.h"
#include "base/clock.h"
#include "ring_rig.h"

namespace scanout::test {

using input::Class;
using Delivery = input::Sink::Delivery;

TEST(ring_hands_frames_over_exactly) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  CHECK(guest.read().empty());
  CHECK_EQ(rig.key(KEY_A, 1, 77), Delivery::done);
  CHECK_EQ(rig.signalled(), 0u); // the batch is not over
  CHECK_EQ(rig.move(-5, 1 << 20, 78), Delivery::done);
  CHECK_EQ(rig.send(Class::joystick, {}, 79), Delivery::done);
  CHECK_EQ(rig.delivered_count, 0u);
  rig.sink.flush();
  CHECK_EQ(rig.delivered_count, 3u);
  CHECK_EQ(rig.delivered_ns, 79);
  CHECK_EQ(rig.signalled(), 1u); // once a batch
  const std::vector<RingFrame> frames = guest.read();
  REQUIRE(frames.size() == 3);
  const std::vector<input::Event> key{{EV_MSC, MSC_SCAN, KEY_A + 1000}, {EV_KEY, KEY_A, 1}};
  const std::vector<input::Event> motion{{EV_REL, REL_X, -5}, {EV_REL, REL_Y, 1 << 20}};
  CHECK(frames[0] == (RingFrame{Class::keyboard, 77, 2, key}));
  CHECK(frames[1] == (RingFrame{Class::pointer, 78, 2, motion}));
  CHECK(frames[2] == (RingFrame{Class::joystick, 79, 2, {}}));
  CHECK(guest.read().empty());
  CHECK_EQ(guest.signals, 0u); // nothing waits: a guest that keeps up makes no system call
}

TEST(ring_is_described_to_the_guest) {
  RingRig rig;
  const RingGuest guest(rig.sink, rig.room);
  const scanoutd_input_ring& ring = guest.ring();
  CHECK_EQ(ring.magic, SCANOUTD_INPUT_MAGIC);
  CHECK_EQ(ring.capacity, SCANOUTD_INPUT_EVENTS);
  CHECK_EQ(ring.epoch, 2u);
  const scanoutd_input_device& keyboard = ring.devices[SCANOUTD_INPUT_KEYBOARD];
  CHECK_EQ(keyboard.present, 1u);
  CHECK_EQ(std::string(keyboard.name), "Keys of brass");
  CHECK_EQ(keyboard.vendor, 0x46d);
  CHECK_EQ(keyboard.version, 0x110);
  CHECK_EQ(keyboard.keys[0], uint64_t{1} << KEY_A);
  CHECK_EQ(keyboard.keys[KEY_MAX / 64], uint64_t{1} << KEY_MAX % 64);
  CHECK_EQ(keyboard.leds, 3u);
  const scanoutd_input_device& joystick = ring.devices[SCANOUTD_INPUT_JOYSTICK];
  CHECK_EQ(joystick.absolute, uint64_t{1} << ABS_RZ);
  const scanoutd_input_axis& axis = joystick.axes[ABS_RZ];
  CHECK(axis.value == 3 && axis.minimum == -7 && axis.maximum == 9 && axis.fuzz == 1 && axis.flat == 2 &&
        axis.resolution == 12);
  CHECK_EQ(joystick.axes[ABS_X].resolution, 0); // an axis that it does not have
  CHECK_EQ(joystick.properties, 1u << INPUT_PROP_ACCELEROMETER);
  CHECK_EQ(ring.devices[SCANOUTD_INPUT_POINTER].present, 0u);

  std::vector<input::RingSink::Device> fewer(1, RingRig::devices()[1]);
  fewer[0].first = Class::tablet;
  rig.sink.set_devices(fewer);
  rig.signaller.flush();
  CHECK_EQ(rig.signalled(), 1u);
  CHECK_EQ(ring.epoch, 4u);
  CHECK_EQ(keyboard.present, 0u);
  CHECK_EQ(keyboard.keys[0], 0u);
  CHECK_EQ(ring.devices[SCANOUTD_INPUT_TABLET].present, 1u);
}

TEST(ring_events_tell_their_epoch) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  rig.key(KEY_A, 1);
  rig.sink.set_devices({});
  rig.key(KEY_A, 0);
  const std::vector<RingFrame> frames = guest.read();
  REQUIRE(frames.size() == 2);
  CHECK_EQ(frames[0].epoch, 2u);
  CHECK_EQ(frames[1].epoch, 4u);
}

TEST(ring_cannot_be_written_by_the_guest) {
  RingRig rig;
  const int fd = rig.sink.ring_fd();
  CHECK(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  void* readable = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(readable != MAP_FAILED);
  CHECK_EQ(::mprotect(readable, 4096, PROT_READ | PROT_WRITE), -1);
  ::munmap(readable, 4096);
  CHECK_EQ(::pwrite(fd, "x", 1, 0), -1);
  CHECK_EQ(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
  // Opened anew, as the name in /proc lets it.
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const base::UniqueFd again(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  CHECK(::pwrite(again.get(), "x", 1, 0) == -1);
  CHECK(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, again.get(), 0) == MAP_FAILED);
  for (const int each : {fd, rig.sink.reply_fd()}) {
    CHECK_EQ(::ftruncate(each, 0), -1);
    CHECK_EQ(::ftruncate(each, 1 << 20), -1);
    CHECK_EQ(::fcntl(each, F_ADD_SEALS, F_SEAL_WRITE), -1);
  }
}

TEST(ring_wraps_around_whole) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  std::mt19937 random(1);
  std::vector<RingFrame> sent;
  uint64_t events = 0;
  for (int64_t i = 0; events < 20 * SCANOUTD_INPUT_EVENTS; ++i) {
    RingFrame frame{static_cast<Class>(random() % input::class_count), i, 2, {}};
    for (size_t n = random() % input::max_frame; n > 0; --n)
      frame.events.push_back(
          {EV_ABS, static_cast<uint16_t>(random() % ABS_CNT), static_cast<int32_t>(random())});
    events += frame.events.size() + 1;
    REQUIRE(rig.send(frame.from, frame.events, i) == Delivery::done);
    sent.push_back(std::move(frame));
    if (events % 3 != 0 && guest.ring().written - guest.at < 3000) continue;
    const std::vector<RingFrame> got = guest.read();
    CHECK(got == sent);
    sent.clear();
  }
  CHECK_EQ(rig.sink.merged() + rig.sink.dropped(), 0u);
  CHECK_EQ(guest.at, guest.ring().written - (sent.empty() ? 0 : guest.ring().written - guest.at));
}

TEST(ring_makes_frames_wait_for_a_slow_guest) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  const size_t fitted = rig.fill(); // and one more, which waits
  CHECK_EQ(fitted, SCANOUTD_INPUT_EVENTS / 3);
  rig.flush();
  const uint32_t delivered = rig.delivered_count;
  CHECK_EQ(delivered, fitted);
  CHECK_EQ(guest.ring().waiting, 1u);
  CHECK_EQ(rig.key(KEY_A, 1, 500), Delivery::waiting);
  for (int i = 0; i < 100000; ++i)
    CHECK_EQ(rig.move(1, 0, 501), Delivery::waiting);
  CHECK_EQ(rig.key(KEY_A, 0, 502), Delivery::waiting);
  rig.flush();
  CHECK_EQ(rig.delivered_count, delivered);
  CHECK(rig.sink.merged() > 0);
  (void)rig.signalled();
  // A guest that has read less than half has no cause to signal.
  CHECK_EQ(guest.read(10).size(), 10u);
  CHECK_EQ(guest.signals, 0u);
  CHECK_EQ(guest.read().size(), fitted - 10);
  CHECK(guest.signals > 0);
  rig.turn(5'000'000);
  CHECK_EQ(rig.signalled(), 1u);
  CHECK_EQ(guest.ring().waiting, 0u);
  int64_t x = 0;
  std::vector<RingFrame> keys;
  for (const RingFrame& frame : guest.read()) {
    if (frame.from == Class::keyboard) keys.push_back(frame);
    for (const input::Event& event : frame.events)
      if (event.type == EV_REL && event.code == REL_X) x += event.value;
  }
  REQUIRE(keys.size() == 2);
  CHECK_EQ(keys[0].events[1].value, 1);
  CHECK_EQ(keys[0].time_ns, 500);
  CHECK_EQ(keys[1].events[1].value, 0);
  if (rig.sink.dropped() == 0) CHECK_EQ(x, 100001);
  CHECK(rig.delivered_count >= delivered + 3);
  CHECK_EQ(rig.delivered_ns, 502);
  CHECK_EQ(guest.ring().merged, rig.sink.merged());
  CHECK_EQ(rig.move(1, 1), Delivery::done); // at once again
}

TEST(ring_goes_on_when_the_guest_never_signals) {
  RingRig rig;
  RingGuest guest(rig.sink, -1);
  const size_t fitted = rig.fill();
  CHECK_EQ(guest.read().size(), fitted);
  CHECK_EQ(rig.key(KEY_A, 1), Delivery::done); // behind the one that waited: its order is kept
  const std::vector<RingFrame> frames = guest.read();
  REQUIRE(frames.size() == 2);
  CHECK_EQ(frames[1].from, Class::keyboard);
  CHECK_EQ(guest.ring().waiting, 0u);
}

TEST(ring_passes_leds_on) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  guest.signal();
  rig.turn();
  CHECK_EQ(rig.leds_told, 0u); // it has said nothing of them
  rig.turn(2'000'000);
  guest.set_leds(0);
  rig.turn(5'000'000);
  CHECK_EQ(rig.leds_told, 1u);
  guest.set_leds(0x7fffffff); // those that its keyboard has count
  rig.turn(5'000'000);
  CHECK_EQ(rig.leds_told, 2u);
  CHECK_EQ(rig.leds, 1u << LED_NUML | 1u << LED_CAPSL);
  guest.set_leds(3);
  rig.turn(5'000'000);
  CHECK_EQ(rig.leds_told, 2u);
  guest.set_leds(1);
  rig.turn(5'000'000);
  CHECK_EQ(rig.leds, 1u);
  CHECK_EQ(rig.leds_told, 3u);
}

TEST(ring_bounds_what_a_storm_of_signals_costs) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  int ready = 0;
  uint32_t storms = 0;
  const int64_t start = base::now_ns();
  for (int64_t now = start; now < start + 50'000'000; now = base::now_ns(), ++storms) {
    guest.set_leds(storms & 1);
    ready += rig.epoll.wait(0);
  }
  const int64_t milliseconds = (base::now_ns() - start) / 1'000'000 + 1;
  CHECK(storms > 1000);
  // In each: one look, one signal too many, one end of the pause.
  CHECK(ready <= 3 * milliseconds + 3);
  CHECK(rig.leds_told >= 2 && rig.leds_told <= milliseconds + 1);
  // It is still heard, and then the loop is at rest: the counter that nobody reads wakes nobody.
  const uint32_t last = storms & 1;
  guest.set_leds(last);
  rig.turn(5'000'000);
  CHECK_EQ(rig.leds, last);
  CHECK_EQ(rig.turn(20'000'000), 0);
}

TEST(ring_hears_a_guest_whose_counter_is_full) {
  RingRig rig;
  const RingGuest guest(rig.sink, rig.room);
  const uint64_t most = UINT64_MAX - 1;
  // Both counters are full, and both may block.
  for (const int fd : {rig.room, rig.event}) {
    REQUIRE(::write(fd, &most, sizeof most) == sizeof most);
    REQUIRE(::fcntl(fd, F_SETFL, 0) == 0);
  }
  CHECK_EQ(rig.move(1, 1), Delivery::done);
  rig.turn(5'000'000); // returns
  CHECK_EQ(rig.ends, 0u);
}

/// Every value that a read index can be wrong by, at every step: with room, without, while frames wait.
TEST(ring_ends_with_a_guest_that_writes_nonsense) {
  for (int step = 0; step < 4; ++step) {
    for (const int64_t off : {int64_t{1}, int64_t{4096}, int64_t{-1}, int64_t{1} << 62, INT64_MIN}) {
      if (step == 3 && off == 1) continue; // true before it is looked at
      RingRig rig;
      RingGuest guest(rig.sink, rig.room);
      rig.fill();
      guest.read(5);
      rig.turn();
      rig.move(1, 1); // takes the index over
      guest.read();
      guest.signal();
      rig.turn(2'000'000);
      CHECK_EQ(rig.ends, 0u);
      if (step == 1) rig.fill();
      if (step == 2) rig.key(KEY_A, 1);
      const uint64_t base = off < 0 ? guest.at : guest.ring().written;
      std::atomic_ref(guest.reply->read).store(base + static_cast<uint64_t>(off), std::memory_order_release);
      if (step == 3) {
        for (int i = 0; i < 2000; ++i)
          rig.move(1, 1); // found when there is no room
      } else {
        guest.signal();
        rig.turn(2'000'000);
      }
      CHECK_EQ(rig.ends, 1u);
      CHECK_EQ(rig.error, EPROTO);
      CHECK(rig.why.find("read index") != std::string::npos);
      // It is left alone from then on, and looked at no more.
      const uint64_t written = guest.ring().written;
      CHECK_EQ(rig.key(KEY_A, 0), Delivery::lost);
      CHECK_EQ(guest.ring().written, written);
      guest.signal();
      CHECK_EQ(rig.turn(2'000'000), 0);
      CHECK_EQ(rig.ends, 1u);
    }
  }
}

TEST(ring_minds_no_other_word_of_the_reply_page) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  std::mt19937_64 random(2);
  auto* words = reinterpret_cast<uint64_t*>(guest.reply);
  for (size_t i = 1; i < sizeof *guest.reply / sizeof *words; ++i)
    words[i] = random();
  guest.signal();
  rig.turn(2'000'000);
  CHECK_EQ(rig.move(1, 1), Delivery::done);
  CHECK_EQ(guest.read().size(), 1u);
  CHECK_EQ(rig.ends, 0u);
  CHECK_EQ(rig.leds & ~3u, 0u);
}

TEST(ring_allocates_nothing) {
  RingRig rig;
  RingGuest guest(rig.sink, rig.room);
  const std::array<input::Event, 3> motion{{{EV_REL, REL_X, 1}, {EV_REL, REL_Y, 2}, {EV_SYN, SYN_REPORT, 0}}};
  const std::array<input::Event, 2> key{{{EV_KEY, KEY_A, 1}, {EV_SYN, SYN_REPORT, 0}}};
  const std::vector<input::RingSink::Device> devices = RingRig::devices();
  const size_t before = allocations();
  for (int i = 0; i < 20000; ++i) {
    rig.sink.frame(Class::pointer, motion, i);
    if (i % 1000 == 0) rig.sink.frame(Class::keyboard, key, i);
    if (i % 6000 == 0) {
      guest.at = guest.ring().written;
      guest.give_back();
      rig.turn();
    }
  }
  rig.sink.set_devices(devices);
  CHECK_EQ(allocations() - before, 0u);
  CHECK(rig.sink.merged() > 0);
}

} // namespace scanout::test
