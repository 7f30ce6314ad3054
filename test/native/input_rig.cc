#include "input_rig.h"

#include <sstream>

namespace scanout::test {

namespace {

Description described(std::initializer_list<int> types) {
  Description description;
  for (const int type : types)
    description.types.set(static_cast<size_t>(type));
  return description;
}

void axis(Description& description, int code, int32_t maximum, int32_t minimum = 0) {
  description.absolute.set(static_cast<size_t>(code));
  description.axes[static_cast<size_t>(code)] = {.value = 0, .minimum = minimum, .maximum = maximum};
}

} // namespace

std::string text(const Events& events) {
  std::ostringstream out;
  for (const Event& event : events)
    out << event.type << ':' << event.code << '=' << event.value << ' ';
  return out.str();
}

Description keyboard() {
  Description description = described({EV_KEY, EV_MSC, EV_LED, EV_REP});
  for (size_t code = KEY_ESC; code <= KEY_COMPOSE; ++code)
    description.keys.set(code);
  description.misc.set(MSC_SCAN);
  for (const int led : {LED_NUML, LED_CAPSL, LED_SCROLLL})
    description.leds.set(static_cast<size_t>(led));
  return description;
}

Description mouse() {
  Description description = described({EV_KEY, EV_REL});
  for (size_t code = BTN_LEFT; code <= BTN_EXTRA; ++code)
    description.keys.set(code);
  for (const int code : {REL_X, REL_Y, REL_WHEEL, REL_WHEEL_HI_RES})
    description.relative.set(static_cast<size_t>(code));
  return description;
}

Description touchscreen(int32_t size, int32_t slots) {
  Description description = described({EV_KEY, EV_ABS});
  description.properties.set(INPUT_PROP_DIRECT);
  description.keys.set(BTN_TOUCH);
  for (const int code : {ABS_X, ABS_Y, ABS_MT_POSITION_X, ABS_MT_POSITION_Y})
    axis(description, code, size);
  axis(description, ABS_MT_SLOT, slots - 1);
  axis(description, ABS_MT_TRACKING_ID, 65535);
  axis(description, ABS_MT_PRESSURE, 255);
  return description;
}

Description pen(int32_t size) {
  Description description = described({EV_KEY, EV_ABS});
  description.properties.set(INPUT_PROP_POINTER);
  for (const int code : {BTN_TOOL_PEN, BTN_TOOL_RUBBER, BTN_TOUCH, BTN_STYLUS})
    description.keys.set(static_cast<size_t>(code));
  axis(description, ABS_X, size);
  axis(description, ABS_Y, size);
  axis(description, ABS_PRESSURE, 2047);
  axis(description, ABS_TILT_X, 60, -60);
  return description;
}

Description position(int32_t size) {
  Description description = described({EV_KEY, EV_ABS, EV_REL});
  for (size_t code = BTN_LEFT; code <= BTN_EXTRA; ++code)
    description.keys.set(code);
  axis(description, ABS_X, size);
  axis(description, ABS_Y, size);
  description.relative.set(REL_WHEEL);
  return description;
}

Sink::Delivery TestSink::frame(Class /*from*/, std::span<const Event> events,
                               int64_t /*kernel_ns*/) noexcept {
  const bool whole = !events.empty() && events.size() <= max_frame && events.back().type == EV_SYN &&
                     events.back().code == SYN_REPORT && events.size() > 1;
  CHECK(whole);
  for (const Event& event : events) {
    if (event.type == EV_KEY) {
      CHECK_EQ(down.contains(event.code), event.value == 0);
      CHECK(event.value == 0 || event.value == 1);
      if (event.value != 0)
        down.insert(event.code);
      else
        down.erase(event.code);
    } else if (event.type == EV_ABS && event.code == ABS_MT_SLOT) {
      slot_ = event.value;
    } else if (event.type == EV_ABS && event.code == ABS_MT_TRACKING_ID) {
      CHECK(event.value >= 0 || contacts.contains(slot_)); // one may follow another in its slot
      if (event.value < 0)
        contacts.erase(slot_);
      else
        contacts[slot_] = slots[slot_];
    } else if (event.type == EV_ABS && Source::is_slot_axis(event.code)) {
      slots[slot_][event.code] = event.value;
      if (contacts.contains(slot_)) contacts[slot_][event.code] = event.value;
    } else if (event.type == EV_ABS) {
      axes[event.code] = event.value;
    }
  }
  if (keep) frames.emplace_back(events.begin(), events.end());
  return Delivery::done;
}

Events TestSink::take() {
  Events all;
  for (const Events& frame : frames)
    all.insert(all.end(), frame.begin(), frame.end() - 1);
  frames.clear();
  return all;
}

TestSink& TestGuest::add(Class of, const Description& description) {
  auto made = std::make_unique<TestSink>();
  TestSink& sink = *made;
  attachments.push_back(std::make_unique<Attachment>(static_cast<uint32_t>(attachments.size() + 1), guest,
                                                     std::move(made),
                                                     Attachment::Classes{{of, description}}));
  guest.ports[static_cast<size_t>(of)] = attachments.back()->ports.front().get();
  sinks[of] = &sink;
  return sink;
}

bool TestGuest::holds_nothing() const {
  for (const auto& [of, sink] : sinks) {
    if (!sink->down.empty() || !sink->contacts.empty()) return false;
  }
  return true;
}

World::World() {
  seat.table->outputs = {{.width = 1000, .height = 1000}};
}

TestGuest& World::add_guest() {
  return *guests.emplace_back(std::make_unique<TestGuest>(static_cast<uint32_t>(guests.size() + 1)));
}

TestSource& World::add(Class of, const Description& description, int32_t output) {
  TestSource& source = *sources.emplace_back(
      std::make_unique<TestSource>(static_cast<uint32_t>(sources.size() + 100), of, description));
  auto table = copy();
  table->members.push_back({.source = &source, .output = output});
  set(std::move(table));
  return source;
}

std::unique_ptr<SeatTable> World::copy() const {
  auto table = std::make_unique<SeatTable>(*seat.table);
  table->switches = seat.switches;
  return table;
}

void World::show(TestGuest* guest) {
  auto table = copy();
  table->guest = guest == nullptr ? nullptr : &guest->guest;
  set(std::move(table));
}

} // namespace scanout::test
