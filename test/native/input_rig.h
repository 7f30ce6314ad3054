// Guests, seats and devices of the router without a kernel: what comes out is kept, and checked for balance.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "input/attachment.h"
#include "input/router.h"

namespace scanout::test {

using namespace scanout::input;
using Events = std::vector<Event>;

/// A frame: the events, and SYN_REPORT.
inline Events frame_of(Events events) {
  events.push_back({.type = EV_SYN, .code = SYN_REPORT, .value = 0});
  return events;
}
inline Event key(int code, int value) {
  return {.type = EV_KEY, .code = static_cast<uint16_t>(code), .value = value};
}
inline Event rel(int code, int value) {
  return {.type = EV_REL, .code = static_cast<uint16_t>(code), .value = value};
}
inline Event abs(int code, int value) {
  return {.type = EV_ABS, .code = static_cast<uint16_t>(code), .value = value};
}
inline Event msc(int code, int value) {
  return {.type = EV_MSC, .code = static_cast<uint16_t>(code), .value = value};
}
std::string text(const Events& events);

Description keyboard();
Description mouse();
/// Axes from 0 to `size`, and `slots` contacts.
Description touchscreen(int32_t size = 1000, int32_t slots = 5);
Description pen(int32_t size = 1000);
/// A pointer with a position, and a wheel.
Description position(int32_t size = 1000);

class TestSource final : public Source {
public:
  using Source::Source;
  void set_leds(uint32_t leds) noexcept override { shown = leds; }
  uint32_t shown = UINT32_MAX;
};

/// A guest's device: keeps what it got, and what is pressed by it. Fails the test when a key is pressed twice
/// or released without having been, and when a frame does not end as it should.
class TestSink final : public Sink {
public:
  int enter(base::Epoll&, SinkOwner&) noexcept override { return 0; }
  void leave() noexcept override {}
  Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept override;

  /// All of it so far, without the SYN_REPORTs, or as frames; forgets it.
  Events take();
  std::vector<Events> frames;
  std::set<uint16_t> down;
  std::map<int32_t, std::map<uint16_t, int32_t>> contacts; // by slot
  std::map<int32_t, std::map<uint16_t, int32_t>> slots;    // so are those that ended
  std::map<uint16_t, int32_t> axes;
  bool keep = true;

private:
  int32_t slot_ = 0;
};

struct TestGuest {
  explicit TestGuest(uint32_t id) : guest(id) {}
  /// Gives it a device of a class; its sink.
  TestSink& add(Class of, const Description& description);
  [[nodiscard]] bool holds_nothing() const;

  Guest guest;
  std::vector<std::unique_ptr<Attachment>> attachments;
  std::map<Class, TestSink*> sinks;
};

/// One seat, and as many guests and devices as are added.
class World : private RouterOwner {
public:
  World();
  TestGuest& add_guest();
  TestSource& add(Class of, const Description& description, int32_t output = -1);
  /// A copy of the table, to be changed and set.
  [[nodiscard]] std::unique_ptr<SeatTable> copy() const;
  void show(TestGuest* guest);
  void set(std::unique_ptr<SeatTable> table) { router.set(seat, std::move(table)); }
  void send(TestSource& source, Events events) { router.frame(source, frame_of(std::move(events)), ++now); }

  Router router{*this};
  Seat seat{1};
  std::vector<Seat*> seats{&seat};
  std::vector<std::unique_ptr<TestGuest>> guests;
  std::vector<std::unique_ptr<TestSource>> sources;
  std::vector<std::pair<uint32_t, uint32_t>> hotkeys; // id, guest
  int64_t now = 1;

private:
  void hotkey(const Seat&, uint32_t id, const Guest* guest) noexcept override {
    hotkeys.emplace_back(id, guest == nullptr ? 0 : guest->id);
  }
};

} // namespace scanout::test
