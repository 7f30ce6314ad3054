#include "pixels/png.h"

#include <png.h>

#include <array>
#include <cstring>
#include <random>

#include "base/error.h"
#include "check.h"

using namespace scanout;

namespace {

constexpr uint32_t width = 37, height = 11, stride = 160;

std::vector<std::byte> noise() {
  std::mt19937 random(1);
  std::vector<std::byte> pixels(size_t{stride} * height);
  for (std::byte& value : pixels)
    value = static_cast<std::byte>(random());
  return pixels;
}

std::string chunk(const std::vector<std::byte>& file, const char* type) {
  const std::string bytes(reinterpret_cast<const char*>(file.data()), file.size());
  const size_t at = bytes.find(type);
  if (at == std::string::npos) return "";
  uint32_t size = 0;
  for (size_t i = at - 4; i < at; ++i)
    size = size << 8 | static_cast<uint8_t>(bytes[i]);
  return bytes.substr(at + 4, size);
}

} // namespace

TEST(png_round_trip) {
  const std::vector<std::byte> pixels = noise();
  const std::vector<std::byte> file = pixels::encode_png(pixels.data(), width, height, stride, {});
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_memory(&image, file.data(), file.size()) != 0);
  CHECK_EQ(image.width, width);
  CHECK_EQ(image.height, height);
  CHECK_EQ(image.format, static_cast<png_uint_32>(PNG_FORMAT_RGB));
  image.format = PNG_FORMAT_BGRA;
  std::vector<uint8_t> read(size_t{width} * height * 4);
  REQUIRE(png_image_finish_read(&image, nullptr, read.data(), width * 4, nullptr) != 0);
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x)
      CHECK_EQ(std::memcmp(&read[(y * width + x) * 4], &pixels[y * stride + x * 4], 3), 0);
  }
}

TEST(png_texts) {
  const std::vector<std::byte> pixels = noise();
  const std::vector<pixels::PngText> texts = {{"Software", "scanoutd"}, {"Title", "Küche"}};
  const std::vector<std::byte> file = pixels::encode_png(pixels.data(), width, height, stride, texts);
  CHECK_EQ(chunk(file, "tEXt"), std::string("Software\0scanoutd", 17));
  CHECK_EQ(chunk(file, "iTXt"), std::string("Title\0\0\0\0\0Küche", 16));
}

TEST(png_refuses_what_a_file_cannot_have) {
  const std::vector<std::byte> pixels = noise();
  const auto encode = [&](uint32_t w, uint32_t h, uint32_t bytes, std::vector<pixels::PngText> texts) {
    return pixels::encode_png(pixels.data(), w, h, bytes, texts);
  };
  CHECK_THROWS(encode(0, 1, stride, {}), base::UsageError);
  CHECK_THROWS(encode(1, 0, stride, {}), base::UsageError);
  CHECK_THROWS(encode(40000, 1, 160000, {}), base::UsageError);
  CHECK_THROWS(encode(width, height, width * 4 - 1, {}), base::UsageError);
  CHECK_THROWS(encode(1, 1, 4, {{"", "x"}}), base::UsageError);
  CHECK_THROWS(encode(1, 1, 4, {{std::string(80, 'k'), "x"}}), base::UsageError);
  CHECK_THROWS(encode(1, 1, 4, {{"Schlüssel", "x"}}), base::UsageError);
  // libpng's own refusal, by way of its error handler.
  CHECK_THROWS(encode(1, 1, 4, {{" ", "x"}}), std::runtime_error);
}
