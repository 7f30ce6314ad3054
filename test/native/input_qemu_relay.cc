// The connection to QEMU's display that the daemon and the input thread share: both ways, cut at every byte,
// with descriptors, with an end that does not read, with one that breaks the rules, and with one that closes.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "allocations.h"
#include "input/bus_units.h"
#include "input_qemu_rig.h"
#include "qemu_fake.h"

using namespace scanout;
using input::QemuRelay;
using test::Bytes;
using test::bytes_of;
using test::call_of;
using test::RelayRig;
using test::say;
using test::TestUser;

namespace {

base::UniqueFd event() {
  return base::UniqueFd(eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK));
}

/// It is the one with a count of 7.
bool is_event(const base::UniqueFd& fd) {
  eventfd_t count = 0;
  return eventfd_read(fd.get(), &count) == 0 && count == 7;
}

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

std::string members(const std::vector<test::Called>& calls) {
  std::string all;
  for (const test::Called& call : calls)
    all += (all.empty() ? "" : " ") + call.member;
  return all;
}

/// Puts calls until QEMU's socket is full. Gives how many there were.
int fill(QemuRelay& relay) {
  int count = 0;
  const Bytes call = call_of("Fill");
  for (bool sent = true; sent; ++count) {
    REQUIRE(relay.idle());
    relay.put(call);
    sent = relay.send();
  }
  return count;
}

} // namespace

TEST(relay_hands_on_what_is_said_cut_at_every_byte) {
  const Bytes up = test::client_greeting() + call_of("Get", 20);
  const Bytes down = bytes_of("DATA\r\nOK 00\r\nAGREE_UNIX_FD\r\n") + call_of("Changed", 9) + call_of("More");
  for (size_t cut = 1; cut < std::max(up.size(), down.size()); ++cut) {
    RelayRig rig;
    const auto part = [&](const Bytes& all, bool first) {
      const auto at = all.begin() + static_cast<long>(std::min(cut, all.size()));
      return first ? Bytes(all.begin(), at) : Bytes(at, all.end());
    };
    for (const bool first : {true, false}) {
      if (!part(up, first).empty()) CHECK(say(rig.daemon.get(), part(up, first)));
      rig.spin();
    }
    for (const bool first : {true, false}) {
      if (!part(down, first).empty()) CHECK(say(rig.qemu.get(), part(down, first)));
      rig.spin();
    }
    rig.at_qemu.read(rig.qemu.get());
    rig.at_daemon.read(rig.daemon.get());
    CHECK(rig.at_qemu.bytes == up);
    CHECK(rig.at_daemon.bytes == down);
  }
}

TEST(relay_puts_calls_between_messages_only) {
  const Bytes message = call_of("Get", 20), own = call_of("Press");
  for (size_t cut = 1; cut < message.size(); ++cut) {
    RelayRig rig;
    CHECK(!rig.relay->idle());
    rig.greet();
    REQUIRE(rig.relay->idle());
    CHECK(say(rig.daemon.get(), Bytes(message.begin(), message.begin() + static_cast<long>(cut))));
    rig.spin();
    // The daemon may take its time over the rest.
    REQUIRE(rig.relay->idle());
    rig.relay->put(own);
    CHECK(rig.relay->send());
    CHECK_EQ(members(rig.called()), "Press");
    CHECK(say(rig.daemon.get(), Bytes(message.begin() + static_cast<long>(cut), message.end())));
    rig.spin();
    rig.relay->put(own);
    rig.relay->put(own);
    CHECK(rig.relay->send());
    CHECK_EQ(members(rig.called()), "Get Press Press");
  }
}

TEST(relay_numbers_calls_out_of_the_way_of_sd_bus) {
  RelayRig rig;
  for (int i = 0; i < 1000; ++i)
    CHECK(rig.relay->next_serial() >= 1u << 31);
  CHECK(rig.relay->next_serial() != rig.relay->next_serial());
}

TEST(relay_keeps_descriptors_with_their_messages) {
  RelayRig rig;
  rig.greet();
  const base::UniqueFd given = event();
  const Bytes plain = call_of("Plain", 5), with = call_of("With", 7, 1);
  // Both are there before the relay looks, which the kernel would give in one go.
  for (const bool up : {true, false}) {
    const int from = up ? rig.daemon.get() : rig.qemu.get();
    test::Heard& heard = up ? rig.at_qemu : rig.at_daemon;
    CHECK(say(from, plain));
    CHECK(say(from, with, {given.get()}));
    CHECK(say(from, plain));
    rig.spin();
    heard.read(up ? rig.qemu.get() : rig.daemon.get(), plain.size());
    CHECK_EQ(heard.fds.size(), 0u);
    heard.read(up ? rig.qemu.get() : rig.daemon.get());
    CHECK(heard.bytes == plain + with + plain);
    REQUIRE(heard.fds.size() == 1);
    CHECK(heard.fds[0].first >= plain.size() && heard.fds[0].first < plain.size() + with.size());
    CHECK(is_event(heard.fds[0].second));
    CHECK_EQ(eventfd_write(given.get(), 7), 0);
  }
}

