#include "kms/formats.h"

#include <drm_mode.h>

#include <cstring>

namespace scanout::kms {

namespace {

// Copies: offsets in a blob are not known to be aligned.
template <typename T> T item(std::span<const std::byte> blob, size_t offset, size_t index) {
  T value;
  std::memcpy(&value, blob.data() + offset + index * sizeof value, sizeof value);
  return value;
}

template <typename T> bool holds(std::span<const std::byte> blob, uint64_t offset, uint64_t count) {
  return offset + count * sizeof(T) <= blob.size(); // 32-bit counts cannot overflow 64 bits here
}

} // namespace

std::optional<std::vector<FormatModifiers>> parse_format_blob(std::span<const std::byte> blob) {
  drm_format_modifier_blob header;
  if (blob.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, blob.data(), sizeof header);
  if (header.version != FORMAT_BLOB_CURRENT ||
      !holds<uint32_t>(blob, header.formats_offset, header.count_formats) ||
      !holds<drm_format_modifier>(blob, header.modifiers_offset, header.count_modifiers))
    return std::nullopt;

  std::vector<FormatModifiers> result(header.count_formats);
  for (size_t i = 0; i < result.size(); ++i)
    result[i].format = item<uint32_t>(blob, header.formats_offset, i);
  for (size_t i = 0; i < header.count_modifiers; ++i) {
    const auto modifier = item<drm_format_modifier>(blob, header.modifiers_offset, i);
    for (uint64_t bits = modifier.formats; bits != 0; bits &= bits - 1) {
      const uint64_t index = uint64_t{modifier.offset} + static_cast<uint64_t>(__builtin_ctzll(bits));
      if (index >= result.size()) return std::nullopt;
      result[index].modifiers.push_back(modifier.modifier);
    }
  }
  return result;
}

std::string format_name(uint32_t format) {
  std::string name;
  for (int shift = 0; shift < 32; shift += 8) {
    const char letter = static_cast<char>(format >> shift & 0xff);
    name += letter > ' ' && letter < 0x7f ? letter : '?';
  }
  return name;
}

} // namespace scanout::kms
