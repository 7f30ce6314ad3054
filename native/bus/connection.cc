#include "bus/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-id128.h>

#include <cerrno>

#include "base/error.h"

namespace scanout::bus {

namespace {

/// Messages that wait for a peer to read: from here on it is not listened to until it reads.
constexpr uint64_t stuffed = 64;
/// From here on it is given up: signals come without its asking.
constexpr uint64_t overstuffed = 1024;

BusPtr new_bus() {
  sd_bus* bus = nullptr;
  check_bus(sd_bus_new(&bus), "sd_bus_new");
  BusPtr owned(bus);
  check_bus(sd_bus_negotiate_fds(bus, 1), "sd_bus_negotiate_fds");
  check_bus(sd_bus_set_connected_signal(bus, 1), "sd_bus_set_connected_signal");
  return owned;
}

base::UniqueFd duplicate(int fd) {
  return base::UniqueFd(base::check(::fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)"));
}

} // namespace

int check_bus(int result, const char* op, const std::string& subject) {
  if (result < 0) throw base::SystemError(-result, op, subject);
  return result;
}

std::unique_ptr<Connection> Connection::open(const std::string& address, bool is_peer, Owner& owner) {
  // sd-bus would go on to the next address with another descriptor than the one that is watched.
  if (address.find(';') != std::string::npos) throw base::UsageError("address: one address expected");
  std::unique_ptr<Connection> made(new Connection(owner, is_peer));
  made->bus_ = new_bus();
  sd_bus* bus = made->bus_.get();
  check_bus(sd_bus_set_address(bus, address.c_str()), "sd_bus_set_address", address);
  check_bus(sd_bus_set_bus_client(bus, is_peer ? 0 : 1), "sd_bus_set_bus_client");
  made->add_filter();
  check_bus(sd_bus_start(bus), "sd_bus_start", address);
  made->poll_fd_ = duplicate(check_bus(sd_bus_get_fd(bus), "sd_bus_get_fd", address));
  if (is_peer) made->credentials_ = base::peer_credentials(made->poll_fd_.get());
  return made;
}

std::unique_ptr<Connection> Connection::over(base::UniqueFd socket, bool is_peer, Owner& owner) {
  if (!base::is_unix_socket(socket.get(), SOCK_STREAM))
    throw base::UsageError("socket: a unix stream socket expected");
  std::unique_ptr<Connection> made(new Connection(owner, is_peer));
  if (is_peer) made->credentials_ = base::peer_credentials(socket.get());
  made->bus_ = new_bus();
  sd_bus* bus = made->bus_.get();
  made->poll_fd_ = duplicate(socket.get());
  check_bus(sd_bus_set_fd(bus, socket.get(), socket.get()), "sd_bus_set_fd");
  (void)socket.release(); // sd-bus closes it from now on
  check_bus(sd_bus_set_bus_client(bus, is_peer ? 0 : 1), "sd_bus_set_bus_client");
  made->add_filter();
  check_bus(sd_bus_start(bus), "sd_bus_start");
  return made;
}

std::unique_ptr<Connection> Connection::serve(base::UniqueFd socket, Gate::Limits limits, Owner& owner) {
  std::unique_ptr<Connection> made(new Connection(owner, true));
  made->credentials_ = base::peer_credentials(socket.get());
  made->bus_ = new_bus();
  sd_bus* bus = made->bus_.get();
  base::UniqueFd output = duplicate(socket.get());
  made->gate_.emplace(std::move(socket), made->credentials_->uid, limits);
  base::UniqueFd input = made->gate_->take_inner();
  check_bus(sd_bus_set_fd(bus, input.get(), output.get()), "sd_bus_set_fd");
  (void)input.release(); // sd-bus closes both from now on
  (void)output.release();
  sd_id128_t id;
  check_bus(sd_id128_randomize(&id), "sd_id128_randomize");
  check_bus(sd_bus_set_server(bus, 1, id), "sd_bus_set_server");
  // Not that anybody may come unnamed: who it is was settled above, and what it claims is checked by the
  // gate.
  check_bus(sd_bus_set_anonymous(bus, 1), "sd_bus_set_anonymous");
  made->add_filter();
  check_bus(sd_bus_start(bus), "sd_bus_start");
  return made;
}

Connection::~Connection() {
  sd_bus_close(bus_.get());
}

void Connection::add_filter() {
  sd_bus_slot* slot = nullptr;
  check_bus(sd_bus_add_filter(bus_.get(), &slot, filter, this), "sd_bus_add_filter");
  filter_.reset(slot);
}

int Connection::filter(sd_bus_message* message, void* self, sd_bus_error*) noexcept {
  auto* connection = static_cast<Connection*>(self);
  // Only the library itself speaks in this name; the gate and the bus daemon see to that.
  if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local", nullptr) > 0) {
    if (sd_bus_message_is_signal(message, nullptr, "Connected") > 0) connection->owner_.on_ready();
    return 0;
  }
  connection->delivered_ = true;
  return connection->owner_.on_message(message);
}

int Connection::poll_fd() const noexcept {
  return gate_ ? gate_->socket() : poll_fd_.get();
}

int Connection::events() const noexcept {
  if (!open_) return 0;
  const int wanted = sd_bus_get_events(bus_.get());
  if (wanted < 0) return 0;
  if (!gate_) return wanted & (POLLIN | POLLOUT);
  return (wanted & POLLOUT) | (is_stuffed() ? POLLOUT : POLLIN);
}

uint64_t Connection::deadline_us() const noexcept {
  uint64_t deadline = UINT64_MAX;
  if (open_ && gate_ && unfinished_) return 0; // what the gate let through is not seen on the peer's socket
  if (open_) sd_bus_get_timeout(bus_.get(), &deadline);
  return deadline;
}

uint64_t Connection::queued() const noexcept {
  uint64_t count = 0;
  if (open_) sd_bus_get_n_queued_write(bus_.get(), &count);
  return count;
}

bool Connection::is_stuffed() const noexcept {
  return queued() >= stuffed;
}

bool Connection::turn() noexcept {
  unfinished_ = open_ && (process() || let_in()) && open_;
  return unfinished_;
}

bool Connection::process() noexcept {
  const int result = sd_bus_process(bus_.get(), nullptr);
  if (!open_) return false;
  if (result < 0) {
    close(-result);
  } else if (sd_bus_is_open(bus_.get()) <= 0 && sd_bus_get_events(bus_.get()) < 0) {
    close(ECONNRESET);
  } else {
    limit_queue();
  }
  return result > 0;
}

bool Connection::let_in() noexcept {
  // Handling a message makes more of what the peer does not read.
  if (!open_ || !gate_ || is_stuffed()) return false;
  // sd-bus has read all that it was given. That it passed over a message in silence is not expected to
  // happen, and nothing that may go on: descriptors are lost then.
  if (expecting_ && !delivered_) {
    close(EBADMSG);
    return false;
  }
  expecting_ = false;
  // In the handshake it reads no further than to what it could not answer yet.
  if (!is_ready() && (sd_bus_get_events(bus_.get()) & POLLOUT) != 0) return false;
  switch (gate_->step(is_ready())) {
  case Gate::Step::progress:
    if (gate_->has_forwarded_message()) {
      expecting_ = true;
      delivered_ = false;
    }
    return true;
  case Gate::Step::waiting:
    return false;
  case Gate::Step::ended:
    close(ECONNRESET);
    return false;
  case Gate::Step::refused:
    close(gate_->error());
    return false;
  }
  return false;
}

void Connection::limit_queue() noexcept {
  if (is_peer_ && gate_ && queued() >= overstuffed) close(ENOBUFS);
}

void Connection::close(int error) noexcept {
  if (!open_) return;
  open_ = false;
  sd_bus_close(bus_.get());
  owner_.on_closed(error); // stops watching
  poll_fd_.reset();
  if (gate_) gate_->close();
}

} // namespace scanout::bus
