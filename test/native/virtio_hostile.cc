// Guests that break virtio-gpu's rules: each is answered, and hurts nobody.
#include <random>

#include "check.h"
#include "guests/virtio_gpu.h"
#include "virtio_rig.h"

using namespace scanout;
using namespace scanout::guests;
using namespace scanout::test;
using vhost::Request;

namespace {

struct Machine {
  Rig rig;
  VirtioRig vm{rig};
  Machine() { vm.boot(); }
};

constexpr uint32_t ok = VIRTIO_GPU_RESP_OK_NODATA;
constexpr uint32_t bad_parameter = VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
constexpr uint32_t bad_resource = VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
constexpr uint32_t unspecified = VIRTIO_GPU_RESP_ERR_UNSPEC;

} // namespace

TEST(virtio_gpu_refuses_resources_of_absurd_size_and_unknown_format) {
  Machine m;
  CHECK_EQ(m.vm.create(0), bad_resource);
  CHECK_EQ(m.vm.create(1, 5), bad_parameter);
  CHECK_EQ(m.vm.create(1, 0), bad_parameter);
  CHECK_EQ(m.vm.create(1, 2, 0, 1), bad_parameter);
  CHECK_EQ(m.vm.create(1, 2, 16385, 1), bad_parameter);
  CHECK_EQ(m.vm.create(1, 2, 0xffffffff, 0xffffffff), bad_parameter);
  CHECK_EQ(m.vm.create(1, 2, 16384, 16384), ok);
  CHECK_EQ(m.vm.create(1), bad_resource); // in use
  // A gigabyte of pixels in a page of memory.
  CHECK_EQ(m.vm.attach(1, VirtioRig::pixels_at, 4096), unspecified);
  CHECK_EQ(m.vm.set_scanout(0, 1), unspecified);
}

TEST(virtio_gpu_refuses_memory_that_is_not_the_guests) {
  Machine m;
  CHECK_EQ(m.vm.create(1), ok);
  CHECK_EQ(m.vm.attach(1, 0), unspecified);
  CHECK_EQ(m.vm.attach(1, FakeMemory::guest_base + FakeMemory::size - 4096), unspecified);
  CHECK_EQ(m.vm.attach(1, ~uint64_t{0} - 100), unspecified);
  virtio_gpu_resource_attach_backing attach{};
  attach.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
  attach.resource_id = 1;
  CHECK_EQ(m.vm.run(attach), bad_parameter); // no entries
  attach.nr_entries = 0xffffffff;
  CHECK_EQ(m.vm.run(attach), bad_parameter);
  attach.nr_entries = 100; // of which none is in the chain
  CHECK_EQ(m.vm.run(attach), unspecified);
  CHECK_EQ(m.vm.attach(1, VirtioRig::pixels_at), ok);
  CHECK_EQ(m.vm.attach(1, VirtioRig::pixels_at), unspecified); // it has memory already
  CHECK_EQ(m.vm.attach(2, VirtioRig::pixels_at), bad_resource);
}

TEST(virtio_gpu_refuses_scanouts_that_cannot_be) {
  Machine m;
  m.vm.make_two();
  CHECK_EQ(m.vm.set_scanout(1, 1), uint32_t{VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID});
  CHECK_EQ(m.vm.set_scanout(0xffffffff, 1), uint32_t{VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID});
  CHECK_EQ(m.vm.set_scanout(0, 3), bad_resource);
  CHECK_EQ(m.vm.set_scanout(0, 1, 0, 1), bad_parameter);
  CHECK_EQ(m.vm.set_scanout(0, 1, VirtioRig::side + 1, 1), bad_parameter);
  virtio_gpu_set_scanout request{};
  request.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT;
  request.resource_id = 1;
  request.r = {.x = 0xffffffff, .y = 0, .width = 2, .height = 2}; // wraps around
  CHECK_EQ(m.vm.run(request), bad_parameter);
  CHECK_EQ(m.vm.unref(1), ok);
  CHECK_EQ(m.vm.set_scanout(0, 1), bad_resource); // freed
  CHECK_EQ(m.vm.answer(m.vm.flush(1, 1)).type, bad_resource);
  CHECK_EQ(m.vm.unref(1), bad_resource);
}

