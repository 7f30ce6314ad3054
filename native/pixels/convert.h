// Rows of any format that is known, as ARGB8888.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "pixels/format.h"

namespace scanout::pixels {

/// How YUV values mean colours: the plane properties COLOR_ENCODING and COLOR_RANGE.
enum class Encoding : uint8_t { bt601, bt709, bt2020 };
enum class Range : uint8_t { limited, full };

struct Colors {
  Encoding encoding = Encoding::bt601;
  Range range = Range::limited;
  bool operator==(const Colors&) const = default;
};

/// A picture in memory that is borrowed. Every row of every plane lies in readable memory (see plane_end).
struct Picture {
  const Format* format = nullptr;
  uint32_t width = 0, height = 0; // pixels
  std::array<const std::byte*, max_memory_planes> planes{};
  std::array<uint32_t, max_memory_planes> strides{}; // bytes
  Colors colors;
  bool bottom_up = false; // the first row in memory is the lowest of the picture
};

/// Writes `count` pixels from (x, row) of the upright picture on to `out`: 0xAARRGGBB, alpha 255 where the
/// format has none, colours as they are (the kernel's planes take them as pre-multiplied). The pixels lie
/// within the picture, whose format is convertible. Any thread; neither throws nor allocates. Rows may lie at
/// any address.
///
/// Values are rounded to the nearest, as VKMS does (drivers/gpu/drm/vkms/vkms_formats.c); chroma is repeated,
/// not interpolated, as there.
void convert_row(const Picture& picture, uint32_t x, uint32_t row, uint32_t count, uint32_t* out) noexcept;

} // namespace scanout::pixels
