// A lease that the C client takes: granted, noticed, taken back, given back, and a daemon that comes later.
#include <sys/eventfd.h>

#include <thread>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

namespace {

/// What a daemon hears of who wants a lease; any file will do for it.
struct Lease {
  FakeDaemon daemon;
  base::UniqueFd card{eventfd(0, EFD_CLOEXEC)};
  scanoutd_error error{};
  scanoutd_lease_notice notice{};
  int lease = -1;

  ~Lease() {
    if (lease >= 0) ::close(lease);
  }

  [[nodiscard]] int make(int timeout_ms = 0, const char* name = "player") {
    return scanoutd_lease_open(daemon.path().c_str(), name, timeout_ms, &lease, &error);
  }
  [[nodiscard]] int news(const base::UniqueFd& connection) {
    return scanoutd_lease_news(connection.get(), &lease, &notice, &error);
  }
  /// Its serial, 0 when it is none.
  uint32_t heard() {
    daemon.accept();
    const Packet packet = daemon.receive();
    const auto* take = packet.as<scanoutd_take_lease>(SCANOUTD_TAKE_LEASE);
    if (take == nullptr || !packet.fds.empty()) return 0;
    CHECK_EQ(std::string(take->name), "player");
    CHECK_EQ(take->version_major, SCANOUTD_VERSION_MAJOR);
    CHECK_EQ(take->version_minor, SCANOUTD_VERSION_MINOR);
    return take->header.serial;
  }
  bool grant(uint32_t serial, const char* name = "wall", int descriptors = 1) {
    auto message = test::message<scanoutd_lease>(SCANOUTD_LEASE, serial);
    std::strncpy(message.lease, name, sizeof message.lease - 1);
    return daemon.send(message, std::vector<int>(static_cast<size_t>(descriptors), card.get()));
  }
  bool warn(const char* text) {
    auto message = test::message<scanoutd_lease_notice>(SCANOUTD_LEASE_NOTICE);
    message.milliseconds = 1500;
    std::strncpy(message.text, text, sizeof message.text - 1);
    return daemon.send(message);
  }
};

} // namespace

TEST(client_takes_a_lease_and_hears_that_it_is_taken_back) {
  Lease l;
  l.daemon.listen();
  const base::UniqueFd connection(l.make());
  REQUIRE(connection.get() >= 0);
  CHECK_EQ(l.news(connection), 0);
  CHECK_EQ(l.lease, -1);
  const uint32_t serial = l.heard();
  REQUIRE(serial != 0);
  CHECK(l.grant(serial));
  CHECK_EQ(l.news(connection), static_cast<int>(SCANOUTD_LEASE_GRANTED));
  REQUIRE(l.lease >= 0);
  CHECK_EQ(::fcntl(l.lease, F_GETFD), FD_CLOEXEC);
  // It is the file that the daemon has sent.
  const uint64_t one = 1;
  CHECK_EQ(::write(l.lease, &one, sizeof one), static_cast<ssize_t>(sizeof one));
  uint64_t read = 0;
  CHECK_EQ(::read(l.card.get(), &read, sizeof read), static_cast<ssize_t>(sizeof read));
  CHECK_EQ(read, one);
  CHECK(l.warn("the room closes"));
  CHECK_EQ(l.news(connection), static_cast<int>(SCANOUTD_LEASE_NOTICED));
  CHECK_EQ(l.notice.milliseconds, 1500U);
  CHECK_EQ(std::string(l.notice.text), "the room closes");
  CHECK(l.daemon.refuse(0, SCANOUTD_LEASE_ENDED, "the room is closed", true));
  l.daemon.hang_up();
  CHECK_EQ(l.news(connection), -EREMOTEIO);
  CHECK_EQ(l.error.code, static_cast<uint32_t>(SCANOUTD_LEASE_ENDED));
  CHECK_EQ(std::string(l.error.text), "the room is closed");
  CHECK_EQ(l.news(connection), -ECONNRESET);
  CHECK_EQ(scanoutd_lease_bye(connection.get(), 1000), 0);
  CHECK(::fcntl(l.lease, F_GETFD) >= 0); // it is the caller's
}

