// Properties of KMS objects, and blobs. Control path: everything here throws SystemError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace scanout::kms {

enum class PropertyType : uint8_t { range, signed_range, enumeration, bitmask, blob, object };

/// One value of an enumeration; of a bitmask, one bit by its number.
struct PropertyChoice {
  uint64_t value;
  std::string name;
};

/// What a property is (drm_mode_get_property).
struct PropertyInfo {
  uint32_t id = 0;
  std::string name;
  PropertyType type = PropertyType::range;
  bool immutable = false;
  bool atomic = false; // shown and taken by atomic clients only
  uint64_t min = 0;    // of a range; of a signed range, int64_t's bits
  uint64_t max = 0;
  std::vector<PropertyChoice> choices;
  uint32_t object_type = 0; // DRM_MODE_OBJECT_* that an object property refers to; 0: any
};

/// A property together with an object's value of it.
struct Property {
  PropertyInfo info;
  uint64_t value; // a blob's or object's id; a signed range's bits
};

/// The properties of one object as read at one time.
class Properties {
public:
  explicit Properties(std::vector<Property> all) : all_(std::move(all)) {}
  [[nodiscard]] const std::vector<Property>& all() const noexcept { return all_; }
  /// Null when the object has none of that name.
  [[nodiscard]] const Property* find(std::string_view name) const noexcept;
  /// 0 when the object has none of that name.
  [[nodiscard]] uint32_t id(std::string_view name) const noexcept;
  [[nodiscard]] std::optional<uint64_t> value(std::string_view name) const noexcept;

private:
  std::vector<Property> all_;
};

PropertyInfo get_property(int fd, uint32_t id);

/// `type` is DRM_MODE_OBJECT_*, or DRM_MODE_OBJECT_ANY. EINVAL: the object has no properties.
Properties get_properties(int fd, uint32_t object, uint32_t type);

/// A blob's bytes. ENOENT: no such blob.
std::vector<std::byte> read_blob(int fd, uint32_t id);

/// Makes a blob; it lives until it is destroyed or its file is closed, and as long as a state refers to it.
uint32_t create_blob(int fd, std::span<const std::byte> data);

/// EPERM: another file's blob.
void destroy_blob(int fd, uint32_t id);

} // namespace scanout::kms
