// A virtio-gpu device from one process to the next, and front ends that bring in-flight records of their own.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "check.h"
#include "virtio_rig.h"

using namespace scanout;
using namespace scanout::guests;
using namespace scanout::test;
using vhost::Request;

namespace {

constexpr uint32_t ok = VIRTIO_GPU_RESP_OK_NODATA;

// As the specification lays it out.
struct Entry {
  uint8_t held, padding[5];
  uint16_t next;
  uint64_t counter;
};
struct Region {
  uint64_t features;
  uint16_t version, entries, last_head, used;
  Entry ring[8];
};

/// A queue whose record is this test's.
struct Recorded {
  FakeMemory fake;
  std::shared_ptr<const GuestMemory> memory = fake.map();
  FakeRing ring{fake, FakeMemory::guest_base, 8};
  alignas(64) std::array<uint8_t, InflightRing::bytes(8)> bytes{};
  Virtqueue queue;
  DescriptorChain chain;

  Recorded() { start(false); }
  Region& region() { return *reinterpret_cast<Region*>(bytes.data()); }
  int start(bool resume) {
    VirtqueueSetup setup = ring.setup();
    setup.resume = resume;
    return queue.set(*memory, setup, InflightRing(bytes.data(), 8));
  }
  void offer(uint16_t head) {
    ring.descriptor(head) = {FakeMemory::guest_base + 0x10000, 8, 0, 0};
    ring.offer(head);
  }
  /// The heads that come, those of a former process with 100 more.
  std::vector<int> heads() {
    std::vector<int> got;
    while (queue.pop(chain) == Virtqueue::Pop::taken)
      got.push_back(chain.head + (chain.again ? 100 : 0));
    return got;
  }
};

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
  /// Resource 1 is on the screen.
  void start() {
    vm.make_two();
    CHECK_EQ(vm.set_scanout(0, 1), ok);
    CHECK(shows(100, 1001));
    rig.settle();
  }
};

uint32_t type_at(VirtioRig& vm, uint32_t number) {
  return vm.answer(number).type;
}

struct InflightMessage {
  uint64_t size, offset;
  uint16_t rings, entries;
} __attribute__((packed));

/// GET_INFLIGHT_FD, with the descriptor of its answer.
base::UniqueFd ask_for_records(VirtioRig& vm, InflightMessage& message) {
  const vhost::Header header{31, vhost::version, sizeof message};
  std::array<uint8_t, sizeof header + sizeof message> bytes;
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &message, sizeof message);
  REQUIRE(send(vm.front.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  vm.vhost->receive();
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  msghdr reply{.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(vm.front.get(), &reply, MSG_DONTWAIT) != static_cast<ssize_t>(bytes.size())) return {};
  std::memcpy(&message, bytes.data() + sizeof header, sizeof message);
  const cmsghdr* rights = CMSG_FIRSTHDR(&reply);
  int fd = -1;
  if (rights != nullptr) std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
  return base::UniqueFd(fd);
}

} // namespace

TEST(virtqueue_gives_what_was_in_flight_again_in_its_order) {
  Recorded q;
  for (const uint16_t head : {5, 2, 7, 3})
    q.offer(head);
  CHECK(q.heads() == (std::vector<int>{5, 2, 7, 3}));
  q.queue.push(2, 0);
  q.offer(1); // nobody has seen it yet
  CHECK_EQ(q.start(true), 0);
  CHECK_EQ(q.queue.next_available(), 4);
  CHECK(q.heads() == (std::vector<int>{105, 107, 103, 1}));
  // And once more, with what was taken since.
  q.queue.push(7, 0);
  CHECK_EQ(q.start(true), 0);
  CHECK(q.heads() == (std::vector<int>{105, 103, 101}));
  for (const uint16_t head : {1, 3, 5})
    q.queue.push(head, 0);
  CHECK_EQ(q.start(true), 0);
  CHECK(q.heads().empty());
  CHECK_EQ(q.queue.next_available(), 5);
}

TEST(virtqueue_answers_nothing_twice_that_was_used_and_not_recorded) {
  Recorded q;
  for (const uint16_t head : {1, 2})
    q.offer(head);
  q.heads();
  q.queue.push(1, 0);
  // It died after the used index and before the record, in each of its two stores.
  const Region done = q.region();
  q.region().used = 0;
  CHECK_EQ(q.start(true), 0);
  CHECK(q.heads() == (std::vector<int>{102}));
  q.region() = done;
  q.region().used = 0;
  q.region().ring[1].held = 1;
  CHECK_EQ(q.start(true), 0);
  CHECK(q.heads() == (std::vector<int>{102}));
  CHECK_EQ(q.region().used, 1);
  // It died before the used index: the head is in no batch that was given.
  q.region() = done;
  q.region().ring[2].next = q.region().last_head;
  q.region().last_head = 2;
  CHECK_EQ(q.start(true), 0);
  CHECK(q.heads() == (std::vector<int>{102}));
}

