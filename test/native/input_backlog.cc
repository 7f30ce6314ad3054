// What waits for a slow guest: merged, dropped, and at last let go of.
#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "allocations.h"
#include "check.h"
#include "input/backlog.h"

using namespace scanout;
using input::Backlog;
using input::Class;
using input::Event;

namespace {

using Events = std::vector<Event>;

constexpr Event report{EV_SYN, SYN_REPORT, 0};
constexpr Event slot(int32_t number) {
  return {EV_ABS, ABS_MT_SLOT, number};
}
constexpr Event tracking(int32_t id) {
  return {EV_ABS, ABS_MT_TRACKING_ID, id};
}
constexpr Event key(size_t code, int32_t value) {
  return {EV_KEY, static_cast<uint16_t>(code), value};
}

struct Given {
  Class from;
  int64_t ns;
  Events events;
  bool operator==(const Given&) const = default;
};

Given take(Backlog& backlog) {
  REQUIRE(!backlog.empty());
  const Backlog::Frame frame = backlog.front();
  Given given{frame.from, frame.kernel_ns, {frame.events.begin(), frame.events.end()}};
  backlog.pop();
  return given;
}

std::string text(const Events& events) {
  std::string all;
  for (const Event& event : events) {
    all += std::to_string(event.type) + ":" + std::to_string(event.code) + "=" + std::to_string(event.value) +
           " ";
  }
  return all;
}

struct Line {
  std::unique_ptr<Backlog> backlog = std::make_unique<Backlog>();
  int64_t ns = 0;
  void push(Class from, Events events) {
    events.push_back(report);
    backlog->push(from, events, ++ns);
  }
  /// The next frame is this one, without its SYN_REPORT.
  void expect(Class from, Events events) {
    const Given given = take(*backlog);
    events.push_back(report);
    CHECK(given.from == from);
    CHECK_EQ(text(given.events), text(events));
  }
};

} // namespace

TEST(backlog_gives_frames_as_they_came) {
  Line line;
  line.push(Class::keyboard, {{EV_MSC, MSC_SCAN, 4}, key(KEY_A, 1)});
  line.push(Class::pointer, {{EV_REL, REL_X, 3}});
  line.push(Class::keyboard, {key(KEY_A, 0)});
  line.expect(Class::keyboard, {{EV_MSC, MSC_SCAN, 4}, key(KEY_A, 1)});
  CHECK_EQ(line.backlog->front().kernel_ns, 2);
  line.expect(Class::pointer, {{EV_REL, REL_X, 3}});
  line.expect(Class::keyboard, {key(KEY_A, 0)});
  CHECK(line.backlog->empty());
  CHECK_EQ(line.backlog->merged() + line.backlog->dropped(), 0u);
}

TEST(backlog_adds_up_relative_axes_and_replaces_absolute_ones) {
  Line line;
  line.push(Class::pointer, {{EV_REL, REL_X, 3}, {EV_REL, REL_Y, -1}});
  line.push(Class::pointer, {{EV_REL, REL_WHEEL, 1}, {EV_REL, REL_X, -5}});
  line.push(Class::absolute, {{EV_ABS, ABS_X, 10}, {EV_ABS, ABS_Y, 20}});
  line.push(Class::absolute, {{EV_ABS, ABS_X, 11}});
  CHECK_EQ(line.backlog->front().kernel_ns, 1);
  line.expect(Class::pointer, {{EV_REL, REL_X, -2}, {EV_REL, REL_Y, -1}, {EV_REL, REL_WHEEL, 1}});
  line.expect(Class::absolute, {{EV_ABS, ABS_X, 11}, {EV_ABS, ABS_Y, 20}});
  CHECK(line.backlog->empty());
  CHECK_EQ(line.backlog->merged(), 2u);
}

TEST(backlog_saturates_sums) {
  constexpr int32_t most = std::numeric_limits<int32_t>::max(), least = std::numeric_limits<int32_t>::min();
  Line line;
  for (int i = 0; i < 3; ++i)
    line.push(Class::pointer, {{EV_REL, REL_X, most}, {EV_REL, REL_Y, least}});
  line.expect(Class::pointer, {{EV_REL, REL_X, most}, {EV_REL, REL_Y, least}});
}

