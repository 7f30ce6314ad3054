// The flip page: good entries, bad ones, and guests that write wherever and whenever they like.
#include <fcntl.h>
#include <unistd.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "check.h"
#include "guest_rig.h"

using namespace scanout;
using flip::Placement;
using flip::Rect;
using test::eventually;
using test::guest_size;
using test::GuestRig;
using test::Rig;

namespace {

constexpr uint32_t plane_a = 101;
constexpr uint32_t plane_b = 111;

struct Pair {
  Rig rig;
  bool ready = rig.add_crtc(1) == 0;
  GuestRig guest{rig, 10, 2, plane_a, 1000};
  GuestRig neighbour{rig, 20, 1, plane_b, 2000};

  /// The neighbour flips as it did before.
  void check_neighbour() {
    const uint64_t frame = neighbour.submit(0, static_cast<uint32_t>(neighbour.sequence % 4));
    CHECK(neighbour.presented(0, frame));
    CHECK_EQ(neighbour.feedback(0).refused, 0u);
  }
};

struct Attack {
  const char* name;
  void (*spoil)(scanoutd_flip_entry&);
  uint32_t code;
};

constexpr Attack attacks[] = {
    {"a buffer that is unknown", [](auto& e) { e.buffer = 9; }, SCANOUTD_BAD_BUFFER},
    {"the last buffer, unknown", [](auto& e) { e.buffer = SCANOUTD_MAX_BUFFERS - 1; }, SCANOUTD_BAD_BUFFER},
    {"a buffer out of range", [](auto& e) { e.buffer = SCANOUTD_MAX_BUFFERS; }, SCANOUTD_BAD_BUFFER},
    {"a buffer far out of range", [](auto& e) { e.buffer = 0xffffffff; }, SCANOUTD_BAD_BUFFER},
    {"unknown flags", [](auto& e) { e.flags = 4; }, SCANOUTD_BAD_MESSAGE},
    {"all flags", [](auto& e) { e.flags = 0xffffffff; }, SCANOUTD_BAD_MESSAGE},
    {"a reserved field", [](auto& e) { e.reserved = 1; }, SCANOUTD_BAD_MESSAGE},
    {"a fence that was not sent", [](auto& e) { e.flags = SCANOUTD_FLIP_FENCED; }, SCANOUTD_BAD_FENCE},
    {"no source", [](auto& e) { e.src_w = 0; }, SCANOUTD_BAD_RECT},
    {"no source height", [](auto& e) { e.src_h = 0; }, SCANOUTD_BAD_RECT},
    {"a source beyond the buffer", [](auto& e) { e.src_x = 1; }, SCANOUTD_BAD_RECT},
    {"a source below the buffer", [](auto& e) { e.src_h += 1; }, SCANOUTD_BAD_RECT},
    {"a source that wraps", [](auto& e) { e.src_x = 0xffffffff, e.src_w = 2; }, SCANOUTD_BAD_RECT},
    {"a source that wraps down", [](auto& e) { e.src_y = 0xfffffff0, e.src_h = 0x20; }, SCANOUTD_BAD_RECT},
    {"no destination", [](auto& e) { e.dst_w = 0; }, SCANOUTD_BAD_RECT},
    {"no destination height", [](auto& e) { e.dst_h = 0; }, SCANOUTD_BAD_RECT},
    {"a destination too wide", [](auto& e) { e.dst_w = SCANOUTD_MAX_SIZE + 1; }, SCANOUTD_BAD_RECT},
    {"a destination too high", [](auto& e) { e.dst_h = 0xffffffff; }, SCANOUTD_BAD_RECT},
    {"a destination far left", [](auto& e) { e.dst_x = INT32_MIN; }, SCANOUTD_BAD_RECT},
    {"a destination far down", [](auto& e) { e.dst_y = INT32_MAX; }, SCANOUTD_BAD_RECT},
    {"a hotspot far away", [](auto& e) { e.hot_x = INT32_MAX; }, SCANOUTD_BAD_RECT},
    {"a hotspot far up", [](auto& e) { e.hot_y = INT32_MIN; }, SCANOUTD_BAD_RECT},
    {"too much damage", [](auto& e) { e.damage_count = SCANOUTD_MAX_DAMAGE + 1; }, SCANOUTD_BAD_RECT},
    {"endless damage", [](auto& e) { e.damage_count = 0xffffffff; }, SCANOUTD_BAD_RECT},
};

} // namespace

