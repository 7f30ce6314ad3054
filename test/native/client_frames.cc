// Frames through the flip page: who owns an entry and a buffer at each step.
#include <poll.h>

#include <set>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

static scanoutd_client_options two_planes() {
  return {.name = "test", .plane_count = 2, .plane_kinds = {SCANOUTD_PLANE_PRIMARY, SCANOUTD_PLANE_CURSOR}};
}

static bool readable(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 1;
}

TEST(client_fills_in_what_a_frame_leaves_out) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 2));
  CHECK(!readable(daemon.kick.get()));
  CHECK_EQ(submit(guest, 1), 1u);
  CHECK(readable(daemon.kick.get()));
  const auto entry = daemon.take(0);
  REQUIRE(entry.has_value());
  CHECK_EQ(entry->sequence, 1u);
  CHECK_EQ(entry->buffer, 1u);
  CHECK_EQ(entry->src_w, 64u << 16);
  CHECK_EQ(entry->src_h, 48u << 16);
  CHECK_EQ(entry->dst_w, 64u);
  CHECK_EQ(entry->dst_h, 48u);
  CHECK_EQ(entry->damage_count, 0u);
}

TEST(client_sends_all_of_a_frame) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  scanoutd_rect damage[9] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
  scanoutd_frame frame{};
  frame.src_x = 3 << 16;
  frame.src_w = 20 << 16;
  frame.src_h = 10 << 16;
  frame.dst_x = -5;
  frame.dst_w = 40;
  frame.dst_h = 20;
  frame.hot_x = 3;
  frame.damage = damage;
  frame.damage_count = 2;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), 0);
  auto entry = daemon.take(0);
  REQUIRE(entry.has_value());
  CHECK_EQ(entry->src_x, 3u << 16);
  CHECK_EQ(entry->dst_x, -5);
  CHECK_EQ(entry->dst_w, 40u);
  CHECK_EQ(entry->hot_x, 3);
  CHECK_EQ(entry->damage_count, 2u);
  CHECK_EQ(entry->damage[1].x2, 7);
  frame.damage_count = 9; // more than an entry holds
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), 0);
  entry = daemon.take(0);
  CHECK_EQ(entry->damage_count, 0u);
  CHECK_EQ(entry->damage[0].x1, 0);
}

TEST(client_adds_the_damage_of_frames_that_came_back) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  const auto damaged = [&](uint32_t count, int32_t mark) {
    const scanoutd_rect damage[8] = {{mark, 0, 1, 1}, {mark, 0, 2, 2}, {mark, 0, 3, 3}, {mark, 0, 4, 4}};
    scanoutd_frame frame{};
    frame.damage = damage;
    frame.damage_count = count;
    CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), 0);
  };
  const auto told = [&] { return daemon.take(0).value_or(scanoutd_flip_entry{}).damage_count; };
  damaged(2, 1);
  damaged(1, 7); // the former comes back
  const auto both = daemon.take(0);
  REQUIRE(both.has_value() && both->damage_count == 3);
  CHECK(both->damage[0].x1 == 1 && both->damage[1].x1 == 1 && both->damage[2].x1 == 7);
  damaged(1, 1);
  CHECK_EQ(told(), 1u); // the former was taken
  damaged(2, 1);
  CHECK_EQ(scanoutd_client_withdraw(guest, 0, nullptr), 1);
  damaged(1, 1);
  CHECK_EQ(told(), 3u);
  damaged(0, 1);
  damaged(1, 1);
  CHECK_EQ(told(), 0u); // everything and a bit more
  damaged(4, 1);
  damaged(4, 1);
  CHECK_EQ(told(), 8u);
  damaged(5, 1);
  damaged(4, 1);
  CHECK_EQ(told(), 0u); // more than fit
}

TEST(client_refuses_frames_that_cannot_be_meant) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  scanoutd_frame frame{};
  CHECK_EQ(scanoutd_client_submit(guest, 1, &frame, nullptr), -EINVAL);
  frame.buffer = 1;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -ENOENT);
  frame.buffer = 64;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -ENOENT);
  frame.buffer = 0;
  frame.flags = 1u << 7;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -EINVAL);
  frame.flags = SCANOUTD_FLIP_FENCED; // not agreed
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -EINVAL);
  CHECK(!daemon.take(0).has_value());
}

TEST(client_submits_only_registered_buffers) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 0));
  const base::UniqueFd memory = sealed_memfd(4096);
  const int fds[2] = {memory.get(), memory.get()};
  scanoutd_layout layout = small_layout();
  uint32_t serial = 0;
  CHECK_EQ(scanoutd_client_add_buffer(guest, 64, &layout, fds, 1, &serial), -EINVAL);
  CHECK_EQ(scanoutd_client_add_buffer(guest, 0, &layout, fds, 2, &serial), -EINVAL);
  CHECK_EQ(scanoutd_client_add_buffer(guest, 0, &layout, fds, 1, &serial), 0);
  CHECK_EQ(scanoutd_client_add_buffer(guest, 0, &layout, fds, 1, nullptr), -EEXIST);
  CHECK_EQ(submit(guest, 0), 0u);
  CHECK(!scanoutd_client_buffer_free(guest, 0));
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 0), -ETIMEDOUT);
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial + 128, 0), -EINVAL);
  CHECK_EQ(daemon.serve(), static_cast<uint32_t>(SCANOUTD_ADD_BUFFER));
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), 0);
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), -EINVAL); // the answer was consumed
  CHECK(scanoutd_client_buffer_free(guest, 0));
}

