// The shadow copy when something goes wrong: what cannot be read, who dies, what goes dark.
#include "shadow_fixture.h"

using namespace scanout;
using test::ShadowFixture;
using test::ShadowGuest;

TEST(shadow_keeps_the_buffers_of_a_guest_that_dies_while_they_are_read) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  REQUIRE(f.desk->jobs.size() == 1);
  guest.stream.route(nullptr, 0);
  guest.stream.drop();
  CHECK_EQ(f.shadow->held(guest.stream), 1u);
  CHECK_EQ(guest.held[1], 1);
  guests::RemoveBufferCommand removal(*f.shadow, 1, 0);
  removal.run(f.engine);
  CHECK(f.desk->finished.empty());
  f.desk->finish_one();
  CHECK_EQ(f.shadow->held(guest.stream), 0u);
  CHECK_EQ(guest.held[1], 0);
  CHECK_EQ(f.desk->finished.size(), 1u);
}

TEST(shadow_frees_a_buffer_when_its_successor_is_shown) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  guests::RemoveBufferCommand removal(*f.shadow, 1, 0);
  removal.run(f.engine);
  guests::RemoveBufferCommand again(*f.shadow, 1, 0);
  again.run(f.engine);
  CHECK_EQ(again.error, ENOENT);
  f.desk->finished.clear();
  guest.submit();
  CHECK(f.desk->finished.empty());
  f.vblank();
  REQUIRE(f.desk->finished.size() == 1);
  CHECK(f.desk->finished[0] == &removal);
  CHECK_EQ(removal.error, 0);
}

TEST(shadow_refuses_frames_that_it_cannot_read) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  const uint64_t before = f.scanned();
  guest.buffer_base = 10; // ids that nobody mapped
  guest.submit();
  CHECK(f.desk->jobs.empty());
  CHECK((guest.refused == std::vector<std::pair<uint64_t, int>>{{2, ENOENT}}));
  CHECK_EQ(guest.held[2], 0);
  REQUIRE(f.desk->notices.size() == 1);
  CHECK(f.desk->notices[0].type == flip::Notice::Type::shadow_failed);
  CHECK_EQ(f.desk->notices[0].stream, 1u);
  CHECK_EQ(f.desk->notices[0].error, ENOENT);
  f.vblank();
  CHECK_EQ(f.scanned(), before); // the plane stays as it was
  std::unique_ptr<pixels::MappedBuffer> none;
  CHECK_EQ(f.shadow->set_buffer(1, 11, none, ENODEV), 0);
  CHECK_EQ(f.shadow->set_buffer(1, 11, none, ENODEV), EEXIST);
  CHECK_EQ(f.shadow->set_buffer(1, 64, none, ENODEV), EINVAL);
  guest.uses[0] = 1;
  guest.submit();
  CHECK_EQ(guest.refused.back().second, ENODEV); // what mapping it said
  guest.uses[0] = 1;
  guest.buffer_base = 0;
  guest.submit(1); // new in a little, against a frame that was never shown
  f.vblank();
  f.check_screen();
}

TEST(shadow_refuses_a_source_beyond_the_buffer) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.place.src_x = 1 << 16;
  guest.submit();
  CHECK_EQ(guest.refused.size(), 1u);
  CHECK_EQ(guest.refused[0].second, EINVAL);
}

TEST(shadow_shows_the_others_when_one_layer_cannot_be_read) {
  ShadowFixture f;
  ShadowGuest& good = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  ShadowGuest& bad = f.guest(2, ShadowFixture::at(10, 10, 32, 32), 1);
  good.submit();
  f.vblank();
  bad.submit();
  f.vblank();
  f.check_screen();
  bad.submit(1);
  good.submit(1);
  f.desk->finish_one(ETIMEDOUT, 1); // the layer's index: the second that came
  CHECK((bad.refused == std::vector<std::pair<uint64_t, int>>{{2, ETIMEDOUT}}));
  CHECK_EQ(bad.held[2], 0);
  CHECK_EQ(f.desk->notices.size(), 1u);
  f.vblank();
  CHECK_EQ(good.presented.back(), good.last.sequence);
  CHECK_EQ(bad.presented.back(), 1u);
  f.check_screen();
  bad.submit(1);
  f.vblank();
  f.check_screen();
}