TEST(guest_is_told_what_came_of_its_frames) {
  Pair p;
  const uint64_t first = p.guest.submit(0, 0);
  REQUIRE(p.guest.presented(0, first));
  CHECK(eventually([&] { return p.guest.signals() > 0; }));
  const uint64_t second = p.guest.submit(0, 1);
  REQUIRE(p.guest.presented(0, second));
  CHECK(eventually([&] { return p.guest.released(0) == first; }));
  CHECK_EQ(p.guest.released(1), 0u);
  const scanoutd_flip_feedback feedback = p.guest.feedback(0);
  CHECK_EQ(feedback.taken, second);
  CHECK_EQ(feedback.flips, 2u);
  CHECK_EQ(feedback.refused, 0u);
  CHECK_EQ(feedback.superseded, 0u);
  CHECK_EQ(feedback.refresh_ns, 2'000'000u);
  CHECK((feedback.flags & SCANOUTD_PRESENTED_DIRECT) != 0);
  CHECK(feedback.presented_ns > 0);
  CHECK_EQ(p.rig.card.framebuffer(plane_a), 1001u);
  CHECK_EQ(p.guest.leave(), 0);
  CHECK_EQ(p.guest.released(1), second);
}

TEST(guest_gets_replaced_frames_back) {
  Pair p;
  p.rig.card.hold(true);
  const uint64_t shown = p.guest.submit(0, 0);
  REQUIRE(eventually([&] { return p.rig.card.commits() == 1; }));
  const uint64_t replaced = p.guest.submit(0, 1);
  REQUIRE(eventually([&] { return p.guest.feedback(0).taken == replaced; }));
  const uint64_t newest = p.guest.submit(0, 2);
  REQUIRE(eventually([&] { return p.guest.released(1) == replaced; }));
  CHECK_EQ(p.guest.feedback(0).superseded, 1u);
  p.rig.card.hold(false);
  p.rig.card.land();
  CHECK(p.guest.presented(0, newest));
  CHECK(eventually([&] { return p.guest.released(0) == shown; }));
}

TEST(guest_gets_a_buffer_back_when_no_plane_has_it) {
  // A cursor is moved by submitting its buffer again.
  Pair p;
  const uint64_t first = p.guest.submit(0, 3);
  REQUIRE(p.guest.presented(0, first));
  const uint64_t again = p.guest.submit(0, 3);
  REQUIRE(p.guest.presented(0, again));
  CHECK_EQ(p.guest.released(3), 0u);
  const uint64_t both = p.guest.submit(1, 3);
  REQUIRE(p.guest.presented(1, both));
  REQUIRE(p.guest.presented(0, p.guest.submit(0, 0)));
  CHECK_EQ(p.guest.released(3), 0u);
  REQUIRE(p.guest.presented(1, p.guest.submit(1, 1)));
  CHECK(eventually([&] { return p.guest.released(3) == both; }));
}

TEST(guest_hears_of_every_bad_entry_and_goes_on) {
  Pair p;
  for (const Attack& attack : attacks) {
    scanoutd_flip_entry entry = p.guest.entry(1);
    attack.spoil(entry);
    const uint64_t bad = p.guest.submit(0, entry);
    if (!p.guest.refused(0, bad)) test::fail(__FILE__, __LINE__, std::string("not refused: ") + attack.name);
    const scanoutd_flip_feedback feedback = p.guest.feedback(0);
    if (feedback.refused_code != attack.code) test::fail(__FILE__, __LINE__, attack.name);
    CHECK_EQ(feedback.refused_code, attack.code);
    // What the daemon took and did not want is the guest's again.
    if (entry.buffer < 4 && (entry.flags & SCANOUTD_FLIP_HIDE) == 0)
      CHECK(eventually([&] { return p.guest.released(entry.buffer) == bad; }));
    const uint64_t good = p.guest.submit(0, 0);
    CHECK(p.guest.presented(0, good));
    CHECK(p.guest.presented(1, p.guest.submit(1, 2)));
  }
  p.check_neighbour();
  CHECK_EQ(p.guest.guest->stats(0).refused.load(), std::size(attacks));
}

TEST(guest_cannot_go_back_in_sequence) {
  Pair p;
  p.guest.sequence = 100;
  REQUIRE(p.guest.presented(0, p.guest.submit(0, 0)));
  const auto word = [&](uint64_t sequence, uint64_t index, uint64_t written) {
    scanoutd_flip_entry entry = p.guest.entry(1);
    entry.sequence = written;
    for (auto& slot : p.guest.page->slots[0].entries)
      slot = entry;
    std::atomic_ref(p.guest.page->slots[0].pending).store(sequence << 2 | index);
    p.guest.kick_now();
    CHECK(p.guest.refused(0, sequence));
    CHECK_EQ(p.guest.feedback(0).refused_code, uint32_t{SCANOUTD_BAD_SEQUENCE});
  };
  word(101, 1, 101);                // the same again
  word(100, 2, 100);                // one before
  word(1, 3, 1);                    // the first
  word(200, 1, 201);                // another than was announced
  word(300, 0, 300);                // no entry at all
  word((1ull << 62) - 1, 1, ~0ull); // the largest, and another
  CHECK(p.guest.presented(0, p.guest.submit(0, 2)));
  p.check_neighbour();
}