TEST(client_reclaims_what_the_daemon_never_saw) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 3));
  CHECK_EQ(submit(guest, 0), 1u);
  CHECK(!scanoutd_client_buffer_free(guest, 0));
  scanoutd_frame frame{};
  frame.buffer = 1;
  scanoutd_submission submission{};
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, &submission), 0);
  CHECK_EQ(submission.sequence, 2u);
  CHECK_EQ(submission.reclaimed, 1u);
  CHECK_EQ(submission.reclaimed_buffer, 0u);
  CHECK(scanoutd_client_buffer_free(guest, 0));
  CHECK_EQ(daemon.take(0)->sequence, 2u);
  frame.buffer = 2;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, &submission), 0);
  CHECK_EQ(submission.reclaimed, 0u);
  CHECK(!scanoutd_client_buffer_free(guest, 1));
  daemon.release(1, 2);
  CHECK(scanoutd_client_buffer_free(guest, 1));
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_PAGE);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_NONE);
}

TEST(client_never_fills_the_pending_entry_or_the_one_taken_last) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  std::atomic_ref<uint64_t> pending(daemon.page->slots[0].pending);
  uint64_t taken = 0;
  for (uint32_t step = 0; step < 200; step++) {
    const uint64_t before = pending.load();
    REQUIRE(submit(guest, 0) != 0);
    const uint64_t word = pending.load();
    CHECK((word & 3) != 0 && (word & 3) != (before & 3) && (word & 3) != taken);
    if (step * 7 % 5 < 2) {
      taken = word & 3;
      pending.exchange(0);
    }
  }
}

TEST(client_moves_a_cursor_without_freeing_its_buffer) {
  FakeDaemon daemon;
  const Guest guest(daemon.path(), two_planes());
  REQUIRE(join(daemon, guest, 2));
  CHECK_EQ(submit(guest, 1, 1), 1u);
  daemon.take(1);
  CHECK_EQ(submit(guest, 0, 0), 2u); // one counter over all planes
  CHECK_EQ(submit(guest, 1, 1), 3u);
  daemon.release(1, 1);
  CHECK(!scanoutd_client_buffer_free(guest, 1));
  daemon.take(1);
  CHECK(!scanoutd_client_buffer_free(guest, 1));
  daemon.release(1, 3);
  CHECK(scanoutd_client_buffer_free(guest, 1));
  CHECK(!scanoutd_client_buffer_free(guest, 0));
}

TEST(client_hides_a_plane) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(submit(guest, 0), 1u);
  scanoutd_frame hide{};
  hide.flags = SCANOUTD_FLIP_HIDE;
  hide.buffer = 63; // ignored
  scanoutd_submission submission{};
  CHECK_EQ(scanoutd_client_submit(guest, 0, &hide, &submission), 0);
  CHECK_EQ(submission.reclaimed, 1u);
  CHECK(scanoutd_client_buffer_free(guest, 0));
  CHECK_EQ(daemon.take(0)->flags, SCANOUTD_FLIP_HIDE);
}

TEST(client_withdraws_a_frame) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  scanoutd_submission submission{};
  CHECK_EQ(scanoutd_client_withdraw(guest, 0, &submission), 0);
  CHECK_EQ(submit(guest, 0), 1u);
  CHECK_EQ(scanoutd_client_withdraw(guest, 0, &submission), 1);
  CHECK_EQ(submission.reclaimed, 1u);
  CHECK(!daemon.take(0).has_value());
  CHECK_EQ(submit(guest, 0), 2u);
  CHECK(daemon.take(0).has_value());
  CHECK_EQ(scanoutd_client_withdraw(guest, 0, &submission), 0);
  CHECK(!scanoutd_client_buffer_free(guest, 0));
}

TEST(client_withdraws_the_frames_of_a_removed_buffer) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(submit(guest, 0), 1u);
  uint32_t serial = 0;
  CHECK_EQ(scanoutd_client_remove_buffer(guest, 3, &serial), -ENOENT);
  CHECK_EQ(scanoutd_client_remove_buffer(guest, 0, &serial), 0);
  CHECK_EQ(scanoutd_client_remove_buffer(guest, 0, nullptr), -EBUSY);
  CHECK(!daemon.take(0).has_value());
  CHECK_EQ(submit(guest, 0), 0u);
  CHECK_EQ(daemon.serve(), static_cast<uint32_t>(SCANOUTD_REMOVE_BUFFER));
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), 0);
  CHECK_EQ(scanoutd_client_remove_buffer(guest, 0, &serial), -ENOENT);
}

