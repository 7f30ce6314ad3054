#include "wayland/lease_objects.h"

#include <wayland-server-core.h>

#include <algorithm>
#include <new>
#include <utility>

#include "drm-lease-v1-server.h"

namespace scanout::wayland {

namespace {

constexpr size_t most_text_bytes = 512; // of the 4096 of a message

template <typename T> T& object_of(wl_resource* resource) {
  return *static_cast<T*>(wl_resource_get_user_data(resource));
}

/// Cut between characters, as what is sent has to be UTF-8.
std::string cut(const std::string& text) {
  if (text.size() <= most_text_bytes) return text;
  size_t size = most_text_bytes;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80)
    --size;
  return text.substr(0, size);
}

/// Whether there may be one more, of which `kind` counts `most`; the connection ends otherwise.
bool admit(wl_client* client, Client& counts, uint32_t Client::* kind, uint32_t most) {
  if (counts.objects < Limits::objects && (kind == nullptr || counts.*kind < most)) return true;
  if (!counts.over_limits)
    wl_client_post_implementation_error(client, "too many objects of wp_drm_lease_device_v1");
  counts.over_limits = true;
  return false;
}

bool is_offered(const std::unordered_map<uint32_t, std::unique_ptr<Binding>>& bindings,
                const RequestObject::Wanted& wanted) {
  const auto binding = bindings.find(wanted.binding);
  if (binding == bindings.end()) return false;
  const auto offered = binding->second->offers.find(wanted.connector);
  return offered != binding->second->offers.end() && offered->second.serial == wanted.serial;
}

/// A resource that takes over `object`; null when memory is out, which ends the connection.
template <typename T>
wl_resource* make_resource(wl_client* client, const wl_interface* interface, int version, uint32_t id,
                           const void* requests, std::unique_ptr<T> object,
                           wl_resource_destroy_func_t destroy) {
  wl_resource* resource = object == nullptr ? nullptr : wl_resource_create(client, interface, version, id);
  if (resource == nullptr) {
    wl_client_post_no_memory(client);
    return nullptr;
  }
  wl_resource_set_implementation(resource, requests, object.release(), destroy);
  return resource;
}

const struct wp_drm_lease_device_v1_interface device_requests = {
    .create_lease_request = Wire::create_request,
    .release = Wire::release,
};
const struct wp_drm_lease_connector_v1_interface connector_requests = {.destroy = Wire::destroy};
const struct wp_drm_lease_request_v1_interface request_requests = {
    .request_connector = Wire::request_connector,
    .submit = Wire::submit,
};
const struct wp_drm_lease_v1_interface lease_requests = {.destroy = Wire::give_back};

} // namespace

void Wire::bind(wl_client* client, void* data, uint32_t version, uint32_t id) noexcept {
  const auto& device = *static_cast<Device*>(data);
  LeaseProtocol& protocol = *device.protocol;
  auto owner = protocol.clients_(client);
  if (owner == nullptr || !admit(client, *owner, &Client::bindings, Limits::bindings)) return;
  const Peer peer = owner->peer;
  const uint32_t number = ++protocol.last_id_;
  auto binding =
      std::unique_ptr<Binding>(new (std::nothrow) Binding{.protocol = &protocol,
                                                          .id = number,
                                                          .device = device.id,
                                                          .counted{std::move(owner), &Client::bindings},
                                                          .resource = nullptr});
  wl_resource* resource = binding == nullptr ? nullptr
                                             : wl_resource_create(client, &wp_drm_lease_device_v1_interface,
                                                                  static_cast<int>(version), id);
  if (resource == nullptr) {
    wl_client_post_no_memory(client);
    return;
  }
  binding->resource = resource;
  wl_resource_set_implementation(resource, &device_requests, binding.get(), binding_gone);
  protocol.bindings_.emplace(number, std::move(binding));
  // Of a device that is gone there is nothing to say.
  if (device.removed) return;
  protocol.events_.push_back(
      {.what = Event::What::bound, .id = number, .device = device.id, .peer = peer, .connectors = {}});
}

void Wire::create_request(wl_client* client, wl_resource* resource, uint32_t id) noexcept {
  auto& binding = object_of<Binding>(resource);
  const auto& owner = binding.counted.client();
  if (!admit(client, *owner, nullptr, 0)) return;
  auto request = std::unique_ptr<RequestObject>(
      new (std::nothrow) RequestObject{.binding = &binding, .counted{owner, nullptr}, .wanted = {}});
  if (make_resource(client, &wp_drm_lease_request_v1_interface, wl_resource_get_version(resource), id,
                    &request_requests, std::move(request), request_gone) != nullptr)
    ++binding.users;
}

void Wire::release(wl_client* /*client*/, wl_resource* resource) noexcept {
  wp_drm_lease_device_v1_send_released(resource);
  wl_resource_destroy(resource);
}

void Wire::request_connector(wl_client* /*client*/, wl_resource* resource, wl_resource* wanted) noexcept {
  auto& request = object_of<RequestObject>(resource);
  const auto& connector = object_of<ConnectorObject>(wanted);
  if (connector.binding->device != request.binding->device) {
    wl_resource_post_error(resource, WP_DRM_LEASE_REQUEST_V1_ERROR_WRONG_DEVICE,
                           "connector %u is one of another device", connector.connector);
    return;
  }
  if (std::ranges::count(request.wanted, connector.connector, &RequestObject::Wanted::connector) > 0) {
    wl_resource_post_error(resource, WP_DRM_LEASE_REQUEST_V1_ERROR_DUPLICATE_CONNECTOR,
                           "connector %u is asked for twice", connector.connector);
    return;
  }
  request.wanted.push_back(
      {.binding = connector.binding->id, .connector = connector.connector, .serial = connector.serial});
}

