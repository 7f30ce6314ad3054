// What a frame changed must not be forgotten when the frame itself is never shown.
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "flip/stream.h"

using namespace scanout;
using flip::Frame;
using flip::Rect;

namespace {

class Owner final : public flip::StreamOwner {
public:
  void on_presented(flip::Stream&, const Frame&, const flip::Presented&) noexcept override {}
  void on_retained(flip::Stream&, const Frame&) noexcept override {}
  void on_released(flip::Stream&, const Frame&, bool) noexcept override {}
  void on_refused(flip::Stream&, const Frame&, int) noexcept override {}
  void on_room(flip::Stream&) noexcept override {}
};

struct Fixture {
  base::Epoll epoll;
  Owner owner;
  flip::Stream stream{1, owner, epoll};

  [[nodiscard]] bool covers(int32_t x, int32_t y) const {
    const Frame& frame = *stream.pending();
    bool inside = frame.damage_count == 0;
    for (uint32_t i = 0; i < frame.damage_count; ++i) {
      const Rect& rect = frame.damage[i];
      inside = inside || (x >= rect.x1 && x < rect.x2 && y >= rect.y1 && y < rect.y2);
    }
    return inside;
  }
};

/// A frame that changed `count` pixels from (x, y) on, 10 apart.
Frame changed(int32_t x, int32_t y, uint32_t count = 1) {
  Frame frame;
  frame.damage_count = count;
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t left = x + 10 * static_cast<int32_t>(i);
    frame.damage[i] = {left, y, left + 1, y + 1};
  }
  return frame;
}

} // namespace

TEST(damage_of_a_superseded_frame_goes_on) {
  Fixture f;
  f.stream.submit(changed(0, 0));
  f.stream.submit(changed(5, 5, 2));
  CHECK_EQ(f.stream.pending()->damage_count, 3u);
  CHECK(f.covers(0, 0) && f.covers(5, 5) && f.covers(15, 5));
  CHECK(!f.covers(1, 1));
  f.stream.take_pending();
  f.stream.submit(changed(9, 9));
  CHECK(!f.covers(0, 0)); // that one was shown
}

TEST(damage_beyond_the_limit_is_merged) {
  Fixture f;
  f.stream.submit(changed(0, 0, flip::max_damage));
  f.stream.submit(changed(0, 50, 2));
  CHECK(f.stream.pending()->damage_count <= flip::max_damage);
  for (int32_t i = 0; i < 8; ++i)
    CHECK(f.covers(i * 10, 0));
  CHECK(f.covers(0, 50) && f.covers(10, 50));
}

TEST(damage_of_everything_stays_everything) {
  Fixture f;
  f.stream.submit(Frame{});
  f.stream.submit(changed(1, 1));
  CHECK_EQ(f.stream.pending()->damage_count, 0u);
  f.stream.take_pending();
  f.stream.submit(changed(1, 1));
  f.stream.submit(Frame{});
  CHECK_EQ(f.stream.pending()->damage_count, 0u);
}

TEST(damage_after_a_hidden_frame_is_everything) {
  Fixture f;
  Frame hidden = changed(0, 0);
  hidden.has_buffer = false;
  hidden.off = true;
  f.stream.submit(hidden);
  f.stream.submit(changed(1, 1));
  CHECK_EQ(f.stream.pending()->damage_count, 0u);
}

TEST(damage_after_a_dropped_frame_is_everything) {
  Fixture f;
  f.stream.submit(changed(0, 0));
  f.stream.drop();
  f.stream.submit(changed(1, 1));
  CHECK_EQ(f.stream.pending()->damage_count, 0u);
  f.stream.take_pending();
  f.stream.drop(); // nothing there
  f.stream.submit(changed(1, 1));
  CHECK_EQ(f.stream.pending()->damage_count, 1u);
}

TEST(damage_of_a_frame_whose_fence_never_signalled_goes_on) {
  Fixture f;
  f.stream.submit(changed(0, 0), base::UniqueFd(eventfd(0, EFD_CLOEXEC)));
  CHECK(f.stream.pending() == nullptr);
  f.stream.submit(changed(5, 5));
  CHECK(f.covers(0, 0) && f.covers(5, 5));
}
