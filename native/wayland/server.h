// A Wayland display that offers wp_drm_lease_device_v1 and nothing else, on a socket of its own.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/unix_socket.h"
#include "wayland/lease_protocol.h"

struct wl_event_source;

namespace scanout::wayland {

/// Listens, serves and bounds its clients, on the thread of whoever calls `dispatch`. Never waits for a
/// client: one that does not read what it is sent is disconnected when the buffer of its socket is full.
class Server {
public:
  static constexpr size_t most_clients = 64;
  static constexpr size_t most_clients_of_user = 16; ///< root is not bound by that

  /// Makes the socket, of type SOCK_STREAM. Throws SystemError as UnixListener::listen does.
  Server(const std::string& path, const base::ListenOptions& options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  /// Ends every connection; what they had is for the caller to end.
  ~Server();

  /// Readable when `dispatch` has something to do.
  [[nodiscard]] int fd() const noexcept;
  /// Does what is to be done and tells what came of it. `log`: lines for the log, a bounded number.
  std::vector<Event> dispatch(std::vector<std::string>& log);

  /// See LeaseProtocol. Clients are sent it by the next `dispatch`, for which `fd` is made readable.
  uint32_t add_device();
  void remove_device(uint32_t device);
  bool send_fd(uint32_t binding, int fd);
  bool offer(uint32_t binding, std::span<const Offer> offers);
  bool grant(uint32_t lease, int fd);
  bool finish(uint32_t lease);

  /// Connections there are now.
  [[nodiscard]] size_t clients() const noexcept;

private:
  struct Connection;
  struct DisplayDestroyer {
    void operator()(wl_display* display) const noexcept;
  };
  /// A loop leaves its sources, and their descriptors, to who made them.
  struct SourceRemover {
    void operator()(wl_event_source* source) const noexcept;
  };
  using Source = std::unique_ptr<wl_event_source, SourceRemover>;

  void end_excessive();
  void accept_some() noexcept;
  void accept(base::UniqueFd socket);
  [[nodiscard]] bool may_connect(uid_t uid) const noexcept;
  void rest(const std::string& why);
  void wake() noexcept;
  void say(std::string line);

  std::unique_ptr<wl_display, DisplayDestroyer> display_;
  base::UnixListener listener_;
  base::UniqueFd wake_; // an eventfd
  Source accepting_;
  Source retry_;
  Source waking_;
  std::unordered_map<wl_client*, std::unique_ptr<Connection>> connections_;
  std::unique_ptr<LeaseProtocol> protocol_;
  std::vector<std::string> log_;
};

} // namespace scanout::wayland
