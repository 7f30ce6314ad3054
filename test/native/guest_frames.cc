// Present modes, buffers that go, areas that move, guests that leave.
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "guest_rig.h"

using namespace scanout;
using flip::PresentMode;
using test::eventually;
using test::FakeSyncFiles;
using test::guest_size;
using test::GuestRig;
using test::RetireCommand;
using test::Rig;

namespace {

constexpr uint32_t plane_a = 101;

struct One {
  Rig rig;
  bool ready = rig.add_crtc(1) == 0;
  GuestRig guest{rig, 10, 2, plane_a, 1000};

  /// Retires without waiting for the answer.
  void retire(uint32_t buffer) {
    REQUIRE(rig.engine.post(std::make_unique<RetireCommand>(*guest.guest, buffer)));
  }
  [[nodiscard]] bool taken(uint32_t plane, uint64_t sequence) const {
    return eventually([&] { return guest.feedback(plane).taken == sequence; });
  }
};

/// Readable for ever once it signalled, as a sync_file.
struct Fence {
  base::UniqueFd fd{eventfd(0, EFD_CLOEXEC)};
  void signal() const {
    const uint64_t one = 1;
    CHECK_EQ(write(fd.get(), &one, sizeof one), 8);
  }
};

scanoutd_flip_entry fenced(GuestRig& guest, uint32_t buffer) {
  scanoutd_flip_entry entry = guest.entry(buffer);
  entry.flags = SCANOUTD_FLIP_FENCED;
  return entry;
}

} // namespace

TEST(guest_in_fifo_has_every_frame_shown) {
  One o;
  o.guest.set_mode(0, PresentMode::fifo);
  uint64_t last = 0;
  for (int i = 0; i < 50; ++i) {
    const uint64_t frame = o.guest.submit(0, static_cast<uint32_t>(i % 4));
    REQUIRE(o.taken(0, frame)); // the slot is free
    last = frame;
  }
  REQUIRE(o.guest.presented(0, last));
  CHECK_EQ(o.guest.feedback(0).flips, 50u);
  CHECK_EQ(o.guest.feedback(0).superseded, 0u);
}

TEST(guest_that_changes_from_fifo_has_its_frame_taken) {
  One o;
  o.guest.set_mode(0, PresentMode::fifo);
  o.rig.card.hold(true);
  const uint64_t shown = o.guest.submit(0, 0);
  REQUIRE(o.taken(0, shown));
  REQUIRE(o.taken(0, o.guest.submit(0, 1)));
  const uint64_t left = o.guest.submit(0, 2); // no room
  o.guest.set_mode(0, PresentMode::mailbox);
  CHECK(o.taken(0, left));
  o.rig.card.hold(false);
  o.rig.card.land();
  CHECK(o.guest.presented(0, left));
}

TEST(guest_in_fifo_goes_on_when_its_waiting_frame_is_dropped) {
  One o;
  o.guest.set_mode(0, PresentMode::fifo);
  o.rig.card.hold(true);
  REQUIRE(o.taken(0, o.guest.submit(0, 0)));
  REQUIRE(eventually([&] { return o.rig.card.commits() == 1; }));
  REQUIRE(o.taken(0, o.guest.submit(0, 1)));
  const uint64_t left = o.guest.submit(0, 2); // no room
  CHECK_EQ(o.rig.run(std::make_unique<RetireCommand>(*o.guest.guest, 1)), 0);
  CHECK(o.taken(0, left));
  o.rig.card.hold(false);
  o.rig.card.land();
  CHECK(o.guest.presented(0, left));
}