TEST(client_gives_a_lease_back_whatever_is_on_its_way_meanwhile) {
  for (const bool granted : {true, false}) {
    Lease l;
    l.daemon.listen();
    const base::UniqueFd connection(l.make());
    const uint32_t serial = l.heard();
    CHECK(l.grant(serial));
    if (granted) {
      CHECK_EQ(l.news(connection), static_cast<int>(SCANOUTD_LEASE_GRANTED));
      CHECK(l.warn("soon"));
    }
    std::thread daemon([&] {
      const Packet packet = l.daemon.receive(60'000);
      CHECK(packet.as<scanoutd_bye>(SCANOUTD_BYE) != nullptr);
      l.daemon.done(packet.serial());
      l.daemon.hang_up();
    });
    CHECK_EQ(scanoutd_lease_bye(connection.get(), 60'000), 0);
    daemon.join();
    CHECK_EQ(l.lease >= 0, granted);
  }
}

TEST(client_waits_no_longer_for_an_answer_to_its_bye_than_it_is_told) {
  Lease l;
  l.daemon.listen();
  const base::UniqueFd connection(l.make());
  l.heard();
  CHECK_EQ(scanoutd_lease_bye(connection.get(), 0), 0);
  CHECK_EQ(scanoutd_lease_bye(connection.get(), 20), -ETIMEDOUT);
}

TEST(client_asks_for_a_lease_until_it_is_granted_or_refused) {
  Lease l;
  std::thread daemon([&] {
    l.daemon.listen();
    l.daemon.refuse(l.heard(), SCANOUTD_BUSY, "held by another", true);
    l.heard();
    l.daemon.hang_up(); // the daemon restarts
    l.grant(l.heard());
  });
  const base::UniqueFd connection(l.make(60'000));
  daemon.join();
  CHECK(connection.get() >= 0);
  REQUIRE(l.lease >= 0);
  ::close(l.lease);
  std::thread other([&] { l.daemon.refuse(l.heard(), SCANOUTD_NO_LEASE, "there is no output DP-9", true); });
  CHECK_EQ(l.make(60'000), -EREMOTEIO);
  other.join();
  CHECK_EQ(l.lease, -1);
  CHECK_EQ(l.error.code, static_cast<uint32_t>(SCANOUTD_NO_LEASE));
}

TEST(client_asks_for_no_lease_under_a_bad_name_or_of_nobody) {
  Lease l;
  const std::string long_name(64, 'a');
  CHECK_EQ(l.make(0, "a/b"), -EINVAL);
  CHECK_EQ(l.make(0, nullptr), -EINVAL);
  CHECK_EQ(l.make(0, long_name.c_str()), -ENAMETOOLONG);
  CHECK_EQ(l.make(), -ENOENT);
  CHECK_EQ(l.make(30), -ENOENT);
}

TEST(client_leaves_a_daemon_that_answers_with_nonsense_instead_of_a_lease) {
  const auto answered = [](const auto& send) {
    Lease l;
    l.daemon.listen();
    const base::UniqueFd connection(l.make());
    const uint32_t serial = l.heard();
    REQUIRE(serial != 0);
    send(l, serial);
    CHECK_EQ(l.news(connection), -EPROTO);
    CHECK_EQ(l.lease, -1);
  };
  answered([](Lease& l, uint32_t) { l.daemon.send_raw("x", 1); });
  answered([](Lease& l, uint32_t) { l.daemon.send(message<scanoutd_configure>(SCANOUTD_CONFIGURE)); });
  answered([](Lease& l, uint32_t) { l.daemon.send(message<scanoutd_done>(SCANOUTD_LEASE_NOTICE)); });
  answered([](Lease& l, uint32_t serial) { l.grant(serial, "wall", 0); });
  answered([](Lease& l, uint32_t serial) { l.grant(serial, "wall", 2); });
  answered([](Lease& l, uint32_t serial) { l.grant(serial, "a/b"); });
  answered([](Lease& l, uint32_t serial) { l.grant(serial, ""); });
  answered([](Lease& l, uint32_t) {
    l.daemon.send(message<scanoutd_done>(SCANOUTD_DONE, 1), {l.card.get()}); // no descriptor belongs there
  });
  answered([](Lease& l, uint32_t serial) {
    auto endless = message<scanoutd_lease>(SCANOUTD_LEASE, serial);
    std::memset(endless.lease, 'a', sizeof endless.lease);
    l.daemon.send(endless, {l.card.get()});
  });
  answered([](Lease& l, uint32_t serial) {
    auto notice = message<scanoutd_lease_notice>(SCANOUTD_LEASE_NOTICE, serial); // it is no answer
    l.daemon.send(notice);
  });
  answered([](Lease& l, uint32_t) {
    const std::vector<uint8_t> large(8000, 1);
    l.daemon.send_raw(large.data(), large.size());
  });
  // A second lease, and a notice of one that did not come yet.
  Lease l;
  std::thread daemon([&] {
    l.daemon.listen();
    l.heard();
    l.warn("of what?");
  });
  CHECK_EQ(l.make(60'000), -EPROTO);
  daemon.join();
  std::thread again([&] {
    const uint32_t serial = l.heard();
    l.grant(serial);
    l.grant(serial);
  });
  const base::UniqueFd connection(l.make(60'000));
  again.join();
  CHECK_EQ(l.news(connection), -EPROTO);
}

} // namespace scanout::test
