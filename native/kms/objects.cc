#include "kms/objects.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cstring>
#include <memory>

#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

template <auto Free> struct Freer {
  template <typename T> void operator()(T* object) const { Free(object); }
};
template <typename T, auto Free> using Owned = std::unique_ptr<T, Freer<Free>>;

// Right after the call that made `object`: errno is its.
void check_present(const void* object, const char* op, const char* kind = "", uint32_t id = 0) {
  if (object == nullptr) throw base::SystemError(errno, op, id != 0 ? named(kind, id) : "");
}

template <typename T> std::vector<uint32_t> ids(const uint32_t* first, T count) {
  return {first, first + count};
}

std::string type_name(uint32_t type) {
  const char* name = drmModeGetConnectorTypeName(type);
  return name != nullptr ? name : "Unknown"; // as the kernel calls types that libdrm is too old for
}

std::optional<std::vector<FormatModifiers>> format_blob(int fd, const Properties& properties,
                                                        const char* name) {
  const auto id = static_cast<uint32_t>(properties.value(name).value_or(0));
  return id != 0 ? parse_format_blob(read_blob(fd, id)) : std::nullopt;
}

PlaneType plane_type(const Properties& properties) {
  const uint64_t value = properties.value("type").value_or(0);
  return value <= static_cast<uint64_t>(PlaneType::cursor) ? static_cast<PlaneType>(value)
                                                           : PlaneType::overlay;
}

std::vector<std::byte> blob_of(int fd, uint32_t connector, const char* name) {
  const auto properties = get_properties(fd, connector, DRM_MODE_OBJECT_CONNECTOR);
  const auto id = static_cast<uint32_t>(properties.value(name).value_or(0));
  return id != 0 ? read_blob(fd, id) : std::vector<std::byte>();
}

} // namespace

Resources get_resources(int fd) {
  const Owned<drmModeRes, drmModeFreeResources> owned(drmModeGetResources(fd));
  check_present(owned.get(), "DRM_IOCTL_MODE_GETRESOURCES");
  const auto& raw = *owned;
  const Owned<drmModePlaneRes, drmModeFreePlaneResources> owned_planes(drmModeGetPlaneResources(fd));
  check_present(owned_planes.get(), "DRM_IOCTL_MODE_GETPLANERESOURCES");
  const auto& planes = *owned_planes;
  return {.crtcs = ids(raw.crtcs, raw.count_crtcs),
          .connectors = ids(raw.connectors, raw.count_connectors),
          .encoders = ids(raw.encoders, raw.count_encoders),
          .framebuffers = ids(raw.fbs, raw.count_fbs),
          .planes = ids(planes.planes, planes.count_planes),
          .min_width = raw.min_width,
          .max_width = raw.max_width,
          .min_height = raw.min_height,
          .max_height = raw.max_height};
}

Connector get_connector(int fd, uint32_t id, bool probe) {
  const Owned<drmModeConnector, drmModeFreeConnector> owned(probe ? drmModeGetConnector(fd, id)
                                                                  : drmModeGetConnectorCurrent(fd, id));
  check_present(owned.get(), "DRM_IOCTL_MODE_GETCONNECTOR", "connector", id);
  const auto& raw = *owned;
  Connector connector{.id = raw.connector_id,
                      .type = raw.connector_type,
                      .type_id = raw.connector_type_id,
                      .type_name = type_name(raw.connector_type),
                      .name = {},
                      .mm_width = raw.mmWidth,
                      .mm_height = raw.mmHeight,
                      .subpixel = static_cast<uint32_t>(raw.subpixel),
                      .encoder = raw.encoder_id,
                      .encoders = ids(raw.encoders, raw.count_encoders),
                      .modes = {raw.modes, raw.modes + raw.count_modes}};
  connector.name = connector.type_name + "-" + std::to_string(connector.type_id);
  if (raw.connection == DRM_MODE_CONNECTED) connector.status = ConnectorStatus::connected;
  if (raw.connection == DRM_MODE_DISCONNECTED) connector.status = ConnectorStatus::disconnected;
  return connector;
}

Encoder get_encoder(int fd, uint32_t id) {
  const Owned<drmModeEncoder, drmModeFreeEncoder> owned(drmModeGetEncoder(fd, id));
  check_present(owned.get(), "DRM_IOCTL_MODE_GETENCODER", "encoder", id);
  const auto& raw = *owned;
  return {.id = raw.encoder_id,
          .type = raw.encoder_type,
          .crtc = raw.crtc_id,
          .possible_crtcs = raw.possible_crtcs,
          .possible_clones = raw.possible_clones};
}

Crtc get_crtc(int fd, uint32_t id) {
  const Owned<drmModeCrtc, drmModeFreeCrtc> owned(drmModeGetCrtc(fd, id));
  check_present(owned.get(), "DRM_IOCTL_MODE_GETCRTC", "crtc", id);
  const auto& raw = *owned;
  return {.id = raw.crtc_id,
          .framebuffer = raw.buffer_id,
          .x = raw.x,
          .y = raw.y,
          .gamma_size = static_cast<uint32_t>(raw.gamma_size),
          .mode = raw.mode_valid != 0 ? std::optional(raw.mode) : std::nullopt};
}

Plane get_plane(int fd, uint32_t id) {
  const Owned<drmModePlane, drmModeFreePlane> owned(drmModeGetPlane(fd, id));
  check_present(owned.get(), "DRM_IOCTL_MODE_GETPLANE", "plane", id);
  const auto& raw = *owned;
  const auto properties = get_properties(fd, id, DRM_MODE_OBJECT_PLANE);
  Plane plane{.id = raw.plane_id,
              .type = plane_type(properties),
              .crtc = raw.crtc_id,
              .framebuffer = raw.fb_id,
              .possible_crtcs = raw.possible_crtcs,
              .formats = {},
              .async_formats = format_blob(fd, properties, "IN_FORMATS_ASYNC")};
  if (auto formats = format_blob(fd, properties, "IN_FORMATS")) {
    plane.formats = std::move(*formats);
    plane.has_modifiers = true;
  } else {
    for (uint32_t i = 0; i < raw.count_formats; ++i)
      plane.formats.push_back({.format = raw.formats[i], .modifiers = {}});
  }
  return plane;
}

std::vector<std::byte> get_edid(int fd, uint32_t connector) {
  return blob_of(fd, connector, "EDID");
}

std::vector<uint32_t> get_writeback_formats(int fd, uint32_t connector) {
  const auto blob = blob_of(fd, connector, "WRITEBACK_PIXEL_FORMATS");
  std::vector<uint32_t> formats(blob.size() / sizeof(uint32_t));
  if (!formats.empty()) std::memcpy(formats.data(), blob.data(), formats.size() * sizeof(uint32_t));
  return formats;
}

} // namespace scanout::kms