TEST(virtio_gpu_refuses_blobs_that_are_not_the_guests_memory) {
  Machine m;
  struct {
    virtio_gpu_resource_create_blob create;
    virtio_gpu_mem_entry entry;
  } request{};
  request.create.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB;
  request.create.resource_id = 5;
  request.create.blob_mem = VIRTIO_GPU_BLOB_MEM_HOST3D;
  request.create.nr_entries = 1;
  request.create.size = 8192;
  request.entry.addr = VirtioRig::pixels_at;
  request.entry.length = 8192;
  CHECK_EQ(m.vm.run(request), bad_parameter);
  request.create.blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST;
  CHECK_EQ(m.vm.run(request), ok);
  CHECK_EQ(m.vm.set_scanout(0, 5), bad_resource); // not by the command for 2D
  CHECK_EQ(m.vm.attach(5, VirtioRig::pixels_at), unspecified);
  virtio_gpu_set_scanout_blob scanout{};
  scanout.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB;
  scanout.resource_id = 5;
  scanout.r = {.x = 0, .y = 0, .width = 32, .height = 32};
  scanout.width = scanout.height = 32;
  scanout.format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
  const auto with = [&](const auto& change) {
    virtio_gpu_set_scanout_blob changed = scanout;
    changed.strides[0] = 128;
    change(changed);
    return m.vm.run(changed);
  };
  CHECK_EQ(with([](auto& one) { one.strides[0] = 127; }), bad_parameter);
  CHECK_EQ(with([](auto& one) { one.strides[0] = 0xffffffff; }), bad_parameter);
  CHECK_EQ(with([](auto& one) { one.offsets[0] = 8192 - 4096 + 4; }), bad_parameter);
  CHECK_EQ(with([](auto& one) { one.offsets[0] = 0xffffffff; }), bad_parameter);
  CHECK_EQ(with([](auto& one) { one.format = 1000; }), bad_parameter);
  CHECK_EQ(with([](auto& one) { one.height = 65; }), bad_parameter);
  CHECK_EQ(with([](auto& one) { one.r.width = 33; }), bad_parameter);
  CHECK_EQ(with([](auto&) {}), ok);
  const int made = m.vm.backed;
  CHECK_EQ(with([](auto&) {}), ok); // known by now
  CHECK_EQ(m.vm.backed, made);
  CHECK_EQ(with([](auto& one) { one.offsets[0] = 4096; }), ok); // the other half of it
  CHECK_EQ(m.vm.backed, made + 1);
}

TEST(virtio_gpu_answers_commands_that_are_cut_off_or_unknown) {
  Machine m;
  for (uint32_t type = 0x0f0; type < 0x120; ++type) {
    const uint32_t number = m.vm.offer(&type, sizeof type); // no whole header
    m.vm.kick();
    CHECK_EQ(m.vm.answer(number).type, unspecified);
    virtio_gpu_ctrl_hdr header{}; // and nothing after it
    header.type = type;
    const uint32_t answer = m.vm.run(header);
    CHECK(answer != 0);
  }
  virtio_gpu_ctrl_hdr header{};
  header.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
  const uint16_t before = m.vm.control.used();
  m.vm.offer(&header, sizeof header, 0); // no room for an answer
  m.vm.offer(&header, sizeof header, 3);
  m.vm.kick();
  CHECK(eventually([&] { return m.vm.control.used() == static_cast<uint16_t>(before + 2); }));
}

TEST(virtio_gpu_serves_a_broken_ring_no_more_until_it_starts_anew) {
  Machine m;
  m.vm.control.descriptor(5) = {FakeMemory::guest_base, 4, has_next, 5};
  m.vm.control.offer(5);
  m.vm.kick();
  CHECK(eventually([&] {
    while (m.vm.work()) {
    }
    return !m.vm.broken.empty();
  }));
  CHECK_EQ(m.vm.broken[0], std::string("a chain is a loop"));
  m.vm.kick();
  m.rig.settle();
  CHECK_EQ(m.vm.control.used(), 0);
  m.vm.stop_ring(0);
  m.vm.control.clear();
  CHECK(m.vm.tell_state(Request::set_vring_base, 0, 0));
  m.vm.start_ring(0);
  CHECK_EQ(m.vm.create(1), ok);
}

