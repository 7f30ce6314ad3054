#include "pixels/convert.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace scanout::pixels {

namespace {

static_assert(std::endian::native == std::endian::little, "pixel words are little-endian, and read as such");

// ---- RGB

// A channel of `bits` bits as 8: (value * factor + half) >> 24 rounds to the nearest for 1 to 16 bits.
constexpr uint32_t half_24 = 1u << 23;
constexpr uint32_t factor_of(uint8_t bits) {
  const uint64_t largest = (uint64_t{1} << bits) - 1;
  return static_cast<uint32_t>(((uint64_t{255} << 24) + largest / 2) / largest);
}

struct Reader {
  uint32_t shift, mask, factor;
  uint32_t none; // what the value is where the format has no such channel
};

Reader reader_of(const Channel& channel) {
  if (channel.bits == 0) return {0, 0, 0, 255};
  return {channel.shift, (1u << channel.bits) - 1, factor_of(channel.bits), 0};
}

template <typename Word> uint32_t read_channel(const Reader& reader, Word word) {
  const uint32_t value = static_cast<uint32_t>(word >> reader.shift) & reader.mask;
  return ((value * reader.factor + half_24) >> 24) + reader.none;
}

template <typename Word, size_t bytes> Word load(const std::byte* at) {
  Word word = 0;
  std::memcpy(&word, at, bytes); // guests choose offset and stride: nothing is aligned
  return word;
}

template <typename Word, size_t bytes>
void rgb_row(const Format& format, const std::byte* from, uint32_t count, uint32_t* out) {
  const Reader red = reader_of(format.channels[0]);
  const Reader green = reader_of(format.channels[1]);
  const Reader blue = reader_of(format.channels[2]);
  const Reader alpha = reader_of(format.channels[3]);
  for (uint32_t i = 0; i < count; ++i) {
    const Word word = load<Word, bytes>(from + size_t{i} * bytes);
    out[i] = read_channel(alpha, word) << 24 | read_channel(red, word) << 16 |
             read_channel(green, word) << 8 | read_channel(blue, word);
  }
}

void rgb(const Format& format, const std::byte* row, uint32_t x, uint32_t count, uint32_t* out) {
  const uint32_t bytes = format.planes[0].block_bytes;
  const std::byte* from = row + size_t{x} * bytes;
  switch (bytes) {
  case 1:
    return rgb_row<uint32_t, 1>(format, from, count, out);
  case 2:
    return rgb_row<uint32_t, 2>(format, from, count, out);
  case 3:
    return rgb_row<uint32_t, 3>(format, from, count, out);
  case 4:
    return rgb_row<uint32_t, 4>(format, from, count, out);
  default:
    return rgb_row<uint64_t, 8>(format, from, count, out);
  }
}

// ---- YUV

// Sums of 16-bit colour values, with `fraction` bits behind the point: 18 bits before it are enough for every
// encoding, so that 32 bits hold a sum.
constexpr int fraction = 12;

// What one 8-bit sample contributes to red, green and blue.
struct Matrix {
  std::array<int32_t, 256> y, red_v, green_u, green_v, blue_u;
  // The same per step of a 16-bit sample, for the deep formats, with `deep_fraction` bits behind the point.
  int64_t deep_y, deep_red_v, deep_green_u, deep_green_v, deep_blue_u;
  int32_t black; // of luma, 16-bit
};

constexpr int deep_fraction = 32;
constexpr int32_t grey = 128 * 257; // chroma 0

struct Weights {
  double red, blue;
};

constexpr Weights weights_of(Encoding encoding) {
  switch (encoding) {
  case Encoding::bt709:
    return {0.2126, 0.0722};
  case Encoding::bt2020:
    return {0.2627, 0.0593};
  default:
    return {0.299, 0.114};
  }
}

Matrix make_matrix(Colors colors) {
  const Weights weights = weights_of(colors.encoding);
  const double green = 1 - weights.red - weights.blue;
  const bool limited = colors.range == Range::limited;
  // 256ths, not 255ths, as VKMS has them: a copy then equals the scanout, at most one step of 255 above
  // ITU-R.
  const double luma = limited ? 256.0 / 219 : 1;
  const double chroma = limited ? 256.0 / 224 : 1;
  const double red_v = 2 * (1 - weights.red) * chroma;
  const double blue_u = 2 * (1 - weights.blue) * chroma;
  const double green_v = -red_v * weights.red / green;
  const double green_u = -blue_u * weights.blue / green;

  Matrix matrix{};
  matrix.black = limited ? 16 * 257 : 0;
  const auto part = [](double factor, int32_t sample) {
    return static_cast<int32_t>(std::lround(factor * sample * (1 << fraction)));
  };
  for (int32_t i = 0; i < 256; ++i) {
    matrix.y[i] = part(luma, i * 257 - matrix.black);
    matrix.red_v[i] = part(red_v, i * 257 - grey);
    matrix.green_u[i] = part(green_u, i * 257 - grey);
    matrix.green_v[i] = part(green_v, i * 257 - grey);
    matrix.blue_u[i] = part(blue_u, i * 257 - grey);
  }
  const auto deep = [](double factor) {
    return static_cast<int64_t>(std::llround(std::ldexp(factor, deep_fraction)));
  };
  matrix.deep_y = deep(luma);
  matrix.deep_red_v = deep(red_v);
  matrix.deep_green_u = deep(green_u);
  matrix.deep_green_v = deep(green_v);
  matrix.deep_blue_u = deep(blue_u);
  return matrix;
}

const Matrix& matrix_of(Colors colors) {
  static const std::array<Matrix, 6> all = [] {
    std::array<Matrix, 6> made;
    for (size_t i = 0; i < made.size(); ++i)
      made[i] = make_matrix({static_cast<Encoding>(i / 2), static_cast<Range>(i % 2)});
    return made;
  }();
  return all[static_cast<size_t>(colors.encoding) * 2 + static_cast<size_t>(colors.range)];
}

// A 16-bit colour value as 8 bits, to the nearest: (value + 128) / 257 without the division.
constexpr uint32_t narrow(int32_t value) {
  return (static_cast<uint32_t>(std::clamp(value, 0, 0xffff)) * 255 + 32895) >> 16;
}

constexpr uint32_t pixel(int32_t red, int32_t green, int32_t blue) {
  return 0xff000000 | narrow(red) << 16 | narrow(green) << 8 | narrow(blue);
}

uint32_t yuv_pixel(const Matrix& m, uint32_t y, uint32_t u, uint32_t v) {
  constexpr int32_t half = 1 << (fraction - 1);
  const int32_t luma = m.y[y] + half;
  return pixel((luma + m.red_v[v]) >> fraction, (luma + m.green_u[u] + m.green_v[v]) >> fraction,
               (luma + m.blue_u[u]) >> fraction);
}

uint32_t deep_pixel(const Matrix& m, int32_t y, int32_t u, int32_t v) {
  const int64_t luma = m.deep_y * (y - m.black) + (int64_t{1} << (deep_fraction - 1));
  const int64_t cu = u - grey;
  const int64_t cv = v - grey;
  const auto whole = [](int64_t sum) { return static_cast<int32_t>(sum >> deep_fraction); };
  return pixel(whole(luma + m.deep_red_v * cv), whole(luma + m.deep_green_u * cu + m.deep_green_v * cv),
               whole(luma + m.deep_blue_u * cu));
}

uint32_t byte_at(const std::byte* at) {
  return static_cast<uint32_t>(*at);
}

const std::byte* row_of(const Picture& picture, uint32_t plane, uint32_t y) {
  return picture.planes[plane] + size_t{y / picture.format->planes[plane].vsub} * picture.strides[plane];
}

void yuv_packed(const Picture& picture, uint32_t x, uint32_t y, uint32_t count, uint32_t* out) {
  const Matrix& matrix = matrix_of(picture.colors);
  const auto& channels = picture.format->channels;
  const std::byte* row = row_of(picture, 0, y);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t word = load<uint32_t, 4>(row + size_t{(x + i) / 2} * 4);
    const Channel& luma = (x + i) % 2 == 0 ? channels[0] : channels[3];
    out[i] = yuv_pixel(matrix, word >> luma.shift & 0xff, word >> channels[1].shift & 0xff,
                       word >> channels[2].shift & 0xff);
  }
}

