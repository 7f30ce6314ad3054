// The virtio-gpu device with a driver by hand, on a flip engine with a fake card.
#include "guests/virtio_gpu.h"

#include "base/clock.h"
#include "check.h"
#include "virtio_rig.h"

using namespace scanout;
using namespace scanout::guests;
using namespace scanout::test;
using vhost::Request;

namespace {

struct Machine {
  Rig rig;
  VirtioRig vm;
  explicit Machine(uint32_t scanouts = 1) : vm(rig, scanouts) { vm.boot(); }
  [[nodiscard]] bool shows(uint32_t plane, uint32_t framebuffer) {
    return eventually([&] {
      while (vm.work()) {
      }
      return rig.card.framebuffer(plane) == framebuffer;
    });
  }
};

constexpr uint32_t ok = VIRTIO_GPU_RESP_OK_NODATA;
constexpr int64_t ms = 1'000'000;

} // namespace

TEST(virtio_gpu_flips_between_two_resources) {
  Machine m;
  m.vm.make_two();
  for (uint32_t frame = 0; frame < 6; ++frame) {
    const uint32_t id = 1 + frame % 2;
    CHECK_EQ(m.vm.set_scanout(0, id), ok);
    const auto answer = m.vm.answer(m.vm.flush(id, 70 + frame));
    CHECK_EQ(answer.type, ok);
    CHECK_EQ(answer.flags, uint32_t{VIRTIO_GPU_FLAG_FENCE});
    CHECK_EQ(answer.fence_id, uint64_t{70 + frame});
    CHECK_EQ(m.rig.card.framebuffer(100), uint64_t{1000 + id});
  }
  CHECK_EQ(m.vm.backed, 2); // once a resource, never again
  const PlaneStats& stats = m.vm.scanouts[0]->stats(0);
  CHECK_EQ(stats.flips + stats.superseded, stats.taken.load());
  CHECK_EQ(m.vm.gpu->late(), uint64_t{0});
}

TEST(virtio_gpu_answers_a_flush_at_its_flip_and_in_time) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(m.shows(100, 1001));
  m.rig.settle();
  m.rig.card.hold(true);
  CHECK_EQ(m.vm.set_scanout(0, 2), ok);
  const int64_t start = base::now_ns();
  const uint32_t first = m.vm.flush(2, 1);
  CHECK(eventually([&] { return m.rig.card.framebuffer(100) == 1002; }));
  m.rig.settle();
  CHECK(!m.vm.answered(first)); // committed, and not on the screen
  CHECK_EQ(m.vm.answer(first).type, ok);
  const int64_t took = base::now_ns() - start;
  CHECK(took >= 30 * ms); // by the clock
  CHECK_EQ(m.vm.gpu->late(), uint64_t{1});
  m.rig.card.hold(false);
  m.rig.card.land();
  const uint32_t second = m.vm.flush(2, 2);
  CHECK_EQ(m.vm.answer(second).type, ok);
  CHECK_EQ(m.vm.gpu->late(), uint64_t{1});
}

TEST(virtio_gpu_answers_many_flushes_in_order) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  m.rig.settle();
  m.rig.card.hold(true);
  constexpr uint16_t count = 10;
  std::array<uint32_t, count> numbers{};
  for (uint16_t i = 0; i < count; ++i)
    numbers[i] = m.vm.flush(1, i);
  const uint16_t before = m.vm.control.used();
  m.rig.card.hold(false);
  m.rig.card.land();
  for (const uint32_t number : numbers)
    CHECK_EQ(m.vm.answer(number).type, ok);
  for (uint16_t i = 1; i < count; ++i) {
    const uint32_t one = m.vm.control.used_head(static_cast<uint16_t>(before + i - 1));
    const uint32_t next = m.vm.control.used_head(static_cast<uint16_t>(before + i));
    CHECK_EQ((one + 2) % 32, next);
  }
}