TEST(guest_buffer_is_retired_when_nothing_shows_it) {
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 0)));
  o.retire(0);
  const auto add = [&] {
    return o.rig.call([&](flip::Engine&) { return o.guest.guest->add_buffer(0, 1500, 64, 64); });
  };
  CHECK_EQ(add(), EEXIST);
  CHECK_EQ(o.rig.run(std::make_unique<RetireCommand>(*o.guest.guest, 0)), EALREADY);
  const scanoutd_flip_entry retired = o.guest.entry(0);
  o.guest.submit(0, retired);
  CHECK(o.guest.refused(0, retired.sequence));
  const uint64_t next = o.guest.submit(0, 1);
  const std::unique_ptr<flip::Command> back = o.rig.next();
  REQUIRE(back != nullptr);
  CHECK_EQ(back->error, 0);
  CHECK(o.guest.presented(0, next));
  const uint64_t before = o.guest.released(0);
  CHECK_EQ(add(), 0);
  const scanoutd_flip_entry too_large = o.guest.entry(0);
  o.guest.submit(0, too_large);
  CHECK(o.guest.refused(0, too_large.sequence));
  scanoutd_flip_entry fits = o.guest.entry(0);
  fits.src_w = fits.src_h = 64 << 16;
  CHECK(o.guest.presented(0, o.guest.submit(0, fits)));
  CHECK_EQ(o.rig.card.framebuffer(plane_a), 1500u);
  CHECK(o.guest.released(0) >= before);
  CHECK_EQ(o.rig.call([&](flip::Engine&) { return o.guest.guest->add_buffer(64, 1, 1, 1); }), EINVAL);
}

TEST(guest_loses_no_frame_to_the_retirement_of_another_buffer) {
  const FakeSyncFiles pretend;
  One o;
  o.rig.card.hold(true);
  REQUIRE(o.taken(0, o.guest.submit(0, 0)));
  REQUIRE(eventually([&] { return o.rig.card.commits() == 1; }));
  const uint64_t pending = o.guest.submit(0, 1);
  REQUIRE(o.taken(0, pending));
  const Fence never;
  const scanoutd_flip_entry waiting = fenced(o.guest, 2);
  o.guest.send_fence(0, waiting.sequence, {never.fd.get()});
  o.guest.submit(0, waiting);
  REQUIRE(o.taken(0, waiting.sequence));
  CHECK_EQ(o.rig.run(std::make_unique<RetireCommand>(*o.guest.guest, 2)), 0); // nothing shows it yet
  o.rig.card.hold(false);
  o.rig.card.land();
  CHECK(o.guest.presented(0, pending));
}

TEST(guest_moves_with_its_area) {
  One o;
  std::atomic<uint64_t> x{0};
  o.rig.card.set_verdict([&](uint32_t, const drm_mode_atomic& atomic) {
    const auto* properties = test::user_pointer<const uint32_t>(atomic.props_ptr);
    const auto* values = test::user_pointer<const uint64_t>(atomic.prop_values_ptr);
    for (uint32_t i = 0; i < *test::user_pointer<const uint32_t>(atomic.count_props_ptr); ++i) {
      if (properties[i] == 7) x = values[i];
    }
    return 0;
  });
  const uint64_t frame = o.guest.submit(0, 0);
  REQUIRE(o.guest.presented(0, frame));
  o.guest.set_area({500, 0, 500 + guest_size, guest_size});
  CHECK(eventually([&] { return o.guest.feedback(0).flips == 2; }));
  CHECK_EQ(x.load(), 500u);
  CHECK_EQ(o.guest.feedback(0).presented, frame);
  CHECK_EQ(o.guest.feedback(0).superseded, 0u);
  CHECK_EQ(o.guest.released(0), 0u);
}

TEST(guest_that_moves_does_not_show_what_is_not_drawn_yet) {
  const FakeSyncFiles pretend;
  One o;
  const Fence fence;
  const scanoutd_flip_entry entry = fenced(o.guest, 1);
  o.guest.send_fence(0, entry.sequence, {fence.fd.get()});
  o.guest.submit(0, entry);
  REQUIRE(o.taken(0, entry.sequence));
  o.guest.set_area({500, 0, 500 + guest_size, guest_size});
  o.rig.settle();
  CHECK_EQ(o.rig.card.commits(), 0);
  fence.signal();
  CHECK(o.guest.presented(0, entry.sequence));
}

