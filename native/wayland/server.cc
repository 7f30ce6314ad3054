#include "wayland/server.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wayland-server-core.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace scanout::wayland {

namespace {

constexpr int accepts_per_turn = 16;
constexpr int retry_ms = 100;
constexpr size_t most_lines = 32;

/// What libwayland has to say, to whichever server dispatches next: it has one handler for the whole process.
std::vector<std::string>& said() {
  static std::vector<std::string> lines;
  return lines;
}

void hear(const char* format, va_list arguments) {
  char line[256];
  // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the caller has started it
  if (vsnprintf(line, sizeof line, format, arguments) <= 0 || said().size() >= most_lines) return;
  std::string text(line);
  while (text.ends_with('\n'))
    text.pop_back();
  said().push_back("libwayland: " + text);
}

template <typename T> T* check_made(T* made, const char* op) {
  if (made == nullptr) throw base::SystemError(ENOMEM, op);
  return made;
}

} // namespace

/// A client of libwayland's, and what it is counted by. libwayland's listeners are at the start of structures
/// of their own, by which they are found.
struct Server::Connection {
  struct Listener {
    wl_listener base;
    Connection* connection;
  };

  Connection(Server& server, wl_client* client, std::shared_ptr<Client> counts)
      : server(server), client(client), counts(std::move(counts)) {
    ended.base.notify = on_end;
    ended.connection = this;
    created.base.notify = on_created;
    created.connection = this;
    wl_client_add_destroy_listener(client, &ended.base);
    wl_client_add_resource_created_listener(client, &created.base);
  }

  static Connection& of(wl_listener* listener) { return *reinterpret_cast<Listener*>(listener)->connection; }
  static void on_end(wl_listener* listener, void* /*client*/) {
    Connection& self = of(listener);
    wl_list_remove(&self.ended.base.link);
    wl_list_remove(&self.created.base.link);
    self.server.connections_.erase(self.client); // and this
  }
  /// Registries are libwayland's own, have no end of their own, and nothing else bounds them.
  static void on_created(wl_listener* listener, void* data) {
    const Connection& self = of(listener);
    if (std::strcmp(wl_resource_get_class(static_cast<wl_resource*>(data)), "wl_registry") != 0) return;
    if (++self.counts->registries <= Limits::registries || self.counts->over_limits) return;
    self.counts->over_limits = true;
    wl_client_post_implementation_error(self.client, "too many registries");
  }

  Server& server;
  wl_client* client;
  std::shared_ptr<Client> counts;
  Listener ended{};
  Listener created{};
};

void Server::DisplayDestroyer::operator()(wl_display* display) const noexcept {
  wl_display_destroy(display);
}

void Server::SourceRemover::operator()(wl_event_source* source) const noexcept {
  wl_event_source_remove(source);
}

Server::Server(const std::string& path, const base::ListenOptions& options)
    : display_(check_made(wl_display_create(), "wl_display_create")),
      listener_(base::UnixListener::listen(path, options)),
      wake_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  wl_log_set_handler_server(hear);
  protocol_ = std::make_unique<LeaseProtocol>(display_.get(), [this](wl_client* client) {
    const auto found = connections_.find(client);
    return found == connections_.end() ? nullptr : found->second->counts;
  });
  wl_event_loop* loop = wl_display_get_event_loop(display_.get());
  accepting_.reset(check_made(wl_event_loop_add_fd(
                                  loop, listener_.fd(), WL_EVENT_READABLE,
                                  [](int, uint32_t, void* self) {
                                    static_cast<Server*>(self)->accept_some();
                                    return 0;
                                  },
                                  this),
                              "wl_event_loop_add_fd"));
  retry_.reset(check_made(wl_event_loop_add_timer(
                              loop,
                              [](void* self) {
                                return wl_event_source_fd_update(static_cast<Server*>(self)->accepting_.get(),
                                                                 WL_EVENT_READABLE);
                              },
                              this),
                          "wl_event_loop_add_timer"));
  waking_.reset(check_made(wl_event_loop_add_fd(
                               loop, wake_.get(), WL_EVENT_READABLE,
                               [](int fd, uint32_t, void*) {
                                 eventfd_t count = 0;
                                 eventfd_read(fd, &count);
                                 return 0;
                               },
                               nullptr),
                           "wl_event_loop_add_fd"));
}

