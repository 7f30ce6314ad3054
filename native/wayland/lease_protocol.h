// The protocol wp_drm_lease_device_v1: what clients bound, are offered, ask for and have. Who may have what
// is for others to say.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

struct wl_client;
struct wl_display;

namespace scanout::wayland {

/// A connection's bounds: beyond them it ends with a protocol error.
struct Limits {
  static constexpr uint32_t objects = 512; ///< of the protocol, offers that it has not destroyed included
  static constexpr uint32_t bindings = 16;
  static constexpr uint32_t leases = 32;
  static constexpr uint32_t registries = 16; ///< which live as long as the connection
};

/// By the kernel's word, as of the connecting.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

/// One connection, held by its objects too.
struct Client {
  Peer peer;
  uint32_t objects = 0;
  uint32_t bindings = 0;
  uint32_t leases = 0;
  uint32_t registries = 0;
  bool over_limits = false; ///< it was told, and is to be disconnected
};

/// A connector that may be asked for. Texts are UTF-8 without NUL, and cut where they are too long to send.
struct Offer {
  uint32_t connector; ///< id of the DRM object
  std::string name;
  std::string description;
};

/// What clients did. Ids count up and are never those of something else.
struct Event {
  enum class What {
    bound,     ///< `id` is that of the binding, which waits for `send_fd` and `offer`
    unbound,   ///< a binding that is of no more use
    requested, ///< `id` is that of the lease, which waits for `grant` or `finish`
    ended,     ///< a lease that was neither denied nor finished
  } what;
  uint32_t id = 0;
  uint32_t device = 0;              ///< bound, requested
  Peer peer;                        ///< bound, requested
  std::vector<uint32_t> connectors; ///< requested: their ids, each once
  bool stale = false;               ///< requested: one of them was offered no more
  bool crashed = false;             ///< ended: by the end of the connection, not by the client's word
};

struct Binding;
struct Device;
struct Lease;

/// Not thread-safe. Sent is when the display's clients are flushed.
class LeaseProtocol {
public:
  using Clients = std::function<std::shared_ptr<Client>(wl_client*)>;

  /// `display` (borrowed) has no clients any more when this is destroyed.
  LeaseProtocol(wl_display* display, Clients clients);
  LeaseProtocol(const LeaseProtocol&) = delete;
  LeaseProtocol& operator=(const LeaseProtocol&) = delete;
  ~LeaseProtocol();

  /// One more global. Returns its id. Throws SystemError when memory is out.
  uint32_t add_device();
  /// The global goes, and with it all that is offered; leases stay.
  void remove_device(uint32_t device);

  /// What follows does nothing, and says so by false, for a binding or a lease that is not there any more:
  /// its client may end at any time.

  /// The card's descriptor for looking at it (borrowed), once for each binding and before any offer.
  bool send_fd(uint32_t binding, int fd);
  /// All that is offered now: what is not among it is withdrawn. Throws UsageError before `send_fd`.
  bool offer(uint32_t binding, std::span<const Offer> offers);
  /// The lease's descriptor (borrowed), at most once.
  bool grant(uint32_t lease, int fd);
  /// Denied, or revoked; nothing more is said of it.
  bool finish(uint32_t lease);

  std::vector<Event> take_events();

private:
  friend struct Wire;

  wl_display* display_;
  Clients clients_;
  uint32_t last_id_ = 0;
  uint64_t last_offer_ = 0;
  std::map<uint32_t, std::unique_ptr<Device>> devices_;
  std::unordered_map<uint32_t, std::unique_ptr<Binding>> bindings_;
  std::unordered_map<uint32_t, Lease*> leases_; // owned by their resources
  std::vector<Event> events_;
};

} // namespace scanout::wayland
