// The C client renews buffers: which descriptors it sends, keeps and closes.
#include <sys/stat.h>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

namespace {

off_t size_of(const Packet& packet) {
  struct stat status{};
  return packet.fds.size() == 1 && ::fstat(packet.fds[0].get(), &status) == 0 ? status.st_size : -1;
}

/// Renews buffer 0 with memory of that size, or none.
int renew(const Guest& guest, size_t size, uint32_t* serial = nullptr) {
  if (size == 0) return scanoutd_client_renew_buffer(guest, 0, nullptr, 0, serial);
  const base::UniqueFd memory = sealed_memfd(size);
  const int fd = memory.get();
  return scanoutd_client_renew_buffer(guest, 0, &fd, 1, serial);
}

bool meet_next(FakeDaemon& daemon, const Guest& guest) {
  return scanoutd_client_connect(guest, 0) == 0 && daemon.welcome() && guest.until(SCANOUTD_EVENT_CONNECTED);
}

/// Which memory the next daemon is given for buffer 0.
off_t given_next(FakeDaemon& daemon, const Guest& guest) {
  daemon.hang_up();
  if (!guest.until(SCANOUTD_EVENT_CLOSED) || !meet_next(daemon, guest)) return -1;
  const Packet packet = daemon.receive();
  if (packet.as<scanoutd_add_buffer>(SCANOUTD_ADD_BUFFER) == nullptr) return -1;
  daemon.done(packet.serial());
  CHECK_EQ(scanoutd_client_wait(guest, 1000), 0);
  return size_of(packet);
}

} // namespace

TEST(client_renews_a_buffer) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  const size_t before = open_fds();
  uint32_t serial = 0;
  CHECK_EQ(renew(guest, 8192, &serial), 0);
  CHECK_EQ(renew(guest, 0), -EBUSY);
  CHECK_EQ(scanoutd_client_remove_buffer(guest, 0, nullptr), -EBUSY);
  {
    const Packet packet = daemon.receive();
    const auto* asked = packet.as<scanoutd_renew_buffer>(SCANOUTD_RENEW_BUFFER);
    REQUIRE(asked != nullptr);
    CHECK_EQ(asked->buffer, 0u);
    CHECK_EQ(size_of(packet), 8192);
    CHECK_EQ(submit(guest, 0), 1u); // frames go on
    daemon.done(packet.serial());
  }
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), 0);
  CHECK_EQ(open_fds(), before);
  CHECK_EQ(renew(guest, 0, &serial), 0); // it has moved
  {
    const Packet packet = daemon.receive();
    REQUIRE(packet.as<scanoutd_renew_buffer>(SCANOUTD_RENEW_BUFFER) != nullptr);
    CHECK(packet.fds.empty());
    daemon.done(packet.serial());
  }
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), 0);
  CHECK_EQ(given_next(daemon, guest), 8192);
}

TEST(client_keeps_the_former_memory_when_a_renewal_is_refused) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  const size_t before = open_fds();
  uint32_t serial = 0;
  CHECK_EQ(renew(guest, 8192, &serial), 0);
  {
    const Packet packet = daemon.receive();
    daemon.refuse(packet.serial(), SCANOUTD_IMPORT_FAILED, "PRIME import: ENODEV");
  }
  const scanoutd_event event = guest.next();
  CHECK_EQ(event.type, SCANOUTD_EVENT_ERROR);
  CHECK_EQ(event.buffer, 0u);
  CHECK_EQ(event.request, static_cast<uint32_t>(SCANOUTD_RENEW_BUFFER));
  CHECK_EQ(open_fds(), before);
  CHECK_EQ(given_next(daemon, guest), 4096);
}

TEST(client_gives_the_next_daemon_the_memory_of_an_open_renewal) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(renew(guest, 8192), 0);
  CHECK_EQ(given_next(daemon, guest), 8192);
  daemon.hang_up();
  CHECK(guest.until(SCANOUTD_EVENT_CLOSED));
  CHECK_EQ(renew(guest, 12288), 0); // nobody is to be asked
  REQUIRE(meet_next(daemon, guest));
  CHECK_EQ(size_of(daemon.receive()), 12288);
}

TEST(client_renews_nothing_that_cannot_be) {
  FakeDaemon daemon;
  daemon.version_minor = 1;
  const Guest guest(daemon.path());
  CHECK_EQ(renew(guest, 4096), -ENOENT);
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(renew(guest, 4096), -EOPNOTSUPP);
  const int fds[2] = {0, 1};
  CHECK_EQ(scanoutd_client_renew_buffer(guest, 0, fds, 2, nullptr), -EINVAL);
  CHECK_EQ(scanoutd_client_renew_buffer(guest, 64, nullptr, 0, nullptr), -ENOENT);
}

} // namespace scanout::test
