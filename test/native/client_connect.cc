// The life of a connection: hello, welcome, refusals, death and return.
#include <poll.h>
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

size_t open_fds() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count++;
  return count;
}

static std::string link_of(int fd) {
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)).string();
}

TEST(client_refuses_bad_options) {
  scanoutd_client* client = nullptr;
  const scanoutd_client_options nameless{}, empty{.name = ""}, slash{.name = "a/b"};
  const std::string long_name(64, 'a');
  const scanoutd_client_options too_long{.name = long_name.c_str()}, planes{.name = "a", .plane_count = 5};
  const size_t before = open_fds();
  CHECK_EQ(scanoutd_client_create(nullptr, &nameless, &client), -EINVAL);
  CHECK_EQ(scanoutd_client_create(nullptr, &empty, &client), -EINVAL);
  CHECK_EQ(scanoutd_client_create(nullptr, &slash, &client), -EINVAL);
  CHECK_EQ(scanoutd_client_create(nullptr, &too_long, &client), -ENAMETOOLONG);
  CHECK_EQ(scanoutd_client_create(nullptr, &planes, &client), -EINVAL);
  const scanoutd_client_options good{.name = "a"};
  CHECK_EQ(scanoutd_client_create(std::string(200, 'x').c_str(), &good, &client), -ENAMETOOLONG);
  CHECK_EQ(open_fds(), before);
}

TEST(client_says_hello_with_its_two_eventfds) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(
      daemon.path(),
      {.name = "kiosk.1", .plane_count = 2, .plane_kinds = {SCANOUTD_PLANE_PRIMARY, SCANOUTD_PLANE_CURSOR}});
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  CHECK_EQ(scanoutd_client_connect(guest, 0), -EISCONN);
  daemon.accept();
  REQUIRE(daemon.hello());
  CHECK_EQ(std::string(daemon.greeting.name), "kiosk.1");
  CHECK_EQ(daemon.greeting.version_major, SCANOUTD_VERSION_MAJOR);
  CHECK_EQ(daemon.greeting.plane_count, 2u);
  CHECK_EQ(daemon.greeting.plane_kinds[1], static_cast<uint32_t>(SCANOUTD_PLANE_CURSOR));
  CHECK_EQ(daemon.greeting.plane_kinds[2], 0u);
  CHECK_EQ(link_of(daemon.kick.get()), "anon_inode:[eventfd]");
  CHECK_EQ(link_of(daemon.release_signal.get()), "anon_inode:[eventfd]");
  CHECK((::fcntl(daemon.kick.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK(!scanoutd_client_connected(guest));
  CHECK(daemon.answer_hello());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  CHECK(scanoutd_client_connected(guest));
}

TEST(client_without_daemon_says_so) {
  const FakeDaemon daemon;
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_connect(guest, 0), -ENOENT);
  CHECK_EQ(scanoutd_client_connect(guest, 30), -ENOENT);
  CHECK_EQ(scanoutd_client_fd(guest), -1);
  scanoutd_event event{};
  CHECK_EQ(scanoutd_client_dispatch(guest, &event), 0);
}

TEST(client_waits_for_the_daemon_to_start) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  std::thread starts([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    daemon.listen();
    daemon.welcome();
  });
  CHECK_EQ(scanoutd_client_connect(guest, 5000), 0);
  starts.join();
  CHECK(guest.until(SCANOUTD_EVENT_CONNECTED));
}

TEST(client_gives_up_on_a_silent_daemon) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_connect(guest, 40), -ETIMEDOUT);
  CHECK_EQ(scanoutd_client_fd(guest), -1);
}

TEST(client_tries_again_when_the_daemon_dies_before_its_welcome) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  std::thread dies_once([&] {
    daemon.accept();
    daemon.hang_up();
    daemon.welcome();
  });
  CHECK_EQ(scanoutd_client_connect(guest, 5000), 0);
  dies_once.join();
}

TEST(client_tells_why_it_was_refused) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  std::thread refuses([&] {
    daemon.accept();
    daemon.hello();
    daemon.refuse(daemon.greeting.header.serial, SCANOUTD_BAD_NAME, "no guest is called test", true);
    daemon.hang_up();
  });
  CHECK_EQ(scanoutd_client_connect(guest, 5000), -EREMOTEIO);
  refuses.join();
  CHECK_EQ(scanoutd_client_error(guest)->code, static_cast<uint32_t>(SCANOUTD_BAD_NAME));
  CHECK_EQ(std::string(scanoutd_client_error(guest)->text), "no guest is called test");
  CHECK(!scanoutd_client_connected(guest));
}

/// Sends a welcome that `spoil` has changed; the reason for which the client closes, 1 when it does not.
template <typename Spoil> static int reason_of_bad_welcome(Spoil&& spoil) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  daemon.accept();
  CHECK(daemon.hello());
  auto welcome = message<scanoutd_welcome>(SCANOUTD_WELCOME, daemon.greeting.header.serial);
  welcome.version_major = SCANOUTD_VERSION_MAJOR;
  welcome.version_minor = SCANOUTD_VERSION_MINOR;
  welcome.page_size = SCANOUTD_FLIP_PAGE_SIZE;
  std::vector<int> fds{daemon.page_fd.get()};
  spoil(daemon, welcome, fds);
  CHECK(daemon.send(welcome, fds));
  const scanoutd_event event = guest.next();
  return event.type == SCANOUTD_EVENT_CLOSED ? event.reason : 1;
}