TEST(virtio_gpu_shows_a_scanout_that_is_not_flushed) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 2), ok);
  CHECK(m.shows(100, 1002));
  m.rig.notices();
  CHECK_EQ(m.vm.set_scanout(0, 0), ok);
  CHECK(m.shows(100, 0));
  // Told, so that the idle picture can take the plane.
  const std::vector<flip::Notice> notices = m.rig.notices();
  REQUIRE(notices.size() == 1);
  CHECK_EQ(notices[0].type, flip::Notice::Type::unrouted);
  CHECK_EQ(notices[0].stream, m.vm.scanouts[0]->stream(0).id());
}

TEST(virtio_gpu_shows_a_cursor) {
  Machine m;
  m.vm.make_two();
  virtio_gpu_update_cursor update{};
  update.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR;
  update.pos = {.scanout_id = 0, .x = 30, .y = 40, .padding = 0};
  update.resource_id = 2;
  const auto send = [&](uint16_t head) {
    const uint64_t at = VirtioRig::requests_at + 0x20000 + uint64_t{64} * head;
    m.vm.memory.at<virtio_gpu_update_cursor>(at) = update;
    m.vm.cursor.descriptor(head) = {at, sizeof update, 0, 0};
    m.vm.cursor.offer(head);
    m.vm.kick(1);
    CHECK(eventually([&] { return m.vm.cursor.used() == m.vm.cursor.available(); }));
  };
  send(0);
  CHECK(m.shows(101, 1002));
  update.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR;
  update.pos.x = 0xfffffff0; // partly beyond the left edge
  send(1);
  update.hdr.type = VIRTIO_GPU_CMD_UPDATE_CURSOR;
  update.resource_id = 0;
  send(2);
  CHECK(m.shows(101, 0));
  update.pos.scanout_id = 9;
  send(3);
  update.pos.scanout_id = 0;
  update.resource_id = 77; // there is none: hidden
  send(4);
  CHECK(m.vm.broken.empty());
}

TEST(virtio_gpu_keeps_what_is_on_the_screen_until_its_successor_is) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(m.shows(100, 1001));
  m.rig.settle();
  m.rig.card.hold(true);
  CHECK_EQ(m.vm.set_scanout(0, 2), ok);
  CHECK(eventually([&] { return m.rig.card.framebuffer(100) == 1002; }));
  CHECK_EQ(m.vm.unref(1), ok);
  m.rig.settle();
  while (m.vm.work()) {
  }
  CHECK_EQ(m.vm.released_buffers, 0);
  m.rig.card.hold(false);
  m.rig.card.land();
  CHECK(eventually([&] {
    while (m.vm.work()) {
    }
    return m.vm.released_buffers == 1 && m.vm.released_resources == 1;
  }));
  // The id is free again.
  CHECK_EQ(m.vm.create(1), ok);
}

TEST(virtio_gpu_hides_a_scanout_whose_resource_goes) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(m.shows(100, 1001));
  virtio_gpu_resource_detach_backing detach{};
  detach.hdr.type = VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING;
  detach.resource_id = 1;
  CHECK_EQ(m.vm.run(detach), ok);
  CHECK(m.shows(100, 0));
  CHECK_EQ(m.vm.run(detach), uint32_t{VIRTIO_GPU_RESP_ERR_UNSPEC}); // it has none
  CHECK_EQ(m.vm.set_scanout(0, 1), uint32_t{VIRTIO_GPU_RESP_ERR_UNSPEC});
  CHECK_EQ(m.vm.attach(1, VirtioRig::pixels_at), ok); // another memory
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(m.shows(100, 1003));
}

