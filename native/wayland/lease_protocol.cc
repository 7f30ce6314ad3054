#include "wayland/lease_protocol.h"

#include <wayland-server-core.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.h"
#include "drm-lease-v1-server.h"
#include "wayland/lease_objects.h"

namespace scanout::wayland {

namespace {

constexpr int version = 1;

const Offer* find_offer(std::span<const Offer> offers, uint32_t connector) {
  const auto found = std::ranges::find(offers, connector, &Offer::connector);
  return found == offers.end() ? nullptr : &*found;
}

/// True when something was withdrawn.
bool withdraw_others(Binding& binding, std::span<const Offer> offers) {
  return std::erase_if(binding.offers, [&](auto& entry) {
           auto& [connector, offered] = entry;
           if (find_offer(offers, connector) != nullptr) return false;
           if (offered.object != nullptr) wp_drm_lease_connector_v1_send_withdrawn(offered.object->resource);
           return true;
         }) > 0;
}

bool update(Binding& binding, const Offer& offer) {
  const auto known = binding.offers.find(offer.connector);
  if (known == binding.offers.end()) {
    Wire::add_connector(binding, offer);
    return true;
  }
  Offered& offered = known->second;
  if (offered.description == offer.description) return false;
  offered.description = offer.description;
  if (offered.object != nullptr) Wire::describe(*offered.object, offer.description);
  return offered.object != nullptr;
}

} // namespace

LeaseProtocol::LeaseProtocol(wl_display* display, Clients clients)
    : display_(display), clients_(std::move(clients)) {}

LeaseProtocol::~LeaseProtocol() {
  for (const auto& [id, device] : devices_)
    wl_global_destroy(device->global);
}

uint32_t LeaseProtocol::add_device() {
  const uint32_t id = ++last_id_;
  auto device = std::make_unique<Device>(Device{.protocol = this, .id = id, .global = nullptr});
  device->global = wl_global_create(display_, &wp_drm_lease_device_v1_interface, version, device.get(),
                                    [](wl_client* client, void* data, uint32_t bound, uint32_t object) {
                                      Wire::bind(client, data, bound, object);
                                    });
  if (device->global == nullptr) throw base::SystemError(ENOMEM, "wl_global_create");
  devices_.emplace(id, std::move(device));
  return id;
}

void LeaseProtocol::remove_device(uint32_t device) {
  const auto found = devices_.find(device);
  if (found == devices_.end() || found->second->removed) return;
  found->second->removed = true;
  wl_global_remove(found->second->global);
  for (const auto& [id, binding] : bindings_)
    if (binding->device == device && binding->has_fd) offer(id, {});
}

bool LeaseProtocol::send_fd(uint32_t binding, int fd) {
  const auto found = bindings_.find(binding);
  if (found == bindings_.end() || found->second->resource == nullptr || found->second->has_fd) return false;
  found->second->has_fd = true;
  wp_drm_lease_device_v1_send_drm_fd(found->second->resource, fd); // sends another one of the same file
  return true;
}

bool LeaseProtocol::offer(uint32_t id, std::span<const Offer> offers) {
  const auto found = bindings_.find(id);
  if (found == bindings_.end()) return false;
  Binding& binding = *found->second;
  if (!binding.has_fd) throw base::UsageError("offer: the card's descriptor has not been sent");
  bool changed = withdraw_others(binding, offers);
  if (binding.resource == nullptr) return true; // nothing new for one that was released
  for (const Offer& one : offers)
    if (update(binding, one)) changed = true;
  if (changed || !binding.told) wp_drm_lease_device_v1_send_done(binding.resource);
  binding.told = true;
  return true;
}

bool LeaseProtocol::grant(uint32_t lease, int fd) {
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second->granted) return false;
  found->second->granted = true;
  wp_drm_lease_v1_send_lease_fd(found->second->resource, fd);
  return true;
}

bool LeaseProtocol::finish(uint32_t lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return false;
  found->second->finished = true;
  wp_drm_lease_v1_send_finished(found->second->resource);
  leases_.erase(found);
  return true;
}

std::vector<Event> LeaseProtocol::take_events() {
  return std::exchange(events_, {});
}

} // namespace scanout::wayland
