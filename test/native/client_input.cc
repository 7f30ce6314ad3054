// The C client and the input ring, with the daemon's own sink at the other end.
#include <fcntl.h>

#include <memory>

#include "base/clock.h"
#include "base/eventfd_signal.h"
#include "check.h"
#include "client_fake.h"
#include "input/ring_sink.h"

namespace scanout::test {

using input::Class;

namespace {

/// What the daemon does for a guest that asks for input.
class InputDaemon : public input::SinkOwner {
public:
  explicit InputDaemon(FakeDaemon& daemon) : daemon_(daemon) {}
  ~InputDaemon() { drop(); }

  /// Reads TAKE_INPUT and makes a ring of it. False when something else came.
  bool take() {
    Packet packet = daemon_.receive();
    if (packet.as<scanoutd_take_input>(SCANOUTD_TAKE_INPUT) == nullptr || packet.fds.size() != 2)
      return false;
    serial = packet.serial();
    drop();
    sink = std::make_unique<input::RingSink>(
        input::RingSink::Descriptors{std::move(packet.fds[0]), std::move(packet.fds[1])}, signaller);
    return sink->enter(epoll, *this) == 0;
  }
  /// Without its memory; nothing shared is left.
  void drop() {
    signaller.flush();
    if (sink) sink->leave();
    sink.reset();
  }
  bool answer(uint32_t ring_size = SCANOUTD_INPUT_RING_SIZE) {
    auto input = message<scanoutd_input>(SCANOUTD_INPUT, serial);
    input.ring_size = ring_size;
    input.reply_size = SCANOUTD_INPUT_REPLY_SIZE;
    return daemon_.send(input, {sink->ring_fd(), sink->reply_fd()});
  }
  void describe(Class of, uint16_t key) {
    std::vector<input::RingSink::Device> devices(1);
    devices[0].first = of;
    devices[0].second.keys.set(key);
    devices[0].second.leds.set(LED_CAPSL);
    std::string("A device").copy(devices[0].second.name.data(), 20);
    sink->set_devices(devices);
  }
  input::Sink::Delivery send(Class from, std::vector<input::Event> events, int64_t time_ns = 5) {
    events.push_back({EV_SYN, SYN_REPORT, 0});
    const auto delivery = sink->frame(from, events, time_ns);
    sink->flush();
    return delivery;
  }
  void turn() {
    const int64_t end = base::now_ns() + 5'000'000;
    while (epoll.wait(end) > 0) {
    }
    signaller.flush();
  }
  scanoutd_input_ring& ring() { return sink->memory().ring(); }

  void leds_set(input::Sink&, uint32_t set) noexcept override {
    leds = set;
    ++leds_told;
  }
  void delivered(input::Sink&, std::span<const int64_t>) noexcept override {}
  void renewed(input::Sink&) noexcept override {}
  void ended(input::Sink&, int, const char*) noexcept override { ++ends; }

