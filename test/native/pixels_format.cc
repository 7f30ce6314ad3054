#include "pixels/format.h"

#include <drm_fourcc.h>

#include <cstring>
#include <set>

#include "check.h"

using namespace scanout::pixels;

namespace {

const Format& known(uint32_t fourcc) {
  const Format* format = find_format(fourcc);
  REQUIRE(format != nullptr);
  return *format;
}

} // namespace

TEST(pixel_formats_have_unique_codes_and_names) {
  std::set<uint32_t> codes;
  std::set<std::string> names;
  for (const Format& format : formats()) {
    CHECK(codes.insert(format.fourcc).second);
    CHECK(names.insert(format.name).second);
    CHECK(find_format(format.fourcc) == &format);
  }
  CHECK(find_format(0) == nullptr);
  CHECK(find_format(DRM_FORMAT_XRGB8888 | DRM_FORMAT_BIG_ENDIAN) == nullptr);
}

TEST(pixel_formats_are_of_one_piece) {
  for (const Format& format : formats()) {
    CHECK(format.plane_count >= 1 && format.plane_count <= max_memory_planes);
    for (uint32_t i = 0; i < max_memory_planes; ++i)
      CHECK_EQ(format.planes[i].block_bytes > 0, i < format.plane_count);
    CHECK(format.planes[0].hsub == 1 && format.planes[0].vsub == 1);
    if (format.coding != Coding::rgb) continue;
    uint64_t used = 0;
    for (const Channel& channel : format.channels) {
      CHECK(channel.shift + channel.bits <= format.planes[0].block_bytes * 8);
      const uint64_t bits = ((uint64_t{1} << channel.bits) - 1) << channel.shift;
      if (format.fourcc != DRM_FORMAT_R8) CHECK_EQ(used & bits, 0u);
      used |= bits;
    }
    // A name says which channels there are.
    CHECK_EQ(format.has_alpha(), std::strchr(format.name, 'A') != nullptr);
  }
}

TEST(pixel_format_plane_sizes) {
  const PlaneSize xrgb = plane_size(known(DRM_FORMAT_XRGB8888), 0, 641, 3);
  CHECK_EQ(xrgb.columns, 641u);
  CHECK_EQ(xrgb.rows, 3u);
  CHECK_EQ(xrgb.min_stride, 2564u);
  CHECK_EQ(plane_size(known(DRM_FORMAT_RGB888), 0, 5, 1).min_stride, 15u);
  CHECK_EQ(plane_size(known(DRM_FORMAT_YUYV), 0, 5, 1).min_stride, 12u);
  CHECK_EQ(plane_size(known(DRM_FORMAT_NV15), 0, 6, 2).min_stride, 10u);

  const PlaneSize chroma = plane_size(known(DRM_FORMAT_NV12), 1, 5, 3);
  CHECK_EQ(chroma.columns, 3u);
  CHECK_EQ(chroma.rows, 2u);
  CHECK_EQ(chroma.min_stride, 6u);
  CHECK_EQ(plane_size(known(DRM_FORMAT_P010), 1, 4, 4).min_stride, 8u);
  CHECK_EQ(plane_size(known(DRM_FORMAT_YUV422), 2, 4, 4).rows, 4u);
}

TEST(pixel_format_plane_end) {
  const Format& xrgb = known(DRM_FORMAT_XRGB8888);
  CHECK_EQ(plane_end(xrgb, 0, 10, 2, 64, 100), 100u + 64 + 40);
  CHECK_EQ(plane_end(xrgb, 0, 16384, 16384, 0xffffffff, 0xffffffff),
           0xffffffffull + 0xffffffffull * 16383 + 65536);
  CHECK_EQ(plane_end(xrgb, 0, 10, 0, 64, 100), 100u);
}
