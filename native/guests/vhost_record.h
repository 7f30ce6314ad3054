// What another process needs to go on with a vhost-user connection.
#pragma once

#include <cstdint>

#include "guests/vhost_user_protocol.h"

namespace scanout::guests {

/// Plain data, in memory that outlives the process. It says what was done for the messages that were
/// answered; the one in hand is still in the socket. Descriptors are kept elsewhere, by name.
struct VhostRecord {
  static constexpr uint32_t max_rings = 2, max_regions = 8;

  uint64_t features, protocol_features;
  /// Something was read that cannot be read again and is not dealt with, or an answer is on its way. Nobody
  /// can go on from there.
  uint32_t unfinished;

  uint32_t region_count;
  vhost::MemoryRegion regions[max_regions];
  uint64_t region_inodes[max_regions]; // of their memfds

  struct Ring {
    uint64_t descriptors, available, used;
    uint32_t size;
    uint16_t base;
    bool has_size, has_addresses, started, enabled;
  } rings[max_rings];

  vhost::Inflight inflight; // of the front end's, where `rings` is not 0
};

} // namespace scanout::guests
