// Guests that do everything at once: at every moment the screen shows what they were told, and no buffer
// comes back while it is read.
#include "shadow_fixture.h"

using namespace scanout;
using test::ShadowFixture;
using test::ShadowGuest;

namespace {

void act(std::mt19937& random, ShadowFixture& f, ShadowGuest& guest, bool detaching) {
  const flip::Placement old = guest.place;
  switch (random() % 16) {
  case 0:
    guest.hide();
    return;
  case 1:
    guest.place.x = static_cast<int32_t>(random() % 200) - 40;
    guest.place.y = static_cast<int32_t>(random() % 160) - 40;
    break;
  case 2: // another size: scaled
    guest.place.w = 8 + random() % 100;
    guest.place.h = 8 + random() % 100;
    break;
  case 3:
    guest.place.w = guest.place.src_w >> 16;
    guest.place.h = guest.place.src_h >> 16;
    break;
  case 4:
    if (detaching && random() % 4 == 0 && guest.stream.sink() != nullptr) {
      guest.stream.route(nullptr, 0);
      return;
    }
    break;
  case 5:
    if (guest.stream.sink() == nullptr)
      CHECK_EQ(f.shadow->attach(guest.stream, static_cast<int32_t>(guest.stream.id())), 0);
    break;
  case 6:
    guest.stream.drop();
    return;
  default:
    break;
  }
  if (!guest.submit(random() % 6)) guest.place = old;
}

void storm(uint32_t seed, bool alpha, bool detaching) {
  std::mt19937 random(seed);
  ShadowFixture f({{5, 10, 165, 130}, alpha, false});
  const uint32_t fourccs[] = {0x34325258, 0x34325241, 0x34324241};
  for (uint32_t i = 0; i < 3; ++i) {
    f.guest(1 + i, ShadowFixture::at(static_cast<int32_t>(i) * 20, 10, 40 + 20 * i, 60),
            static_cast<int32_t>(1 + i), fourccs[random() % 3]);
  }
  for (int step = 0; step < 600; ++step) {
    f.draw_ms = static_cast<int>(random() % 25);
    ShadowGuest& guest = *f.guests[random() % 3];
    act(random, f, guest, detaching);
    // Some drawings fail: of one layer, or as a whole.
    if (!f.desk->jobs.empty() && random() % 20 == 0) {
      const guests::ShadowJob& job = *f.desk->jobs.front();
      const uint32_t layer = job.layer_count > 0 && random() % 2 == 0 ? job.layers[0].index : 8;
      f.desk->finish_one(EIO, layer);
    }
    f.run(static_cast<int>(random() % 12));
    if (random() % 40 == 0) f.relight();
    // A guest that went is on the screen for a refresh or two more: then it is not known what must be there.
    if (!detaching && f.scanned() != 0) f.check_screen();
  }
  // All is at rest: everybody comes back, with a frame.
  for (const auto& guest : f.guests) {
    guest->stream.drop();
    if (guest->stream.sink() == nullptr)
      CHECK_EQ(f.shadow->attach(guest->stream, static_cast<int32_t>(guest->stream.id())), 0);
  }
  f.draw_ms = 1;
  f.run(100);
  for (const auto& guest : f.guests) {
    CHECK(guest->submit(2));
    f.run(60);
    CHECK_EQ(guest->presented.back(), guest->last.sequence);
  }
  f.check_screen();
  // And all buffers come back when they go.
  for (const auto& guest : f.guests) {
    guest->stream.route(nullptr, 0);
    guest->stream.drop();
  }
  f.run(60);
  for (const auto& guest : f.guests) {
    for (const auto& [sequence, count] : guest->held)
      CHECK_EQ(count, 0);
  }
}

} // namespace

TEST(shadow_storm_on_a_primary_plane) {
  for (uint32_t seed = 1; seed <= 20; ++seed)
    storm(seed, false, false);
}

TEST(shadow_storm_on_an_overlay) {
  for (uint32_t seed = 1; seed <= 20; ++seed)
    storm(seed, true, false);
}

TEST(shadow_storm_with_guests_that_come_and_go) {
  for (uint32_t seed = 1; seed <= 20; ++seed)
    storm(seed, seed % 2 == 0, true);
}
