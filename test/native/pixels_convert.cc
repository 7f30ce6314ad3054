// Every format's rows against a reference that is slow, in doubles, and written from drm_fourcc.h's comments.
#include "pixels/convert.h"

#include <drm_fourcc.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "check.h"

using namespace scanout::pixels;

namespace {

// "AARRGGBB" of an RGB format from its name alone: letters from the top bit down, then their widths.
struct Named {
  std::string letters;
  std::vector<int> bits;
};

const std::map<std::string, std::vector<int>>& widths() {
  static const std::map<std::string, std::vector<int>> all = {
      {"8888", {8, 8, 8, 8}},       {"888", {8, 8, 8}},           {"565", {5, 6, 5}},
      {"1555", {1, 5, 5, 5}},       {"5551", {5, 5, 5, 1}},       {"4444", {4, 4, 4, 4}},
      {"2101010", {2, 10, 10, 10}}, {"1010102", {10, 10, 10, 2}}, {"16161616", {16, 16, 16, 16}}};
  return all;
}

Named parse(const Format& format) {
  const std::string name = format.name;
  const size_t digits = name.find_first_of("0123456789");
  return {name.substr(0, digits), widths().at(name.substr(digits))};
}

uint32_t reference_rgb(const Format& format, const std::byte* at) {
  uint64_t word = 0;
  std::memcpy(&word, at, format.planes[0].block_bytes);
  const Named named = parse(format);
  int top = 0;
  for (const int bits : named.bits)
    top += bits;
  std::map<char, uint32_t> values{{'A', 255}};
  for (size_t i = 0; i < named.letters.size(); ++i) {
    top -= named.bits[i];
    const uint64_t largest = (uint64_t{1} << named.bits[i]) - 1;
    const double value = static_cast<double>((word >> top) & largest) / static_cast<double>(largest);
    // By way of 16 bits, as VKMS does.
    values[named.letters[i]] = static_cast<uint32_t>(std::lround(std::round(value * 65535) / 257));
  }
  return values['A'] << 24 | values['R'] << 16 | values['G'] << 8 | values['B'];
}

// Y, U and V of a pixel, 0 to 255 (with fractions for the deep formats).
std::array<double, 3> sample(const Picture& picture, uint32_t x, uint32_t y) {
  const std::string name = picture.format->name;
  const auto byte = [&](uint32_t plane, size_t row, size_t column) {
    return static_cast<double>(picture.planes[plane][row * picture.strides[plane] + column]);
  };
  if (name == "YUYV") return {byte(0, y, x * 2), byte(0, y, x / 2 * 4 + 1), byte(0, y, x / 2 * 4 + 3)};
  if (name == "YVYU") return {byte(0, y, x * 2), byte(0, y, x / 2 * 4 + 3), byte(0, y, x / 2 * 4 + 1)};
  if (name == "UYVY") return {byte(0, y, x * 2 + 1), byte(0, y, x / 2 * 4), byte(0, y, x / 2 * 4 + 2)};
  if (name == "VYUY") return {byte(0, y, x * 2 + 1), byte(0, y, x / 2 * 4 + 2), byte(0, y, x / 2 * 4)};
  if (name == "XYUV8888") return {byte(0, y, x * 4 + 2), byte(0, y, x * 4 + 1), byte(0, y, x * 4)};
  if (name == "VUY888") return {byte(0, y, x * 3), byte(0, y, x * 3 + 1), byte(0, y, x * 3 + 2)};
  const std::string digits = name.substr(name.size() - 2);
  const bool half_wide = digits != "24" && digits != "42" && digits != "44";
  const bool half_high = digits == "12" || digits == "21" || digits == "20" || name[0] == 'P';
  const uint32_t cx = half_wide ? x / 2 : x;
  const uint32_t cy = half_high && name != "P210" ? y / 2 : y;
  if (name[0] == 'P') {
    const auto deep = [&](uint32_t plane, size_t row, size_t column) {
      return (byte(plane, row, column) + 256 * byte(plane, row, column + 1)) / 257;
    };
    return {deep(0, y, x * 2), deep(1, cy, cx * 4), deep(1, cy, cx * 4 + 2)};
  }
  if (name[0] == 'N') {
    const bool swapped = digits == "21" || digits == "61" || digits == "42";
    return {byte(0, y, x), byte(1, cy, cx * 2 + (swapped ? 1 : 0)), byte(1, cy, cx * 2 + (swapped ? 0 : 1))};
  }
  const bool swapped = name[1] == 'V';
  return {byte(0, y, x), byte(swapped ? 2 : 1, cy, cx), byte(swapped ? 1 : 2, cy, cx)};
}

std::array<double, 3> reference_yuv(const Picture& picture, std::array<double, 3> yuv) {
  const double kr = picture.colors.encoding == Encoding::bt601   ? 0.299
                    : picture.colors.encoding == Encoding::bt709 ? 0.2126
                                                                 : 0.2627;
  const double kb = picture.colors.encoding == Encoding::bt601   ? 0.114
                    : picture.colors.encoding == Encoding::bt709 ? 0.0722
                                                                 : 0.0593;
  const bool limited = picture.colors.range == Range::limited;
  const double y = (yuv[0] - (limited ? 16 : 0)) * (limited ? 255.0 / 219 : 1);
  const double u = (yuv[1] - 128) * (limited ? 255.0 / 224 : 1);
  const double v = (yuv[2] - 128) * (limited ? 255.0 / 224 : 1);
  const double red = y + 2 * (1 - kr) * v;
  const double blue = y + 2 * (1 - kb) * u;
  const double green = (y - kr * red - kb * blue) / (1 - kr - kb);
  const auto inside = [](double value) { return std::min(255.0, std::max(0.0, value)); };
  return {inside(red), inside(green), inside(blue)};
}

// A picture of random bytes in memory that ends where the picture ends, at odd addresses.
struct Noise {
  Noise(const Format& format, uint32_t width, uint32_t height, uint32_t seed) {
    std::mt19937 random(seed);
    picture = {.format = &format, .width = width, .height = height};
    for (uint32_t i = 0; i < format.plane_count; ++i) {
      picture.strides[i] = plane_size(format, i, width, height).min_stride + 3;
      memory[i].resize(plane_end(format, i, width, height, picture.strides[i], 1));
      for (std::byte& value : memory[i])
        value = static_cast<std::byte>(random());
      picture.planes[i] = memory[i].data() + 1;
    }
  }
  Picture picture;
  std::array<std::vector<std::byte>, max_memory_planes> memory;
};

} // namespace

