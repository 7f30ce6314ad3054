// The vhost-user back end: what a front end may say, and what becomes of the rest.
#include "guests/vhost_user.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "check.h"
#include "virtio_rig.h"

using namespace scanout;
using namespace scanout::guests;
using namespace scanout::test;
using vhost::Request;

namespace {

struct Machine {
  Rig rig;
  VirtioRig vm{rig};

  [[nodiscard]] bool ended(const std::string& why) const {
    return vm.vhost->state() == VhostUser::State::ended &&
           vm.vhost->why_ended().find(why) != std::string::npos;
  }
  [[nodiscard]] bool refused(const std::string& why) const {
    return !vm.refusals.empty() && vm.refusals.back().find(why) != std::string::npos &&
           vm.vhost->state() == VhostUser::State::open;
  }
};

} // namespace

TEST(vhost_user_negotiates_starts_and_stops) {
  Machine m;
  m.vm.boot();
  CHECK_EQ(m.vm.ask_u64(Request::get_queue_num), uint64_t{2});
  CHECK_EQ(m.vm.stop_ring(0), 0u);
  CHECK_EQ(m.vm.stop_ring(1), 0u);
  m.vm.start_ring(0);
  CHECK(m.vm.refusals.empty());
}

TEST(vhost_user_takes_messages_byte_by_byte) {
  Machine m;
  const uint64_t features = vhost::feature_version_1;
  struct {
    vhost::Header header;
    uint64_t value;
  } __attribute__((packed)) const message{{static_cast<uint32_t>(Request::set_features), 1, 8}, features};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
  for (size_t i = 0; i < sizeof message; ++i) {
    CHECK_EQ(send(m.vm.front.get(), bytes + i, 1, 0), ssize_t{1});
    CHECK(m.vm.vhost->receive() == VhostUser::State::open);
  }
  // All of it came: the next one is understood.
  CHECK((m.vm.ask_u64(Request::get_features) & features) != 0);
}