TEST(virtio_gpu_goes_on_after_a_pause_and_starts_anew_after_a_reset) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(m.shows(100, 1001));
  // A pause: the ring goes on where it was, the picture stays.
  const uint32_t base = m.vm.stop_ring(0);
  CHECK_EQ(base, 5u);
  CHECK_EQ(m.rig.card.framebuffer(100), uint64_t{1001});
  CHECK(m.vm.tell_state(Request::set_vring_base, 0, base));
  m.vm.start_ring(0);
  CHECK_EQ(m.vm.set_scanout(0, 2), ok);
  CHECK(m.shows(100, 1002));
  // A reset: the ring begins at 0, and the guest has nothing.
  m.vm.stop_ring(0);
  m.vm.control.clear();
  CHECK(m.vm.tell_state(Request::set_vring_base, 0, 0));
  m.vm.start_ring(0);
  CHECK(m.shows(100, 0));
  CHECK_EQ(m.vm.set_scanout(0, 1), uint32_t{VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID});
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(eventually([&] { return m.rig.card.framebuffer(100) > 1002; }));
}

TEST(virtio_gpu_answers_what_is_under_way_when_its_ring_stops) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  m.rig.settle();
  m.rig.card.hold(true);
  const uint32_t flush = m.vm.flush(1, 9);
  CHECK(eventually([&] { return m.vm.gpu->commands() == 6; }));
  m.vm.stop_ring(0);
  CHECK(m.vm.answered(flush)); // before the front end had its answer
  m.rig.card.hold(false);
  m.rig.card.land();
}

TEST(virtio_gpu_forgets_a_job_whose_ring_stopped) {
  Machine m;
  CHECK_EQ(m.vm.create(1), ok);
  m.vm.jobs_wait = true;
  struct {
    virtio_gpu_resource_attach_backing attach;
    virtio_gpu_mem_entry entry;
  } request{};
  request.attach.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
  request.attach.resource_id = request.attach.nr_entries = 1;
  request.entry.addr = VirtioRig::pixels_at;
  request.entry.length = VirtioRig::bytes;
  const uint32_t number = m.vm.offer(&request, sizeof request);
  m.vm.kick();
  CHECK(eventually([&] { return m.vm.work(); }));
  m.vm.stop_ring(0);
  CHECK(m.vm.answered(number));
  const uint16_t used = m.vm.control.used();
  m.vm.control.clear();
  CHECK(m.vm.tell_state(Request::set_vring_base, 0, 0));
  m.vm.start_ring(0);
  // It is done only now; the driver that asked is gone, and what was made is let go.
  m.rig.call([&](flip::Engine&) { return m.vm.gpu->finish_job({.done = true, .fb_id = 5}), 0; });
  m.vm.jobs_wait = false;
  CHECK(eventually([&] {
    while (m.vm.work()) {
    }
    return m.vm.released_buffers == 1 && m.vm.released_resources == 1;
  }));
  CHECK_EQ(m.vm.control.used(), 0);
  CHECK(used > 0);
  m.vm.make_two();
}

TEST(virtio_gpu_shows_one_resource_on_two_scanouts) {
  Machine m(2);
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK_EQ(m.vm.set_scanout(1, 1), ok);
  CHECK_EQ(m.vm.answer(m.vm.flush(1, 5)).type, ok);
  CHECK(m.shows(100, 1001) && m.shows(200, 1001));
  CHECK_EQ(m.vm.set_scanout(1, 2), ok);
  CHECK(m.shows(200, 1002));
  CHECK_EQ(m.rig.card.framebuffer(100), uint64_t{1001});
}

TEST(virtio_gpu_takes_another_memory_table_while_it_shows) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
  CHECK(m.shows(100, 1001));
  CHECK(m.vm.share(m.vm.memory)); // the same memory, mapped anew
  CHECK_EQ(m.vm.answer(m.vm.flush(1, 3)).type, ok);
  // Rings that are not in it break, and nothing is read where they were.
  const vhost::MemoryTable none{};
  CHECK(m.vm.tell(Request::set_mem_table, &none, 8));
  m.vm.kick();
  CHECK(eventually([&] {
    while (m.vm.work()) {
    }
    return m.vm.broken.size() == 2;
  }));
  CHECK_EQ(m.rig.card.framebuffer(100), uint64_t{1001});
  CHECK(m.vm.vhost->memory()->at(FakeMemory::guest_base, 1) == nullptr);
}
