#include "kms/color.h"

#include <drm_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kms/properties.h"

namespace scanout::kms {

uint32_t create_lut_blob(int fd, std::span<const uint16_t> rgb) {
  std::vector<drm_color_lut> entries(rgb.size() / 3);
  for (size_t i = 0; i < entries.size(); ++i)
    entries[i] = {.red = rgb[3 * i], .green = rgb[3 * i + 1], .blue = rgb[3 * i + 2], .reserved = 0};
  return create_blob(fd, std::as_bytes(std::span(entries)));
}

uint64_t to_sign_magnitude(double value) noexcept {
  if (std::isnan(value)) return 0;
  constexpr double one = 4294967296.0;
  // The largest double below 2^63.
  const double magnitude = std::min(std::round(std::abs(value) * one), 9223372036854774784.0);
  return (std::signbit(value) ? uint64_t{1} << 63 : 0) | static_cast<uint64_t>(magnitude);
}

uint32_t create_ctm_blob(int fd, const std::array<double, 9>& matrix) {
  drm_color_ctm ctm;
  for (size_t i = 0; i < matrix.size(); ++i)
    ctm.matrix[i] = to_sign_magnitude(matrix[i]);
  return create_blob(fd, std::as_bytes(std::span(&ctm, 1)));
}

uint32_t create_damage_blob(int fd, std::span<const std::array<int32_t, 4>> rectangles) {
  std::vector<drm_mode_rect> clips;
  clips.reserve(rectangles.size());
  for (const auto& [x1, y1, x2, y2] : rectangles)
    clips.push_back({.x1 = x1, .y1 = y1, .x2 = x2, .y2 = y2});
  return create_blob(fd, std::as_bytes(std::span(clips)));
}

} // namespace scanout::kms