TEST(backlog_merges_over_no_key_and_no_other_class) {
  Line line;
  const Events motion{{EV_REL, REL_X, 1}};
  line.push(Class::pointer, motion);
  line.push(Class::pointer, {{EV_REL, REL_X, 1}, key(BTN_LEFT, 1)});
  line.push(Class::pointer, motion);
  line.push(Class::tablet, motion);
  line.push(Class::pointer, motion);
  line.expect(Class::pointer, motion);
  line.expect(Class::pointer, {{EV_REL, REL_X, 1}, key(BTN_LEFT, 1)});
  line.expect(Class::pointer, motion);
  line.expect(Class::tablet, motion);
  line.expect(Class::pointer, motion);
  CHECK_EQ(line.backlog->merged(), 0u);
}

TEST(backlog_merges_each_contact_with_itself) {
  Line line;
  line.push(Class::touchscreen, {tracking(1), {EV_ABS, ABS_MT_POSITION_X, 5}, key(BTN_TOUCH, 1)});
  line.push(Class::touchscreen, {slot(1), tracking(2), {EV_ABS, ABS_MT_POSITION_X, 50}});
  // Slot 1 goes on, then 0; then 0 alone.
  line.push(Class::touchscreen,
            {{EV_ABS, ABS_MT_POSITION_X, 51}, slot(0), {EV_ABS, ABS_MT_POSITION_X, 6}, {EV_ABS, ABS_X, 6}});
  line.push(Class::touchscreen, {{EV_ABS, ABS_MT_POSITION_Y, 7}, slot(1), {EV_ABS, ABS_MT_POSITION_X, 52}});
  line.push(Class::touchscreen, {{EV_ABS, ABS_MT_POSITION_Y, 8}, slot(0), {EV_ABS, ABS_MT_POSITION_Y, 9}});
  line.push(Class::touchscreen, {tracking(-1), slot(1), tracking(-1), key(BTN_TOUCH, 0)});
  line.expect(Class::touchscreen, {tracking(1), {EV_ABS, ABS_MT_POSITION_X, 5}, key(BTN_TOUCH, 1)});
  line.expect(Class::touchscreen, {slot(1), tracking(2), {EV_ABS, ABS_MT_POSITION_X, 50}});
  line.expect(Class::touchscreen, {{EV_ABS, ABS_MT_POSITION_X, 52},
                                   slot(0),
                                   {EV_ABS, ABS_MT_POSITION_X, 6},
                                   {EV_ABS, ABS_X, 6},
                                   {EV_ABS, ABS_MT_POSITION_Y, 9},
                                   slot(1),
                                   {EV_ABS, ABS_MT_POSITION_Y, 8},
                                   slot(0)});
  line.expect(Class::touchscreen, {tracking(-1), slot(1), tracking(-1), key(BTN_TOUCH, 0)});
  CHECK(line.backlog->empty());
}

TEST(backlog_merges_a_pen_only_with_the_same_pen) {
  Line line;
  const auto pen = [](int32_t x, int32_t serial) {
    return Events{{EV_ABS, ABS_X, x}, {EV_MSC, MSC_SERIAL, serial}};
  };
  line.push(Class::tablet, pen(1, 7));
  line.push(Class::tablet, pen(2, 7));
  line.push(Class::tablet, pen(3, 8));
  line.expect(Class::tablet, pen(2, 7));
  line.expect(Class::tablet, pen(3, 8));
}

TEST(backlog_gathers_pieces) {
  Line line;
  Backlog& backlog = *line.backlog;
  const Event first{EV_ABS, ABS_X, 1}, second{EV_ABS, ABS_Y, 2};
  backlog.push(Class::tablet, std::span(&first, 1), 5);
  CHECK(backlog.empty());
  CHECK(backlog.gathering());
  line.push(Class::tablet, {second});
  CHECK(!backlog.gathering());
  CHECK_EQ(backlog.front().kernel_ns, 5);
  line.expect(Class::tablet, {first, second});
  // Another device of the guest comes in between.
  backlog.push(Class::tablet, std::span(&first, 1), 5);
  line.push(Class::keyboard, {key(KEY_A, 1)});
  line.push(Class::tablet, {second});
  line.expect(Class::tablet, {first});
  line.expect(Class::keyboard, {key(KEY_A, 1)});
  line.expect(Class::tablet, {second});
}

TEST(backlog_keeps_out_what_would_unbalance_the_guest) {
  Line line;
  line.push(Class::keyboard, {key(KEY_A, 0)});
  line.push(Class::keyboard, {key(KEY_B, 1)});
  line.push(Class::keyboard, {key(KEY_B, 2)});
  line.push(Class::touchscreen, {tracking(-1), key(BTN_TOUCH, 0)});
  line.push(Class::keyboard, {key(KEY_B, 0)});
  line.expect(Class::keyboard, {key(KEY_B, 1)});
  line.expect(Class::keyboard, {key(KEY_B, 0)});
  CHECK(line.backlog->empty());
  CHECK_EQ(line.backlog->dropped(), 4u);
}

