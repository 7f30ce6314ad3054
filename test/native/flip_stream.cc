// The mailbox: what is kept, what comes back, and when a fence lets a frame through.
#include "flip/stream.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "flip_sim.h"

using namespace scanout;
using flip::Frame;
using flip::PresentMode;
using flip::Stream;
using test::FakeClock;
using test::Lender;

namespace {

/// A sink that only counts.
class Sink final : public flip::StreamSink {
public:
  void on_pending(Stream& stream) noexcept override {
    CHECK(stream.pending() != nullptr);
    ++pending;
  }
  void detach(Stream&) noexcept override { ++detached; }
  const Frame* shown(const Stream&) const noexcept override { return on_screen; }
  uint32_t held(const Stream&) const noexcept override { return on_screen != nullptr ? 1 : 0; }

  int pending = 0, detached = 0;
  const Frame* on_screen = nullptr;
};

struct Fixture {
  base::Epoll epoll;
  Lender lender;
  Sink sink;
  Stream stream{7, lender, epoll};

  Fixture() { stream.route(&sink, 0); }
  uint64_t submit(base::UniqueFd fence = {}) { return lender.submit(stream, std::move(fence)); }
  uint64_t pending() const { return stream.pending() != nullptr ? stream.pending()->sequence : 0; }
};

/// Something pollable that stands in for a sync_file: readable once signalled, for ever.
struct Fence {
  base::UniqueFd waiter{eventfd(0, EFD_CLOEXEC)};
  base::UniqueFd other{dup(waiter.get())};
  void signal() const {
    const uint64_t one = 1;
    CHECK_EQ(write(other.get(), &one, sizeof one), 8);
  }
  base::UniqueFd take() { return std::move(waiter); }
};

} // namespace

TEST(stream_keeps_the_newest_frame) {
  Fixture f;
  for (int i = 0; i < 5; ++i)
    f.submit();
  CHECK_EQ(f.pending(), 5u);
  CHECK_EQ(f.sink.pending, 5);
  CHECK((f.lender.superseded == std::vector<uint64_t>{1, 2, 3, 4}));
  CHECK_EQ(f.stream.take_pending().sequence, 5u);
  CHECK(f.stream.pending() == nullptr);
  CHECK_EQ(f.lender.uses[5], 1);
}

TEST(stream_has_room_again_when_its_frame_was_taken) {
  Fixture f;
  f.stream.set_mode(PresentMode::fifo);
  CHECK(f.stream.has_room());
  f.submit();
  CHECK(!f.stream.has_room());
  f.stream.take_pending();
  CHECK(f.stream.has_room());
  Fence fence;
  f.submit(fence.take());
  CHECK(!f.stream.has_room()); // what waits for its fence takes the room too
}

TEST(stream_waits_for_the_fence) {
  Fixture f;
  FakeClock clock(5000);
  Fence fence;
  f.submit(fence.take());
  f.epoll.wait(0);
  CHECK_EQ(f.pending(), 0u);
  CHECK_EQ(f.stream.newest()->sequence, 1u);
  clock.set(9000);
  fence.signal();
  CHECK_EQ(f.epoll.wait(0), 1);
  CHECK_EQ(f.pending(), 1u);
  CHECK_EQ(f.stream.pending()->ready_ns, 9000);
  CHECK_EQ(f.sink.pending, 1);
  CHECK_EQ(f.epoll.wait(0), 0); // it is not waited for any more
}

TEST(stream_shows_the_older_frame_while_the_newest_waits) {
  Fixture f;
  f.submit();
  Fence fence;
  f.submit(fence.take());
  CHECK_EQ(f.pending(), 1u);
  CHECK(f.lender.released.empty());
  fence.signal();
  f.epoll.wait(0);
  CHECK_EQ(f.pending(), 2u);
  CHECK((f.lender.superseded == std::vector<uint64_t>{1}));
}

TEST(stream_forgets_the_fence_of_a_replaced_frame) {
  Fixture f;
  Fence first;
  f.submit(first.take());
  f.submit();
  CHECK_EQ(f.pending(), 2u);
  CHECK((f.lender.superseded == std::vector<uint64_t>{1}));
  first.signal();
  CHECK_EQ(f.epoll.wait(0), 0);
  CHECK_EQ(f.pending(), 2u);
}

TEST(stream_is_not_fooled_by_an_event_of_the_same_round) {
  // One batch has the events of two fences. The first one's entry replaces the frame of the second: its event
  // must not let the new frame through, whose own fence has not signalled.
  Fixture f;
  Fence old;
  Fence fresh;
  struct Guest final : base::Pollable {
    Fixture* fixture = nullptr;
    Fence* fence = nullptr;
    void on_ready(uint32_t) noexcept override { fixture->submit(fence->take()); }
  } guest;
  guest.fixture = &f;
  guest.fence = &fresh;
  const base::UniqueFd kick(eventfd(1, EFD_CLOEXEC)); // ready before the fence, so first in the batch
  f.epoll.add(kick.get(), EPOLLIN | EPOLLET, &guest);
  f.submit(old.take());
  old.signal();
  CHECK_EQ(f.epoll.wait(0), 2);
  CHECK_EQ(f.pending(), 0u);
  CHECK_EQ(f.stream.newest()->sequence, 2u);
  fresh.signal();
  f.epoll.wait(0);
  CHECK_EQ(f.pending(), 2u);
}