TEST(client_tries_again_when_the_daemon_is_full) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  std::thread full_once([&] {
    daemon.accept();
    daemon.hello();
    daemon.refuse(daemon.greeting.header.serial, SCANOUTD_BUSY, "at most 1 guest is admitted", true);
    daemon.hang_up();
    daemon.welcome();
  });
  CHECK_EQ(scanoutd_client_connect(guest, 5000), 0);
  full_once.join();
}

/// A memfd that is a flip page but for its size or seals.
static base::UniqueFd page_file(size_t size, int seals) {
  base::UniqueFd memfd = sealed_memfd(size, seals);
  const uint32_t head[4] = {SCANOUTD_FLIP_PAGE_MAGIC, SCANOUTD_VERSION_MAJOR, SCANOUTD_VERSION_MINOR, 1};
  CHECK_EQ(::pwrite(memfd.get(), head, sizeof head, 0), static_cast<ssize_t>(sizeof head));
  return memfd;
}

TEST(client_checks_every_part_of_the_welcome) {
  using Fds = std::vector<int>&;
  const base::UniqueFd unsealed = page_file(4096, 0), short_file = page_file(4095, F_SEAL_SHRINK);
  const base::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const auto bad = [](auto&& spoil) { CHECK_EQ(reason_of_bad_welcome(spoil), -EPROTO); };
  const base::UniqueFd good = page_file(4096, F_SEAL_SHRINK);
  CHECK_EQ(reason_of_bad_welcome([&](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds = {good.get()}; }), 1);
  const size_t before = open_fds();
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.header.serial++; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.header.size--; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.header.reserved = 1; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.version_major++; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.version_minor++; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.page_size = 8192; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.reserved = 1; });
  bad([](FakeDaemon&, scanoutd_welcome& w, Fds) { w.capabilities = SCANOUTD_CAP_FENCE; });
  bad([](FakeDaemon& d, scanoutd_welcome&, Fds) { d.page->magic++; });
  bad([](FakeDaemon& d, scanoutd_welcome&, Fds) { d.page->plane_count++; });
  bad([](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds.clear(); });
  bad([](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds.push_back(fds[0]); });
  bad([](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds.resize(6, fds[0]); });
  bad([&](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds = {null.get()}; });
  bad([&](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds = {unsealed.get()}; });
  bad([&](FakeDaemon&, scanoutd_welcome&, Fds fds) { fds = {short_file.get()}; });
  CHECK_EQ(open_fds(), before);
}

TEST(client_takes_messages_only_after_the_welcome) {
  FakeDaemon daemon;
  daemon.listen();
  const Guest guest(daemon.path());
  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  daemon.accept();
  REQUIRE(daemon.hello());
  daemon.send(message<scanoutd_configure>(SCANOUTD_CONFIGURE));
  CHECK_EQ(guest.next().reason, -EPROTO);
}

TEST(client_keeps_the_newest_state) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 0));
  CHECK(scanoutd_client_configuration(guest) == nullptr);
  auto configure = message<scanoutd_configure>(SCANOUTD_CONFIGURE);
  configure.width = 800;
  daemon.send(configure);
  configure.width = 1024;
  configure.lit = 1;
  daemon.send(configure);
  auto state = message<scanoutd_state>(SCANOUTD_STATE);
  state.state = SCANOUTD_STATE_COPIED;
  state.errnum = EINVAL;
  std::strcpy(state.text, "TEST_ONLY refused the format");
  daemon.send(state);
  auto formats = message<scanoutd_formats>(SCANOUTD_FORMATS);
  formats.count = 2;
  formats.formats[1].fourcc = 7;
  formats.header.size = offsetof(scanoutd_formats, formats) + 2 * sizeof(scanoutd_format);
  daemon.send_raw(&formats, formats.header.size);
  CHECK_EQ(scanoutd_client_wait(guest, 1000), 0);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONFIGURE);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_FORMATS);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_STATE);
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_NONE);
  REQUIRE(scanoutd_client_configuration(guest) != nullptr && scanoutd_client_formats(guest, 0) != nullptr);
  CHECK_EQ(scanoutd_client_configuration(guest)->width, 1024u);
  CHECK_EQ(scanoutd_client_formats(guest, 0)->formats[1].fourcc, 7u);
  CHECK_EQ(std::string(scanoutd_client_state(guest, 0)->text), "TEST_ONLY refused the format");
  CHECK(scanoutd_client_formats(guest, 1) == nullptr);
  CHECK(scanoutd_client_state(guest, 99) == nullptr);
}

