// Says what a descriptor is without asking the file itself, which may be a hostile file system's.
#pragma once

namespace scanout::base {

/// True for eventfd(2) descriptors.
bool is_eventfd(int fd) noexcept;
/// True for sync_file descriptors (explicit fences).
bool is_sync_file(int fd) noexcept;
/// True for dma-buf descriptors.
bool is_dma_buf(int fd) noexcept;
/// True for descriptors of a device of VFIO that was opened through its group.
bool is_vfio_device(int fd) noexcept;

/// Closes a descriptor that came from a guest and is not known to be harmless. close(2) runs the file's own
/// flush, which a FUSE server can hold up for ever; here only a thread of its own waits for it. Never blocks,
/// any thread.
void close_untrusted(int fd) noexcept;

} // namespace scanout::base
