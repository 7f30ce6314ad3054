// The requests of vhost-user.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/fd_kind.h"
#include "base/unix_socket.h"
#include "guests/vhost_user.h"
#include "guests/vhost_user_names.h"

namespace scanout::guests {

using vhost::Request;

namespace {

// What front ends acknowledge although it was not offered: they do it themselves, or it asks nothing of us.
constexpr uint64_t harmless_features =
    vhost::feature_notify_on_empty | vhost::feature_any_layout | vhost::feature_ring_reset;

vhost::Inflight inflight_of(std::span<const uint8_t> payload) {
  if (payload.size() < vhost::inflight_bytes || payload.size() > sizeof(vhost::Inflight))
    throw VhostRefusal(std::to_string(payload.size()) + " bytes are no in-flight records");
  vhost::Inflight value{};
  std::memcpy(&value, payload.data(), vhost::inflight_bytes);
  return value;
}

} // namespace

template <typename T> T VhostUser::payload_of(const Message& message) {
  if (message.payload.size() != sizeof(T)) {
    throw VhostRefusal(std::to_string(message.payload.size()) + " bytes, not the " +
                       std::to_string(sizeof(T)) + " that it has");
  }
  T value;
  std::memcpy(&value, message.payload.data(), sizeof value);
  return value;
}

void VhostUser::dispatch(const Message& message) {
  switch (message.request) {
  case Request::get_features:
    reply_u64(traits_.features);
    return;
  case Request::get_protocol_features:
    reply_u64(traits_.protocol_features);
    return;
  case Request::get_queue_num:
    reply_u64(traits_.rings);
    return;
  case Request::set_features:
    set_features(payload_of<uint64_t>(message));
    break;
  case Request::set_protocol_features: {
    const auto wanted = payload_of<uint64_t>(message);
    if ((wanted & ~traits_.protocol_features) != 0)
      throw VhostRefusal("protocol features that were not offered");
    protocol_features_ = wanted;
    break;
  }
  case Request::set_owner:
    break;
  case Request::reset_owner:
  case Request::reset_device:
    for (Ring& ring : rings_)
      ring = {};
    memory_.reset();
    table_ = {};
    inflight_ = {};
    apply(std::make_unique<RingChange>(RingChange::What::stop_all));
    return;
  case Request::set_mem_table:
    set_memory(message);
    return;
  case Request::set_backend_req_fd:
    if (fds_.size() != 1 || !base::is_unix_socket(fds_.peek(0), SOCK_STREAM))
      throw VhostRefusal("one unix socket expected");
    owner_.keep(backend_name, fds_.peek(0));
    backend_ = fds_.take(0);
    break;
  case Request::get_inflight_fd:
    get_inflight(message);
    return;
  case Request::set_inflight_fd:
    set_inflight(message);
    return;
  case Request::get_config:
  case Request::set_config:
    config(message);
    return;
  case Request::set_log_base:
  case Request::set_log_fd:
    throw VhostRefusal("a device that shows its guest's own memory cannot be migrated");
  case Request::set_vring_num:
  case Request::set_vring_addr:
  case Request::set_vring_base:
  case Request::get_vring_base:
  case Request::set_vring_kick:
  case Request::set_vring_call:
  case Request::set_vring_err:
  case Request::set_vring_enable:
    dispatch_ring(message);
    return;
  default:
    if (!owner_.other(message.request, message.payload, fds_))
      throw VhostRefusal("the device has no such request");
    break;
  }
  acknowledge(true);
}

void VhostUser::set_features(uint64_t features) {
  if (const uint64_t strange = features & ~(traits_.features | harmless_features); strange != 0) {
    throw VhostRefusal("feature bit " + std::to_string(__builtin_ctzll(strange)) + " was not offered");
  }
  for (const Ring& ring : rings_) {
    if (ring.started && features != features_) throw VhostRefusal("features change while a ring is started");
  }
  features_ = features;
  owner_.features_set(features);
}

void VhostUser::set_memory(const Message& message) {
  const auto payload = message.payload;
  vhost::MemoryTable table{};
  constexpr size_t head = offsetof(vhost::MemoryTable, regions);
  if (payload.size() < head || payload.size() > sizeof table) throw VhostRefusal("no memory table");
  std::memcpy(&table, payload.data(), payload.size());
  // Front ends send the whole table, or as much of it as there are regions.
  if (table.count > GuestMemory::max_regions ||
      payload.size() < head + table.count * sizeof(vhost::MemoryRegion))
    throw VhostRefusal("a memory table of " + std::to_string(table.count) + " regions");
  if (fds_.size() != table.count) {
    throw VhostRefusal(std::to_string(table.count) + " regions with " + std::to_string(fds_.size()) +
                       " descriptors");
  }
  std::vector<GuestRegion> regions;
  for (uint32_t i = 0; i < table.count; ++i) {
    const vhost::MemoryRegion& from = table.regions[i];
    // From here on the descriptor is closed here: it must be harmless.
    if (fcntl(fds_.peek(i), F_GET_SEALS) < 0) {
      throw VhostRefusal("region " + std::to_string(i) +
                         " is no memfd (for QEMU: memory-backend-memfd with share=on)");
    }
    regions.push_back({.guest_address = from.guest_address,
                       .size = from.size,
                       .user_address = from.user_address,
                       .file_offset = from.file_offset,
                       .fd = fds_.take(i)});
  }
  auto memory = GuestMemory::map(std::move(regions));
  keep_memory(table, *memory);
  auto change = std::make_unique<RingChange>(RingChange::What::memory);
  change->memory = memory;
  memory_ = std::move(memory);
  apply(std::move(change));
}

/// By inode: the same memory comes in several regions, and in one table after the other.
void VhostUser::keep_memory(const vhost::MemoryTable& table, const GuestMemory& memory) {
  std::array<uint64_t, GuestMemory::max_regions> inodes{};
  for (uint32_t i = 0; i < table.count; ++i) {
    const int fd = memory.place(table.regions[i].guest_address, 1)->fd;
    struct stat status{};
    base::check(fstat(fd, &status), "fstat", "guest memory");
    inodes[i] = status.st_ino;
    const auto known = [&](const auto& list, size_t count) {
      return std::find(list.begin(), list.begin() + count, inodes[i]) != list.begin() + count;
    };
    if (!known(inodes_, table_.count) && !known(inodes, i)) owner_.keep(memory_name(inodes[i]), fd);
  }
  table_ = table;
  inodes_ = inodes;
}

VhostUser::Ring& VhostUser::ring_of(uint64_t index) {
  if (index >= rings_.size())
    throw VhostRefusal("ring " + std::to_string(index) + "; the device has " + std::to_string(rings_.size()));
  return rings_[index];
}

void VhostUser::dispatch_ring(const Message& message) {
  const auto stopped = [](Ring& ring) -> Ring& {
    if (ring.started) throw VhostRefusal("the ring is started");
    return ring;
  };
  switch (message.request) {
  case Request::set_vring_num: {
    const auto state = payload_of<vhost::VringState>(message);
    Ring& ring = stopped(ring_of(state.index));
    if (state.number == 0 || state.number > max_queue_size || (state.number & (state.number - 1)) != 0)
      throw VhostRefusal("a ring of " + std::to_string(state.number) + " descriptors");
    ring.setup.size = state.number;
    ring.has_size = true;
    break;
  }
  case Request::set_vring_base: {
    const auto state = payload_of<vhost::VringState>(message);
    if (state.number > 0xffff) throw VhostRefusal("index " + std::to_string(state.number));
    stopped(ring_of(state.index)).setup.base = static_cast<uint16_t>(state.number);
    break;
  }
  case Request::set_vring_addr: {
    const auto address = payload_of<vhost::VringAddress>(message);
    Ring& ring = stopped(ring_of(address.index));
    if ((address.flags & 1) != 0) throw VhostRefusal("a log of the ring: the device cannot be migrated");
    ring.setup.descriptors = address.descriptors;
    ring.setup.available = address.available;
    ring.setup.used = address.used;
    ring.has_addresses = true;
    break;
  }
  case Request::get_vring_base: {
    const auto state = payload_of<vhost::VringState>(message);
    ring_of(state.index).started = false;
    apply(std::make_unique<RingChange>(RingChange::What::stop, state.index));
    return;
  }
  case Request::set_vring_enable: {
    const auto state = payload_of<vhost::VringState>(message);
    ring_of(state.index).enabled = state.number != 0;
    auto change = std::make_unique<RingChange>(RingChange::What::enable, state.index);
    change->on = state.number != 0;
    apply(std::move(change));
    return;
  }
  default:
    set_ring_fd(message);
    return;
  }
  acknowledge(true);
}

void VhostUser::set_ring_fd(const Message& message) {
  const auto payload = payload_of<uint64_t>(message);
  const auto index = static_cast<uint32_t>(payload & vhost::vring_index_mask);
  Ring& ring = ring_of(index);
  const bool none = (payload & vhost::vring_no_fd) != 0;
  if (fds_.size() != (none ? 0 : 1)) throw VhostRefusal(std::to_string(fds_.size()) + " descriptors");
  if (!none && !base::is_eventfd(fds_.peek(0))) throw VhostRefusal("the descriptor is no eventfd");
  const bool kick = message.request == Request::set_vring_kick;
  if (kick && none) throw VhostRefusal("a ring without a kick would have to be polled");
  if (kick && !(ring.has_size && ring.has_addresses)) throw VhostRefusal("a kick before size and addresses");
  if (kick && ring.started) throw VhostRefusal("the ring is started");
  const auto what = kick                                         ? RingChange::What::start
                    : message.request == Request::set_vring_call ? RingChange::What::call
                                                                 : RingChange::What::error_fd;
  auto change = std::make_unique<RingChange>(what, index);
  const std::string name = fd_name(what, index);
  if (none) {
    owner_.drop(name);
  } else {
    owner_.keep(name, fds_.peek(0));
    change->fd = fds_.take(0);
  }
  if (kick) {
    ring.setup.event_idx = (features_ & vhost::feature_event_idx) != 0;
    if ((features_ & vhost::feature_protocol) == 0) ring.enabled = true;
    change->setup = ring.setup;
    // Without the protocol's own features a ring is enabled by its start.
    change->on = (features_ & vhost::feature_protocol) == 0;
    ring.started = true;
  }
  apply(std::move(change));
}

void VhostUser::config(const Message& message) {
  const auto payload = message.payload;
  vhost::ConfigHeader head{};
  if (payload.size() < sizeof head) throw VhostRefusal("no configuration");
  std::memcpy(&head, payload.data(), sizeof head);
  const auto body = payload.subspan(sizeof head);
  if (head.size > vhost::max_config || body.size() != head.size) throw VhostRefusal("its sizes do not agree");
  if (message.request == Request::set_config) {
    if (!owner_.set_config(head.offset, body)) throw VhostRefusal("there is no such configuration to write");
    acknowledge(true);
    return;
  }
  std::array<uint8_t, sizeof head + vhost::max_config> answer{};
  std::memcpy(answer.data(), &head, sizeof head);
  if (owner_.get_config(head.offset, {answer.data() + sizeof head, head.size})) {
    reply(answer.data(), sizeof head + head.size);
    return;
  }
  reply(answer.data(), 0); // an empty answer is an error
}

void VhostUser::get_inflight(const Message& message) {
  const vhost::Inflight wanted = inflight_of(message.payload);
  if (wanted.rings != rings_.size() || wanted.entries == 0 || wanted.entries > max_queue_size) {
    throw VhostRefusal("records of " + std::to_string(wanted.rings) + " rings of " +
                       std::to_string(wanted.entries) + " descriptors");
  }
  std::array<uint8_t, sizeof(vhost::Inflight)> answer{};
  const vhost::Inflight made{.size = InflightMemory::bytes(wanted.rings, wanted.entries),
                             .offset = 0,
                             .rings = wanted.rings,
                             .entries = wanted.entries};
  std::memcpy(answer.data(), &made, vhost::inflight_bytes);
  reply(answer.data(), message.payload.size(), InflightMemory::make(wanted.rings, wanted.entries));
}

void VhostUser::set_inflight(const Message& message) {
  const vhost::Inflight given = inflight_of(message.payload);
  if (given.rings != rings_.size())
    throw VhostRefusal("records of " + std::to_string(given.rings) + " rings");
  for (const Ring& ring : rings_) {
    if (ring.started) throw VhostRefusal("the records change while a ring is started");
  }
  if (fds_.size() != 1) throw VhostRefusal(std::to_string(fds_.size()) + " descriptors");
  if (fcntl(fds_.peek(0), F_GET_SEALS) < 0) throw VhostRefusal("the records are in no memfd");
  auto change = std::make_unique<RingChange>(RingChange::What::inflight);
  const int fd = fds_.peek(0);
  base::UniqueFd again(base::check(fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)", "records"));
  change->records =
      InflightMemory::map(std::move(again), given.size, given.offset, given.rings, given.entries);
  owner_.keep(inflight_name, fd);
  inflight_ = given;
  apply(std::move(change));
}

} // namespace scanout::guests