void yuv_444(const Picture& picture, uint32_t x, uint32_t y, uint32_t count, uint32_t* out) {
  const Matrix& matrix = matrix_of(picture.colors);
  const auto& channels = picture.format->channels;
  const size_t bytes = picture.format->planes[0].block_bytes;
  const std::byte* from = row_of(picture, 0, y) + x * bytes;
  for (uint32_t i = 0; i < count; ++i) {
    const std::byte* at = from + i * bytes;
    out[i] = yuv_pixel(matrix, byte_at(at + channels[0].shift / 8), byte_at(at + channels[1].shift / 8),
                       byte_at(at + channels[2].shift / 8));
  }
}

void yuv_semi(const Picture& picture, uint32_t x, uint32_t y, uint32_t count, uint32_t* out) {
  const Matrix& matrix = matrix_of(picture.colors);
  const std::byte* luma = row_of(picture, 0, y) + x;
  const std::byte* chroma = row_of(picture, 1, y);
  const uint32_t hsub = picture.format->planes[1].hsub;
  const size_t u = picture.format->chroma_swapped ? 1 : 0;
  for (uint32_t i = 0; i < count; ++i) {
    const std::byte* pair = chroma + size_t{(x + i) / hsub} * 2;
    out[i] = yuv_pixel(matrix, byte_at(luma + i), byte_at(pair + u), byte_at(pair + 1 - u));
  }
}

