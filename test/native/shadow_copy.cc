// The shadow copy: what is shown, when, and when buffers come back.
#include <algorithm>

#include "shadow_fixture.h"

using namespace scanout;
using test::ShadowFixture;
using test::ShadowGuest;

namespace {

uint64_t area_of(const guests::DamageSet& damage) {
  uint64_t area = 0;
  for (const flip::Rect& rect : damage.rects())
    area += static_cast<uint64_t>(rect.x2 - rect.x1) * static_cast<uint64_t>(rect.y2 - rect.y1);
  return area;
}

} // namespace

TEST(shadow_shows_a_layer_and_says_that_it_is_a_copy) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(10, 20, 100, 50), 0);
  CHECK(guest.submit());
  CHECK_EQ(f.desk->jobs.size(), 1u);
  const int64_t kick = f.sim.clock.now();
  f.vblank();
  CHECK((guest.presented == std::vector<uint64_t>{1}));
  CHECK_EQ(guest.flags[0] & flip::presented_direct, 0u);
  CHECK((guest.flags[0] & flip::presented_vsync) != 0);
  f.check_screen();
  // Latency is measured from the guest's own page flip.
  REQUIRE(f.sim.records.size() == 1);
  CHECK_EQ(f.sim.records[0].kick_ns, kick);
  CHECK_EQ(f.sim.records[0].stream, 99u);
  CHECK_EQ(f.shadow->stats.copies.load(), 1u);
  CHECK_EQ(f.shadow->stats.pixels.load(), 160u * 120); // the first picture is drawn as a whole
}

TEST(shadow_draws_once_a_refresh_and_the_newest_frame_wins) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  for (int i = 0; i < 300; ++i) {
    guest.submit();
    f.run(1);
  }
  CHECK(f.desk->drawn.size() <= 19); // 300 ms of 16.7
  CHECK(f.desk->drawn.size() >= 8);  // drawing starts at one vblank and is shown at the next or the one after
  f.run(60);
  f.check_screen();
  CHECK_EQ(guest.presented.back(), guest.last.sequence);
}

TEST(shadow_releases_a_frame_when_its_successor_is_shown) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  guest.submit();
  CHECK_EQ(guest.held[1], 1);
  f.desk->finish_one();
  f.sim.run_for(test::ms);
  CHECK_EQ(guest.held[1], 1); // its copy is still scanned out
  f.vblank();
  CHECK_EQ(guest.held[1], 0);
  CHECK_EQ(guest.held[2], 1);
}

TEST(shadow_copies_only_what_changed_since_the_surface_was_drawn) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  for (int i = 0; i < 2; ++i) {
    guest.submit();
    f.vblank();
    CHECK_EQ(area_of(f.desk->drawn.back()), 160u * 120);
  }
  guest.submit(1);
  f.vblank();
  // The other surface lacks the second frame, which was new everywhere.
  CHECK_EQ(area_of(f.desk->drawn.back()), 160u * 120);
  for (int i = 0; i < 10; ++i) {
    guest.submit(2);
    f.vblank();
    CHECK(area_of(f.desk->drawn.back()) <= 4 * 20 * 20u);
    f.check_screen();
  }
}

TEST(shadow_keeps_the_damage_of_superseded_frames) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  for (int i = 0; i < 60; ++i) {
    guest.submit(3);
    guest.submit(3);
    f.vblank();
    f.check_screen();
  }
  CHECK(guest.superseded.size() > 20);
}

TEST(shadow_moves_a_layer) {
  ShadowFixture f;
  ShadowGuest& back = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  ShadowGuest& front = f.guest(2, ShadowFixture::at(10, 10, 32, 32), 1, 0x34325241);
  back.submit();
  front.submit();
  f.vblank();
  f.vblank();
  for (int i = 0; i < 8; ++i) {
    front.place.x += 7;
    front.place.y -= 5;
    front.submit(1); // what changed in the buffer is little, what changed on the screen is not
    f.vblank();
    f.check_screen();
  }
  CHECK_EQ(back.presented.size(), 1u); // drawn again, but no frame of its own
  CHECK_EQ(back.held[1], 1);
}

TEST(shadow_lifts_a_layer) {
  ShadowFixture f;
  ShadowGuest& lower = f.guest(1, ShadowFixture::at(0, 0, 100, 100), 0);
  ShadowGuest& upper = f.guest(2, ShadowFixture::at(50, 50, 70, 70), 1);
  lower.submit();
  upper.submit();
  f.vblank();
  f.vblank();
  f.check_screen();
  CHECK_EQ(f.shadow->attach(lower.stream, 5), 0);
  f.vblank();
  std::swap(f.guests[0], f.guests[1]); // the reference draws them in this order
  f.check_screen();
}

TEST(shadow_draws_on_without_a_layer_that_goes) {
  ShadowFixture f;
  ShadowGuest& back = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  ShadowGuest& front = f.guest(2, ShadowFixture::at(10, 10, 32, 32), 1);
  back.submit();
  front.submit();
  f.vblank();
  f.vblank();
  front.stream.route(nullptr, 0);
  CHECK_EQ(front.held[1], 0); // a copy is scanned out: the buffer itself is free at once
  f.vblank();
  f.guests.pop_back();
  f.check_screen();
}