TEST(vhost_user_ends_what_is_no_message) {
  const auto ends = [](uint32_t flags, uint32_t size, const std::string& why) {
    Machine m;
    const vhost::Header header{static_cast<uint32_t>(Request::set_owner), flags, size};
    CHECK_EQ(send(m.vm.front.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    m.vm.vhost->receive();
    CHECK(m.ended(why));
  };
  ends(vhost::version, 513, "longer than any message");
  ends(vhost::version, 0xffffffff, "longer than any message");
  ends(0, 0, "flags 0");
  ends(2, 0, "flags 2");
  ends(vhost::version | vhost::flag_reply, 0, "flags 5");
}

TEST(vhost_user_refuses_with_an_answer_or_by_the_end) {
  Machine m;
  m.vm.negotiate();
  CHECK(!m.vm.tell_u64(Request::gpu_set_socket, 0));
  CHECK(m.refused("no such request"));
  CHECK(!m.vm.tell_u64(Request::set_vring_num, 1)); // eight bytes by chance: ring 1 with no descriptors
  CHECK(m.refused("a ring of 0"));
  CHECK(!m.vm.tell(Request::set_vring_num, "abc", 3));
  CHECK(m.refused("3 bytes"));
  // Nobody asked for an answer: the end is the only one.
  m.vm.ask(Request::set_vring_num, "abc", 3);
  CHECK(m.ended("3 bytes"));
}

TEST(vhost_user_refuses_features_that_were_not_offered) {
  Machine m;
  m.vm.negotiate();
  CHECK(!m.vm.tell_u64(Request::set_features, vhost::bit(34)));
  CHECK(m.refused("feature bit 34"));
  CHECK(!m.vm.tell_u64(Request::set_features, vhost::bit(0)));
  CHECK(m.refused("feature bit 0"));
  CHECK(!m.vm.tell_u64(Request::set_protocol_features, vhost::bit(18)));
  // QEMU acknowledges this one of its own accord.
  CHECK(m.vm.tell_u64(Request::set_features, vhost::feature_version_1 | vhost::feature_ring_reset));
}

TEST(vhost_user_refuses_migration) {
  Machine m;
  m.vm.negotiate();
  CHECK((m.vm.ask_u64(Request::get_features) & vhost::feature_log_all) == 0);
  CHECK(!m.vm.tell_u64(Request::set_features, vhost::feature_log_all));
  CHECK(!m.vm.tell_u64(Request::set_log_base, 0));
  CHECK(m.refused("cannot be migrated"));
  CHECK(!m.vm.tell_u64(Request::set_log_fd, 0));
  const vhost::VringAddress address{0, 1, 0, 0, 0, 0};
  CHECK(!m.vm.tell(Request::set_vring_addr, &address, sizeof address));
  CHECK(m.refused("cannot be migrated"));
}

TEST(vhost_user_refuses_memory_that_is_not_safe) {
  Machine m;
  m.vm.negotiate();
  const FakeMemory unsealed(0);
  CHECK(!m.vm.share(unsealed));
  CHECK(m.refused("F_SEAL_SHRINK"));
  vhost::MemoryTable table{};
  table.count = 1;
  table.regions[0] = {FakeMemory::guest_base, FakeMemory::size, FakeMemory::user_base, 0};
  const size_t size = 8 + sizeof(vhost::MemoryRegion);
  const base::UniqueFd null(open("/dev/null", O_RDWR));
  CHECK(!m.vm.tell(Request::set_mem_table, &table, size, {null.get()}));
  CHECK(m.refused("is no memfd"));
  CHECK(!m.vm.tell(Request::set_mem_table, &table, size));
  CHECK(m.refused("with 0 descriptors"));
  CHECK(!m.vm.tell(Request::set_mem_table, &table, size, {m.vm.memory.fd.get(), m.vm.memory.fd.get()}));
  table.count = 9;
  CHECK(!m.vm.tell(Request::set_mem_table, &table, size, {m.vm.memory.fd.get()}));
  CHECK(m.refused("9 regions"));
  table.count = 2; // but one is there
  CHECK(!m.vm.tell(Request::set_mem_table, &table, size, {m.vm.memory.fd.get(), m.vm.memory.fd.get()}));
  CHECK(!m.vm.tell(Request::set_mem_table, &table, 4, {m.vm.memory.fd.get()}));
  CHECK(m.vm.vhost->memory() == nullptr);
  CHECK(m.vm.share(m.vm.memory));
}

TEST(vhost_user_refuses_descriptors_that_are_no_eventfds) {
  Machine m;
  m.vm.negotiate();
  CHECK(m.vm.share(m.vm.memory));
  const base::UniqueFd null(open("/dev/null", O_RDWR));
  for (const Request request : {Request::set_vring_kick, Request::set_vring_call, Request::set_vring_err}) {
    CHECK(!m.vm.tell_u64(request, 0, {null.get()}));
    CHECK(m.refused("no eventfd"));
    CHECK(!m.vm.tell_u64(request, 0));
    CHECK(!m.vm.tell_u64(request, 7, {m.vm.kicks[0].get()}));
    CHECK(m.refused("ring 7"));
  }
  CHECK(!m.vm.tell_u64(Request::set_vring_kick, vhost::vring_no_fd));
  CHECK(m.refused("polled"));
  CHECK(!m.vm.tell_u64(Request::set_vring_kick, 0, {m.vm.kicks[0].get()}));
  CHECK(m.refused("before size and addresses"));
  CHECK(m.vm.tell_u64(Request::set_vring_call, vhost::vring_no_fd));
}

TEST(vhost_user_refuses_rings_outside_of_the_memory_and_changes_of_running_ones) {
  Machine m;
  m.vm.negotiate();
  CHECK(m.vm.share(m.vm.memory));
  CHECK(m.vm.tell_state(Request::set_vring_num, 0, 64));
  const vhost::VringAddress address{0, 0, FakeMemory::user_base + FakeMemory::size, 0, 0, 0};
  CHECK(m.vm.tell(Request::set_vring_addr, &address, sizeof address));
  CHECK(!m.vm.tell_u64(Request::set_vring_kick, 0, {m.vm.kicks[0].get()}));
  CHECK(m.refused("EFAULT"));
  m.vm.start_ring(0);
  CHECK(!m.vm.tell_state(Request::set_vring_num, 0, 8));
  CHECK(m.refused("is started"));
  CHECK(!m.vm.tell(Request::set_vring_addr, &address, sizeof address));
  CHECK(!m.vm.tell_u64(Request::set_vring_kick, 0, {m.vm.kicks[0].get()}));
  CHECK(!m.vm.tell_u64(Request::set_features, vhost::feature_event_idx));
  CHECK(m.refused("while a ring is started"));
  CHECK_EQ(m.vm.stop_ring(0), 0u);
}

TEST(vhost_user_reads_and_writes_the_configuration) {
  Machine m;
  m.vm.negotiate();
  struct {
    vhost::ConfigHeader header;
    uint8_t bytes[4];
  } config{{4, 4, 0}, {}};
  const auto reply = m.vm.ask(Request::get_config, &config, sizeof config);
  REQUIRE(reply.size() == sizeof config);
  CHECK_EQ(reply[12], 4);
  CHECK_EQ(reply[15], 7);
  CHECK(m.vm.tell(Request::set_config, &config, sizeof config));
  config.header.offset = 100;
  CHECK(m.vm.ask(Request::get_config, &config, sizeof config).empty());
  config.header = {0, 5, 0};
  CHECK(!m.vm.tell(Request::set_config, &config, sizeof config));
  CHECK(m.refused("sizes"));
}

TEST(vhost_user_tells_that_the_configuration_changed_by_a_channel_of_its_own) {
  Machine m;
  m.vm.negotiate();
  CHECK(!m.vm.vhost->config_changed()); // the front end has given none
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  const base::UniqueFd ours(pair[0]);
  base::UniqueFd theirs(pair[1]);
  CHECK(!m.vm.tell_u64(Request::set_backend_req_fd, 0));
  CHECK(m.vm.tell_u64(Request::set_backend_req_fd, 0, {theirs.get()}));
  theirs.reset();
  const auto told = [&] {
    vhost::Header header{};
    if (recv(ours.get(), &header, sizeof header, MSG_DONTWAIT) != sizeof header) return false;
    char more;
    return header.request == vhost::backend_config_change && header.flags == vhost::version &&
           header.size == 0 && recv(ours.get(), &more, 1, MSG_DONTWAIT) == -1;
  };
  CHECK(m.vm.vhost->config_changed());
  CHECK(told());
  REQUIRE(m.vm.die_and_go_on()); // the next process has the channel, too
  CHECK(m.vm.vhost->config_changed());
  CHECK(told());
  // A front end that does not read is not waited for, one that has closed it does no harm.
  int sent = 0;
  while (sent < 1'000'000 && m.vm.vhost->config_changed())
    ++sent;
  CHECK(sent > 0 && sent < 1'000'000);
  CHECK_EQ(shutdown(ours.get(), SHUT_RDWR), 0);
  CHECK(!m.vm.vhost->config_changed());
  CHECK(m.vm.vhost->state() == VhostUser::State::open);
}

TEST(vhost_user_ends_a_flood_of_descriptors) {
  Machine m;
  const std::vector<int> many(12, m.vm.kicks[0].get());
  m.vm.ask(Request::set_owner, nullptr, 0, many);
  CHECK(m.ended("more descriptors"));
}

TEST(vhost_user_ends_when_answers_are_not_read) {
  Machine m;
  for (int i = 0; i < 20'000 && m.vm.vhost->state() == VhostUser::State::open; ++i) {
    const vhost::Header header{static_cast<uint32_t>(Request::get_features), vhost::version, 0};
    if (send(m.vm.front.get(), &header, sizeof header, MSG_DONTWAIT) < 0) break;
    m.vm.vhost->receive();
  }
  CHECK(m.ended("does not read"));
}

TEST(vhost_user_lets_go_of_everything_at_a_reset) {
  Machine m;
  m.vm.boot();
  CHECK(m.vm.tell(Request::reset_device, nullptr, 0));
  CHECK(m.vm.vhost->memory() == nullptr);
  m.rig.call([&m](flip::Engine&) {
    CHECK(m.vm.gpu->rings().memory() == nullptr);
    CHECK(!m.vm.gpu->rings().serves(0));
    return 0;
  });
}