TEST(stream_takes_a_fence_that_has_signalled_and_one_that_cannot_be_polled) {
  Fixture f;
  Fence fence;
  fence.signal();
  f.submit(fence.take());
  f.epoll.wait(0);
  CHECK_EQ(f.pending(), 1u);
  f.submit(base::UniqueFd(memfd_create("no fence", MFD_CLOEXEC))); // epoll refuses it
  CHECK_EQ(f.pending(), 2u);
}

TEST(stream_restores_a_frame_unless_a_newer_came) {
  Fixture f;
  f.submit();
  const Frame taken = f.stream.take_pending();
  f.stream.restore(taken);
  CHECK_EQ(f.pending(), 1u);
  const Frame again = f.stream.take_pending();
  f.submit();
  f.stream.restore(again);
  CHECK_EQ(f.pending(), 2u);
  CHECK((f.lender.released == std::vector<uint64_t>{1}));
}

TEST(stream_that_is_blocked_keeps_the_newest_and_tells_nobody) {
  Fixture f;
  f.stream.block();
  f.submit();
  f.submit();
  CHECK_EQ(f.sink.pending, 0);
  CHECK_EQ(f.pending(), 2u);
  f.stream.route(&f.sink, 0); // routed anew
  CHECK_EQ(f.sink.pending, 1);
  CHECK(!f.stream.blocked());
}

TEST(stream_takes_its_picture_along) {
  Fixture f;
  f.submit();
  const Frame shown = f.stream.take_pending();
  f.sink.on_screen = &shown;
  Sink other;
  f.stream.route(&other, 3);
  CHECK_EQ(f.sink.detached, 1);
  CHECK_EQ(f.pending(), 1u);
  CHECK_EQ(f.lender.uses[1], 2); // here and there
  CHECK_EQ(other.pending, 1);
  CHECK_EQ(f.stream.slot(), 3u);
}

TEST(stream_takes_a_newer_frame_rather_than_its_picture) {
  Fixture f;
  f.submit();
  const Frame shown = f.stream.take_pending();
  f.sink.on_screen = &shown;
  f.submit();
  Sink other;
  f.stream.route(&other, 0);
  CHECK_EQ(f.pending(), 2u);
  CHECK_EQ(f.lender.uses[1], 1);
}

TEST(stream_that_goes_nowhere_keeps_its_newest_frame) {
  Fixture f;
  f.submit();
  f.stream.route(nullptr, 0);
  CHECK_EQ(f.sink.detached, 1);
  f.submit();
  CHECK_EQ(f.pending(), 2u);
  f.stream.drop();
  CHECK(f.stream.newest() == nullptr);
  CHECK_EQ(f.lender.uses[1] + f.lender.uses[2], 0);
}

TEST(stream_drops_the_frames_of_a_buffer_alone) {
  Fixture f;
  f.submit();
  Fence fence;
  f.submit(fence.take());
  f.stream.drop_buffer(9);
  CHECK(f.lender.superseded.empty());
  f.stream.drop_buffer(2); // waits
  CHECK_EQ(f.pending(), 1u);
  CHECK((f.lender.superseded == std::vector<uint64_t>{2}));
  Fence another;
  f.submit(another.take());
  f.stream.drop_buffer(1); // pending
  CHECK(f.stream.pending() == nullptr);
  CHECK_EQ(f.stream.newest()->sequence, 3u);
  another.signal();
  f.epoll.wait(0);
  CHECK_EQ(f.pending(), 3u);
}

TEST(stream_moves_its_newest_frame) {
  Fixture f;
  const flip::Placement there{.src_w = 1, .src_h = 1, .x = 7, .w = 1, .h = 1};
  CHECK(!f.stream.move_newest(there, false));
  f.submit();
  CHECK(f.stream.move_newest(there, true));
  CHECK(f.stream.pending()->off);
  CHECK_EQ(f.stream.pending()->place.x, 7);
  Fence fence;
  f.submit(fence.take());
  CHECK(f.stream.move_newest({.x = 9}, false));
  CHECK_EQ(f.stream.pending()->place.x, 7);
  CHECK_EQ(f.stream.newest()->place.x, 9);
}

TEST(stream_gives_everything_back_when_it_is_dropped_or_ends) {
  Fixture f;
  {
    Stream stream{8, f.lender, f.epoll};
    f.lender.submit(stream);
    Fence fence;
    f.lender.submit(stream, fence.take());
    stream.drop();
    CHECK_EQ(f.lender.uses[1] + f.lender.uses[2], 0);
    Fence another;
    f.lender.submit(stream, another.take());
  }
  CHECK_EQ(f.lender.uses[3], 0);
}