TEST(shadow_tries_a_failed_drawing_again) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.desk->finish_one(ENOMEM);
  f.desk->finish_one(ENOMEM);
  CHECK_EQ(f.desk->jobs.size(), 1u);
  f.desk->finish_one(ENOMEM);
  CHECK(f.desk->jobs.empty()); // it does not go on for ever
  CHECK_EQ(guest.held[1], 1);  // and loses nothing
  CHECK(guest.stream.pending() != nullptr);
  guest.submit(1);
  f.vblank();
  f.check_screen();
  CHECK_EQ(guest.presented.back(), 2u);
}

TEST(shadow_survives_a_full_queue) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  f.desk->refuses = true;
  guest.submit();
  CHECK(guest.stream.pending() != nullptr);
  f.desk->refuses = false;
  guest.submit(1);
  f.vblank();
  f.check_screen();
}

TEST(shadow_comes_back_after_its_plane_was_switched_off) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  f.shadow->stream(0).route(nullptr, 0);
  f.run(40);
  CHECK_EQ(f.scanned(), 0u);
  test::Sim::attach(f.crtc, f.shadow->stream(0), 31);
  f.run(40);
  f.check_screen();
  guest.submit(1);
  f.run(40);
  f.check_screen();
  CHECK_EQ(guest.presented.back(), 2u);
}

TEST(shadow_gives_frames_back_to_their_mailbox_when_the_output_goes_dark) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  guest.submit(1);
  f.desk->finish_one();
  f.sim.run_for(test::ms); // committed, not shown
  f.crtc.on_off();
  CHECK_EQ(guest.presented.size(), 1u);
  CHECK_EQ(guest.held[2], 1);
  f.run(20);
  f.crtc.on_modeset(30, test::period);
  f.run(40);
  CHECK_EQ(guest.presented.back(), 2u);
}

TEST(shadow_leaves_when_nothing_is_read_or_shown_any_more) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  guest.submit();
  f.vblank();
  guest.submit(1);
  flip::Stream& own = f.shadow->stream(0);
  const auto held = [&] { return f.shadow->held(own) + f.crtc.held(own); };
  f.shadow->on_leave(f.engine);
  own.route(nullptr, 0);
  own.drop();
  CHECK(guest.stream.sink() == nullptr);
  CHECK(held() > 0); // read by the job, and scanned out
  f.desk->finish_one();
  CHECK_EQ(guest.held[1] + guest.held[2], 0);
  CHECK_EQ(f.shadow->held(own), 0u);
  f.run(40);
  CHECK_EQ(held(), 0u);
  CHECK_EQ(f.scanned(), 0u);
  f.shadow->on_left(f.engine);
  CHECK(f.desk->left);
  CHECK_EQ(f.shadow->attach(guest.stream, 0), ESHUTDOWN);
}

TEST(shadow_tells_guests_when_the_display_refuses_the_copy) {
  ShadowFixture f;
  ShadowGuest& guest = f.guest(1, ShadowFixture::at(0, 0, 160, 120), 0);
  f.sim.verdict = [](const test::Commit&) { return EINVAL; };
  guest.submit();
  f.vblank();
  CHECK((guest.refused == std::vector<std::pair<uint64_t, int>>{{1, EINVAL}}));
  CHECK_EQ(f.sim.count(flip::Notice::Type::refused), 1u);
  f.sim.verdict = nullptr;
  test::Sim::attach(f.crtc, f.shadow->stream(0), 32);
  f.vblank();
  CHECK((guest.presented == std::vector<uint64_t>{1})); // it waited
}