  base::Epoll epoll;
  base::EventfdSignaller signaller;
  std::unique_ptr<input::RingSink> sink;
  uint32_t serial = 0, leds = 0, leds_told = 0, ends = 0;

private:
  FakeDaemon& daemon_;
};

/// A guest that has the ring.
struct Seated {
  Seated() {
    daemon.listen();
    REQUIRE(scanoutd_client_connect(guest, 0) == 0);
    REQUIRE(daemon.welcome());
    REQUIRE(guest.next().type == SCANOUTD_EVENT_CONNECTED);
    uint32_t serial = 0;
    REQUIRE(scanoutd_client_take_input(guest, &serial) == 0);
    REQUIRE(input.take());
    input.describe(Class::keyboard, KEY_A);
    REQUIRE(input.answer());
    REQUIRE(scanoutd_client_wait_answer(guest, serial, 1000) == 0);
    frame.count = 0;
    REQUIRE(read() == 2);
  }
  int read() { return scanoutd_client_read_input(guest, &frame); }
  /// "code=value" of every key event that is there to be read.
  std::string keys() {
    std::string text;
    while (read() == 1) {
      for (uint32_t i = 0; i < frame.count; i++)
        if (frame.events[i].type == EV_KEY)
          text += std::to_string(frame.events[i].code) + "=" + std::to_string(frame.events[i].value) + " ";
    }
    return text;
  }
  FakeDaemon daemon;
  Guest guest{daemon.path()};
  InputDaemon input{daemon};
  scanoutd_input_frame frame;
};

} // namespace

TEST(client_takes_input) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_input_fd(guest), -1);
  CHECK(scanoutd_client_input_device(guest, SCANOUTD_INPUT_KEYBOARD) == nullptr);
  scanoutd_input_frame frame;
  CHECK_EQ(scanoutd_client_read_input(guest, &frame), 0);
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  REQUIRE(daemon.welcome());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  uint32_t serial = 0;
  CHECK_EQ(scanoutd_client_take_input(guest, &serial), 0);
  CHECK_EQ(scanoutd_client_take_input(guest, nullptr), -EBUSY);
  InputDaemon input(daemon);
  REQUIRE(input.take());
  CHECK_EQ(input.serial, serial);
  input.describe(Class::keyboard, KEY_A);
  REQUIRE(input.answer());
  scanoutd_event event = guest.next();
  CHECK_EQ(event.type, SCANOUTD_EVENT_DONE);
  CHECK_EQ(event.request, static_cast<uint32_t>(SCANOUTD_TAKE_INPUT));
  CHECK_EQ(event.serial, serial);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_INPUT);
  CHECK_EQ(scanoutd_client_take_input(guest, nullptr), -EEXIST);
  CHECK_EQ(scanoutd_client_read_input(guest, &frame), 2);
  const scanoutd_input_device* keyboard = scanoutd_client_input_device(guest, SCANOUTD_INPUT_KEYBOARD);
  REQUIRE(keyboard != nullptr);
  CHECK_EQ(std::string(keyboard->name), "A device");
  CHECK_EQ(keyboard->keys[0], uint64_t{1} << KEY_A);
  CHECK(scanoutd_client_input_device(guest, SCANOUTD_INPUT_POINTER) == nullptr);
  CHECK(scanoutd_client_input_device(guest, SCANOUTD_INPUT_DEVICES) == nullptr);
  CHECK_EQ(scanoutd_client_read_input(guest, &frame), 0);

  pollfd readable{scanoutd_client_input_fd(guest), POLLIN, 0};
  while (scanoutd_client_dispatch(guest, &event) == 1) {
  }
  CHECK_EQ(::poll(&readable, 1, 0), 0);
  input.send(Class::keyboard, {{EV_KEY, KEY_A, 1}}, 1234567890123);
  CHECK_EQ(::poll(&readable, 1, 0), 1);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_INPUT);
  CHECK_EQ(scanoutd_client_read_input(guest, &frame), 1);
  CHECK_EQ(frame.device, static_cast<uint32_t>(SCANOUTD_INPUT_KEYBOARD));
  CHECK_EQ(frame.time_ns, 1234567890123u);
  REQUIRE(frame.count == 2);
  CHECK(frame.events[0].type == EV_KEY && frame.events[0].code == KEY_A && frame.events[0].value == 1);
  CHECK(frame.events[1].type == EV_SYN);
  CHECK_EQ(scanoutd_client_read_input(guest, &frame), 0);
}

TEST(client_sees_devices_change_between_frames) {
  Seated seated;
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
  seated.input.describe(Class::touchscreen, BTN_TOUCH);
  seated.input.send(Class::touchscreen, {{EV_KEY, BTN_TOUCH, 1}});
  CHECK_EQ(seated.read(), 1);
  CHECK_EQ(seated.frame.device, static_cast<uint32_t>(SCANOUTD_INPUT_KEYBOARD));
  CHECK(scanoutd_client_input_device(seated.guest, SCANOUTD_INPUT_TOUCHSCREEN) == nullptr);
  CHECK_EQ(seated.read(), 2);
  CHECK(scanoutd_client_input_device(seated.guest, SCANOUTD_INPUT_TOUCHSCREEN) != nullptr);
  CHECK(scanoutd_client_input_device(seated.guest, SCANOUTD_INPUT_KEYBOARD) == nullptr);
  CHECK_EQ(seated.read(), 1);
  CHECK_EQ(seated.read(), 0);
  seated.input.sink->set_devices({}); // with no frame behind it
  CHECK_EQ(seated.read(), 2);
  CHECK(scanoutd_client_input_device(seated.guest, SCANOUTD_INPUT_TOUCHSCREEN) == nullptr);
  // Twice, with frames of both: the newest is told, and all come.
  seated.input.describe(Class::keyboard, KEY_B);
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_B, 1}});
  seated.input.describe(Class::keyboard, KEY_C);
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_C, 1}});
  CHECK_EQ(seated.read(), 2);
  CHECK_EQ(scanoutd_client_input_device(seated.guest, 0)->keys[0], uint64_t{1} << KEY_C);
  CHECK_EQ(seated.keys(), "48=1 46=1 ");
}

