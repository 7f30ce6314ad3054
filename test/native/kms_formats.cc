#include "kms/formats.h"

#include <drm_fourcc.h>
#include <drm_mode.h>

#include <cstring>
#include <vector>

#include "check.h"
#include "kms/color.h"
#include "kms/modes.h"

using namespace scanout::kms;

namespace {

template <typename T> void poke(std::vector<std::byte>& blob, size_t offset, T value) {
  std::memcpy(blob.data() + offset, &value, sizeof value);
}

/// A blob as the kernel's create_in_format_blob lays it out.
std::vector<std::byte> blob_of(const std::vector<uint32_t>& formats,
                               const std::vector<drm_format_modifier>& modifiers) {
  drm_format_modifier_blob header{};
  header.version = FORMAT_BLOB_CURRENT;
  header.count_formats = static_cast<uint32_t>(formats.size());
  header.formats_offset = sizeof header;
  header.count_modifiers = static_cast<uint32_t>(modifiers.size());
  header.modifiers_offset = static_cast<uint32_t>((sizeof header + formats.size() * 4 + 7) / 8 * 8);
  std::vector<std::byte> blob(header.modifiers_offset + modifiers.size() * sizeof(drm_format_modifier));
  std::memcpy(blob.data(), &header, sizeof header);
  for (size_t i = 0; i < formats.size(); ++i)
    poke(blob, header.formats_offset + i * sizeof(uint32_t), formats[i]);
  for (size_t i = 0; i < modifiers.size(); ++i)
    poke(blob, header.modifiers_offset + i * sizeof(drm_format_modifier), modifiers[i]);
  return blob;
}

} // namespace

TEST(formats_are_joined_with_their_modifiers) {
  std::vector<uint32_t> formats(70, DRM_FORMAT_RGB565);
  formats[0] = DRM_FORMAT_XRGB8888;
  formats[69] = DRM_FORMAT_NV12;
  const auto parsed = parse_format_blob(
      blob_of(formats, {{.formats = 1, .offset = 0, .pad = 0, .modifier = 0},
                        {.formats = 1ull << 5 | 1, .offset = 64, .pad = 0, .modifier = 7}}));
  REQUIRE(parsed.has_value());
  REQUIRE(parsed->size() == 70);
  CHECK_EQ((*parsed)[0].format, uint32_t{DRM_FORMAT_XRGB8888});
  CHECK((*parsed)[0].modifiers == std::vector<uint64_t>{0});
  CHECK((*parsed)[1].modifiers.empty());
  CHECK((*parsed)[64].modifiers == std::vector<uint64_t>{7});
  CHECK((*parsed)[69].modifiers == std::vector<uint64_t>{7});
}

TEST(formats_empty_blob_is_no_error) {
  const auto parsed = parse_format_blob(blob_of({}, {}));
  REQUIRE(parsed.has_value());
  CHECK(parsed->empty());
}

TEST(formats_malformed_blobs_are_refused) {
  const auto good = blob_of({DRM_FORMAT_XRGB8888}, {{.formats = 1, .offset = 0, .pad = 0, .modifier = 0}});
  REQUIRE(parse_format_blob(good).has_value());
  const auto refused = [&](size_t offset, uint32_t value) {
    auto bad = good;
    poke(bad, offset, value);
    CHECK(!parse_format_blob(bad).has_value());
  };
  for (const uint32_t value : {2u, UINT32_MAX}) {
    refused(offsetof(drm_format_modifier_blob, version), value);
    refused(offsetof(drm_format_modifier_blob, count_modifiers), value);
  }
  refused(offsetof(drm_format_modifier_blob, count_formats), UINT32_MAX);
  refused(offsetof(drm_format_modifier_blob, formats_offset), UINT32_MAX);
  refused(offsetof(drm_format_modifier_blob, modifiers_offset), UINT32_MAX - 23);
  // A modifier of a format that is not there.
  auto bad = good;
  poke(bad, 32, uint64_t{1} << 63);
  CHECK(!parse_format_blob(bad).has_value());
}

TEST(formats_truncated_anywhere_are_refused) {
  const auto good = blob_of({DRM_FORMAT_XRGB8888}, {{.formats = 1, .offset = 0, .pad = 0, .modifier = 0}});
  for (size_t size = 0; size < good.size(); ++size) {
    const std::vector<std::byte> part(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    CHECK(!parse_format_blob(part).has_value());
  }
}

TEST(formats_have_names) {
  CHECK_EQ(format_name(DRM_FORMAT_XRGB8888), std::string("XR24"));
  CHECK_EQ(format_name(DRM_FORMAT_C8), std::string("C8??"));
  CHECK_EQ(format_name(0xff0a0041), std::string("A???"));
}

TEST(modes_refresh_is_exact) {
  Mode mode{};
  mode.clock = 148352; // 1080p at 60/1.001 Hz
  mode.htotal = 2200;
  mode.vtotal = 1125;
  CHECK_EQ(refresh_mhz(mode), 59940u);
  mode.flags = DRM_MODE_FLAG_INTERLACE;
  CHECK_EQ(refresh_mhz(mode), 119880u);
  mode.flags = DRM_MODE_FLAG_DBLSCAN;
  CHECK_EQ(refresh_mhz(mode), 29970u);
  mode.flags = 0;
  mode.vscan = 2;
  CHECK_EQ(refresh_mhz(mode), 29970u);
  mode.htotal = 0;
  CHECK_EQ(refresh_mhz(mode), 0u);
}

TEST(color_matrix_elements_are_sign_and_magnitude) {
  CHECK_EQ(to_sign_magnitude(1.0), uint64_t{1} << 32);
  CHECK_EQ(to_sign_magnitude(-1.0), uint64_t{1} << 63 | uint64_t{1} << 32);
  CHECK_EQ(to_sign_magnitude(0.5), uint64_t{1} << 31);
  CHECK_EQ(to_sign_magnitude(0.0), uint64_t{0});
  CHECK_EQ(to_sign_magnitude(1e30) >> 63, uint64_t{0}); // the largest, not a wrapped one
}