TEST(client_says_bye) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(scanoutd_client_bye(guest, 0), 0);
  CHECK_EQ(scanoutd_client_bye(guest, 0), -EALREADY);
  CHECK_EQ(daemon.serve(), static_cast<uint32_t>(SCANOUTD_BYE));
  daemon.hang_up();
  const scanoutd_event done = guest.next();
  CHECK_EQ(done.type, SCANOUTD_EVENT_DONE);
  CHECK_EQ(done.request, static_cast<uint32_t>(SCANOUTD_BYE));
  const scanoutd_event closed = guest.next();
  CHECK_EQ(closed.type, SCANOUTD_EVENT_CLOSED);
  CHECK_EQ(closed.reason, 0);
  CHECK_EQ(scanoutd_client_bye(guest, 0), -ENOTCONN);
}

TEST(client_reads_the_last_words_of_a_dying_daemon) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 1));
  CHECK_EQ(scanoutd_client_remove_buffer(guest, 0, nullptr),
           0); // stays unread, which makes a reset of the close
  daemon.refuse(0, SCANOUTD_NOT_ALLOWED, "policy changed", true);
  daemon.hang_up();
  const scanoutd_event error = guest.next();
  REQUIRE(error.type == SCANOUTD_EVENT_ERROR);
  CHECK_EQ(std::string(error.error->text), "policy changed");
  CHECK_EQ(guest.next().reason, -EREMOTEIO);
}

TEST(client_registers_everything_again_with_the_next_daemon) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  const size_t before = open_fds();
  REQUIRE(join(daemon, guest, 2));
  uint32_t serial = 0;
  CHECK_EQ(scanoutd_client_set_present(guest, 0, SCANOUTD_PRESENT_FIFO, &serial), 0);
  CHECK_EQ(daemon.serve(), static_cast<uint32_t>(SCANOUTD_SET_PRESENT));
  CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), 0);
  CHECK_EQ(submit(guest, 0), 1u);
  CHECK(!scanoutd_client_buffer_free(guest, 0));
  const int release_fd = scanoutd_client_release_fd(guest);
  daemon.hang_up();
  CHECK(guest.until(SCANOUTD_EVENT_CLOSED));
  CHECK_EQ(submit(guest, 1), 0u);
  CHECK(!scanoutd_client_buffer_free(guest, 1));
  CHECK_EQ(scanoutd_client_acquire(guest, 3, 0), -ENOTCONN);

  CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
  REQUIRE(daemon.welcome());
  CHECK_EQ(guest.next().type, SCANOUTD_EVENT_CONNECTED);
  for (uint32_t id = 0; id < 2; id++) {
    const Packet packet = daemon.receive();
    const auto* add = packet.as<scanoutd_add_buffer>(SCANOUTD_ADD_BUFFER);
    REQUIRE(add != nullptr && packet.fds.size() == 1);
    CHECK_EQ(add->buffer, id);
    CHECK_EQ(add->strides[0], 256u);
    struct stat status{};
    CHECK(::fstat(packet.fds[0].get(), &status) == 0 && status.st_size == 4096);
    daemon.done(packet.serial());
  }
  CHECK_EQ(daemon.serve(), static_cast<uint32_t>(SCANOUTD_SET_PRESENT));
  CHECK(guest.until(SCANOUTD_EVENT_DONE));
  CHECK_EQ(scanoutd_client_release_fd(guest), release_fd);
  CHECK_EQ(scanoutd_client_acquire(guest, 3, 1000),
           1); // buffer 0 was the newest: the display may still show it
  CHECK_EQ(submit(guest, 1), 2u);
  daemon.hang_up();
  scanoutd_client_disconnect(guest);
  daemon.kick.reset();
  daemon.release_signal.reset();
  daemon.page_fd.reset();
  CHECK_EQ(open_fds(), before + 3); // the listening socket and the two kept buffers
}

TEST(client_tells_which_buffer_the_next_daemon_refuses) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  const scanoutd_layout layout = small_layout();
  const base::UniqueFd memory = sealed_memfd(4096);
  const int fd = memory.get();
  uint32_t serial = 1;
  CHECK_EQ(scanoutd_client_add_buffer(guest, 9, &layout, &fd, 1, &serial), 0);
  CHECK_EQ(serial, 0u);
  REQUIRE(join(daemon, guest, 0));
  const Packet packet = daemon.receive();
  REQUIRE(packet.as<scanoutd_add_buffer>(SCANOUTD_ADD_BUFFER) != nullptr);
  daemon.refuse(packet.serial(), SCANOUTD_IMPORT_FAILED, "PRIME import: ENODEV");
  const scanoutd_event event = guest.next();
  CHECK_EQ(event.type, SCANOUTD_EVENT_ERROR);
  CHECK_EQ(event.buffer, 9u);
  CHECK_EQ(event.request, static_cast<uint32_t>(SCANOUTD_ADD_BUFFER));
  CHECK_EQ(scanoutd_client_acquire(guest, 1ull << 9, 0), -ENOENT);
  CHECK_EQ(scanoutd_client_add_buffer(guest, 9, &layout, &fd, 1, nullptr), 0);
}

TEST(client_refuses_answers_to_what_it_did_not_ask) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 0));
  daemon.done(4711);
  CHECK_EQ(guest.next().reason, -EPROTO);
}

} // namespace scanout::test
