#include "kms/properties.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cstring>
#include <memory>

#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

PropertyType type_of(uint32_t flags) {
  switch (flags & (DRM_MODE_PROP_LEGACY_TYPE | DRM_MODE_PROP_EXTENDED_TYPE)) {
  case DRM_MODE_PROP_ENUM:
    return PropertyType::enumeration;
  case DRM_MODE_PROP_BITMASK:
    return PropertyType::bitmask;
  case DRM_MODE_PROP_BLOB:
    return PropertyType::blob;
  case DRM_MODE_PROP_OBJECT:
    return PropertyType::object;
  case DRM_MODE_PROP_SIGNED_RANGE:
    return PropertyType::signed_range;
  default:
    return PropertyType::range;
  }
}

std::string bounded(const char* text, size_t size) {
  return std::string(text, strnlen(text, size));
}

PropertyInfo convert(const drmModePropertyRes& raw) {
  PropertyInfo info{.id = raw.prop_id,
                    .name = bounded(raw.name, sizeof raw.name),
                    .type = type_of(raw.flags),
                    .immutable = (raw.flags & DRM_MODE_PROP_IMMUTABLE) != 0,
                    .atomic = (raw.flags & DRM_MODE_PROP_ATOMIC) != 0,
                    .choices = {}};
  const bool ranged = info.type == PropertyType::range || info.type == PropertyType::signed_range;
  if (ranged && raw.count_values >= 2) {
    info.min = raw.values[0];
    info.max = raw.values[1];
  }
  if (info.type == PropertyType::object && raw.count_values >= 1)
    info.object_type = static_cast<uint32_t>(raw.values[0]);
  for (int i = 0; i < raw.count_enums; ++i) {
    const auto& choice = raw.enums[i];
    info.choices.push_back({.value = choice.value, .name = bounded(choice.name, sizeof choice.name)});
  }
  return info;
}

} // namespace

const Property* Properties::find(std::string_view name) const noexcept {
  for (const auto& property : all_) {
    if (property.info.name == name) return &property;
  }
  return nullptr;
}

uint32_t Properties::id(std::string_view name) const noexcept {
  const Property* property = find(name);
  return property != nullptr ? property->info.id : 0;
}

std::optional<uint64_t> Properties::value(std::string_view name) const noexcept {
  const Property* property = find(name);
  return property != nullptr ? std::optional(property->value) : std::nullopt;
}

PropertyInfo get_property(int fd, uint32_t id) {
  const std::unique_ptr<drmModePropertyRes, decltype(&drmModeFreeProperty)> raw(drmModeGetProperty(fd, id),
                                                                                drmModeFreeProperty);
  if (!raw) throw base::SystemError(errno, "DRM_IOCTL_MODE_GETPROPERTY", named("property", id));
  return convert(*raw);
}

Properties get_properties(int fd, uint32_t object, uint32_t type) {
  const std::unique_ptr<drmModeObjectProperties, decltype(&drmModeFreeObjectProperties)> raw(
      drmModeObjectGetProperties(fd, object, type), drmModeFreeObjectProperties);
  if (!raw) throw base::SystemError(errno, "DRM_IOCTL_MODE_OBJ_GETPROPERTIES", named("object", object));
  std::vector<Property> all;
  all.reserve(raw->count_props);
  for (uint32_t i = 0; i < raw->count_props; ++i)
    all.push_back({.info = get_property(fd, raw->props[i]), .value = raw->prop_values[i]});
  return Properties(std::move(all));
}

std::vector<std::byte> read_blob(int fd, uint32_t id) {
  const std::unique_ptr<drmModePropertyBlobRes, decltype(&drmModeFreePropertyBlob)> raw(
      drmModeGetPropertyBlob(fd, id), drmModeFreePropertyBlob);
  if (!raw) throw base::SystemError(errno, "DRM_IOCTL_MODE_GETPROPBLOB", named("blob", id));
  const auto* data = static_cast<const std::byte*>(raw->data);
  return {data, data + raw->length};
}

uint32_t create_blob(int fd, std::span<const std::byte> data) {
  drm_mode_create_blob create{.data = reinterpret_cast<uint64_t>(data.data()),
                              .length = static_cast<uint32_t>(data.size()),
                              .blob_id = 0};
  checked_ioctl(fd, DRM_IOCTL_MODE_CREATEPROPBLOB, &create, "DRM_IOCTL_MODE_CREATEPROPBLOB",
                std::to_string(data.size()) + " bytes");
  return create.blob_id;
}

void destroy_blob(int fd, uint32_t id) {
  drm_mode_destroy_blob destroy{.blob_id = id};
  checked_ioctl(fd, DRM_IOCTL_MODE_DESTROYPROPBLOB, &destroy, "DRM_IOCTL_MODE_DESTROYPROPBLOB",
                named("blob", id));
}

} // namespace scanout::kms