TEST(guest_that_scribbles_hurts_itself_alone) {
  Pair p;
  std::atomic<int> bad_values{0};
  // Nothing that was not checked may reach the kernel.
  p.rig.card.set_verdict([&](uint32_t, const drm_mode_atomic& atomic) {
    const auto* counts = test::user_pointer<const uint32_t>(atomic.count_props_ptr);
    const auto* properties = test::user_pointer<const uint32_t>(atomic.props_ptr);
    const auto* values = test::user_pointer<const uint64_t>(atomic.prop_values_ptr);
    uint32_t total = 0;
    for (uint32_t i = 0; i < atomic.count_objs; ++i)
      total += counts[i];
    for (uint32_t i = 0; i < total; ++i) {
      const uint64_t v = values[i];
      const bool fb = v == 0 || (v >= 1000 && v < 1004) || (v >= 2000 && v < 2004);
      const bool fits = properties[i] <= 2   ? properties[i] == 2 || fb
                        : properties[i] <= 6 ? v <= uint64_t{guest_size} << 16
                                             : v <= guest_size;
      if (!fits) ++bad_values;
    }
    return 0;
  });
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    std::mt19937_64 random(7);
    auto* words = reinterpret_cast<uint64_t*>(p.guest.page);
    uint64_t sequence = 1;
    while (!stop) {
      for (int i = 0; i < 50; ++i)
        std::atomic_ref(words[random() % 512]).store(random(), std::memory_order_relaxed);
      // Often good, so that its fields are read while they change.
      scanoutd_flip_slot& slot = p.guest.page->slots[random() % 2];
      const uint32_t index = static_cast<uint32_t>(random() % 3);
      slot.entries[index] = {.sequence = ++sequence,
                             .buffer = static_cast<uint32_t>(random() % 5),
                             .src_w = guest_size << 16,
                             .src_h = guest_size << 16,
                             .dst_w = guest_size,
                             .dst_h = guest_size};
      std::atomic_ref(slot.pending).store(sequence << 2 | (index + 1));
      p.guest.kick_now();
      for (int i = 0; i < 20; ++i)
        std::atomic_ref(words[random() % 512]).store(random(), std::memory_order_relaxed);
    }
  });
  for (int i = 0; i < 100; ++i)
    p.check_neighbour();
  stop = true;
  scribbler.join();
  CHECK_EQ(bad_values.load(), 0);
  CHECK(p.guest.guest->stats(0).taken.load() > 0);
  CHECK(p.guest.guest->stats(0).refused.load() > 0);
}

TEST(guest_that_changes_an_entry_between_check_and_use_gains_nothing) {
  Pair p;
  std::atomic<int> unchecked{0};
  p.rig.card.set_verdict([&](uint32_t, const drm_mode_atomic& atomic) {
    const auto* values = test::user_pointer<const uint64_t>(atomic.prop_values_ptr);
    const auto* counts = test::user_pointer<const uint32_t>(atomic.count_props_ptr);
    for (uint32_t i = 0; i < counts[0]; ++i)
      if (values[i] > uint64_t{guest_size} << 16) ++unchecked;
    return 0;
  });
  scanoutd_flip_slot& slot = p.guest.page->slots[0];
  scanoutd_flip_entry good = p.guest.entry(1);
  good.damage_count = SCANOUTD_MAX_DAMAGE;
  std::fill(std::begin(good.damage), std::end(good.damage),
            scanoutd_rect{.x1 = 0, .y1 = 0, .x2 = 9, .y2 = 9});
  slot.entries[0] = good;
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    const std::atomic_ref<uint32_t> width(slot.entries[0].src_w);
    const std::atomic_ref<uint32_t> count(slot.entries[0].damage_count);
    // Leaves the processor now and then with each, as one processor may be all there is.
    for (uint32_t turn = 0; !stop; ++turn) {
      width.store(0x7fff0000, std::memory_order_relaxed); // far beyond the buffer
      if (turn % 64 == 0) std::this_thread::yield();
      width.store(good.src_w, std::memory_order_relaxed);
      count.store(0x7fff0000, std::memory_order_relaxed); // far beyond the page
      count.store(good.damage_count, std::memory_order_relaxed);
      if (turn % 64 == 32) std::this_thread::yield();
    }
  });
  const auto& stats = p.guest.guest->stats(0);
  const auto done = [&] { return stats.taken.load() + stats.refused.load(); };
  // Until both were seen: how often depends on how the threads fall together.
  const auto both = [&] { return stats.taken.load() > 0 && stats.refused.load() > 0; };
  for (uint64_t sequence = 1; sequence <= 5'000 || (!both() && sequence <= 500'000); ++sequence) {
    std::atomic_ref(slot.entries[0].sequence).store(sequence, std::memory_order_relaxed);
    std::atomic_ref(slot.pending).store(sequence << 2 | 1, std::memory_order_release);
    p.guest.kick_now();
    while (done() < sequence)
      std::this_thread::yield();
  }
  stop = true;
  changer.join();
  CHECK_EQ(unchecked.load(), 0);
  CHECK(stats.taken.load() > 0);
  CHECK(stats.refused.load() > 0);
  p.check_neighbour();
}

