#include "pixels/format.h"

#include <drm_fourcc.h>

namespace scanout::pixels {

namespace {

constexpr Format packed(uint32_t fourcc, const char* name, uint8_t bytes, Channel red, Channel green,
                        Channel blue, Channel alpha = {}) {
  return {fourcc, name, Coding::rgb, 1, {{{1, bytes}}}, {{red, green, blue, alpha}}, false};
}

constexpr Format yuyv(uint32_t fourcc, const char* name, uint8_t y0, uint8_t u, uint8_t v, uint8_t y1) {
  return {fourcc, name, Coding::yuv_packed, 1, {{{2, 4}}}, {{{y0, 8}, {u, 8}, {v, 8}, {y1, 8}}}, false};
}

constexpr Format yuv444(uint32_t fourcc, const char* name, uint8_t bytes, uint8_t y, uint8_t u, uint8_t v) {
  return {fourcc, name, Coding::yuv_444, 1, {{{1, bytes}}}, {{{y, 8}, {u, 8}, {v, 8}}}, false};
}

constexpr Format semi(uint32_t fourcc, const char* name, uint8_t hsub, uint8_t vsub, bool swapped) {
  return {fourcc, name, Coding::yuv_semi, 2, {{{1, 1}, {1, 2, hsub, vsub}}}, {}, swapped};
}

constexpr Format semi16(uint32_t fourcc, const char* name, uint8_t hsub, uint8_t vsub) {
  return {fourcc, name, Coding::yuv_semi_16, 2, {{{1, 2}, {1, 4, hsub, vsub}}}, {}, false};
}

constexpr Format planar(uint32_t fourcc, const char* name, uint8_t hsub, uint8_t vsub, bool swapped) {
  return {fourcc, name,   Coding::yuv_planar, 3, {{{1, 1}, {1, 1, hsub, vsub}, {1, 1, hsub, vsub}}},
          {},     swapped};
}

// Scanned out by some display, not read here.
constexpr Format layout(uint32_t fourcc, const char* name, MemoryPlane first, MemoryPlane second = {}) {
  const uint8_t count = second.block_bytes > 0 ? 2 : 1;
  return {fourcc, name, Coding::unknown, count, {{first, second}}, {}, false};
}

constexpr Format table[] = {
    packed(DRM_FORMAT_XRGB8888, "XRGB8888", 4, {16, 8}, {8, 8}, {0, 8}),
    packed(DRM_FORMAT_ARGB8888, "ARGB8888", 4, {16, 8}, {8, 8}, {0, 8}, {24, 8}),
    packed(DRM_FORMAT_XBGR8888, "XBGR8888", 4, {0, 8}, {8, 8}, {16, 8}),
    packed(DRM_FORMAT_ABGR8888, "ABGR8888", 4, {0, 8}, {8, 8}, {16, 8}, {24, 8}),
    packed(DRM_FORMAT_RGBX8888, "RGBX8888", 4, {24, 8}, {16, 8}, {8, 8}),
    packed(DRM_FORMAT_RGBA8888, "RGBA8888", 4, {24, 8}, {16, 8}, {8, 8}, {0, 8}),
    packed(DRM_FORMAT_BGRX8888, "BGRX8888", 4, {8, 8}, {16, 8}, {24, 8}),
    packed(DRM_FORMAT_BGRA8888, "BGRA8888", 4, {8, 8}, {16, 8}, {24, 8}, {0, 8}),
    packed(DRM_FORMAT_RGB888, "RGB888", 3, {16, 8}, {8, 8}, {0, 8}),
    packed(DRM_FORMAT_BGR888, "BGR888", 3, {0, 8}, {8, 8}, {16, 8}),
    packed(DRM_FORMAT_RGB565, "RGB565", 2, {11, 5}, {5, 6}, {0, 5}),
    packed(DRM_FORMAT_BGR565, "BGR565", 2, {0, 5}, {5, 6}, {11, 5}),
    packed(DRM_FORMAT_XRGB1555, "XRGB1555", 2, {10, 5}, {5, 5}, {0, 5}),
    packed(DRM_FORMAT_ARGB1555, "ARGB1555", 2, {10, 5}, {5, 5}, {0, 5}, {15, 1}),
    packed(DRM_FORMAT_XBGR1555, "XBGR1555", 2, {0, 5}, {5, 5}, {10, 5}),
    packed(DRM_FORMAT_ABGR1555, "ABGR1555", 2, {0, 5}, {5, 5}, {10, 5}, {15, 1}),
    packed(DRM_FORMAT_RGBX5551, "RGBX5551", 2, {11, 5}, {6, 5}, {1, 5}),
    packed(DRM_FORMAT_RGBA5551, "RGBA5551", 2, {11, 5}, {6, 5}, {1, 5}, {0, 1}),
    packed(DRM_FORMAT_XRGB4444, "XRGB4444", 2, {8, 4}, {4, 4}, {0, 4}),
    packed(DRM_FORMAT_ARGB4444, "ARGB4444", 2, {8, 4}, {4, 4}, {0, 4}, {12, 4}),
    packed(DRM_FORMAT_XBGR4444, "XBGR4444", 2, {0, 4}, {4, 4}, {8, 4}),
    packed(DRM_FORMAT_ABGR4444, "ABGR4444", 2, {0, 4}, {4, 4}, {8, 4}, {12, 4}),
    packed(DRM_FORMAT_XRGB2101010, "XRGB2101010", 4, {20, 10}, {10, 10}, {0, 10}),
    packed(DRM_FORMAT_ARGB2101010, "ARGB2101010", 4, {20, 10}, {10, 10}, {0, 10}, {30, 2}),
    packed(DRM_FORMAT_XBGR2101010, "XBGR2101010", 4, {0, 10}, {10, 10}, {20, 10}),
    packed(DRM_FORMAT_ABGR2101010, "ABGR2101010", 4, {0, 10}, {10, 10}, {20, 10}, {30, 2}),
    packed(DRM_FORMAT_RGBX1010102, "RGBX1010102", 4, {22, 10}, {12, 10}, {2, 10}),
    packed(DRM_FORMAT_RGBA1010102, "RGBA1010102", 4, {22, 10}, {12, 10}, {2, 10}, {0, 2}),
    packed(DRM_FORMAT_BGRX1010102, "BGRX1010102", 4, {2, 10}, {12, 10}, {22, 10}),
    packed(DRM_FORMAT_BGRA1010102, "BGRA1010102", 4, {2, 10}, {12, 10}, {22, 10}, {0, 2}),
    packed(DRM_FORMAT_XRGB16161616, "XRGB16161616", 8, {32, 16}, {16, 16}, {0, 16}),
    packed(DRM_FORMAT_ARGB16161616, "ARGB16161616", 8, {32, 16}, {16, 16}, {0, 16}, {48, 16}),
    packed(DRM_FORMAT_XBGR16161616, "XBGR16161616", 8, {0, 16}, {16, 16}, {32, 16}),
    packed(DRM_FORMAT_ABGR16161616, "ABGR16161616", 8, {0, 16}, {16, 16}, {32, 16}, {48, 16}),
    packed(DRM_FORMAT_R8, "R8", 1, {0, 8}, {0, 8}, {0, 8}), // shown as grey

    yuyv(DRM_FORMAT_YUYV, "YUYV", 0, 8, 24, 16),
    yuyv(DRM_FORMAT_YVYU, "YVYU", 0, 24, 8, 16),
    yuyv(DRM_FORMAT_UYVY, "UYVY", 8, 0, 16, 24),
    yuyv(DRM_FORMAT_VYUY, "VYUY", 8, 16, 0, 24),
    yuv444(DRM_FORMAT_XYUV8888, "XYUV8888", 4, 16, 8, 0),
    yuv444(DRM_FORMAT_VUY888, "VUY888", 3, 0, 8, 16),
    semi(DRM_FORMAT_NV12, "NV12", 2, 2, false),
    semi(DRM_FORMAT_NV21, "NV21", 2, 2, true),
    semi(DRM_FORMAT_NV16, "NV16", 2, 1, false),
    semi(DRM_FORMAT_NV61, "NV61", 2, 1, true),
    semi(DRM_FORMAT_NV24, "NV24", 1, 1, false),
    semi(DRM_FORMAT_NV42, "NV42", 1, 1, true),
    semi16(DRM_FORMAT_P010, "P010", 2, 2),
    semi16(DRM_FORMAT_P012, "P012", 2, 2),
    semi16(DRM_FORMAT_P016, "P016", 2, 2),
    semi16(DRM_FORMAT_P210, "P210", 2, 1),
    planar(DRM_FORMAT_YUV420, "YUV420", 2, 2, false),
    planar(DRM_FORMAT_YVU420, "YVU420", 2, 2, true),
    planar(DRM_FORMAT_YUV422, "YUV422", 2, 1, false),
    planar(DRM_FORMAT_YVU422, "YVU422", 2, 1, true),
    planar(DRM_FORMAT_YUV444, "YUV444", 1, 1, false),
    planar(DRM_FORMAT_YVU444, "YVU444", 1, 1, true),

    layout(DRM_FORMAT_XRGB16161616F, "XRGB16161616F", {1, 8}),
    layout(DRM_FORMAT_ARGB16161616F, "ARGB16161616F", {1, 8}),
    layout(DRM_FORMAT_XBGR16161616F, "XBGR16161616F", {1, 8}),
    layout(DRM_FORMAT_ABGR16161616F, "ABGR16161616F", {1, 8}),
    layout(DRM_FORMAT_NV15, "NV15", {4, 5}, {2, 5, 2, 2}),
    layout(DRM_FORMAT_P030, "P030", {3, 4}, {3, 8, 2, 2}),
    layout(DRM_FORMAT_Y210, "Y210", {2, 8}),
    layout(DRM_FORMAT_Y212, "Y212", {2, 8}),
    layout(DRM_FORMAT_Y216, "Y216", {2, 8}),
};

constexpr uint32_t divide_up(uint32_t value, uint32_t by) {
  return value / by + (value % by != 0 ? 1 : 0);
}

} // namespace

std::span<const Format> formats() noexcept {
  return table;
}

const Format* find_format(uint32_t fourcc) noexcept {
  for (const Format& format : table) {
    if (format.fourcc == fourcc) return &format;
  }
  return nullptr;
}

PlaneSize plane_size(const Format& format, uint32_t plane, uint32_t width, uint32_t height) noexcept {
  const MemoryPlane& memory = format.planes[plane];
  const uint32_t columns = divide_up(width, memory.hsub);
  return {columns, divide_up(height, memory.vsub),
          divide_up(columns, memory.block_pixels) * memory.block_bytes};
}

uint64_t plane_end(const Format& format, uint32_t plane, uint32_t width, uint32_t height, uint32_t stride,
                   uint32_t offset) noexcept {
  const PlaneSize size = plane_size(format, plane, width, height);
  if (size.rows == 0) return offset;
  return uint64_t{offset} + uint64_t{stride} * (size.rows - 1) + size.min_stride;
}

} // namespace scanout::pixels