TEST(virtio_gpu_runs_out_of_resources_and_not_of_memory) {
  Machine m;
  uint32_t made = 0;
  while (made < 1000 && m.vm.create(made + 1) == ok)
    ++made;
  CHECK_EQ(made, max_gpu_resources);
  uint32_t backed = 0;
  while (backed < made && m.vm.attach(backed + 1, VirtioRig::pixels_at) == ok)
    ++backed;
  CHECK_EQ(backed, max_gpu_buffers);
  CHECK_EQ(m.vm.unref(7), ok);
  CHECK_EQ(m.vm.unref(300), bad_resource);
  CHECK(eventually([&] {
    while (m.vm.work()) {
    }
    return m.vm.released_resources == 1;
  }));
  CHECK_EQ(m.vm.create(2000), ok);
  CHECK_EQ(m.vm.attach(2000, VirtioRig::pixels_at), ok);
}

TEST(virtio_gpu_leaves_others_their_turn_in_a_flood) {
  Machine m;
  m.vm.make_two();
  // A ring that is always full: one command that is offered again and again, more than once a turn.
  virtio_gpu_ctrl_hdr header{};
  header.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
  const uint32_t number = m.vm.offer(&header, sizeof header);
  m.vm.kick();
  m.vm.answer(number);
  const uint64_t before = m.vm.gpu->commands();
  const auto head = static_cast<uint16_t>(2 * (number % 16));
  for (int i = 0; i < 20; ++i) {
    const uint16_t room = static_cast<uint16_t>(60 - (m.vm.control.available() - m.vm.control.used()));
    for (uint16_t k = 0; k < room; ++k)
      m.vm.control.offer(head);
    m.vm.kick();
    // A command of the daemon's is run in between.
    CHECK_EQ(m.rig.call([](flip::Engine&) { return 0; }), 0);
  }
  CHECK(eventually([&] { return m.vm.control.used() == m.vm.control.available(); }));
  CHECK(m.vm.gpu->commands() > before + 100);
}

TEST(virtio_gpu_ends_well_at_any_point) {
  std::minstd_rand random(12345);
  for (int round = 0; round < 40; ++round) {
    Machine m;
    m.rig.card.hold(random() % 2 == 0);
    const uint32_t steps = random() % 12;
    m.vm.jobs_wait = random() % 3 == 0;
    for (uint32_t step = 0; step < steps; ++step) {
      virtio_gpu_resource_create_2d create{};
      create.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D;
      create.resource_id = 1 + random() % 3;
      create.format = 2;
      create.width = create.height = VirtioRig::side;
      struct {
        virtio_gpu_resource_attach_backing attach;
        virtio_gpu_mem_entry entry;
      } attach{};
      attach.attach.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
      attach.attach.resource_id = create.resource_id;
      attach.attach.nr_entries = 1;
      attach.entry.addr = VirtioRig::pixels_at;
      attach.entry.length = VirtioRig::bytes;
      virtio_gpu_set_scanout set{};
      set.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT;
      set.resource_id = create.resource_id;
      set.r.width = set.r.height = VirtioRig::side;
      virtio_gpu_resource_flush flush{};
      flush.hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH;
      flush.hdr.flags = VIRTIO_GPU_FLAG_FENCE;
      flush.resource_id = create.resource_id;
      m.vm.offer(&create, sizeof create);
      m.vm.offer(&attach, sizeof attach);
      m.vm.offer(&set, sizeof set);
      m.vm.offer(&flush, sizeof flush);
      if (random() % 4 == 0) {
        virtio_gpu_resource_unref unref{};
        unref.hdr.type = VIRTIO_GPU_CMD_RESOURCE_UNREF;
        unref.resource_id = create.resource_id;
        m.vm.offer(&unref, sizeof unref);
      }
      m.vm.kick();
      if (random() % 2 == 0) m.rig.settle();
      if (random() % 2 == 0) m.vm.work();
      if (random() % 8 == 0) m.vm.stop_ring(0);
    }
    m.vm.hang_up();
  }
}