TEST(guest_that_storms_its_eventfd_holds_nobody_up) {
  Pair p;
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    while (!stop)
      p.guest.kick_now();
  });
  for (int i = 0; i < 100; ++i)
    p.check_neighbour();
  CHECK(p.guest.presented(0, p.guest.submit(0, 0)));
  stop = true;
  storm.join();
}

TEST(guest_whose_release_eventfd_is_full_holds_nobody_up) {
  Pair p;
  const int flags = fcntl(p.guest.release.get(), F_GETFL);
  CHECK_EQ(fcntl(p.guest.release.get(), F_SETFL, flags & ~O_NONBLOCK), 0);
  const uint64_t full = UINT64_MAX - 1;
  CHECK_EQ(write(p.guest.release.get(), &full, sizeof full), 8);
  for (int i = 0; i < 20; ++i) {
    CHECK(p.guest.presented(0, p.guest.submit(0, static_cast<uint32_t>(i % 4))));
    p.check_neighbour();
  }
}

TEST(guest_is_clipped_to_its_area) {
  std::mt19937_64 random(11);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int i = 0; i < 200'000; ++i) {
    const Rect area{static_cast<int32_t>(pick(-100, 100)), static_cast<int32_t>(pick(-100, 100)),
                    static_cast<int32_t>(pick(101, 4000)), static_cast<int32_t>(pick(101, 4000))};
    const bool scaled = i % 2 == 0;
    const uint32_t w = static_cast<uint32_t>(pick(1, 3000));
    const uint32_t h = static_cast<uint32_t>(pick(1, 3000));
    const Placement whole{.src_x = static_cast<uint32_t>(pick(0, 1000) << 16),
                          .src_y = static_cast<uint32_t>(pick(0, 1000) << 16),
                          .src_w = scaled ? static_cast<uint32_t>(pick(1, 3000 << 16)) : w << 16,
                          .src_h = scaled ? static_cast<uint32_t>(pick(1, 3000 << 16)) : h << 16,
                          .x = static_cast<int32_t>(pick(-4000, 4000)),
                          .y = static_cast<int32_t>(pick(-4000, 4000)),
                          .w = w,
                          .h = h};
    Placement place = whole;
    const bool left = guests::clip(place, area);
    const int64_t right = int64_t{whole.x} + w;
    const int64_t bottom = int64_t{whole.y} + h;
    const bool meets = whole.x < area.x2 && whole.y < area.y2 && right > area.x1 && bottom > area.y1;
    if (!left) {
      CHECK(!meets || scaled); // a scaled source can be too thin to keep
      continue;
    }
    CHECK(meets);
    CHECK(place.x >= std::max(whole.x, area.x1) && place.y >= std::max(whole.y, area.y1));
    CHECK_EQ(int64_t{place.x} + place.w, std::min<int64_t>(right, area.x2));
    CHECK_EQ(int64_t{place.y} + place.h, std::min<int64_t>(bottom, area.y2));
    CHECK(place.src_w > 0 && place.src_h > 0);
    CHECK(place.src_x >= whole.src_x && place.src_y >= whole.src_y);
    CHECK(uint64_t{place.src_x} + place.src_w <= uint64_t{whole.src_x} + whole.src_w);
    CHECK(uint64_t{place.src_y} + place.src_h <= uint64_t{whole.src_y} + whole.src_h);
    if (scaled) continue;
    CHECK_EQ(place.src_w, place.w << 16);
    CHECK_EQ(static_cast<int64_t>(place.src_x - whole.src_x), (int64_t{place.x} - whole.x) << 16);
  }
}