TEST(virtqueue_survives_records_that_are_nonsense) {
  for (uint32_t round = 0; round < 300; ++round) {
    Recorded q;
    q.offer(1);
    uint32_t random = round * 2654435761u;
    for (uint8_t& byte : q.bytes)
      byte = static_cast<uint8_t>((random = random * 1664525 + 1013904223) >> 24);
    q.region().version = round % 4 == 0 ? 7 : 1;
    if (round % 3 == 0)
      q.region().used = static_cast<uint16_t>(-4); // a batch that is a loop, or leads nowhere
    if (round % 3 == 1)
      for (Entry& entry : q.region().ring)
        entry.held = 1, entry.counter = ~uint64_t{0};
    CHECK_EQ(q.start(round % 2 == 0), 0);
    for (int i = 0; i < 40; ++i) {
      if (q.queue.pop(q.chain) != Virtqueue::Pop::taken) break;
      CHECK(q.chain.head < 8);
      q.queue.push(q.chain.head, 0);
    }
  }
  Recorded q;
  CHECK_EQ(q.queue.set(*q.memory, q.ring.setup(), InflightRing(q.bytes.data(), 4)), EINVAL);
}

TEST(virtio_gpu_shows_its_picture_again_and_goes_on) {
  Machine m(2);
  m.start();
  CHECK_EQ(m.vm.set_scanout(1, 2), ok);
  CHECK(m.shows(200, 1002));
  const int commits = m.rig.card.commits();
  const uint16_t used = m.vm.control.used();
  REQUIRE(m.vm.die_and_go_on());
  CHECK(eventually([&] { return m.rig.card.commits() >= commits + 2; })); // nobody has kicked
  CHECK(m.shows(100, 1001) && m.shows(200, 1002));
  CHECK_EQ(m.vm.control.used(), used);
  CHECK_EQ(m.vm.backed, 2);
  for (uint32_t frame = 0; frame < 4; ++frame) {
    const uint32_t id = 2 - frame % 2;
    CHECK_EQ(m.vm.set_scanout(0, id), ok);
    CHECK_EQ(m.vm.answer(m.vm.flush(id, frame)).fence_id, uint64_t{frame});
    CHECK_EQ(m.rig.card.framebuffer(100), uint64_t{1000 + id});
  }
  CHECK_EQ(m.vm.unref(1), ok);
  CHECK_EQ(m.vm.create(1), ok);
}

TEST(virtio_gpu_answers_a_flush_that_waited_when_its_process_died) {
  Machine m;
  m.start();
  m.rig.card.hold(true);
  const uint32_t first = m.vm.flush(1, 7), second = m.vm.flush(1, 8);
  const uint64_t commands = m.vm.gpu->commands();
  CHECK(eventually([&] { return m.vm.gpu->commands() >= 6; }));
  const bool early = m.vm.answered(first); // by the clock, on a slow machine
  CHECK(early || commands <= 6);
  m.rig.card.hold(false);
  m.rig.card.land();
  const uint16_t before = m.vm.control.used();
  REQUIRE(m.vm.die_and_go_on());
  CHECK_EQ(m.vm.answer(first).fence_id, uint64_t{7});
  CHECK_EQ(m.vm.answer(second).fence_id, uint64_t{8});
  m.rig.settle();
  CHECK(early || before == m.vm.control.used() || static_cast<uint16_t>(m.vm.control.used() - before) <= 2);
  CHECK_EQ(m.vm.control.used(), m.vm.control.available());
}

TEST(virtio_gpu_does_a_command_again_that_was_in_hand) {
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
  REQUIRE(m.vm.die_and_go_on());
  m.vm.jobs_wait = false;
  CHECK_EQ(type_at(m.vm, number), ok);
  CHECK_EQ(m.vm.backed, 1);
  CHECK_EQ(m.vm.set_scanout(0, 1), ok);
}