TEST(relay_keeps_no_descriptor_open) {
  int pipe_ends[2];
  REQUIRE(pipe2(pipe_ends, O_CLOEXEC) == 0);
  base::UniqueFd reader(pipe_ends[0]), writer(pipe_ends[1]);
  RelayRig rig;
  rig.greet();
  CHECK(say(rig.qemu.get(), call_of("With", 7, 1), {writer.get()}));
  writer.reset();
  rig.spin();
  rig.at_daemon.read(rig.daemon.get());
  REQUIRE(rig.at_daemon.fds.size() == 1);
  pollfd end{.fd = reader.get(), .events = 0, .revents = 0};
  CHECK_EQ(poll(&end, 1, 100), 0);
  rig.at_daemon.fds.clear();
  CHECK_EQ(poll(&end, 1, 5000), 1); // nobody else has it
}

TEST(relay_waits_for_a_qemu_that_does_not_read) {
  RelayRig rig;
  rig.greet();
  TestUser first, second;
  CHECK_EQ(rig.relay->join(first), 0);
  CHECK_EQ(rig.relay->join(second), 0);
  const int count = fill(*rig.relay);
  CHECK(!rig.relay->idle());
  // Of the daemon's messages it takes one; the others wait in the daemon's socket, and then the daemon.
  int said = 0;
  for (const Bytes message = call_of("Get", 30'000); say(rig.daemon.get(), message);) {
    ++said;
    rig.spin();
  }
  CHECK(said > 2);
  CHECK_EQ(first.rooms, 0);
  test::Heard& heard = rig.at_qemu;
  for (int rounds = 0; rounds < 10000 && !rig.relay->idle(); ++rounds) {
    heard.read(rig.qemu.get(), 8192);
    rig.spin();
  }
  CHECK(first.rooms > 0);
  CHECK(second.rooms > 0);
  const std::vector<test::Called> all = rig.called();
  REQUIRE(all.size() >= static_cast<size_t>(count + said));
  CHECK_EQ(all.back().member, "Get"); // what was called first goes first
  CHECK_EQ(all[static_cast<size_t>(count) - 1].member, "Fill");
  CHECK_EQ(all[static_cast<size_t>(count)].member, "Get");
  rig.relay->part(first);
  rig.relay->part(second);
}

TEST(relay_keeps_calling_for_a_daemon_that_does_not_read) {
  RelayRig rig;
  rig.greet();
  const Bytes signal = call_of("Changed", 10'000);
  size_t said = 0;
  Bytes left;
  for (int rounds = 0; rounds < 1000; ++rounds) {
    if (left.empty()) left = signal;
    const ssize_t size = send(rig.qemu.get(), left.data(), left.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    rig.spin();
    if (size < 0) break;
    said += static_cast<size_t>(size);
    left.erase(left.begin(), left.begin() + size);
  }
  CHECK(said < 4u << 20); // QEMU has to wait
  rig.relay->put(call_of("Press"));
  CHECK(rig.relay->send());
  CHECK_EQ(members(rig.called()), "Press");
  for (size_t before = SIZE_MAX; before != rig.at_daemon.bytes.size();) {
    before = rig.at_daemon.bytes.size();
    rig.at_daemon.read(rig.daemon.get());
    rig.spin();
  }
  CHECK_EQ(rig.at_daemon.bytes.size(), said);
  for (size_t i = 0; i < said; ++i)
    if (rig.at_daemon.bytes[i] != signal[i % signal.size()]) REQUIRE(!"other bytes");
}

TEST(relay_ends_with_a_qemu_that_breaks_the_rules) {
  const auto ends_with = [](const Bytes& said, bool greeted, std::vector<int> fds = {}) {
    RelayRig rig;
    TestUser user;
    if (greeted) rig.greet();
    CHECK_EQ(rig.relay->join(user), 0);
    if (fds.size() == 17) {
      iovec part{.iov_base = const_cast<uint8_t*>(said.data()), .iov_len = said.size()};
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 17)] = {};
      msghdr header{
          .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      *c = {.cmsg_len = CMSG_LEN(sizeof(int) * 17), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
      std::copy(fds.begin(), fds.end(), reinterpret_cast<int*>(CMSG_DATA(c)));
      CHECK(sendmsg(rig.qemu.get(), &header, 0) > 0);
    } else {
      say(rig.qemu.get(), said);
    }
    for (int rounds = 0; rounds < 4; ++rounds) { // of lines it takes a byte at a time
      rig.spin();
      rig.at_daemon.read(rig.daemon.get());
    }
    rig.at_qemu.read(rig.qemu.get());
    CHECK_EQ(rig.at_daemon.ended, user.ends == 1);
    CHECK_EQ(rig.at_qemu.ended, user.ends == 1);
    CHECK(user.ends == 0 || user.why.starts_with("QEMU") || user.why.starts_with("what QEMU"));
    CHECK(user.ends == 0 || !rig.relay->idle());
    return user.ends == 0 ? -1 : user.error;
  };
  const Bytes good = call_of("Changed", 9);
  const auto changed = [&](size_t at, std::initializer_list<uint8_t> to) {
    Bytes bytes = good;
    std::copy(to.begin(), to.end(), bytes.begin() + static_cast<long>(at));
    return bytes;
  };
  CHECK_EQ(ends_with(good, true), -1);
  CHECK_EQ(ends_with(bytes_of("OK 00\r\n"), false), -1);
  CHECK_EQ(ends_with(good, false), EPROTO); // before it was greeted
  CHECK_EQ(ends_with(Bytes(600, 'x'), false), EPROTO);
  Bytes lines;
  for (int i = 0; i < 17; ++i)
    lines = lines + bytes_of("DATA\r\n");
  CHECK_EQ(ends_with(lines, false), EPROTO);
  CHECK_EQ(ends_with(changed(3, {9}), true), EBADMSG);                    // version
  CHECK_EQ(ends_with(changed(4, {0, 0, 0, 2}), true), EMSGSIZE);          // a body of 32 MiB
  CHECK_EQ(ends_with(changed(4, {255, 255, 255, 255}), true), EMSGSIZE);  // or of more than there is
  CHECK_EQ(ends_with(changed(12, {255, 255, 255, 255}), true), EMSGSIZE); // so with the fields
  CHECK_EQ(ends_with(changed(4, {0, 0, 0x40, 0}), true), EMSGSIZE);       // 4 MiB and the header
  std::vector<int> many(17, 0);
  const base::UniqueFd one = event();
  std::ranges::fill(many, one.get());
  CHECK_EQ(ends_with(good, true, many), ETOOMANYREFS);
}

TEST(relay_bounds_the_daemons_messages) {
  RelayRig rig;
  TestUser user;
  rig.greet();
  CHECK_EQ(rig.relay->join(user), 0);
  const Bytes longest = call_of("Get", QemuRelay::longest_up - 512);
  CHECK(say(rig.daemon.get(), longest));
  rig.spin();
  CHECK_EQ(members(rig.called()), "Get");
  CHECK(say(rig.daemon.get(), call_of("Get", QemuRelay::longest_up)));
  rig.spin();
  CHECK_EQ(user.error, EMSGSIZE);
  CHECK_EQ(user.ends, 1);
}

TEST(relay_closes_both_ends_when_one_closes) {
  for (const char which : {'q', 'd', 'l'}) {
    RelayRig rig;
    TestUser first, second, gone;
    rig.greet();
    for (TestUser* user : {&first, &second, &gone})
      CHECK_EQ(rig.relay->join(*user), 0);
    rig.relay->part(gone);
    if (which == 'q') {
      CHECK(say(rig.qemu.get(), call_of("Last", 9)));
      rig.qemu.reset();
    } else if (which == 'd') {
      CHECK(say(rig.daemon.get(), call_of("Last", 9)));
      rig.daemon.reset();
    } else {
      rig.relay->leave();
    }
    rig.spin();
    CHECK_EQ(first.ends, 1);
    CHECK_EQ(second.ends, 1);
    CHECK_EQ(gone.ends, 0);
    CHECK_EQ(first.error, 0);
    CHECK_EQ(first.why, which == 'q' ? "QEMU closed the connection" : "the connection to QEMU was closed");
    test::Heard& heard = which == 'q' ? rig.at_daemon : rig.at_qemu;
    heard.read(which == 'q' ? rig.daemon.get() : rig.qemu.get());
    CHECK(heard.ended);
    CHECK(which == 'l' || heard.bytes == call_of("Last", 9)); // what was said before is not lost
    CHECK(!rig.relay->idle());
    CHECK_EQ(rig.relay->join(gone), ENOTCONN);
    rig.relay->put(call_of("Press"));
    CHECK(!rig.relay->send());
    rig.relay->part(first);
  }
}

TEST(relay_allocates_nothing) {
  RelayRig rig;
  rig.greet();
  TestUser user;
  CHECK_EQ(rig.relay->join(user), 0);
  const Bytes message = call_of("Get", 20), own = call_of("Press");
  for (int i = 0; i < 100; ++i) {
    CHECK(say(rig.daemon.get(), message));
    CHECK(say(rig.qemu.get(), message));
    const size_t before = test::allocations();
    rig.spin();
    rig.relay->put(own);
    rig.relay->send();
    CHECK_EQ(test::allocations(), before);
    rig.at_qemu.read(rig.qemu.get());
    rig.at_daemon.read(rig.daemon.get());
  }
  rig.relay->part(user);
}
