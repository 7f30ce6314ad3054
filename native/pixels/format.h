// What a DRM fourcc means: memory planes, bits, subsampling, and whether this program can read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace scanout::pixels {

constexpr size_t max_memory_planes = 4;

/// One memory plane. Pixels lie in rows of blocks: a block is one pixel in most formats, two for YUYV, eight
/// for R1.
struct MemoryPlane {
  uint8_t block_pixels = 0;
  uint8_t block_bytes = 0;
  uint8_t hsub = 1, vsub = 1; // pixels of the picture to one of the plane, across and down
};

/// Bits of a colour channel in a pixel's little-endian word. No bits: the format has no such channel.
struct Channel {
  uint8_t shift = 0, bits = 0;
};

/// How the converter reads a pixel.
enum class Coding : uint8_t {
  unknown,     ///< it does not: such buffers can be scanned out, not copied
  rgb,         ///< one word, `channels` red, green, blue, alpha
  yuv_packed,  ///< two pixels in four bytes, `channels` Y of the first, U, V, Y of the second
  yuv_444,     ///< one word, `channels` Y, U, V
  yuv_semi,    ///< Y plane, then a plane of chroma pairs; samples of 8 bits
  yuv_semi_16, ///< the same, samples of 16 bits (P010 has its ten at the top)
  yuv_planar,  ///< Y, and one plane for each chroma; samples of 8 bits
};

/// Layouts are those of the uncompressed, linear buffer (DRM_FORMAT_MOD_LINEAR). Source: drm_fourcc.h.
struct Format {
  uint32_t fourcc;
  const char* name; ///< as in drm_fourcc.h without DRM_FORMAT_
  Coding coding;
  uint8_t plane_count;
  std::array<MemoryPlane, max_memory_planes> planes;
  std::array<Channel, 4> channels;
  bool chroma_swapped; ///< V before U

  [[nodiscard]] bool has_alpha() const noexcept { return coding == Coding::rgb && channels[3].bits > 0; }
  [[nodiscard]] bool is_convertible() const noexcept { return coding != Coding::unknown; }
};

/// What one memory plane of a picture takes.
struct PlaneSize {
  uint32_t columns; ///< samples in a row
  uint32_t rows;
  uint32_t min_stride; ///< bytes
};

/// Every format that is known; the order says nothing. Lives as long as the program.
std::span<const Format> formats() noexcept;
/// Null when unknown.
const Format* find_format(uint32_t fourcc) noexcept;

/// `plane` is below plane_count. Sizes round up, as the kernel's framebuffer_check does.
PlaneSize plane_size(const Format& format, uint32_t plane, uint32_t width, uint32_t height) noexcept;

/// First byte after the plane's last row, from the start of the buffer: what a buffer must be as large as.
uint64_t plane_end(const Format& format, uint32_t plane, uint32_t width, uint32_t height, uint32_t stride,
                   uint32_t offset) noexcept;

} // namespace scanout::pixels