TEST(virtio_gpu_takes_it_for_done_what_was_done_before_it_was_answered) {
  // The last command of each was carried out; the process died before it said so.
  for (const uint32_t which : {0u, 1u, 2u}) {
    Machine m;
    m.vm.make_two();
    const auto mistake = m.vm.answer(0).type;
    CHECK_EQ(mistake, ok);
    if (which == 1) CHECK_EQ(m.vm.unref(2), ok);
    if (which == 2) CHECK_EQ(m.vm.create(3), ok);
    const auto number = static_cast<uint32_t>(which == 0 ? 3 : 4); // attach 2, unref 2, create 3
    const uint16_t used = m.vm.control.used();
    const auto head = static_cast<uint16_t>(m.vm.control.used_head(static_cast<uint16_t>(used - 1)));
    m.vm.memory.at<uint32_t>(VirtioRig::requests_at + uint64_t{4096} * (head / 2) + 2048) = 0;
    m.vm.control.set_used(static_cast<uint16_t>(used - 1));
    while (m.vm.work()) {
    }
    REQUIRE(m.vm.die_and_go_on([&](VirtioState& state) {
      InflightRing record = state.records()->ring(0);
      InflightRing::Heads heads;
      record.recover(static_cast<uint16_t>(used - 1), heads);
      record.taken(head);
    }));
    CHECK_EQ(type_at(m.vm, number), ok);
    CHECK_EQ(m.vm.control.used(), used);
  }
}

TEST(vhost_user_reads_a_message_again_that_was_in_hand) {
  Machine m;
  m.start();
  // It is in the socket, and the process dies: the table, with its descriptor, and a stop.
  vhost::MemoryTable table{};
  table.count = 1;
  table.regions[0] = {FakeMemory::guest_base, FakeMemory::size, FakeMemory::user_base, 0};
  m.vm.unhandled = true;
  m.vm.ask(Request::set_mem_table, &table, 8 + sizeof(vhost::MemoryRegion), {m.vm.memory.fd.get()},
           vhost::version | vhost::flag_need_reply);
  m.vm.vhost->receive();
  CHECK(m.vm.vhost->state() == VhostUser::State::waiting);
  REQUIRE(m.vm.die_and_go_on());
  m.vm.unhandled = false;
  const auto answer = m.vm.reply();
  CHECK_EQ(answer.size(), size_t{8});
  CHECK_EQ(m.vm.vhost->state() == VhostUser::State::open, true);
  m.vm.unhandled = true;
  const vhost::VringState ring{0, 0};
  m.vm.ask(Request::get_vring_base, &ring, sizeof ring);
  m.vm.vhost->receive();
  REQUIRE(m.vm.die_and_go_on());
  m.vm.unhandled = false;
  const auto base = m.vm.reply();
  REQUIRE(base.size() == sizeof ring);
  vhost::VringState got{};
  std::memcpy(&got, base.data(), sizeof got);
  CHECK_EQ(got.number, uint32_t{m.vm.control.used()});
  m.vm.start_ring(0);
  CHECK_EQ(m.vm.create(9), ok);
}

TEST(vhost_user_does_not_go_on_from_what_it_cannot_know) {
  {
    Machine m;
    const uint8_t half[4]{};
    REQUIRE(send(m.vm.front.get(), half, sizeof half, 0) == 4);
    m.vm.vhost->receive();
    CHECK(!m.vm.die_and_go_on());
    CHECK(m.vm.refusals.back().find("middle of a message") != std::string::npos);
  }
  for (const std::string gone : {"kick0", "memory"}) {
    Machine m;
    m.start();
    for (auto it = m.vm.kept.begin(); it != m.vm.kept.end();)
      it = it->first.starts_with(gone) ? m.vm.kept.erase(it) : std::next(it);
    CHECK(!m.vm.die_and_go_on());
    CHECK(m.vm.refusals.back().find("was not kept") != std::string::npos);
  }
}

TEST(vhost_user_keeps_what_a_successor_needs_and_no_more) {
  Machine m;
  CHECK_EQ(m.vm.kept.size(), size_t{5}); // memory, two kicks, two calls
  {
    const FakeMemory other;
    CHECK(m.vm.share(other));
    CHECK_EQ(m.vm.kept.size(), size_t{5});
    CHECK(m.vm.share(m.vm.memory));
  }
  CHECK_EQ(m.vm.kept.size(), size_t{5});
  CHECK(m.vm.tell_u64(Request::set_vring_call, vhost::vring_no_fd));
  CHECK_EQ(m.vm.kept.size(), size_t{4});
}

TEST(virtio_state_of_another_device_is_refused) {
  const auto state = VirtioState::make(2, "here");
  const auto why = [&](uint32_t scanouts, const char* label) -> std::string {
    try {
      VirtioState::open(base::UniqueFd(dup(state->fd())), scanouts, label);
    } catch (const base::SystemError& error) {
      return error.what();
    }
    return "";
  };
  CHECK_EQ(why(2, "here"), std::string());
  CHECK(why(1, "here").find("had 2 scanouts") != std::string::npos);
  CHECK(why(2, "there").find("was at here") != std::string::npos);
  const uint32_t version = 99;
  CHECK_EQ(pwrite(state->fd(), &version, sizeof version, 8), 4);
  CHECK(why(2, "here").find("another version's") != std::string::npos);
}

