// Guest memory and virtqueues: what a driver may do, and what it must not.
#include "guests/virtqueue.h"

#include <fcntl.h>

#include <limits>

#include "base/error.h"
#include "check.h"
#include "virtio_rig.h"

using namespace scanout;
using namespace scanout::guests;
using namespace scanout::test;

namespace {

constexpr uint64_t base_address = FakeMemory::guest_base;
constexpr uint64_t last_address = std::numeric_limits<uint64_t>::max();

struct Queue {
  FakeMemory fake;
  std::shared_ptr<const GuestMemory> memory = fake.map();
  FakeRing ring{fake, base_address, 8};
  Virtqueue queue;
  DescriptorChain chain;

  explicit Queue(bool event_idx = false) { CHECK_EQ(queue.set(*memory, ring.setup(event_idx)), 0); }
  Virtqueue::Pop pop(uint16_t head) {
    ring.offer(head);
    return queue.pop(chain);
  }
  /// Whether the one chain at `head` breaks the queue with this reason.
  bool breaks(uint16_t head, const std::string& why) {
    return pop(head) == Virtqueue::Pop::broken && why == queue.why();
  }
};

std::string refusal(std::vector<GuestRegion> regions) {
  try {
    GuestMemory::map(std::move(regions));
  } catch (const base::SystemError& error) {
    return error.what();
  }
  return "";
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST(guest_memory_translates_what_is_all_in_one_region) {
  const FakeMemory fake;
  const auto memory = fake.map();
  fake.bytes[5] = 42;
  CHECK_EQ(*memory->at(base_address + 5, 1), 42);
  CHECK_EQ(*memory->at_user(FakeMemory::user_base + 5, 1), 42);
  CHECK(memory->at(base_address, FakeMemory::size) != nullptr);
  CHECK(memory->at(base_address, FakeMemory::size + 1) == nullptr);
  CHECK(memory->at(base_address - 1, 2) == nullptr);
  CHECK(memory->at(base_address + FakeMemory::size, 1) == nullptr);
  CHECK(memory->at(base_address + 1, last_address) == nullptr);
  CHECK(memory->at(last_address, 1) == nullptr);
  CHECK(memory->at_user(FakeMemory::user_base + FakeMemory::size - 1, 2) == nullptr);
  CHECK_EQ(memory->place(base_address + 8192, 4096)->offset, uint64_t{8192});
  CHECK(!memory->place(base_address + FakeMemory::size - 1, 2));
}

TEST(guest_memory_refuses_what_could_be_cut_off_and_what_does_not_fit) {
  const FakeMemory sealed;
  const FakeMemory open(0);
  const auto with = [&](const auto& change) {
    std::vector<GuestRegion> regions;
    regions.push_back(sealed.region());
    change(regions.back());
    return refusal(std::move(regions));
  };
  std::vector<GuestRegion> unsealed;
  unsealed.push_back(open.region());
  CHECK(says(refusal(std::move(unsealed)), "F_SEAL_SHRINK"));
  CHECK(says(with([](GuestRegion& one) { one.fd.reset(::open("/dev/zero", O_RDWR)); }), "memfd"));
  CHECK(says(with([](GuestRegion& one) { one.size += 4096; }), "beyond its file"));
  CHECK(says(with([](GuestRegion& one) { one.file_offset = 4096; }), "beyond its file"));
  CHECK(says(with([](GuestRegion& one) { one.file_offset = 1; }), "not that of a page"));
  CHECK(says(with([](GuestRegion& one) { one.guest_address = last_address - 4; }), "wrap around"));
  CHECK(says(with([](GuestRegion& one) { one.user_address = last_address - 4; }), "wrap around"));
  CHECK(says(with([](GuestRegion& one) { one.size = 0; }), "wrap around"));
  std::vector<GuestRegion> twice;
  twice.push_back(sealed.region());
  twice.push_back(sealed.region());
  CHECK(says(refusal(std::move(twice)), "overlaps"));
  std::vector<GuestRegion> many;
  for (uint64_t i = 0; i < 9; ++i) {
    many.push_back(sealed.region());
    many.back().guest_address += i << 32;
    many.back().user_address += i << 32;
  }
  CHECK(says(refusal(std::move(many)), "at most 8"));
}

TEST(virtqueue_takes_chains_in_order_and_gives_them_back) {
  Queue q;
  CHECK(q.queue.pop(q.chain) == Virtqueue::Pop::empty);
  q.ring.descriptor(0) = {base_address + 0x10000, 4, has_next, 3};
  q.ring.descriptor(3) = {base_address + 0x20000, 4, has_next, 1};
  q.ring.descriptor(1) = {base_address + 0x30000, 8, is_writable, 0};
  q.fake.at<uint32_t>(base_address + 0x10000) = 0x11111111;
  q.fake.at<uint32_t>(base_address + 0x20000) = 0x22222222;
  REQUIRE(q.pop(0) == Virtqueue::Pop::taken);
  CHECK_EQ(q.chain.count, 3u);
  CHECK_EQ(q.chain.readable, 2u);
  CHECK_EQ(q.chain.readable_size(), uint64_t{8});
  uint32_t words[3]{};
  CHECK_EQ(q.chain.read(*q.memory, 0, words, sizeof words), size_t{8});
  CHECK_EQ(words[1], 0x22222222u);
  CHECK_EQ(q.chain.read(*q.memory, 2, words, 4), size_t{4});
  CHECK_EQ(words[0], 0x22221111u);
  const uint64_t answer = 7;
  CHECK_EQ(write_answer(*q.memory, &q.chain.segments[2], 1, &answer, sizeof answer), size_t{8});
  q.queue.push(q.chain.head, 8);
  CHECK_EQ(q.ring.used(), 1);
  CHECK_EQ(q.fake.at<uint64_t>(base_address + 0x30000), answer);
  CHECK_EQ(q.queue.next_available(), 1);
}

TEST(virtqueue_follows_indirect_tables_that_are_longer_than_the_ring) {
  Queue q;
  constexpr uint32_t entries = 100;
  const uint64_t table = base_address + 0x40000;
  for (uint32_t i = 0; i < entries; ++i) {
    const bool last = i + 1 == entries;
    q.fake.at<FakeDescriptor>(table + uint64_t{16} * i) = {
        base_address + i, 1, static_cast<uint16_t>(last ? is_writable : has_next),
        static_cast<uint16_t>(last ? 0 : i + 1)};
  }
  q.ring.descriptor(2) = {table, 16 * entries, is_indirect, 0};
  REQUIRE(q.pop(2) == Virtqueue::Pop::taken);
  CHECK_EQ(q.chain.count, entries);
  CHECK_EQ(q.chain.readable, entries - 1);
  CHECK_EQ(q.chain.head, 2);
}

TEST(virtqueue_breaks_on_loops_and_chains_that_lead_nowhere) {
  const auto breaks = [](const std::string& why, const auto& prepare, uint16_t head = 0) {
    Queue q;
    prepare(q);
    CHECK(q.breaks(head, why));
    if (q.queue.why() != why) fail(__FILE__, __LINE__, std::string("why: ") + q.queue.why());
  };
  const uint64_t table = base_address + 0x40000;
  breaks("a chain is a loop", [](Queue& q) {
    q.ring.descriptor(0) = {base_address, 1, has_next, 1};
    q.ring.descriptor(1) = {base_address, 1, has_next, 0};
  });
  breaks("a chain is a loop", [](Queue& q) { q.ring.descriptor(0) = {base_address, 1, has_next, 0}; });
  breaks("a chain leaves its descriptor table",
         [](Queue& q) { q.ring.descriptor(0) = {base_address, 1, has_next, 8}; });
  breaks("a head is not in the descriptor table", [](Queue&) {}, 8);
  breaks("a chain has a readable part after a writable one", [](Queue& q) {
    q.ring.descriptor(0) = {base_address, 1, is_writable | has_next, 1};
    q.ring.descriptor(1) = {base_address, 1, 0, 0};
  });
  breaks("more entries are available than the ring has", [](Queue& q) { q.ring.set_available(8); });
  breaks("an indirect table is not in the guest's memory",
         [](Queue& q) { q.ring.descriptor(0) = {base_address + FakeMemory::size - 8, 16, is_indirect, 0}; });
  for (const uint32_t length : {0u, 8u, 17u, 16u * 1025, 0xfffffff0u}) {
    breaks("an indirect table has a size that is not possible",
           [&](Queue& q) { q.ring.descriptor(0) = {table, length, is_indirect, 0}; });
  }
  breaks("an indirect descriptor has a successor",
         [&](Queue& q) { q.ring.descriptor(0) = {table, 16, is_indirect | has_next, 1}; });
  breaks("an indirect table has an indirect descriptor", [&](Queue& q) {
    q.ring.descriptor(0) = {table, 16, is_indirect, 0};
    q.fake.at<FakeDescriptor>(table) = {table, 16, is_indirect, 0};
  });
  breaks("a chain is a loop", [&](Queue& q) {
    q.ring.descriptor(0) = {table, 32, is_indirect, 0};
    q.fake.at<FakeDescriptor>(table) = {base_address, 1, has_next, 1};
    q.fake.at<FakeDescriptor>(table + 16) = {base_address, 1, has_next, 0};
  });
}

TEST(virtqueue_reads_and_writes_nothing_outside_of_the_memory) {
  Queue q;
  q.ring.descriptor(0) = {base_address + FakeMemory::size - 2, 4, has_next, 1};
  q.ring.descriptor(1) = {last_address - 2, 64, is_writable, 0};
  REQUIRE(q.pop(0) == Virtqueue::Pop::taken);
  uint32_t word = 0;
  CHECK_EQ(q.chain.read(*q.memory, 0, &word, sizeof word), size_t{0});
  CHECK_EQ(write_answer(*q.memory, &q.chain.segments[1], 1, &word, sizeof word), size_t{0});
}

TEST(virtqueue_refuses_rings_that_are_not_all_in_the_memory) {
  const FakeMemory fake;
  const auto memory = fake.map();
  Virtqueue queue;
  FakeMemory& writable = const_cast<FakeMemory&>(fake);
  const VirtqueueSetup good = FakeRing(writable, base_address, 8).setup();
  const auto with = [&](const auto& change) {
    VirtqueueSetup setup = good;
    change(setup);
    return queue.set(*memory, setup);
  };
  for (const uint32_t size : {0u, 3u, 12u, 2048u, 0x80000000u})
    CHECK_EQ(with([&](VirtqueueSetup& one) { one.size = size; }), EINVAL);
  const uint64_t end = FakeMemory::user_base + FakeMemory::size;
  CHECK_EQ(with([&](VirtqueueSetup& one) { one.descriptors = end - 16 * 8 + 16; }), EFAULT);
  CHECK_EQ(with([&](VirtqueueSetup& one) { one.available = end - 20; }), EFAULT);
  CHECK_EQ(with([&](VirtqueueSetup& one) { one.used = end - 68; }), EFAULT);
  CHECK_EQ(with([&](VirtqueueSetup& one) { one.descriptors += 8; }), EFAULT);
  CHECK_EQ(with([&](VirtqueueSetup& one) { one.available += 1; }), EFAULT);
  CHECK_EQ(with([&](VirtqueueSetup& one) { one.used += 2; }), EFAULT);
  CHECK_EQ(with([](VirtqueueSetup&) {}), 0);
}

TEST(virtqueue_calls_and_kicks_by_event_indices) {
  Queue q(true);
  for (uint16_t i = 0; i < 4; ++i) {
    q.ring.descriptor(i) = {base_address, 1, 0, 0};
    q.ring.offer(i);
  }
  q.ring.used_event() = 1; // not at the first, but at the second
  CHECK(q.queue.pop(q.chain) == Virtqueue::Pop::taken);
  q.queue.push(q.chain.head, 0);
  CHECK(!q.queue.wants_call());
  CHECK(q.queue.pop(q.chain) == Virtqueue::Pop::taken);
  q.queue.push(q.chain.head, 0);
  CHECK(q.queue.wants_call());
  CHECK(!q.queue.wants_call());  // nothing new since
  CHECK(q.queue.ask_for_kick()); // two are there already
  CHECK(q.queue.pop(q.chain) == Virtqueue::Pop::taken);
  CHECK(q.queue.pop(q.chain) == Virtqueue::Pop::taken);
  CHECK(!q.queue.ask_for_kick());
  CHECK_EQ(q.ring.avail_event(), 4);
}

TEST(virtqueue_calls_by_flags) {
  Queue q;
  q.ring.descriptor(0) = {base_address, 1, 0, 0};
  q.ring.available_flags() = 1; // no interrupts
  CHECK(q.pop(0) == Virtqueue::Pop::taken);
  q.queue.push(0, 0);
  CHECK(!q.queue.wants_call());
  q.ring.available_flags() = 0;
  CHECK(q.pop(0) == Virtqueue::Pop::taken);
  q.queue.push(0, 0);
  CHECK(q.queue.wants_call());
}

TEST(virtqueue_goes_on_beyond_the_end_of_its_counters) {
  Queue q;
  q.ring.descriptor(0) = {base_address, 1, 0, 0};
  for (uint32_t i = 0; i < 70'000; ++i) {
    if (q.pop(0) != Virtqueue::Pop::taken) return fail(__FILE__, __LINE__, "stopped at " + std::to_string(i));
    q.queue.push(0, 0);
  }
  CHECK_EQ(q.ring.used(), static_cast<uint16_t>(70'000));
}