TEST(client_makes_room_again) {
  Seated seated;
  for (int i = 0; i < 5000; ++i)
    seated.input.send(Class::pointer, {{EV_REL, REL_X, 1}});
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_A, 0}});
  int64_t x = 0;
  std::string keys;
  for (int turns = 0; turns < 3; ++turns) {
    while (seated.read() == 1) {
      for (uint32_t i = 0; i < seated.frame.count; i++) {
        if (seated.frame.events[i].type == EV_REL) x += seated.frame.events[i].value;
        if (seated.frame.events[i].type == EV_KEY) keys += std::to_string(seated.frame.events[i].value);
      }
    }
    seated.input.turn(); // the client has signalled, or nothing more comes
  }
  CHECK_EQ(x, 5000);
  CHECK_EQ(keys, "10");
  CHECK_EQ(seated.input.ring().waiting, 0u);
}

TEST(client_sets_leds) {
  Seated seated;
  seated.input.turn();
  scanoutd_client_set_leds(seated.guest, 1u << LED_CAPSL | 1u << LED_NUML);
  seated.input.turn();
  CHECK_EQ(seated.input.leds_told, 1u);
  CHECK_EQ(seated.input.leds, 1u << LED_CAPSL);
  scanoutd_client_set_leds(seated.guest, 0);
  seated.input.turn();
  CHECK_EQ(seated.input.leds_told, 2u);
  CHECK_EQ(seated.input.leds, 0u);
}

TEST(client_is_refused_input) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_take_input(guest, nullptr), 0); // for when it is connected
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  REQUIRE(daemon.welcome());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  InputDaemon input(daemon);
  REQUIRE(input.take());
  daemon.refuse(input.serial, SCANOUTD_NOT_ALLOWED, "guest a gets no input");
  const scanoutd_event event = guest.next();
  CHECK_EQ(event.type, SCANOUTD_EVENT_ERROR);
  CHECK_EQ(event.request, static_cast<uint32_t>(SCANOUTD_TAKE_INPUT));
  CHECK_EQ(event.error->code, static_cast<uint32_t>(SCANOUTD_NOT_ALLOWED));
  CHECK(scanoutd_client_connected(guest));
  // The next daemon is not asked.
  daemon.hang_up();
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CLOSED);
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  REQUIRE(daemon.welcome());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  CHECK(daemon.receive(50).bytes.empty());
}

TEST(client_asks_no_old_daemon_for_input) {
  FakeDaemon daemon;
  daemon.version_minor = 3;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_take_input(guest, nullptr), 0);
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  REQUIRE(daemon.welcome());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  CHECK_EQ(scanoutd_client_take_input(guest, nullptr), -EOPNOTSUPP);
  CHECK(daemon.receive(50).bytes.empty());
}