TEST(shadow_hides_a_layer) {
  ShadowFixture f;
  ShadowGuest& back = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  ShadowGuest& front = f.guest(2, ShadowFixture::at(10, 10, 32, 32), 1);
  back.submit();
  front.submit();
  f.vblank();
  f.vblank();
  front.hide();
  f.vblank();
  CHECK_EQ(front.presented.back(), 2u);
  CHECK_EQ(front.held[1], 0);
  CHECK_EQ(front.held[2], 0); // nothing of it is kept
  f.check_screen();
  front.submit(1);
  f.vblank();
  f.check_screen();
}

TEST(shadow_of_an_overlay_is_off_while_it_is_empty) {
  ShadowFixture f({{20, 20, 84, 84}, true, false});
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(30, 30, 32, 32), 0, 0x34325241);
  guest.submit();
  f.vblank();
  CHECK(f.scanned() >= 900);
  f.check_screen();
  guest.hide();
  f.vblank();
  CHECK_EQ(f.scanned(), 0u);
  CHECK_EQ(guest.presented.back(), 2u);
  CHECK(f.desk->jobs.empty());
  f.run(100);
  CHECK_EQ(f.sim.accepted().size(), 2u); // and nothing is committed for it
  guest.submit(1);
  f.vblank();
  f.check_screen();
}

TEST(shadow_of_a_cursor_follows_it) {
  ShadowFixture f({{0, 0, 64, 64}, true, true});
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(300, 200, 32, 32), 0, 0x34325241);
  guest.place.hot_x = 3;
  guest.submit();
  f.vblank();
  REQUIRE(f.sim.accepted().size() == 1);
  CHECK_EQ(f.sim.accepted()[0].value(31, test::plane_properties.crtc_x).value_or(0), 300u);
  CHECK_EQ(f.sim.accepted()[0].value(31, test::plane_properties.crtc_y).value_or(0), 200u);
  CHECK_EQ(f.sim.accepted()[0].value(31, test::plane_properties.crtc_w).value_or(0), 64u);
  guest.place.x = -5;
  guest.submit();
  f.vblank();
  CHECK_EQ(f.sim.accepted().back().value(31, test::plane_properties.crtc_x).value_or(0),
           static_cast<uint64_t>(-5));
  // One cursor only.
  ShadowGuest other(2, 8, 8, 0x34325241, f.sim, *f.desk, f.epoll);
  CHECK_EQ(f.shadow->attach(other.stream, 1), ENOSPC);
}

TEST(shadow_hands_a_layer_over_to_a_plane_of_its_own) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  guest.last.fb_id = 5;
  test::Sim::attach(f.crtc, guest.stream, 40);
  CHECK_EQ(guest.held[1], 1); // the plane's use, no longer the copy's
  REQUIRE(guest.stream.pending() != nullptr);
  CHECK_EQ(f.shadow->held(guest.stream), 0u);
}

TEST(shadow_gives_a_fifo_guest_room) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.stream.set_mode(flip::PresentMode::fifo);
  guest.room = [&](flip::Stream& stream) {
    if (stream.has_room() && guest.last.sequence < 12) guest.submit(1);
  };
  guest.submit();
  f.run(16 * 40);
  CHECK_EQ(guest.presented.size(), 12u); // every one of them
  CHECK(guest.superseded.empty());
  f.check_screen();
  // A frame that is refused makes room too.
  guest.buffer_base = 10;
  const int rooms = guest.rooms;
  guest.submit();
  CHECK_EQ(guest.rooms, rooms + 1);
}

TEST(shadow_takes_eight_layers) {
  ShadowFixture f;
  for (uint32_t i = 0; i < 8; ++i)
    f.guest(1 + i, ShadowFixture::at(static_cast<int32_t>(i) * 10, 5, 20, 20), static_cast<int32_t>(i))
        .submit();
  ShadowGuest ninth(20, 8, 8, 0x34325258, f.sim, *f.desk, f.epoll);
  CHECK_EQ(f.shadow->attach(ninth.stream, 9), ENOSPC);
  f.run(100);
  f.check_screen();
  for (const auto& guest : f.guests)
    CHECK_EQ(guest->presented.size(), 1u);
}

TEST(shadow_tells_when_a_picture_has_another_shape) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  const auto told = [&] {
    return std::count_if(f.desk->notices.begin(), f.desk->notices.end(), [](const flip::Notice& notice) {
      return notice.type == flip::Notice::Type::reshaped && notice.stream == 1;
    });
  };
  guest.submit();
  f.vblank();
  guest.submit();
  f.vblank();
  guest.place.x = 20; // a window that moves
  guest.submit();
  f.vblank();
  CHECK_EQ(told(), 0);
  guest.place.w = guest.place.h = 100;
  guest.place.src_w = guest.place.src_h = 100 << 16;
  guest.submit();
  f.vblank();
  CHECK_EQ(told(), 1);
  guest.hide();
  f.vblank();
  guest.submit();
  f.vblank();
  CHECK_EQ(told(), 1);
  f.check_screen();
}
