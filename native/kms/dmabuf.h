// dma-buf descriptors of whoever. Throws SystemError (ENOTTY: not a dma-buf).
#pragma once

#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "kms/mapping.h"

namespace scanout::kms {

/// What a processor, or a fence, is about to do with a buffer.
enum class Access : uint8_t { read = 1, write = 2, read_write = 3 };

struct DmabufInfo {
  uint64_t inode; // tells dma-bufs apart for as long as they exist
  uint64_t size;  // bytes
};
/// EINVAL: not a dma-buf.
DmabufInfo dmabuf_info(int dmabuf);

/// DMA_BUF_IOCTL_SYNC: brackets access by the processor through a mapping; waits for fences and keeps caches
/// coherent. Can block.
void begin_cpu_access(int dmabuf, Access access);
void end_cpu_access(int dmabuf, Access access);

/// Maps a dma-buf whole. EINVAL or ENOTTY where its exporter cannot.
Mapping map_dmabuf(int dmabuf, bool writable);

/// DMA_BUF_IOCTL_EXPORT_SYNC_FILE: a sync_file of the implicit fences that such an access has to wait for.
base::UniqueFd export_sync_file(int dmabuf, Access access);
/// DMA_BUF_IOCTL_IMPORT_SYNC_FILE: adds a sync_file to the implicit fences, as such an access.
void import_sync_file(int dmabuf, int fence, Access access);

/// DMA_BUF_SET_NAME: how debugfs and fdinfo show it; 31 characters at most.
void set_dmabuf_name(int dmabuf, const std::string& name);

} // namespace scanout::kms