TEST(guest_outside_its_area_is_off) {
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 0)));
  scanoutd_flip_entry outside = o.guest.entry(1);
  outside.dst_x = guest_size;
  const uint64_t frame = o.guest.submit(0, outside);
  REQUIRE(o.guest.presented(0, frame));
  CHECK_EQ(o.rig.card.framebuffer(plane_a), 0u);
  CHECK(eventually([&] { return o.guest.released(1) == frame; }));
}

TEST(guest_damage_is_kept_within_the_buffer) {
  One o;
  o.rig.call([&](flip::Engine&) { return o.guest.guest->stream(0).route(nullptr, 0), 0; });
  const auto damage_of = [&](std::vector<scanoutd_rect> given) {
    scanoutd_flip_entry entry = o.guest.entry(0);
    entry.damage_count = static_cast<uint32_t>(given.size());
    std::copy(given.begin(), given.end(), entry.damage);
    o.guest.submit(0, entry);
    CHECK(o.taken(0, entry.sequence));
    std::vector<flip::Rect> found;
    o.rig.call([&](flip::Engine&) {
      flip::Stream& stream = o.guest.guest->stream(0);
      const flip::Frame frame = stream.take_pending();
      found.assign(frame.damage.begin(), frame.damage.begin() + frame.damage_count);
      stream.owner().on_released(stream, frame, false);
      return 0;
    });
    return found;
  };
  CHECK(damage_of({}).empty());
  const auto cut = damage_of({{-5, -5, 10, 10}, {250, 250, 900, 900}, {10, 20, 30, 40}});
  REQUIRE(cut.size() == 3);
  CHECK(cut[0].x1 == 0 && cut[0].y1 == 0 && cut[0].x2 == 10);
  CHECK(cut[1].x1 == 250 && cut[1].x2 == static_cast<int32_t>(guest_size));
  CHECK(cut[2].x1 == 10 && cut[2].y2 == 40);
  CHECK_EQ(damage_of({{INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX}}).size(), 1u);
  CHECK_EQ(damage_of({{30, 0, 10, 10}, {300, 0, 400, 10}, {0, 0, 5, 5}}).size(), 1u); // inside out, outside
  CHECK(damage_of({{30, 0, 10, 10}}).empty()); // nothing left: everything
}

TEST(guest_leaves_in_mid_flip_with_frames_everywhere) {
  const FakeSyncFiles pretend;
  for (int round = 0; round < 20; ++round) {
    One o;
    o.guest.set_mode(1, PresentMode::fifo);
    o.rig.card.hold(true);
    const Fence never;
    o.guest.submit(0, 0);
    o.guest.submit(1, 1);
    REQUIRE(eventually([&] { return o.rig.card.commits() > 0; }));
    o.guest.submit(0, 1);
    const scanoutd_flip_entry waiting = fenced(o.guest, 2);
    o.guest.send_fence(0, waiting.sequence, {never.fd.get()});
    o.guest.submit(0, waiting);
    o.guest.submit(1, 3);
    o.retire(0);
    o.rig.card.hold(false);
    o.rig.card.land();
    auto leave = std::make_unique<flip::LeaveCommand>();
    leave->producer = o.guest.guest.get();
    REQUIRE(o.rig.engine.post(std::move(leave)));
    for (int i = 0; i < 2; ++i)
      REQUIRE(o.rig.next() != nullptr);
    o.guest.guest.reset();
    const uint64_t signals = o.guest.signals();
    o.guest.kick_now(); // nobody listens any more
    CHECK(signals > 0);
    CHECK_EQ(o.guest.signals(), 0u);
    CHECK_EQ(o.rig.call([](flip::Engine&) { return 0; }), 0);
    o.guest.abandon();
  }
}
