// Buffers whose memory has moved: which framebuffer a frame has, and when the former one is let go.
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "guest_rig.h"

using namespace scanout;
using test::eventually;
using test::GuestRig;
using test::Rig;

namespace {

constexpr uint32_t plane_a = 101;
constexpr uint32_t new_fb = 2000;

class FormerCommand final : public flip::Command {
public:
  FormerCommand(guests::SocketGuest& guest, uint32_t buffer) : guest_(guest), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    guest_.await_former(buffer_, *this);
    return Result::later;
  }

private:
  guests::SocketGuest& guest_;
  uint32_t buffer_;
};

struct One {
  Rig rig;
  bool ready = rig.add_crtc(1) == 0;
  GuestRig guest{rig, 10, 1, plane_a, 1000};

  int renew(uint32_t buffer, uint32_t fb) {
    return rig.call([&](flip::Engine&) { return guest.guest->renew_buffer(buffer, fb, {}); });
  }
};

} // namespace

TEST(guest_shows_a_renewed_buffer_by_its_new_framebuffer) {
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 0)));
  o.rig.settle();
  o.rig.card.hold(true);
  CHECK_EQ(o.renew(0, new_fb), 0);
  REQUIRE(o.rig.engine.post(std::make_unique<FormerCommand>(*o.guest.guest, 0)));
  REQUIRE(eventually([&] { return o.rig.card.commits() == 2; })); // the guest does nothing for it
  CHECK_EQ(o.renew(0, new_fb + 1), EBUSY);                        // the former one may be on the screen still
  o.rig.card.hold(false);
  o.rig.card.land();
  const std::unique_ptr<flip::Command> back = o.rig.next(); // not any more
  REQUIRE(back != nullptr);
  CHECK_EQ(back->error, 0);
  CHECK_EQ(o.rig.card.framebuffer(plane_a), new_fb);
  CHECK_EQ(o.renew(0, new_fb + 1), 0);
  CHECK_EQ(o.renew(9, new_fb), ENOENT);
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 0)));
  CHECK_EQ(o.rig.card.framebuffer(plane_a), new_fb + 1);
}

TEST(guest_frame_that_waits_for_its_turn_has_the_renewed_buffer) {
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 1)));
  o.rig.settle();
  o.rig.card.hold(true);
  const uint64_t first = o.guest.submit(0, 1);
  REQUIRE(eventually([&] { return o.rig.card.commits() == 2; }));
  const uint64_t second = o.guest.submit(0, 0); // no room
  REQUIRE(eventually([&] { return o.guest.feedback(0).taken == second; }));
  CHECK_EQ(o.renew(0, new_fb), 0);
  CHECK_EQ(o.rig.run(std::make_unique<FormerCommand>(*o.guest.guest, 0)), 0); // nobody has the former one
  o.rig.card.hold(false);
  o.rig.card.land();
  CHECK(o.guest.presented(0, second));
  CHECK_EQ(o.rig.card.framebuffer(plane_a), new_fb);
  CHECK(o.guest.released(0) < second);
  CHECK(first < second);
}

TEST(guest_renewal_does_not_bring_back_a_buffer_that_is_not_shown) {
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 0)));
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 1)));
  o.rig.settle();
  const auto commits = o.rig.card.commits();
  CHECK_EQ(o.renew(0, new_fb), 0);
  CHECK_EQ(o.rig.run(std::make_unique<FormerCommand>(*o.guest.guest, 0)), 0);
  o.rig.settle();
  CHECK_EQ(o.rig.card.commits(), commits);
  CHECK_EQ(o.rig.card.framebuffer(plane_a), 1001u);
}

TEST(guest_that_leaves_ends_a_renewal) {
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 0)));
  o.rig.settle();
  o.rig.card.hold(true);
  CHECK_EQ(o.renew(0, new_fb), 0);
  auto leave = std::make_unique<flip::LeaveCommand>();
  leave->producer = o.guest.guest.get();
  flip::Command* const last = leave.get();
  REQUIRE(o.rig.engine.post(std::make_unique<FormerCommand>(*o.guest.guest, 0)));
  REQUIRE(o.rig.engine.post(std::move(leave)));
  o.guest.abandon();
  o.rig.card.hold(false);
  o.rig.card.land();
  const std::unique_ptr<flip::Command> former = o.rig.next(), left = o.rig.next();
  REQUIRE(former != nullptr && left != nullptr);
  CHECK(former.get() != last);
  CHECK(left.get() == last);
}

namespace {

// A fence that signals when it is written to.
base::UniqueFd fence() {
  return base::UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

} // namespace

TEST(guest_frame_that_waits_for_its_fence_has_the_renewed_buffer) {
  const test::FakeSyncFiles fakes;
  One o;
  REQUIRE(o.guest.presented(0, o.guest.submit(0, 1)));
  const base::UniqueFd late = fence();
  scanoutd_flip_entry entry = o.guest.entry(0);
  entry.flags = SCANOUTD_FLIP_FENCED;
  o.guest.send_fence(0, entry.sequence, {late.get()});
  o.guest.submit(0, entry);
  REQUIRE(eventually([&] { return o.guest.feedback(0).taken == entry.sequence; }));
  CHECK_EQ(o.renew(0, new_fb), 0);
  CHECK_EQ(o.rig.card.framebuffer(plane_a), 1001u);
  const uint64_t one = 1;
  REQUIRE(write(late.get(), &one, sizeof one) == sizeof one);
  CHECK(o.guest.presented(0, entry.sequence));
  CHECK_EQ(o.rig.card.framebuffer(plane_a), new_fb);
}