TEST(backlog_drops_the_oldest_motion_first) {
  Line line;
  const auto click = [&](int32_t number) {
    line.push(Class::pointer, {{EV_REL, REL_X, number}});
    line.push(Class::pointer, {key(BTN_LEFT, number % 2)});
  };
  // Four events each: the 257th does not fit any more.
  for (int32_t i = 1; i <= 258; ++i)
    click(i);
  CHECK(line.backlog->dropped() == 4);
  for (int32_t i = 1; i <= 258; ++i) {
    if (i > 4) line.expect(Class::pointer, {{EV_REL, REL_X, i}});
    line.expect(Class::pointer, {key(BTN_LEFT, i % 2)});
  }
  CHECK(line.backlog->empty());
}

TEST(backlog_lets_go_of_everything_at_last) {
  Line line;
  line.push(Class::touchscreen, {slot(3),
                                 tracking(9),
                                 {EV_ABS, ABS_MT_POSITION_X, 5},
                                 {EV_ABS, ABS_MT_POSITION_Y, 6},
                                 slot(1),
                                 tracking(10),
                                 key(BTN_TOUCH, 1),
                                 key(BTN_TOOL_DOUBLETAP, 1)});
  take(*line.backlog);
  const Event passed[]{key(KEY_LEFTSHIFT, 1), report};
  line.backlog->passed(Class::keyboard, passed);

  line.push(Class::touchscreen, {slot(3), {EV_ABS, ABS_MT_POSITION_Y, 66}, {EV_ABS, ABS_Y, 66}});
  line.push(Class::keyboard, {key(KEY_LEFTSHIFT, 0)});
  line.push(Class::switches, {{EV_SW, SW_LID, 1}});
  for (int32_t i = 1; line.backlog->dropped() == 0; ++i)
    line.push(Class::keyboard, {key(KEY_Z, i % 2)});

  line.expect(Class::keyboard, {key(KEY_LEFTSHIFT, 0)});
  line.expect(Class::touchscreen, {key(BTN_TOUCH, 0),
                                   key(BTN_TOOL_DOUBLETAP, 0),
                                   tracking(-1),
                                   slot(3),
                                   tracking(-1),
                                   {EV_ABS, ABS_MT_POSITION_Y, 66},
                                   {EV_ABS, ABS_Y, 66}});
  line.expect(Class::switches, {{EV_SW, SW_LID, 1}});
  while (!line.backlog->empty()) // of Z, what came after
    take(*line.backlog);
  // The source goes on in slot 3.
  line.push(Class::touchscreen, {{EV_ABS, ABS_MT_POSITION_Y, 67}});
  line.expect(Class::touchscreen, {{EV_ABS, ABS_MT_POSITION_Y, 67}});
}

TEST(backlog_releases_more_than_a_frame_can_hold) {
  Line line;
  for (size_t code = 0; code < KEY_CNT; ++code) {
    line.push(Class::keyboard, {key(code, 1)});
    take(*line.backlog);
  }
  for (int32_t i = 0; line.backlog->dropped() == 0; ++i)
    line.push(Class::keyboard, {key(KEY_Z, i % 2)});
  std::set<uint16_t> released;
  while (released.size() < KEY_CNT) {
    for (const Event& event : take(*line.backlog).events) {
      if (event.type == EV_KEY) CHECK(event.value == 0 && released.insert(event.code).second);
    }
  }
  CHECK_EQ(released.size(), size_t{KEY_CNT});
}

TEST(backlog_survives_a_frame_that_is_longer_than_itself) {
  Line line;
  line.push(Class::keyboard, {key(KEY_A, 1)});
  take(*line.backlog);
  Events frame;
  for (int32_t i = 0; i < 3000; ++i)
    frame.push_back({EV_ABS, static_cast<uint16_t>(i % ABS_MISC), i});
  frame.push_back(key(KEY_B, 1));
  line.push(Class::keyboard, frame);
  std::map<uint16_t, int32_t> axes;
  std::map<uint16_t, int32_t> keys{{KEY_A, 1}};
  while (!line.backlog->empty()) {
    for (const Event& event : take(*line.backlog).events)
      (event.type == EV_ABS ? axes : keys)[event.code] = event.value;
  }
  CHECK_EQ(keys[KEY_A], 0);
  for (int32_t i = 0; i < 3000; ++i)
    CHECK(axes[static_cast<uint16_t>(i % ABS_MISC)] >= i);
}