TEST(vhost_user_hands_out_in_flight_records_and_takes_them_again) {
  Rig rig;
  VirtioRig vm(rig);
  vm.negotiate();
  CHECK((vm.ask_u64(Request::get_protocol_features) & vhost::protocol_inflight) != 0);
  InflightMessage records{0, 0, 2, 64};
  const base::UniqueFd fd = ask_for_records(vm, records);
  REQUIRE(fd);
  CHECK_EQ(records.size, InflightMemory::bytes(2, 64));
  // A former back end had taken a command, and died.
  void* mapped = mmap(nullptr, records.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  REQUIRE(mapped != MAP_FAILED);
  InflightRing former(static_cast<uint8_t*>(mapped), 64);
  former.reset(0);
  virtio_gpu_ctrl_hdr request{};
  request.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
  const uint32_t number = vm.offer(&request, sizeof request);
  former.taken(0);
  CHECK(vm.share(vm.memory));
  CHECK(vm.tell(Request::set_inflight_fd, &records, sizeof records, {fd.get()}));
  CHECK(vm.tell_state(Request::set_vring_base, 0, 0));
  vm.start_ring(0);
  CHECK_EQ(vm.answer(number).type, uint32_t{VIRTIO_GPU_RESP_OK_DISPLAY_INFO});
  CHECK_EQ(vm.control.used(), 1);
  // From here on they are kept in the front end's, for the device's own successor as well.
  vm.make_two();
  CHECK_EQ(vm.set_scanout(0, 1), ok);
  const auto* region = static_cast<const Region*>(mapped);
  CHECK_EQ(region->used, vm.control.used());
  REQUIRE(vm.die_and_go_on());
  CHECK_EQ(vm.set_scanout(0, 2), ok);
  CHECK_EQ(region->used, vm.control.used());
  CHECK(!vm.tell(Request::set_inflight_fd, &records, sizeof records, {fd.get()})); // the ring is started
  munmap(mapped, records.size);
}

TEST(vhost_user_refuses_in_flight_records_that_cannot_be) {
  Rig rig;
  VirtioRig vm(rig);
  vm.negotiate();
  const uint64_t bytes = InflightMemory::bytes(2, 64);
  const base::UniqueFd good = InflightMemory::make(2, 64);
  const FakeMemory loose(0);
  const auto refuses = [&](uint64_t size, uint64_t offset, uint16_t rings, uint16_t entries, int fd) {
    const InflightMessage message{size, offset, rings, entries};
    return !vm.tell(Request::set_inflight_fd, &message, sizeof message, {fd});
  };
  CHECK(refuses(bytes, 0, 1, 64, good.get()));
  CHECK(refuses(bytes, 0, 3, 64, good.get()));
  CHECK(refuses(bytes, 0, 2, 0, good.get()));
  CHECK(refuses(bytes, 0, 2, 65535, good.get()));
  CHECK(refuses(bytes, 0, 2, 128, good.get()));
  CHECK(refuses(bytes - 1, 0, 2, 64, good.get()));
  CHECK(refuses(bytes, 4096, 2, 64, good.get()));
  CHECK(refuses(~uint64_t{0}, 4096, 2, 64, good.get()));
  CHECK(refuses(bytes, ~uint64_t{0} - 4095, 2, 64, good.get()));
  CHECK(refuses(bytes, 0, 2, 64, loose.fd.get()));
  CHECK(refuses(bytes, 0, 2, 64, vm.kicks[0].get()));
  const InflightMessage message{bytes, 0, 2, 64};
  CHECK(!vm.tell(Request::set_inflight_fd, &message, sizeof message, {}));
  CHECK(!vm.tell(Request::set_inflight_fd, &message, sizeof message - 1, {good.get()}));
  // What fits, and is too short for the ring that comes.
  const base::UniqueFd small = InflightMemory::make(2, 16);
  CHECK(!refuses(InflightMemory::bytes(2, 16), 0, 2, 16, small.get()));
  CHECK(vm.share(vm.memory));
  CHECK(vm.tell_state(Request::set_vring_num, 0, 64));
  const VirtqueueSetup setup = vm.control.setup();
  const vhost::VringAddress address{0, 0, setup.descriptors, setup.used, setup.available, 0};
  CHECK(vm.tell(Request::set_vring_addr, &address, sizeof address));
  CHECK(!vm.tell_u64(Request::set_vring_kick, 0, {vm.kicks[0].get()}));
  CHECK(vm.refusals.back().find("EINVAL") != std::string::npos);
}