TEST(convert_rgb_rows_equal_the_reference) {
  for (const Format& format : formats()) {
    if (format.coding != Coding::rgb || format.fourcc == DRM_FORMAT_R8) continue;
    const Noise noise(format, 61, 5, format.fourcc);
    std::array<uint32_t, 61> row;
    for (uint32_t y = 0; y < 5; ++y) {
      convert_row(noise.picture, 3, y, 58, row.data());
      for (uint32_t x = 3; x < 61; ++x) {
        const std::byte* at =
            noise.picture.planes[0] + y * noise.picture.strides[0] + x * format.planes[0].block_bytes;
        if (row[x - 3] == reference_rgb(format, at)) continue;
        CHECK_EQ(std::string(format.name), "right");
        return;
      }
    }
  }
}

TEST(convert_8888_is_a_plain_copy) {
  const Noise noise(*find_format(DRM_FORMAT_ARGB8888), 32, 1, 1);
  std::array<uint32_t, 32> row;
  convert_row(noise.picture, 0, 0, 32, row.data());
  CHECK_EQ(std::memcmp(row.data(), noise.picture.planes[0], sizeof row), 0);
}

TEST(convert_grey) {
  const Noise noise(*find_format(DRM_FORMAT_R8), 8, 1, 1);
  std::array<uint32_t, 8> row;
  convert_row(noise.picture, 0, 0, 8, row.data());
  for (uint32_t x = 0; x < 8; ++x)
    CHECK_EQ(row[x], 0xff000000 | static_cast<uint32_t>(noise.picture.planes[0][x]) * 0x010101);
}

TEST(convert_yuv_rows_are_within_a_step_of_the_recommendation) {
  for (const Format& format : formats()) {
    if (!format.is_convertible() || format.coding == Coding::rgb) continue;
    for (int colors = 0; colors < 6; ++colors) {
      Noise noise(format, 31, 7, format.fourcc + colors);
      noise.picture.colors = {static_cast<Encoding>(colors / 2), static_cast<Range>(colors % 2)};
      std::array<uint32_t, 31> row;
      for (uint32_t y = 0; y < 7; ++y) {
        // From an odd column on, so that halves of chroma pairs are met.
        convert_row(noise.picture, 1, y, 30, row.data());
        for (uint32_t x = 1; x < 31; ++x) {
          const std::array<double, 3> wanted = reference_yuv(noise.picture, sample(noise.picture, x, y));
          bool right = row[x - 1] >> 24 == 255;
          for (int c = 0; c < 3; ++c) {
            const double step = noise.picture.colors.range == Range::limited ? 1.5 : 0.51;
            right =
                right && std::abs(static_cast<double>(row[x - 1] >> (16 - 8 * c) & 0xff) - wanted[c]) < step;
          }
          if (right) continue;
          CHECK_EQ(std::string(format.name), "right");
          return;
        }
      }
    }
  }
}

TEST(convert_yuv_known_colours) {
  // Y, U, V of BT.601 limited range. VKMS gives these too.
  const struct {
    uint8_t yuv[3];
    uint32_t wanted;
  } cases[] = {{{16, 128, 128}, 0xff000000},     {{235, 128, 128}, 0xffffffff},
               {{126, 128, 128}, 0xff808080},    {{0x51, 0x5a, 0xf0}, 0xffff0000},
               {{0x91, 0x36, 0x22}, 0xff00ff01}, {{0x29, 0xf0, 0x6e}, 0xff0000ff}};
  for (const auto& one : cases) {
    Picture picture{.format = find_format(DRM_FORMAT_YUV444), .width = 1, .height = 1};
    for (uint32_t i = 0; i < 3; ++i)
      picture.planes[i] = reinterpret_cast<const std::byte*>(&one.yuv[i]);
    uint32_t got = 0;
    convert_row(picture, 0, 0, 1, &got);
    for (int shift = 0; shift < 32; shift += 8) {
      const int difference =
          static_cast<int>(got >> shift & 0xff) - static_cast<int>(one.wanted >> shift & 0xff);
      CHECK(std::abs(difference) <= 1);
    }
  }
}
