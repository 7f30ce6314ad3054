// A vhost-user connection in another process: what is written down while it lives, and how it goes on.
#include <fcntl.h>

#include <cstring>

#include "base/error.h"
#include "base/fd_kind.h"
#include "base/unix_socket.h"
#include "guests/vhost_user.h"
#include "guests/vhost_user_names.h"

namespace scanout::guests {

namespace {

base::UniqueFd kept_fd(VhostUser::Kept& kept, const std::string& name) {
  const auto found = kept.find(name);
  return found == kept.end() ? base::UniqueFd() : std::move(found->second);
}

} // namespace

std::string VhostUser::fd_name(RingChange::What what, uint32_t ring) {
  const char* name = what == RingChange::What::start  ? "kick"
                     : what == RingChange::What::call ? "call"
                                                      : "error";
  return name + std::to_string(ring);
}

void VhostUser::write_record() noexcept {
  VhostRecord& record = record_;
  const uint32_t former_count = record.region_count;
  std::array<uint64_t, VhostRecord::max_regions> former;
  std::memcpy(former.data(), record.region_inodes, sizeof former);

  record.features = features_;
  record.protocol_features = protocol_features_;
  record.region_count = memory_ ? table_.count : 0;
  std::memcpy(record.regions, table_.regions, sizeof record.regions);
  std::memcpy(record.region_inodes, inodes_.data(), sizeof record.region_inodes);
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    const Ring& ring = rings_[i];
    record.rings[i] = {.descriptors = ring.setup.descriptors,
                       .available = ring.setup.available,
                       .used = ring.setup.used,
                       .size = ring.setup.size,
                       .base = ring.setup.base,
                       .has_size = ring.has_size,
                       .has_addresses = ring.has_addresses,
                       .started = ring.started,
                       .enabled = ring.enabled};
  }
  record.inflight = inflight_;

  for (uint32_t i = 0; i < former_count; ++i) {
    bool wanted = false;
    for (uint32_t k = 0; k < record.region_count; ++k)
      wanted = wanted || record.region_inodes[k] == former[i];
    if (!wanted) owner_.drop(memory_name(former[i]));
  }
}

void VhostUser::restore_memory(Kept& kept) {
  if (record_.region_count == 0) return;
  std::vector<GuestRegion> regions;
  table_.count = record_.region_count;
  for (uint32_t i = 0; i < record_.region_count && i < GuestMemory::max_regions; ++i) {
    const vhost::MemoryRegion& from = table_.regions[i] = record_.regions[i];
    inodes_[i] = record_.region_inodes[i];
    const auto found = kept.find(memory_name(inodes_[i]));
    if (found == kept.end())
      throw VhostRefusal("region " + std::to_string(i) + " of its memory was not kept");
    regions.push_back({.guest_address = from.guest_address,
                       .size = from.size,
                       .user_address = from.user_address,
                       .file_offset = from.file_offset,
                       .fd = base::UniqueFd(base::check(fcntl(found->second.get(), F_DUPFD_CLOEXEC, 0),
                                                        "fcntl(F_DUPFD_CLOEXEC)", "guest memory"))});
  }
  memory_ = GuestMemory::map(std::move(regions));
}

std::unique_ptr<RingChange> VhostUser::restored_ring(uint32_t index) {
  const VhostRecord::Ring& from = record_.rings[index];
  Ring& ring = rings_[index];
  ring.setup = {.size = from.size,
                .descriptors = from.descriptors,
                .available = from.available,
                .used = from.used,
                .base = from.base,
                .event_idx = (features_ & vhost::feature_event_idx) != 0};
  ring.has_size = from.has_size;
  ring.has_addresses = from.has_addresses;
  ring.started = from.started;
  ring.enabled = from.enabled;
  auto start = std::make_unique<RingChange>(RingChange::What::start, index);
  start->setup = ring.setup;
  start->setup.resume = true;
  return start;
}

std::vector<std::unique_ptr<RingChange>> VhostUser::restore(Kept kept) {
  if (record_.unfinished != 0)
    throw VhostRefusal("the former daemon ended in the middle of a message or of its answer");
  features_ = record_.features;
  protocol_features_ = record_.protocol_features;
  backend_ = kept_fd(kept, backend_name);
  restore_memory(kept);
  std::vector<std::unique_ptr<RingChange>> changes;
  using What = RingChange::What;
  changes.push_back(std::make_unique<RingChange>(What::memory));
  changes.back()->memory = memory_;
  if (record_.inflight.rings != 0) {
    inflight_ = record_.inflight;
    base::UniqueFd fd = kept_fd(kept, inflight_name);
    if (!fd) throw VhostRefusal("its in-flight records were not kept");
    changes.push_back(std::make_unique<RingChange>(What::inflight));
    changes.back()->records = InflightMemory::map(std::move(fd), inflight_.size, inflight_.offset,
                                                  inflight_.rings, inflight_.entries);
  }
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    for (const What what : {What::call, What::error_fd}) {
      changes.push_back(std::make_unique<RingChange>(what, i));
      changes.back()->fd = kept_fd(kept, fd_name(what, i));
    }
    auto start = restored_ring(i);
    changes.push_back(std::make_unique<RingChange>(What::enable, i));
    changes.back()->on = rings_[i].enabled;
    if (!rings_[i].started) continue;
    start->fd = kept_fd(kept, fd_name(What::start, i));
    if (!start->fd) throw VhostRefusal("the kick of ring " + std::to_string(i) + " was not kept");
    changes.push_back(std::move(start));
  }
  return changes;
}

} // namespace scanout::guests