Server::~Server() {
  wl_display_destroy_clients(display_.get());
  protocol_.reset();
}

int Server::fd() const noexcept {
  return wl_event_loop_get_fd(wl_display_get_event_loop(display_.get()));
}

std::vector<Event> Server::dispatch(std::vector<std::string>& log) {
  wl_event_loop_dispatch(wl_display_get_event_loop(display_.get()), 0);
  end_excessive();
  wl_display_flush_clients(display_.get());
  log.swap(log_);
  log_.clear();
  log.insert(log.end(), said().begin(), said().end());
  said().clear();
  return protocol_->take_events();
}

/// libwayland disconnects who has done wrong when it hears of them again, which may be never.
void Server::end_excessive() {
  std::vector<wl_client*> over;
  for (const auto& [client, connection] : connections_)
    if (connection->counts->over_limits) over.push_back(client);
  for (wl_client* client : over)
    wl_client_destroy(client); // sends what it can before
}

/// From the loop of libwayland, through which nothing may be thrown.
void Server::accept_some() noexcept {
  for (int i = 0; i < accepts_per_turn; ++i) {
    try {
      base::UniqueFd socket = listener_.accept();
      if (!socket) return;
      accept(std::move(socket));
    } catch (const base::SystemError& error) {
      rest(error.what());
      return;
    }
  }
}

void Server::accept(base::UniqueFd socket) {
  const base::PeerCredentials peer = base::peer_credentials(socket.get());
  if (!may_connect(peer.uid)) {
    say("too many connections: one of process " + std::to_string(peer.pid) + ", uid " +
        std::to_string(peer.uid) + " is refused");
    return;
  }
  wl_client* client = wl_client_create(display_.get(), socket.get());
  if (client == nullptr) throw base::SystemError(errno, "wl_client_create");
  (void)socket.release(); // libwayland's
  auto counts = std::make_shared<Client>();
  counts->peer = {.pid = peer.pid, .uid = peer.uid, .gid = peer.gid};
  connections_.emplace(client, std::make_unique<Connection>(*this, client, std::move(counts)));
}

bool Server::may_connect(uid_t uid) const noexcept {
  if (connections_.size() >= most_clients) return false;
  const auto of_user = std::ranges::count_if(
      connections_, [uid](const auto& entry) { return entry.second->counts->peer.uid == uid; });
  return uid == 0 || static_cast<size_t>(of_user) < most_clients_of_user;
}

/// Out of descriptors or memory: the connection stays in the backlog and the socket readable, so that going
/// on would be a busy loop.
void Server::rest(const std::string& why) {
  wl_event_source_fd_update(accepting_.get(), 0);
  wl_event_source_timer_update(retry_.get(), retry_ms);
  say("a client cannot be accepted: " + why);
}

void Server::say(std::string line) {
  if (log_.size() < most_lines) log_.push_back(std::move(line));
}

void Server::wake() noexcept {
  eventfd_write(wake_.get(), 1); // fails when it is readable as can be
}

uint32_t Server::add_device() {
  wake();
  return protocol_->add_device();
}

void Server::remove_device(uint32_t device) {
  wake();
  protocol_->remove_device(device);
}

bool Server::send_fd(uint32_t binding, int fd) {
  wake();
  return protocol_->send_fd(binding, fd);
}

bool Server::offer(uint32_t binding, std::span<const Offer> offers) {
  wake();
  return protocol_->offer(binding, offers);
}

bool Server::grant(uint32_t lease, int fd) {
  wake();
  return protocol_->grant(lease, fd);
}

bool Server::finish(uint32_t lease) {
  wake();
  return protocol_->finish(lease);
}

size_t Server::clients() const noexcept {
  return connections_.size();
}

} // namespace scanout::wayland