TEST(client_releases_what_a_dead_daemon_left_pressed) {
  Seated seated;
  scanoutd_client_set_leds(seated.guest, 2);
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_A, 1}, {EV_KEY, KEY_B, 1}});
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_B, 0}});
  seated.input.send(Class::touchscreen, {{EV_ABS, ABS_MT_SLOT, 3}, {EV_ABS, ABS_MT_TRACKING_ID, 9}});
  seated.input.send(Class::touchscreen, {{EV_ABS, ABS_MT_SLOT, 0}, {EV_ABS, ABS_MT_TRACKING_ID, 10}});
  seated.input.send(Class::touchscreen, {{EV_ABS, ABS_MT_TRACKING_ID, -1}});
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_C, 1}}); // is there, though it dies at once
  seated.input.drop();
  seated.daemon.hang_up();
  while (seated.guest.next().type != SCANOUTD_EVENT_CLOSED) {
  }
  std::string keys;
  std::vector<scanoutd_input_value> contacts;
  while (seated.read() == 1) {
    for (uint32_t i = 0; i < seated.frame.count; i++) {
      const scanoutd_input_value& event = seated.frame.events[i];
      if (event.type == EV_KEY) keys += std::to_string(event.code) + "=" + std::to_string(event.value) + " ";
      if (event.type == EV_ABS) contacts.push_back(event);
    }
  }
  CHECK_EQ(keys, "30=1 48=1 48=0 46=1 30=0 46=0 ");
  REQUIRE(contacts.size() == 7);
  CHECK(contacts[5].code == ABS_MT_SLOT && contacts[5].value == 3);
  CHECK(contacts[6].code == ABS_MT_TRACKING_ID && contacts[6].value == -1);
  CHECK_EQ(seated.read(), 0);
  CHECK(scanoutd_client_input_device(seated.guest, SCANOUTD_INPUT_KEYBOARD) == nullptr);

  // And the next one is asked by itself, and told the LEDs.
  CHECK_EQ(scanoutd_client_connect(seated.guest, 0), 0);
  REQUIRE(seated.daemon.welcome());
  while (seated.guest.next().type != SCANOUTD_EVENT_CONNECTED) {
  }
  REQUIRE(seated.input.take());
  seated.input.describe(Class::keyboard, KEY_A);
  REQUIRE(seated.input.answer());
  CHECK_EQ(seated.guest.next().type, SCANOUTD_EVENT_DONE);
  CHECK_EQ(seated.read(), 2);
  CHECK_EQ(seated.keys(), "");
  seated.input.turn();
  CHECK_EQ(seated.input.leds, 2u);
}

TEST(client_releases_what_it_left_pressed_itself) {
  Seated seated;
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
  CHECK_EQ(seated.keys(), "30=1 ");
  scanoutd_client_disconnect(seated.guest);
  CHECK_EQ(scanoutd_client_connect(seated.guest, 0), 0);
  CHECK_EQ(seated.guest.next().type, SCANOUTD_EVENT_INPUT); // before any daemon has answered
  CHECK_EQ(seated.keys(), "30=0 ");
  seated.input.drop();
}

TEST(client_releases_before_it_reads_another_ring) {
  Seated seated;
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
  CHECK_EQ(seated.keys(), "30=1 ");
  seated.daemon.refuse(0, SCANOUTD_INPUT_ENDED, "the seat is gone");
  scanoutd_event event = seated.guest.next();
  while (event.type == SCANOUTD_EVENT_INPUT)
    event = seated.guest.next();
  REQUIRE(event.type == SCANOUTD_EVENT_ERROR);
  CHECK_EQ(event.error->code, static_cast<uint32_t>(SCANOUTD_INPUT_ENDED));
  CHECK(scanoutd_client_connected(seated.guest));
  CHECK_EQ(scanoutd_client_take_input(seated.guest, nullptr), 0);
  REQUIRE(seated.input.take());
  seated.input.describe(Class::keyboard, KEY_A);
  seated.input.send(Class::keyboard, {{EV_KEY, KEY_B, 1}});
  REQUIRE(seated.input.answer());
  while (seated.guest.next().type != SCANOUTD_EVENT_DONE) {
  }
  CHECK_EQ(seated.read(), 1); // of the former ring
  CHECK_EQ(seated.frame.events[0].code, KEY_A);
  CHECK_EQ(seated.frame.events[0].value, 0);
  CHECK_EQ(seated.read(), 2);
  CHECK_EQ(seated.keys(), "48=1 ");
}

