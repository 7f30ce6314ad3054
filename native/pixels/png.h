// Pictures as PNG files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace scanout::pixels {

/// Keyword and text of a PNG text chunk. The keyword is 1 to 79 bytes of ASCII, the text UTF-8.
using PngText = std::pair<std::string, std::string>;

/// Encodes XRGB8888 or ARGB8888 memory as RGB with 8 bits a channel; alpha is dropped. Compressed quickly
/// rather than well. `stride` is in bytes. Reads `pixels` row by row; takes tens of milliseconds a megapixel.
/// Any thread. Throws UsageError for sizes or texts that a PNG cannot have, std::bad_alloc, and
/// std::runtime_error with libpng's words.
std::vector<std::byte> encode_png(const std::byte* pixels, uint32_t width, uint32_t height, uint32_t stride,
                                  std::span<const PngText> texts);

} // namespace scanout::pixels
