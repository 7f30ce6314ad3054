// The protocol's objects. Each but Device and Binding is owned by its resource.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "wayland/lease_protocol.h"

struct wl_global;
struct wl_resource;

namespace scanout::wayland {

struct Device {
  LeaseProtocol* protocol;
  uint32_t id;
  wl_global* global;
  bool removed = false; // its global stays for those who have not heard yet
};

/// Counts an object against its connection for as long as it lives.
class Counted {
public:
  Counted(std::shared_ptr<Client> client, uint32_t Client::* kind) : client_(std::move(client)), kind_(kind) {
    ++client_->objects;
    if (kind_ != nullptr) ++((*client_).*kind_);
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() {
    --client_->objects;
    if (kind_ != nullptr) --((*client_).*kind_);
  }
  [[nodiscard]] const std::shared_ptr<Client>& client() const { return client_; }

private:
  std::shared_ptr<Client> client_;
  uint32_t Client::* kind_;
};

struct ConnectorObject;

/// An offer that holds.
struct Offered {
  uint64_t serial;
  std::string description;
  ConnectorObject* object; // null when the client has destroyed it
};

/// A wp_drm_lease_device_v1. It outlives its resource while connectors and requests of it are left, which
/// stay of use.
struct Binding {
  LeaseProtocol* protocol;
  uint32_t id;
  uint32_t device;
  Counted counted;
  wl_resource* resource; // null when it was released
  bool has_fd = false;
  bool told = false; // of its first offers
  uint32_t users = 0;
  std::map<uint32_t, Offered> offers; // by connector
};

struct ConnectorObject {
  Binding* binding;
  uint32_t connector;
  uint64_t serial;
  wl_resource* resource;
  Counted counted;
};

struct RequestObject {
  struct Wanted {
    uint32_t binding; // the connector's, which may be gone
    uint32_t connector;
    uint64_t serial;
  };
  Binding* binding;
  Counted counted;
  std::vector<Wanted> wanted;
};

struct Lease {
  LeaseProtocol* protocol;
  uint32_t id;
  wl_resource* resource;
  Counted counted;
  bool granted = false;
  bool finished = false;
  bool given_back = false; // by the client's word
};

/// What libwayland calls: the requests of clients, and the ends of resources. Nothing throws through C: being
/// out of memory there ends the program.
struct Wire {
  /// Of a global; `data` is the Device.
  static void bind(wl_client* client, void* data, uint32_t version, uint32_t id) noexcept;
  static void create_request(wl_client* client, wl_resource* resource, uint32_t id) noexcept;
  static void release(wl_client* client, wl_resource* resource) noexcept;
  static void request_connector(wl_client* client, wl_resource* resource, wl_resource* wanted) noexcept;
  static void submit(wl_client* client, wl_resource* resource, uint32_t id) noexcept;
  static void destroy(wl_client* client, wl_resource* resource) noexcept;
  static void give_back(wl_client* client, wl_resource* resource) noexcept;

  static void binding_gone(wl_resource* resource) noexcept;
  static void connector_gone(wl_resource* resource) noexcept;
  static void request_gone(wl_resource* resource) noexcept;
  static void lease_gone(wl_resource* resource) noexcept;

  /// A new object, with all that there is to say of it.
  static void add_connector(Binding& binding, const Offer& offer) noexcept;
  static void describe(const ConnectorObject& connector, const std::string& description) noexcept;
  static void forget_unused(Binding& binding) noexcept;
};

} // namespace scanout::wayland
