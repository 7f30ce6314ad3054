// Pixel formats and modifiers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace scanout::kms {

/// A format and the modifiers that a plane takes it with.
struct FormatModifiers {
  uint32_t format; // DRM_FORMAT_*, a fourcc
  std::vector<uint64_t> modifiers;
};

/// Reads a blob of the properties IN_FORMATS and IN_FORMATS_ASYNC (struct drm_format_modifier_blob). Order
/// as in the blob. None when the blob is of another version or says something that is not in it.
std::optional<std::vector<FormatModifiers>> parse_format_blob(std::span<const std::byte> blob);

/// "XR24"; letters that cannot be printed become '?'.
std::string format_name(uint32_t format);

} // namespace scanout::kms
