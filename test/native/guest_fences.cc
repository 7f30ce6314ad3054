// Acquire fences of guests, and whatever else comes over the fence socket.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "guest_rig.h"

using namespace scanout;
using test::eventually;
using test::FakeSyncFiles;
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

TEST(guest_frame_waits_for_its_fence) {
  const FakeSyncFiles pretend;
  One o;
  const Fence fence;
  const scanoutd_flip_entry entry = fenced(o.guest, 1);
  o.guest.send_fence(0, entry.sequence, {fence.fd.get()});
  o.guest.submit(0, entry);
  REQUIRE(o.taken(0, entry.sequence));
  CHECK_EQ(o.rig.card.commits(), 0);
  fence.signal();
  CHECK(o.guest.presented(0, entry.sequence));
}

TEST(guest_fences_of_several_planes_do_not_get_lost) {
  const FakeSyncFiles pretend;
  One o;
  const Fence fence;
  fence.signal();
  for (int round = 0; round < 4; ++round) {
    const scanoutd_flip_entry first = fenced(o.guest, 0);
    const scanoutd_flip_entry second = fenced(o.guest, 1);
    // In the other order than the daemon looks at the planes.
    o.guest.send_fence(1, second.sequence, {fence.fd.get()});
    o.guest.send_fence(0, first.sequence, {fence.fd.get()});
    o.guest.put(0, first);
    o.guest.put(1, second);
    o.guest.kick_now();
    CHECK(o.guest.presented(0, first.sequence));
    CHECK(o.guest.presented(1, second.sequence));
  }
  CHECK_EQ(o.guest.feedback(0).refused + o.guest.feedback(1).refused, 0u);
}

TEST(guest_fence_for_the_next_frame_of_another_plane_is_kept) {
  const FakeSyncFiles pretend;
  One o;
  const Fence fence;
  fence.signal();
  const scanoutd_flip_entry now = fenced(o.guest, 0);
  const scanoutd_flip_entry other = fenced(o.guest, 1);
  const scanoutd_flip_entry next = fenced(o.guest, 2); // announced, not submitted yet
  o.guest.send_fence(1, other.sequence, {fence.fd.get()});
  o.guest.send_fence(1, next.sequence, {fence.fd.get()});
  o.guest.send_fence(0, now.sequence, {fence.fd.get()});
  o.guest.put(0, now);
  o.guest.put(1, other);
  o.guest.kick_now();
  CHECK(o.guest.presented(0, now.sequence));
  CHECK(o.guest.presented(1, other.sequence));
  o.guest.submit(1, next);
  CHECK(o.guest.presented(1, next.sequence));
}

TEST(guest_fences_of_replaced_frames_are_passed_over) {
  const FakeSyncFiles pretend;
  One o;
  const Fence fence;
  fence.signal();
  for (int i = 0; i < 12; ++i) {
    const scanoutd_flip_entry unseen = fenced(o.guest, 0);
    o.guest.send_fence(0, unseen.sequence, {fence.fd.get()});
  }
  const scanoutd_flip_entry entry = fenced(o.guest, 1);
  o.guest.send_fence(0, entry.sequence, {fence.fd.get()});
  o.guest.submit(0, entry);
  CHECK(o.guest.presented(0, entry.sequence));
}

TEST(guest_that_sends_no_fence_is_refused) {
  const FakeSyncFiles pretend;
  One o;
  const Fence fence;
  const base::UniqueFd memory(memfd_create("no fence", MFD_CLOEXEC));
  const int fd = fence.fd.get();
  const auto refused = [&](const auto& send) {
    const scanoutd_flip_entry entry = fenced(o.guest, 1);
    send(entry.sequence);
    o.guest.submit(0, entry);
    CHECK(o.guest.refused(0, entry.sequence));
    CHECK_EQ(o.guest.feedback(0).refused_code, uint32_t{SCANOUTD_BAD_FENCE});
  };
  refused([&](uint64_t) {});
  refused([&](uint64_t s) { o.guest.send_fence(0, s, {}); });
  refused([&](uint64_t s) { o.guest.send_fence(0, s, {memory.get()}); });
  refused([&](uint64_t s) { o.guest.send_fence(0, s, {fd, fd}); });
  refused([&](uint64_t s) { o.guest.send_fence(0, s, {fd, fd, fd, fd, fd, fd}); });
  refused([&](uint64_t s) { o.guest.send_fence(0, s, {fd}, 8); });
  refused([&](uint64_t s) { o.guest.send_fence(0, s, {fd}, 24); });
  refused([&](uint64_t s) { o.guest.send_fence(3, s, {fd}); });
  refused([&](uint64_t s) { o.guest.send_fence(0xffffffff, s, {fd}); });
  refused([&](uint64_t s) { o.guest.send_fence(0, s + 5, {fd}); });
  o.guest.sequence += 10;
  refused([&](uint64_t s) {
    for (int i = 0; i < 200; ++i)
      o.guest.send_fence(1, s + static_cast<uint64_t>(i), {fd, memory.get()});
  });
  CHECK(o.guest.presented(1, o.guest.submit(1, 0)));
}

TEST(guest_that_closes_its_fence_socket_goes_on_without) {
  const FakeSyncFiles pretend;
  One o;
  o.guest.fences.reset();
  const scanoutd_flip_entry entry = fenced(o.guest, 1);
  o.guest.submit(0, entry);
  CHECK(o.guest.refused(0, entry.sequence));
  CHECK(o.guest.presented(0, o.guest.submit(0, 0)));
}
