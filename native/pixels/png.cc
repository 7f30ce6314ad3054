#include "pixels/png.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <new>
#include <stdexcept>

#include "base/error.h"

namespace scanout::pixels {

namespace {

constexpr uint32_t largest = 32767;
constexpr int quick = 1; // zlib's fastest level: a screenshot is looked at soon and thrown away

// What libpng's callbacks know. They are called from C: no exception leaves them.
struct Output {
  std::vector<std::byte> bytes;
  bool no_memory = false;
  std::array<char, 160> message{};
};

void on_error(png_structp png, png_const_charp message) {
  auto* output = static_cast<Output*>(png_get_error_ptr(png));
  std::string_view text(message);
  std::copy_n(text.begin(), std::min(text.size(), output->message.size() - 1), output->message.data());
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_write(png_structp png, png_bytep data, size_t size) {
  auto* output = static_cast<Output*>(png_get_io_ptr(png));
  try {
    const auto* first = reinterpret_cast<const std::byte*>(data);
    output->bytes.insert(output->bytes.end(), first, first + size);
  } catch (const std::bad_alloc&) {
    output->no_memory = true;
  }
  if (output->no_memory) png_error(png, "out of memory"); // not from within the handler: it does not return
}

void on_flush(png_structp) {}

// libpng reports errors by longjmp to here: nothing with a destructor lives in this function. False: failed.
bool write(png_structp png, png_infop info, const std::byte* pixels, uint32_t width, uint32_t height,
           uint32_t stride, png_text* texts, int text_count) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_compression_level(png, quick);
  png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
  png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE,
               PNG_FILTER_TYPE_BASE);
  png_set_text(png, info, texts, text_count);
  png_write_info(png, info);
  // Memory has blue, green, red and a byte that is left out.
  png_set_filler(png, 0, PNG_FILLER_AFTER);
  png_set_bgr(png);
  for (uint32_t y = 0; y < height; ++y)
    png_write_row(png, reinterpret_cast<png_const_bytep>(pixels + size_t{y} * stride));
  png_write_end(png, nullptr);
  return true;
}

bool is_ascii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); });
}

std::vector<png_text> make_texts(std::span<const PngText> texts) {
  std::vector<png_text> made;
  made.reserve(texts.size());
  for (const auto& [key, value] : texts) {
    if (key.empty() || key.size() > 79 || !is_ascii(key))
      throw base::UsageError("PNG text: a keyword of 1 to 79 ASCII characters expected, not \"" + key + "\"");
    png_text text{};
    // tEXt is Latin-1; what goes beyond ASCII is written as iTXt, which is UTF-8.
    text.compression = is_ascii(value) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    text.key = const_cast<char*>(key.c_str()); // copied, not changed
    text.text = const_cast<char*>(value.c_str());
    made.push_back(text);
  }
  return made;
}

} // namespace

std::vector<std::byte> encode_png(const std::byte* pixels, uint32_t width, uint32_t height, uint32_t stride,
                                  std::span<const PngText> texts) {
  if (width == 0 || height == 0 || width > largest || height > largest)
    throw base::UsageError("PNG: a width and height of 1 to 32767 pixels expected");
  if (stride < width * 4) throw base::UsageError("PNG: the stride is shorter than a row");
  std::vector<png_text> made = make_texts(texts);
  Output output;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &output, on_error, on_warning);
  png_infop info = png != nullptr ? png_create_info_struct(png) : nullptr;
  if (info == nullptr) {
    png_destroy_write_struct(&png, nullptr);
    throw std::bad_alloc();
  }
  png_set_write_fn(png, &output, on_write, on_flush);
  const bool done =
      write(png, info, pixels, width, height, stride, made.data(), static_cast<int>(made.size()));
  png_destroy_write_struct(&png, &info);
  if (output.no_memory) throw std::bad_alloc();
  if (!done) throw std::runtime_error(std::string("libpng: ") + output.message.data());
  return std::move(output.bytes);
}

} // namespace scanout::pixels
