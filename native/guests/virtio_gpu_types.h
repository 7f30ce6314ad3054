// What the parts of the virtio-gpu device share: resources, their framebuffers, and what is asked of
// JavaScript.
#pragma once

#include <array>
#include <cstdint>

namespace scanout::guests {

constexpr uint32_t max_gpu_scanouts = 16; // VIRTIO_GPU_MAX_SCANOUTS
constexpr uint32_t max_gpu_resources = 256;
constexpr uint32_t max_gpu_buffers = 64;    // as many as the shadow copy reads of a guest
constexpr uint32_t max_gpu_side = 16384;    // pixels
constexpr uint32_t max_gpu_entries = 16384; // pieces of memory in one resource
constexpr uint32_t max_edid = 1024;
constexpr uint32_t no_slot = ~0u;

/// How pixels lie in a resource. Bytes; `format` is the device's number.
struct GpuLayout {
  uint32_t width = 0, height = 0, format = 0, stride = 0, offset = 0;
  bool operator==(const GpuLayout&) const = default;
};

/// A framebuffer of a resource. Flip thread.
struct GpuBuffer {
  enum class State : uint8_t {
    free,
    making, // JavaScript imports it
    ready,
    dying,   // shown no more; freed when no frame holds it
    freeing, // JavaScript releases it
  } state = State::free;
  bool copied = false; // its pixels are a copy that transfers keep up to date
  uint32_t resource = no_slot;
  uint32_t fb_id = 0; // 0: the display did not take it
  uint32_t uses = 0;  // frames that the engine holds
  GpuLayout layout;
};

/// A resource of the guest. Flip thread.
struct GpuResource {
  enum class State : uint8_t {
    free,
    used,
    dying,   // the guest has let it go; it waits for its buffers
    freeing, // JavaScript lets its memory go
  } state = State::free;
  bool blob = false;
  bool backed = false;       // has memory
  uint32_t id = 0;           // the guest's
  uint64_t size = 0;         // bytes, of a blob
  GpuLayout layout;          // of a 2D resource
  uint32_t buffer = no_slot; // of a 2D resource
};

struct GpuRect {
  uint32_t x = 0, y = 0, width = 0, height = 0;
};

/// What a scanout shows. Flip thread.
struct GpuShown {
  uint32_t buffer = no_slot;
  GpuRect source; // of the buffer
};
struct GpuScanoutRecord {
  GpuShown picture, pointer;
  int32_t cursor_x = 0, cursor_y = 0;
  uint32_t hot_x = 0, hot_y = 0;
};

/// What JavaScript is to do. The first three hold up the control queue until they are answered.
struct GpuNotice {
  enum class What : uint32_t {
    back,   // make a dma-buf of the memory that the command in hand names; then import it, for a 2D resource
    import, // make a framebuffer of a blob
    transfer, // copy `rect` of the guest's memory into the buffer's copy
    release_buffer,
    release_resource,
    broken, // ring `resource`; `text` says why
  } what;
  uint32_t resource = no_slot;
  uint32_t buffer = no_slot;
  GpuLayout layout;
  GpuRect rect;
  uint64_t offset = 0; // transfer: where the rectangle begins in the guest's memory
  uint64_t size = 0;   // of a blob
  const char* text = nullptr;
};

/// How a job that held up the queue ended.
struct GpuJobResult {
  bool done = false;
  bool copied = false;
  uint32_t fb_id = 0;
};

/// What the guest is told of one scanout.
struct GpuDisplay {
  uint32_t width = 0, height = 0; // 0: nothing is connected
  uint32_t edid_size = 0;
  std::array<uint8_t, max_edid> edid{};
};

/// Bytes of a pixel of the device's format, 0 for one that does not exist. Each is 32 bits.
constexpr uint32_t gpu_format_bytes(uint32_t format) {
  switch (format) {
  case 1:   // B8G8R8A8
  case 2:   // B8G8R8X8
  case 3:   // A8R8G8B8
  case 4:   // X8R8G8B8
  case 67:  // R8G8B8A8
  case 68:  // X8B8G8R8
  case 121: // A8B8G8R8
  case 134: // R8G8B8X8
    return 4;
  default:
    return 0;
  }
}

} // namespace scanout::guests