TEST(backlog_starts_anew) {
  Line line;
  line.push(Class::keyboard, {key(KEY_A, 1)});
  take(*line.backlog);
  line.push(Class::keyboard, {key(KEY_B, 1)});
  line.backlog->clear();
  CHECK(line.backlog->empty());
  line.push(Class::keyboard, {key(KEY_A, 0), key(KEY_B, 0), key(KEY_C, 1)});
  line.expect(Class::keyboard, {key(KEY_C, 1)});
}

namespace {

/// A source of one class, and what a guest makes of what it reads. Both as a kernel keeps them.
struct Device {
  std::set<uint16_t> keys;
  std::map<uint16_t, int32_t> axes;
  std::map<int32_t, std::map<uint16_t, int32_t>> contacts; // by slot, with its tracking id
  std::map<uint16_t, int64_t> sums;
  std::vector<std::pair<uint16_t, int32_t>> key_events;
  int32_t slot = 0;
  bool balanced = true;

  void apply(const Event& event) {
    if (event.type == EV_KEY) {
      key_events.emplace_back(event.code, event.value);
      const bool changed = event.value != 0 ? keys.insert(event.code).second : keys.erase(event.code) > 0;
      balanced = balanced && changed;
    } else if (event.type == EV_REL) {
      sums[event.code] += event.value;
    } else if (event.type == EV_ABS && event.code == ABS_MT_SLOT) {
      slot = event.value;
    } else if (event.type == EV_ABS && input::is_contact_axis(event)) {
      contacts[slot][event.code] = event.value;
    } else if (event.type == EV_ABS || event.type == EV_SW) {
      axes[static_cast<uint16_t>(event.code + 256 * event.type)] = event.value;
    }
  }
  [[nodiscard]] bool touches(int32_t at) const {
    const auto found = contacts.find(at);
    if (found == contacts.end()) return false;
    const auto id = found->second.find(ABS_MT_TRACKING_ID);
    return id != found->second.end() && id->second >= 0;
  }
};

class Stream {
public:
  explicit Stream(unsigned seed) : random_(seed) {}
  uint32_t below(uint32_t limit) { return random_() % limit; }

  /// One frame of a device, as a kernel would report it: states only when they change.
  Events frame(Device& device, uint32_t keys) {
    Events events;
    const uint32_t parts = 1 + below(4);
    for (uint32_t i = 0; i < parts; ++i)
      part(device, events, keys);
    for (const Event& event : events)
      device.apply(event);
    if (!events.empty()) events.push_back(report);
    return events;
  }

private:
  void part(const Device& device, Events& events, uint32_t keys) {
    const auto unused = [&](const Event& event) {
      return std::none_of(events.begin(), events.end(), [&](const Event& other) {
        return other.type == event.type && other.code == event.code;
      });
    };
    const auto changed = [&](const std::map<uint16_t, int32_t>& values, uint16_t at, int32_t value) {
      const auto found = values.find(at);
      return found == values.end() || found->second != value;
    };
    const auto value = static_cast<int32_t>(below(1000));
    switch (below(8)) {
    case 0:
    case 1: {
      if (below(100) >= keys) return;
      const Event event = key(below(KEY_CNT), 0);
      if (unused(event)) events.push_back(key(event.code, device.keys.contains(event.code) ? 0 : 1));
      return;
    }
    case 2:
    case 3:
      events.push_back({EV_REL, static_cast<uint16_t>(below(3)), value - 500});
      return;
    case 4: {
      const Event event{EV_ABS, static_cast<uint16_t>(below(6)), value};
      if (changed(device.axes, static_cast<uint16_t>(event.code + 256 * EV_ABS), value))
        events.push_back(event);
      return;
    }
    case 5:
      if (below(10) == 0) events.push_back({EV_SW, static_cast<uint16_t>(below(4)), value % 2});
      return;
    default:
      contact(device, events, value, keys);
    }
  }

  void contact(const Device& device, Events& events, int32_t value, uint32_t keys) {
    if (std::any_of(events.begin(), events.end(),
                    [](const Event& event) { return event.code == ABS_MT_SLOT && event.type == EV_ABS; }))
      return;
    auto at = static_cast<int32_t>(below(5));
    if (at == device.slot && std::any_of(events.begin(), events.end(), input::is_contact_axis)) return;
    if (at != device.slot) events.push_back(slot(at));
    if (below(100) < keys) events.push_back(tracking(device.touches(at) ? -1 : ++id_));
    events.push_back({EV_ABS, static_cast<uint16_t>(ABS_MT_POSITION_X + below(2)), value});
  }

