// A device of VFIO that the C client offers: taken, refused, given up, and a daemon that comes later.
#include <sys/eventfd.h>

#include <thread>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

namespace {

/// What a daemon hears of an offer; any file will do for the device.
struct Offer {
  FakeDaemon daemon;
  base::UniqueFd device{eventfd(0, EFD_CLOEXEC)};
  scanoutd_error error{};

  [[nodiscard]] int make(int timeout_ms = 0, const char* name = "vgpu") {
    return scanoutd_offer_open(daemon.path().c_str(), name, device.get(), timeout_ms, &error);
  }
  /// Its serial, 0 when it is none.
  uint32_t heard() {
    daemon.accept();
    const Packet packet = daemon.receive();
    const auto* offer = packet.as<scanoutd_offer_device>(SCANOUTD_OFFER_DEVICE);
    if (offer == nullptr || packet.fds.size() != 1) return 0;
    CHECK_EQ(std::string(offer->name), "vgpu");
    CHECK_EQ(offer->version_major, SCANOUTD_VERSION_MAJOR);
    return offer->header.serial;
  }
};

} // namespace

TEST(client_offers_a_device_and_hears_why_it_is_given_up) {
  Offer o;
  o.daemon.listen();
  const base::UniqueFd connection(o.make());
  REQUIRE(connection.get() >= 0);
  CHECK_EQ(scanoutd_offer_news(connection.get(), &o.error), 0);
  const uint32_t serial = o.heard();
  REQUIRE(serial != 0);
  CHECK(o.daemon.done(serial));
  CHECK_EQ(scanoutd_offer_news(connection.get(), &o.error), 1);
  CHECK_EQ(scanoutd_offer_news(connection.get(), &o.error), 0);
  CHECK(o.daemon.refuse(0, SCANOUTD_BAD_FD, "the device was removed", true));
  o.daemon.hang_up();
  CHECK_EQ(scanoutd_offer_news(connection.get(), &o.error), -EREMOTEIO);
  CHECK_EQ(o.error.code, static_cast<uint32_t>(SCANOUTD_BAD_FD));
  CHECK_EQ(std::string(o.error.text), "the device was removed");
  CHECK_EQ(scanoutd_offer_news(connection.get(), &o.error), -ECONNRESET);
  CHECK(fcntl(o.device.get(), F_GETFD) >= 0); // it stays the caller's
}

TEST(client_offers_a_device_until_it_is_taken_or_refused) {
  Offer o;
  std::thread daemon([&] {
    o.daemon.listen();
    o.daemon.refuse(o.heard(), SCANOUTD_BUSY, "taken", true);
    o.heard();
    o.daemon.hang_up(); // the daemon restarts
    o.daemon.done(o.heard());
  });
  const base::UniqueFd connection(o.make(60'000));
  daemon.join();
  CHECK(connection.get() >= 0);
  std::thread other([&] { o.daemon.refuse(o.heard(), SCANOUTD_NOT_ALLOWED, "uid 7 may not", true); });
  CHECK_EQ(o.make(60'000), -EREMOTEIO);
  other.join();
  CHECK_EQ(o.error.code, static_cast<uint32_t>(SCANOUTD_NOT_ALLOWED));
}

TEST(client_offers_nothing_under_a_bad_name_or_to_nobody) {
  Offer o;
  const std::string long_name(64, 'a');
  CHECK_EQ(o.make(0, "a/b"), -EINVAL);
  CHECK_EQ(o.make(0, nullptr), -EINVAL);
  CHECK_EQ(o.make(0, long_name.c_str()), -ENAMETOOLONG);
  CHECK_EQ(o.make(), -ENOENT);
  CHECK_EQ(o.make(30), -ENOENT);
}

TEST(client_leaves_a_daemon_that_answers_an_offer_with_nonsense) {
  const auto answered = [](const auto& send) {
    Offer o;
    o.daemon.listen();
    const base::UniqueFd connection(o.make());
    REQUIRE(o.heard() != 0);
    send(o.daemon);
    CHECK_EQ(scanoutd_offer_news(connection.get(), &o.error), -EPROTO);
  };
  answered([](FakeDaemon& daemon) { daemon.send_raw("x", 1); });
  answered([](FakeDaemon& daemon) { daemon.send(message<scanoutd_configure>(SCANOUTD_CONFIGURE)); });
  answered([](FakeDaemon& daemon) { daemon.send(message<scanoutd_done>(SCANOUTD_ERROR)); });
  answered([](FakeDaemon& daemon) { daemon.refuse(1, SCANOUTD_OK, "no error"); });
  answered([](FakeDaemon& daemon) {
    const std::vector<uint8_t> large(8000, 1);
    daemon.send_raw(large.data(), large.size());
  });
}

} // namespace scanout::test
