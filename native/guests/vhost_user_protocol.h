// Numbers and structures of vhost-user (QEMU's docs/interop/vhost-user.rst).
#pragma once

#include <cstddef>
#include <cstdint>

namespace scanout::guests::vhost {

enum class Request : uint32_t {
  get_features = 1,
  set_features = 2,
  set_owner = 3,
  reset_owner = 4,
  set_mem_table = 5,
  set_log_base = 6,
  set_log_fd = 7,
  set_vring_num = 8,
  set_vring_addr = 9,
  set_vring_base = 10,
  get_vring_base = 11,
  set_vring_kick = 12,
  set_vring_call = 13,
  set_vring_err = 14,
  get_protocol_features = 15,
  set_protocol_features = 16,
  get_queue_num = 17,
  set_vring_enable = 18,
  set_backend_req_fd = 21,
  get_config = 24,
  set_config = 25,
  get_inflight_fd = 31,
  set_inflight_fd = 32,
  gpu_set_socket = 33,
  reset_device = 34,
};

constexpr uint32_t backend_config_change = 2; // what the back end sends over its own channel

constexpr uint32_t version = 1;
constexpr uint32_t version_mask = 3;
constexpr uint32_t flag_reply = 1u << 2;
constexpr uint32_t flag_need_reply = 1u << 3;

constexpr uint64_t bit(unsigned number) {
  return uint64_t{1} << number;
}

// Feature bits of the transport (Virtio 1.2, section 6; vhost-user).
constexpr uint64_t feature_notify_on_empty = bit(24);
constexpr uint64_t feature_log_all = bit(26);
constexpr uint64_t feature_any_layout = bit(27);
constexpr uint64_t feature_indirect = bit(28);
constexpr uint64_t feature_event_idx = bit(29);
constexpr uint64_t feature_protocol = bit(30); // VHOST_USER_F_PROTOCOL_FEATURES
constexpr uint64_t feature_version_1 = bit(32);
constexpr uint64_t feature_ring_reset = bit(40);

constexpr uint64_t protocol_mq = bit(0);
constexpr uint64_t protocol_reply_ack = bit(3);
constexpr uint64_t protocol_backend_req = bit(5);
constexpr uint64_t protocol_config = bit(9);
constexpr uint64_t protocol_inflight = bit(12); // VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD
constexpr uint64_t protocol_reset_device = bit(13);

struct Header {
  uint32_t request, flags, size;
};

struct VringState {
  uint32_t index, number;
};

struct VringAddress {
  uint32_t index, flags;
  uint64_t descriptors, used, available, log;
};

constexpr uint64_t vring_index_mask = 0xff;
constexpr uint64_t vring_no_fd = bit(8);

struct MemoryRegion {
  uint64_t guest_address, size, user_address, file_offset;
};

struct MemoryTable {
  uint32_t count, padding;
  MemoryRegion regions[8];
};

struct Inflight {
  uint64_t size, offset;
  uint16_t rings, entries;
};
constexpr size_t inflight_bytes = 20; // front ends may send their padding, too

struct ConfigHeader {
  uint32_t offset, size, flags;
};

constexpr size_t max_config = 256;
constexpr size_t max_payload = 512; // longer than any message that there is
constexpr size_t max_fds = 8;
static_assert(sizeof(MemoryTable) <= max_payload && sizeof(ConfigHeader) + max_config <= max_payload);

} // namespace scanout::guests::vhost