  std::mt19937 random_;
  int32_t id_ = 0;
};

bool is_subsequence(const std::vector<std::pair<uint16_t, int32_t>>& part,
                    const std::vector<std::pair<uint16_t, int32_t>>& whole) {
  size_t at = 0;
  for (const auto& one : whole) {
    if (at < part.size() && part[at] == one) ++at;
  }
  return at == part.size();
}

/// Presses alone: at a collapse there are releases that the source did not make then.
std::vector<std::pair<uint16_t, int32_t>> presses(const Device& device) {
  auto all = device.key_events;
  std::erase_if(all, [](const auto& one) { return one.second == 0; });
  return all;
}

void compare(const Device& source, const Device& guest, bool exact) {
  CHECK(guest.balanced);
  CHECK(std::includes(source.keys.begin(), source.keys.end(), guest.keys.begin(), guest.keys.end()));
  for (int32_t at = 0; at < input::max_slots; ++at)
    CHECK(source.touches(at) || !guest.touches(at));
  CHECK(source.axes == guest.axes);
  CHECK(is_subsequence(presses(guest), presses(source)));
  for (const auto& [at, values] : source.contacts) {
    for (const auto& [code, value] : values) {
      const auto found = guest.contacts.find(at);
      if (code != ABS_MT_TRACKING_ID || exact)
        CHECK(found != guest.contacts.end() && found->second.at(code) == value);
    }
  }
  if (!exact) return;
  CHECK(source.key_events == guest.key_events);
  CHECK(source.sums == guest.sums);
}

/// `keys`: per cent of what is no motion; `reads`: how often the guest reads, per cent.
struct Outcome {
  uint64_t merged, dropped;
};
Outcome run_stream(unsigned seed, uint32_t frames, uint32_t keys, uint32_t reads) {
  constexpr Class classes[]{Class::pointer, Class::touchscreen, Class::tablet};
  Stream stream(seed);
  Line line;
  std::array<Device, input::class_count> sources, guests;
  const auto read = [&] {
    const Given given = take(*line.backlog);
    CHECK(!given.events.empty() && input::is_report(given.events.back()));
    for (const Event& event : given.events)
      guests[static_cast<size_t>(given.from)].apply(event);
  };
  Class from = Class::pointer;
  for (uint32_t i = 0; i < frames; ++i) {
    if (stream.below(4) == 0) from = classes[stream.below(3)];
    Events events = stream.frame(sources[static_cast<size_t>(from)], keys);
    if (events.empty()) continue;
    if (stream.below(8) == 0) { // in pieces
      const std::span<const Event> all(events);
      const size_t middle = stream.below(static_cast<uint32_t>(all.size()));
      line.backlog->push(from, all.first(middle), ++line.ns);
      line.backlog->push(from, all.subspan(middle), line.ns);
    } else {
      line.backlog->push(from, events, ++line.ns);
    }
    while (!line.backlog->empty() && stream.below(100) < reads)
      read();
  }
  while (!line.backlog->empty())
    read();
  const uint64_t dropped = line.backlog->dropped();
  for (size_t i = 0; i < input::class_count; ++i)
    compare(sources[i], guests[i], dropped == 0);
  return {line.backlog->merged(), dropped};
}

} // namespace

TEST(backlog_leaves_nothing_pressed_whatever_comes) {
  uint32_t exact = 0, merging = 0, collapsing = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    // From guests that keep up nearly, to those that hardly ever read.
    const Outcome outcome = run_stream(seed, 2000, 5 + seed % 4 * 30, seed % 5 == 0 ? 60 : seed % 5 * 3);
    if (outcome.dropped == 0) ++exact;
    if (outcome.merged > 100) ++merging;
    if (outcome.dropped > 1000) ++collapsing;
  }
  // Each of them did occur.
  CHECK(exact > 30);
  CHECK(merging > 100);
  CHECK(collapsing > 100);
}

TEST(backlog_asks_for_no_memory) {
  Line line;
  Stream stream(1);
  Device source;
  std::vector<Events> frames;
  frames.reserve(3000);
  for (int i = 0; i < 3000; ++i)
    frames.push_back(stream.frame(source, 50));
  const size_t before = test::allocations();
  for (const Events& frame : frames)
    line.backlog->push(Class::touchscreen, frame, 1);
  CHECK(line.backlog->dropped() > 0);
  while (!line.backlog->empty()) {
    (void)line.backlog->front();
    line.backlog->pop();
  }
  CHECK_EQ(test::allocations(), before);
}
