// One D-Bus connection, driven by whoever has an event loop.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "base/unix_socket.h"
#include "bus/gate.h"

namespace scanout::bus {

struct Unref {
  void operator()(sd_bus* bus) const noexcept { sd_bus_unref(bus); }
  void operator()(sd_bus_message* message) const noexcept { sd_bus_message_unref(message); }
  void operator()(sd_bus_slot* slot) const noexcept { sd_bus_slot_unref(slot); }
};
using BusPtr = std::unique_ptr<sd_bus, Unref>;
using MessagePtr = std::unique_ptr<sd_bus_message, Unref>;
using SlotPtr = std::unique_ptr<sd_bus_slot, Unref>;

/// Throws SystemError when an sd-bus call gave a negative errno; returns its result otherwise.
int check_bus(int result, const char* op, const std::string& subject = {});

/// An sd_bus as a client of a bus daemon, as a client of a peer, or as the server of one peer.
///
/// A failure of any kind closes it: a connection is either whole or gone. Not thread-safe. The owner must not
/// destroy it while it is within `turn`.
class Connection {
public:
  /// What the owner is told, always from within a call of the owner's.
  class Owner {
  public:
    /// Authenticated, and greeted by the bus daemon where there is one.
    virtual void on_ready() noexcept = 0;
    /// Every message before objects see it. Positive when it was dealt with, 0 to go on, -errno.
    virtual int on_message(sd_bus_message* message) noexcept = 0;
    /// Once; `error` is a positive errno, 0 after `close(0)`. Slots stay valid, calls get no answer any more,
    /// and `poll_fd` is closed after this.
    virtual void on_closed(int error) noexcept = 0;

  protected:
    ~Owner() = default;
  };

  /// Connects to `address` ("unix:path=..."), to a bus daemon or to a peer (no daemon). Throws SystemError.
  static std::unique_ptr<Connection> open(const std::string& address, bool is_peer, Owner& owner);
  /// A client of the peer, or of the bus daemon, at the other end of `socket`, connected and non-blocking.
  /// Throws SystemError.
  static std::unique_ptr<Connection> over(base::UniqueFd socket, bool is_peer, Owner& owner);
  /// Serves the peer at the other end of `socket`. Its identity is `SO_PEERCRED`. Throws SystemError.
  static std::unique_ptr<Connection> serve(base::UniqueFd socket, Gate::Limits limits, Owner& owner);

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  /// What to wait for before the next `turn`: a descriptor (the same for ever), POLLIN and POLLOUT, and
  /// CLOCK_MONOTONIC microseconds (0: now; UINT64_MAX: never).
  [[nodiscard]] int poll_fd() const noexcept;
  [[nodiscard]] int events() const noexcept;
  [[nodiscard]] uint64_t deadline_us() const noexcept;

  /// Does one thing that can be done without waiting, such as handling one message. False when there is no
  /// more.
  bool turn() noexcept;
  /// To be called after anything was sent: a peer that does not read is given up.
  void limit_queue() noexcept;
  /// Drops everything and tells the owner with `error`. No-op when closed.
  void close(int error) noexcept;
  /// A reply was given to a waiting call; `on_message` does not see those.
  void count_reply() noexcept { delivered_ = true; }

  [[nodiscard]] bool is_open() const noexcept { return open_; }
  [[nodiscard]] bool is_peer() const noexcept { return is_peer_; }
  [[nodiscard]] bool is_ready() const noexcept { return sd_bus_is_ready(bus_.get()) > 0; }
  [[nodiscard]] uint64_t queued() const noexcept;
  [[nodiscard]] sd_bus* get() const noexcept { return bus_.get(); }
  /// Of the peer; absent where a bus daemon is in between.
  [[nodiscard]] const std::optional<base::PeerCredentials>& credentials() const noexcept {
    return credentials_;
  }

private:
  Connection(Owner& owner, bool is_peer) : owner_(owner), is_peer_(is_peer) {}
  void add_filter();
  [[nodiscard]] bool is_stuffed() const noexcept;
  bool process() noexcept;
  bool let_in() noexcept;
  static int filter(sd_bus_message* message, void* self, sd_bus_error* error) noexcept;

  Owner& owner_;
  bool is_peer_;
  bool open_ = true;
  bool unfinished_ = false; ///< the last turn was not the last that could be done
  bool expecting_ = false;  ///< the gate has let a message through
  bool delivered_ = false;  ///< and sd-bus has handed it on
  std::optional<Gate> gate_;
  base::UniqueFd poll_fd_; ///< a duplicate: sd-bus closes its own while libuv still watches
  std::optional<base::PeerCredentials> credentials_;
  BusPtr bus_;
  SlotPtr filter_;
};

} // namespace scanout::bus