void Wire::submit(wl_client* client, wl_resource* resource, uint32_t id) noexcept {
  const auto& request = object_of<RequestObject>(resource);
  if (request.wanted.empty()) {
    wl_resource_post_error(resource, WP_DRM_LEASE_REQUEST_V1_ERROR_EMPTY_LEASE,
                           "a lease without a connector is asked for");
    return;
  }
  const Binding& binding = *request.binding;
  LeaseProtocol& protocol = *binding.protocol;
  const auto& owner = binding.counted.client();
  if (!admit(client, *owner, &Client::leases, Limits::leases)) return;
  const uint32_t number = ++protocol.last_id_;
  auto made = std::unique_ptr<Lease>(new (std::nothrow) Lease{
      .protocol = &protocol, .id = number, .resource = nullptr, .counted{owner, &Client::leases}});
  Lease* lease = made.get();
  wl_resource* answer = make_resource(client, &wp_drm_lease_v1_interface, wl_resource_get_version(resource),
                                      id, &lease_requests, std::move(made), lease_gone);
  if (answer == nullptr) return;
  lease->resource = answer;
  protocol.leases_.emplace(number, lease);
  Event event{.what = Event::What::requested,
              .id = number,
              .device = binding.device,
              .peer = owner->peer,
              .connectors = {}};
  for (const auto& wanted : request.wanted) {
    event.connectors.push_back(wanted.connector);
    if (!is_offered(protocol.bindings_, wanted)) event.stale = true;
  }
  protocol.events_.push_back(std::move(event));
  wl_resource_destroy(resource);
}

void Wire::destroy(wl_client* /*client*/, wl_resource* resource) noexcept {
  wl_resource_destroy(resource);
}

void Wire::give_back(wl_client* /*client*/, wl_resource* resource) noexcept {
  object_of<Lease>(resource).given_back = true;
  wl_resource_destroy(resource);
}

void Wire::binding_gone(wl_resource* resource) noexcept {
  auto& binding = object_of<Binding>(resource);
  binding.resource = nullptr;
  forget_unused(binding);
}

void Wire::connector_gone(wl_resource* resource) noexcept {
  const std::unique_ptr<ConnectorObject> connector(&object_of<ConnectorObject>(resource));
  Binding& binding = *connector->binding;
  const auto offered = binding.offers.find(connector->connector);
  if (offered != binding.offers.end() && offered->second.object == connector.get())
    offered->second.object = nullptr;
  --binding.users;
  forget_unused(binding);
}

void Wire::request_gone(wl_resource* resource) noexcept {
  const std::unique_ptr<RequestObject> request(&object_of<RequestObject>(resource));
  --request->binding->users;
  forget_unused(*request->binding);
}

void Wire::lease_gone(wl_resource* resource) noexcept {
  const std::unique_ptr<Lease> lease(&object_of<Lease>(resource));
  if (lease->finished) return;
  LeaseProtocol& protocol = *lease->protocol;
  protocol.leases_.erase(lease->id);
  protocol.events_.push_back({.what = Event::What::ended,
                              .id = lease->id,
                              .peer = {},
                              .connectors = {},
                              .crashed = !lease->given_back});
}

void Wire::add_connector(Binding& binding, const Offer& offer) noexcept {
  const auto& owner = binding.counted.client();
  wl_client* client = wl_resource_get_client(binding.resource);
  if (!admit(client, *owner, nullptr, 0)) return;
  const uint64_t serial = ++binding.protocol->last_offer_;
  auto made =
      std::unique_ptr<ConnectorObject>(new (std::nothrow) ConnectorObject{.binding = &binding,
                                                                          .connector = offer.connector,
                                                                          .serial = serial,
                                                                          .resource = nullptr,
                                                                          .counted{owner, nullptr}});
  ConnectorObject* object = made.get();
  wl_resource* offered =
      make_resource(client, &wp_drm_lease_connector_v1_interface, wl_resource_get_version(binding.resource),
                    0, &connector_requests, std::move(made), connector_gone);
  if (offered == nullptr) return;
  object->resource = offered;
  ++binding.users;
  binding.offers[offer.connector] = {.serial = serial, .description = offer.description, .object = object};
  wp_drm_lease_device_v1_send_connector(binding.resource, object->resource);
  wp_drm_lease_connector_v1_send_name(object->resource, cut(offer.name).c_str());
  wp_drm_lease_connector_v1_send_connector_id(object->resource, offer.connector);
  describe(*object, offer.description);
}

void Wire::describe(const ConnectorObject& connector, const std::string& description) noexcept {
  wp_drm_lease_connector_v1_send_description(connector.resource, cut(description).c_str());
  wp_drm_lease_connector_v1_send_done(connector.resource);
}

void Wire::forget_unused(Binding& binding) noexcept {
  if (binding.resource != nullptr || binding.users > 0) return;
  LeaseProtocol& protocol = *binding.protocol;
  protocol.events_.push_back({.what = Event::What::unbound, .id = binding.id, .peer = {}, .connectors = {}});
  protocol.bindings_.erase(binding.id);
}

} // namespace scanout::wayland