void yuv_semi_16(const Picture& picture, uint32_t x, uint32_t y, uint32_t count, uint32_t* out) {
  const Matrix& matrix = matrix_of(picture.colors);
  const std::byte* luma = row_of(picture, 0, y) + size_t{x} * 2;
  const std::byte* chroma = row_of(picture, 1, y);
  const uint32_t hsub = picture.format->planes[1].hsub;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t pair = load<uint32_t, 4>(chroma + size_t{(x + i) / hsub} * 4);
    out[i] = deep_pixel(matrix, load<uint16_t, 2>(luma + size_t{i} * 2), static_cast<int32_t>(pair & 0xffff),
                        static_cast<int32_t>(pair >> 16));
  }
}

void yuv_planar(const Picture& picture, uint32_t x, uint32_t y, uint32_t count, uint32_t* out) {
  const Matrix& matrix = matrix_of(picture.colors);
  const std::byte* luma = row_of(picture, 0, y) + x;
  const std::byte* u = row_of(picture, picture.format->chroma_swapped ? 2 : 1, y);
  const std::byte* v = row_of(picture, picture.format->chroma_swapped ? 1 : 2, y);
  const uint32_t hsub = picture.format->planes[1].hsub;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t at = (x + i) / hsub;
    out[i] = yuv_pixel(matrix, byte_at(luma + i), byte_at(u + at), byte_at(v + at));
  }
}

} // namespace

void convert_row(const Picture& picture, uint32_t x, uint32_t row, uint32_t count, uint32_t* out) noexcept {
  const uint32_t y = picture.bottom_up ? picture.height - 1 - row : row;
  switch (picture.format->coding) {
  case Coding::rgb:
    return rgb(*picture.format, row_of(picture, 0, y), x, count, out);
  case Coding::yuv_packed:
    return yuv_packed(picture, x, y, count, out);
  case Coding::yuv_444:
    return yuv_444(picture, x, y, count, out);
  case Coding::yuv_semi:
    return yuv_semi(picture, x, y, count, out);
  case Coding::yuv_semi_16:
    return yuv_semi_16(picture, x, y, count, out);
  case Coding::yuv_planar:
    return yuv_planar(picture, x, y, count, out);
  case Coding::unknown:
    return;
  }
}

} // namespace scanout::pixels
