// The socket for Wayland, by bytes: what libwayland-client would never send, in bounds and out of them.
#include "wayland/server.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "check.h"

using namespace scanout;
using namespace scanout::wayland;

namespace {

size_t open_fds() {
  DIR* directory = opendir("/proc/self/fd");
  size_t count = 0;
  while (readdir(directory) != nullptr)
    ++count;
  closedir(directory);
  return count;
}

/// A server that offers two connectors to everybody and grants every other lease.
struct Rig {
  Rig() : server(path, {.type = SOCK_STREAM, .group = {}}), memory(memfd_create("card", MFD_CLOEXEC)) {
    device = server.add_device();
  }
  static std::string make_path() { return "/tmp/wayland-test-" + std::to_string(getpid()); }

  void serve() {
    for (int turns = 0; turns < 50; ++turns) {
      pollfd ready{.fd = server.fd(), .events = POLLIN, .revents = 0};
      if (poll(&ready, 1, 0) <= 0) return;
      std::vector<std::string> log;
      for (const Event& event : server.dispatch(log))
        answer(event);
    }
  }

  void answer(const Event& event) {
    events.push_back(event);
    if (event.what == Event::What::bound && server.send_fd(event.id, memory.get())) {
      const Offer offers[] = {{.connector = 40, .name = "DP-1", .description = "left"},
                              {.connector = 41, .name = "DP-2", .description = "right"}};
      server.offer(event.id, offers);
    }
    if (event.what != Event::What::requested) return;
    if (event.id % 2 == 0)
      server.grant(event.id, memory.get());
    else
      server.finish(event.id);
  }

  size_t count(Event::What what) const {
    return static_cast<size_t>(std::ranges::count(events, what, &Event::what));
  }

  std::string path = make_path();
  Server server;
  base::UniqueFd memory;
  uint32_t device = 0;
  std::vector<Event> events;
};

/// Messages of the wire: the object, size and opcode, arguments.
class Words {
public:
  Words& message(uint32_t object, uint32_t opcode, std::initializer_list<uint32_t> arguments) {
    words_.push_back(object);
    words_.push_back(static_cast<uint32_t>(8 + 4 * arguments.size()) << 16 | opcode);
    words_.insert(words_.end(), arguments);
    return *this;
  }
  /// wl_registry.bind, with its text.
  Words& bind(uint32_t registry, uint32_t name, const char* interface, uint32_t id) {
    const size_t size = std::strlen(interface) + 1;
    const size_t padded = (size + 3) / 4;
    std::vector<uint32_t> text(padded);
    std::memcpy(text.data(), interface, size);
    words_.push_back(registry);
    words_.push_back(static_cast<uint32_t>(24 + 4 * padded) << 16);
    words_.insert(words_.end(), {name, static_cast<uint32_t>(size)});
    words_.insert(words_.end(), text.begin(), text.end());
    words_.insert(words_.end(), {1, id});
    return *this;
  }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> out(words_.size() * 4);
    std::memcpy(out.data(), words_.data(), out.size());
    return out;
  }

private:
  std::vector<uint32_t> words_;
};

constexpr uint32_t first_server_id = 0xff000000;

/// Binds, asks for both connectors, gives the lease back, releases the device.
std::vector<uint8_t> whole_life() {
  return Words()
      .message(1, 1, {2})
      .bind(2, 1, "wp_drm_lease_device_v1", 3)
      .message(1, 0, {4})
      .message(3, 0, {5})
      .message(5, 0, {first_server_id})
      .message(5, 0, {first_server_id + 1})
      .message(5, 1, {6})
      .message(first_server_id, 0, {})
      .message(6, 0, {})
      .message(3, 1, {})
      .bytes();
}

void send_bytes(int socket, std::span<const uint8_t> bytes) {
  (void)!send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void send_with_fds(int socket, std::span<const uint8_t> bytes, int fd, size_t count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 28)] = {};
  iovec data{.iov_base = const_cast<uint8_t*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * count);
  const std::vector<int> fds(count, fd);
  std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * count);
  (void)!sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool is_closed(int socket) {
  char buffer[4096];
  for (;;) {
    const ssize_t got = recv(socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
    if (got < 0) return false;
  }
}

/// A lease's whole life, in two parts, since connectors are named before they are known otherwise.
void check_that_it_serves(Rig& rig) {
  rig.events.clear();
  const base::UniqueFd client = base::connect_unix(rig.path, SOCK_STREAM);
  const std::vector<uint8_t> life = whole_life();
  constexpr size_t bound = 12 + 48 + 12; // up to the sync
  send_bytes(client.get(), std::span(life).first(bound));
  rig.serve();
  REQUIRE(rig.count(Event::What::bound) == 1);
  send_bytes(client.get(), std::span(life).subspan(bound));
  rig.serve();
  const auto requested = std::ranges::find(rig.events, Event::What::requested, &Event::what);
  REQUIRE(requested != rig.events.end());
  CHECK(requested->connectors == (std::vector<uint32_t>{40, 41}));
  CHECK(!requested->stale);
  CHECK_EQ(requested->peer.uid, getuid());
  CHECK_EQ(requested->peer.pid, getpid());
}

} // namespace

TEST(wayland_lease_by_bytes) {
  Rig rig;
  check_that_it_serves(rig);
  check_that_it_serves(rig);
}

