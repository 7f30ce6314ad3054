// The flip thread asks for no memory once its guests are there: an allocator's lock would be one that JS
// holds.
#include <sys/eventfd.h>

#include "allocations.h"
#include "check.h"
#include "guest_rig.h"

using namespace scanout;
using flip::PresentMode;
using test::GuestRig;
using test::Rig;

namespace {

size_t of_flip_thread(Rig& rig) {
  size_t count = 0;
  rig.call([&count](flip::Engine&) {
    count = test::allocations();
    return 0;
  });
  return count;
}

/// One frame on each plane: fenced, in a fifo, hidden now and then; and an entry that is refused.
void flip_once(GuestRig& guest, uint32_t round, int fence) {
  scanoutd_flip_entry fenced = guest.entry(round % 3);
  fenced.flags = SCANOUTD_FLIP_FENCED;
  fenced.damage_count = 2;
  fenced.damage[0] = {0, 0, 10, 10};
  fenced.damage[1] = {5, 5, 20, 20};
  guest.send_fence(0, fenced.sequence, {fence});
  guest.put(0, fenced);
  scanoutd_flip_entry moved = guest.entry(3);
  moved.dst_x = static_cast<int32_t>(round % 50);
  if (round % 7 == 0) moved.flags = SCANOUTD_FLIP_HIDE;
  guest.put(1, moved);
  if (round % 5 == 0) {
    scanoutd_flip_entry bad = guest.entry(9);
    guest.put(2, bad);
  }
  guest.kick_now();
  CHECK(guest.presented(0, fenced.sequence));
  CHECK(guest.presented(1, moved.sequence));
}

} // namespace

TEST(flip_thread_allocates_nothing_in_the_steady_state) {
  const test::FakeSyncFiles pretend;
  Rig rig;
  rig.add_crtc(1, 1'000'000);
  GuestRig guest(rig, 10, 3, 101, 1000);
  guest.set_mode(1, PresentMode::fifo);
  const base::UniqueFd fence(eventfd(1, EFD_CLOEXEC));
  // The fake card keeps a list of its commits, which grows when their number passes a power of two.
  uint32_t round = 0;
  while (rig.card.commits() < 600)
    flip_once(guest, round++, fence.get());
  const size_t before = of_flip_thread(rig);
  for (int i = 0; i < 100; ++i)
    flip_once(guest, round++, fence.get());
  CHECK(rig.card.commits() < 1024);
  CHECK_EQ(of_flip_thread(rig) - before, 0u);
}

TEST(flip_thread_allocates_nothing_when_commits_fail) {
  Rig rig;
  rig.add_crtc(1, 1'000'000);
  GuestRig guest(rig, 10, 1, 101, 1000);
  std::atomic<int> refuse{0};
  rig.card.set_verdict([&refuse](uint32_t, const drm_mode_atomic&) {
    const int left = refuse.load();
    if (left <= 0) return 0;
    refuse = left - 1;
    return left % 2 == 0 ? EBUSY : ENOMEM;
  });
  while (rig.card.commits() < 600)
    CHECK(guest.presented(0, guest.submit(0, static_cast<uint32_t>(guest.sequence % 4))));
  const size_t before = of_flip_thread(rig);
  for (int i = 0; i < 40; ++i) {
    refuse = 4;
    CHECK(guest.presented(0, guest.submit(0, static_cast<uint32_t>(guest.sequence % 4))));
  }
  CHECK(rig.card.commits() < 1024);
  CHECK_EQ(of_flip_thread(rig) - before, 0u);
}