TEST(client_paces_fifo_by_what_was_taken) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 2));
  CHECK_EQ(scanoutd_client_set_present(guest, 0, 3, nullptr), -EINVAL);
  CHECK_EQ(scanoutd_client_set_present(guest, 1, SCANOUTD_PRESENT_FIFO, nullptr), -EINVAL);
  CHECK_EQ(scanoutd_client_set_present(guest, 0, SCANOUTD_PRESENT_FIFO, nullptr), 0);
  CHECK_EQ(submit(guest, 0), 1u);
  scanoutd_frame frame{};
  frame.buffer = 1;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -EAGAIN);
  CHECK_EQ(scanoutd_client_wait_taken(guest, 0, 20), -ETIMEDOUT);
  daemon.take(0);
  daemon.signal();
  CHECK_EQ(scanoutd_client_wait_taken(guest, 0, 1000), 0);
  CHECK_EQ(submit(guest, 1), 2u);
}

TEST(client_acquires_the_buffer_that_was_shown_longest_ago) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 3));
  CHECK_EQ(scanoutd_client_acquire(guest, 7, 0), 0);
  CHECK_EQ(submit(guest, 0), 1u);
  daemon.take(0);
  CHECK_EQ(scanoutd_client_acquire(guest, 7, 0), 1);
  CHECK_EQ(submit(guest, 1), 2u);
  daemon.take(0);
  CHECK_EQ(submit(guest, 2), 3u);
  CHECK_EQ(scanoutd_client_acquire(guest, 7, 20), -ETIMEDOUT);
  CHECK_EQ(scanoutd_client_acquire(guest, 1 << 5, 20), -ENOENT);
  daemon.release(1, 2);
  daemon.release(0, 1);
  CHECK_EQ(scanoutd_client_acquire(guest, 7, 1000), 0);
  CHECK_EQ(scanoutd_client_acquire(guest, 6, 1000), 1);
}

TEST(client_closes_on_a_page_that_breaks_the_protocol) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(submit(guest, 0), 1u);
  std::atomic_ref(daemon.page->slots[0].pending).store(0xdead);
  scanoutd_frame frame{};
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -EPROTO);
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), -EPROTO);
  CHECK_EQ(guest.next().reason, -EPROTO);
}

TEST(client_reads_feedback) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 0));
  scanoutd_flip_feedback written{}, read{};
  written.presented = 41;
  written.refresh_ns = 16'666'667;
  daemon.present(0, written);
  CHECK_EQ(scanoutd_client_feedback(guest, 1, &read), -EINVAL);
  CHECK_EQ(scanoutd_client_feedback(guest, 0, &read), 0);
  CHECK_EQ(read.presented, 41u);
  CHECK_EQ(read.refresh_ns, 16'666'667u);
  daemon.page->slots[0].feedback.lock = 7; // a daemon that died while writing
  CHECK_EQ(scanoutd_client_feedback(guest, 0, &read), -EAGAIN);
}

TEST(client_sends_fences_ahead_of_their_frames) {
  FakeDaemon daemon;
  const Guest guest(daemon.path(), {.name = "test", .capabilities = SCANOUTD_CAP_FENCE});
  REQUIRE(join(daemon, guest, 1, SCANOUTD_CAP_FENCE));
  CHECK_EQ(scanoutd_client_capabilities(guest), SCANOUTD_CAP_FENCE);
  const base::UniqueFd stands_for_a_fence = sealed_memfd(1);
  scanoutd_frame frame{};
  frame.flags = SCANOUTD_FLIP_FENCED;
  frame.fence = stands_for_a_fence.get();
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), 0);
  CHECK_EQ(daemon.take(0)->flags, SCANOUTD_FLIP_FENCED);
  scanoutd_fence fence{};
  CHECK_EQ(::recv(daemon.fences.get(), &fence, sizeof fence, MSG_DONTWAIT),
           static_cast<ssize_t>(sizeof fence));
  CHECK_EQ(fence.sequence, 1u);
  // A daemon that never reads its fences refuses more of them, and loses no frame: the plain ones go on.
  int result = 0;
  for (int i = 0; i < 5000 && result == 0; i++)
    result = scanoutd_client_submit(guest, 0, &frame, nullptr);
  CHECK(result == -EAGAIN || result == -ETOOMANYREFS);
  frame.flags = 0;
  CHECK_EQ(scanoutd_client_submit(guest, 0, &frame, nullptr), 0);
}

TEST(client_kicks_through_a_full_counter) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  const uint64_t full = UINT64_MAX - 1;
  CHECK_EQ(::write(daemon.kick.get(), &full, sizeof full), 8);
  CHECK_EQ(submit(guest, 0), 1u);
  uint64_t count = 0;
  CHECK_EQ(::read(daemon.kick.get(), &count, sizeof count), 8);
  CHECK_EQ(count, 1u);
}

} // namespace scanout::test