TEST(wayland_broken_bytes) {
  const size_t fds = open_fds();
  {
    Rig rig;
    std::mt19937 random(1);
    const std::vector<uint8_t> life = whole_life();
    size_t leases = 0;
    for (int round = 0; round < 3000; ++round) {
      std::vector<uint8_t> bytes = life;
      // Half of them after a good start, so that there are objects to do wrong to.
      const size_t good = random() % 2 == 0 ? 72 : 0;
      for (uint32_t changes = random() % 6; changes > 0; --changes) {
        const size_t at = good + random() % (bytes.size() - good);
        bytes[at] = static_cast<uint8_t>(random() % 4 == 0 ? random() : random() % 8);
      }
      bytes.resize(good + random() % (bytes.size() - good + 1));
      const base::UniqueFd client = base::connect_unix(rig.path, SOCK_STREAM);
      send_bytes(client.get(), std::span(bytes).first(good));
      rig.serve();
      if (random() % 8 == 0)
        send_with_fds(client.get(), std::span(bytes).subspan(good), rig.memory.get(), 28);
      else
        send_bytes(client.get(), std::span(bytes).subspan(good));
      rig.serve();
      leases += rig.count(Event::What::requested);
      rig.events.clear();
    }
    rig.serve();
    CHECK_EQ(rig.server.clients(), size_t{0});
    CHECK(leases > 100); // some of it was right enough
    check_that_it_serves(rig);
  }
  CHECK_EQ(open_fds(), fds);
}

TEST(wayland_garbage) {
  Rig rig;
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    std::vector<uint8_t> bytes(random() % 6000);
    for (uint8_t& byte : bytes)
      byte = static_cast<uint8_t>(random());
    const base::UniqueFd client = base::connect_unix(rig.path, SOCK_STREAM);
    send_bytes(client.get(), bytes);
    rig.serve();
  }
  rig.serve();
  CHECK_EQ(rig.server.clients(), size_t{0});
  CHECK_EQ(rig.events.size(), size_t{0});
  check_that_it_serves(rig);
}

TEST(wayland_bounded_connections) {
  Rig rig;
  std::vector<base::UniqueFd> sockets;
  const size_t most = getuid() == 0 ? Server::most_clients : Server::most_clients_of_user;
  for (size_t i = 0; i < most + 5; ++i) {
    sockets.push_back(base::connect_unix(rig.path, SOCK_STREAM));
    rig.serve();
  }
  CHECK_EQ(rig.server.clients(), most);
  CHECK(!is_closed(sockets[most - 1].get()));
  CHECK(is_closed(sockets[most].get()));
  sockets.clear();
  rig.serve();
  CHECK_EQ(rig.server.clients(), size_t{0});
  check_that_it_serves(rig);
}

TEST(wayland_bounded_objects) {
  struct {
    Words words;
    size_t events;
  } cases[3]{};
  // Registries; bindings; requests.
  for (uint32_t i = 0; i <= Limits::registries; ++i)
    cases[0].words.message(1, 1, {2 + i});
  cases[1].words.message(1, 1, {2});
  for (uint32_t i = 0; i <= Limits::bindings; ++i)
    cases[1].words.bind(2, 1, "wp_drm_lease_device_v1", 3 + i);
  cases[1].events = 2 * Limits::bindings; // and their ends
  cases[2].words.message(1, 1, {2}).bind(2, 1, "wp_drm_lease_device_v1", 3);
  for (uint32_t i = 0; i <= Limits::objects; ++i)
    cases[2].words.message(3, 0, {4 + i});
  cases[2].events = 2;
  Rig rig;
  for (const auto& [words, events] : cases) {
    rig.events.clear();
    const base::UniqueFd client = base::connect_unix(rig.path, SOCK_STREAM);
    const std::vector<uint8_t> bytes = words.bytes();
    for (size_t at = 0; at < bytes.size(); at += 2048) {
      send_bytes(client.get(), std::span(bytes).subspan(at, std::min<size_t>(2048, bytes.size() - at)));
      rig.serve();
    }
    CHECK(is_closed(client.get()));
    CHECK_EQ(rig.server.clients(), size_t{0});
    CHECK_EQ(rig.events.size(), events);
  }
  check_that_it_serves(rig);
}

TEST(wayland_client_that_does_not_read) {
  Rig rig;
  const base::UniqueFd client = base::connect_unix(rig.path, SOCK_STREAM);
  const std::vector<uint8_t> life = whole_life();
  send_bytes(client.get(), std::span(life).first(72));
  rig.serve();
  REQUIRE(rig.count(Event::What::bound) == 1);
  const uint32_t binding = rig.events.front().id;
  // Each round is a new object, which it destroys no more than it reads.
  size_t rounds = 0;
  for (; rounds < 2000 && rig.count(Event::What::unbound) == 0; ++rounds) {
    const Offer offer{.connector = 50, .name = "DP-3", .description = std::string(500, 'x')};
    rig.server.offer(binding, {&offer, 1});
    rig.server.offer(binding, {});
    rig.serve();
  }
  CHECK(rounds > 100 && rounds <= Limits::objects);
  CHECK_EQ(rig.server.clients(), size_t{0});
  check_that_it_serves(rig);
}