TEST(client_leaves_a_daemon_whose_ring_is_nonsense) {
  using Break = void (*)(InputDaemon&);
  const Break breaks[] = {
      [](InputDaemon& daemon) { daemon.ring().written = SCANOUTD_INPUT_EVENTS + 1; },
      [](InputDaemon& daemon) { daemon.ring().written = UINT64_MAX; },
      [](InputDaemon& daemon) { // no SYN_REPORT
        for (uint64_t i = 0; i < 5; ++i)
          daemon.ring().events[i].type = EV_KEY;
        daemon.ring().written = 5;
      },
      [](InputDaemon& daemon) {
        daemon.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
        daemon.ring().events[0].device = daemon.ring().events[1].device = SCANOUTD_INPUT_DEVICES;
      },
      [](InputDaemon& daemon) {
        daemon.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
        daemon.ring().events[1].device = SCANOUTD_INPUT_PAD;
      },
      [](InputDaemon& daemon) {
        daemon.send(Class::keyboard, {{EV_KEY, KEY_A, 1}});
        daemon.ring().events[1].time_ns = 6;
      },
      [](InputDaemon& daemon) {
        for (scanoutd_input_event& event : daemon.ring().events)
          event = {
              .time_ns = 1, .epoch = 2, .device = 0, .type = EV_KEY, .code = 1, .reserved = 0, .value = 1};
        daemon.ring().written = SCANOUTD_INPUT_EVENTS; // a frame that is too long
      },
      [](InputDaemon& daemon) {
        daemon.ring().epoch = 8;
        std::memset(daemon.ring().devices[0].name, 'x', sizeof daemon.ring().devices[0].name);
      },
      [](InputDaemon& daemon) {
        daemon.ring().epoch = 8;
        daemon.ring().devices[3].present = 2;
      },
      [](InputDaemon& daemon) {
        daemon.ring().epoch = 8;
        daemon.ring().devices[0].absolute = 1; // an axis without a range
      },
  };
  for (const Break& spoil : breaks) {
    Seated seated;
    spoil(seated.input);
    CHECK_EQ(seated.read(), -EPROTO);
    CHECK(!scanoutd_client_connected(seated.guest));
    CHECK_EQ(seated.read(), 0);
    scanoutd_event event = seated.guest.next();
    while (event.type != SCANOUTD_EVENT_CLOSED && event.type != SCANOUTD_EVENT_NONE)
      event = seated.guest.next();
    CHECK_EQ(event.reason, -EPROTO);
  }
}

TEST(client_is_not_held_up_by_devices_that_are_written_for_ever) {
  Seated seated;
  seated.input.ring().epoch = 9;
  CHECK_EQ(seated.read(), 0);
  CHECK(scanoutd_client_input_device(seated.guest, SCANOUTD_INPUT_KEYBOARD) != nullptr); // as before
}

/// One answer that is wrong in the given way.
static void offer_wrong_ring(int wrong) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  REQUIRE(daemon.welcome());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  CHECK_EQ(scanoutd_client_take_input(guest, nullptr), 0);
  InputDaemon input(daemon);
  REQUIRE(input.take());
  auto answer = message<scanoutd_input>(SCANOUTD_INPUT, input.serial);
  answer.ring_size = SCANOUTD_INPUT_RING_SIZE;
  answer.reply_size = SCANOUTD_INPUT_REPLY_SIZE;
  std::vector<int> fds{input.sink->ring_fd(), input.sink->reply_fd()};
  const base::UniqueFd empty = sealed_memfd(SCANOUTD_INPUT_RING_SIZE);
  const base::UniqueFd small = sealed_memfd(4096);
  const base::UniqueFd unsealed = sealed_memfd(SCANOUTD_INPUT_REPLY_SIZE, 0);
  if (wrong == 0) answer.ring_size = 4096;
  if (wrong == 1) fds[0] = empty.get();
  if (wrong == 2) fds[0] = small.get();
  if (wrong == 3) fds[1] = unsealed.get();
  if (wrong == 4) answer.header.serial += 128;
  if (wrong == 5) input.ring().event_size = 16;
  if (wrong == 6) input.ring().capacity = 8192;
  CHECK(daemon.send(answer, fds));
  const scanoutd_event event = guest.next();
  CHECK_EQ(event.type, SCANOUTD_EVENT_CLOSED);
  CHECK_EQ(event.reason, -EPROTO);
}

TEST(client_refuses_a_ring_that_is_none) {
  const size_t before = open_fds();
  for (int wrong = 0; wrong <= 6; ++wrong)
    offer_wrong_ring(wrong);
  CHECK_EQ(open_fds(), before);
}

} // namespace scanout::test
