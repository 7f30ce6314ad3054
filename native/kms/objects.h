// The objects of a device: connectors, encoders, CRTCs, planes. Control path: everything throws SystemError.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kms/formats.h"
#include "kms/modes.h"
#include "kms/properties.h"

namespace scanout::kms {

/// Object ids and limits. A lessee sees its own objects only; bit n of a `possible_crtcs` is the nth of
/// `crtcs` here, in a lease too.
struct Resources {
  std::vector<uint32_t> crtcs, connectors, encoders, framebuffers;
  std::vector<uint32_t> planes; // primary and cursor planes with DRM_CLIENT_CAP_UNIVERSAL_PLANES only
  uint32_t min_width = 0, max_width = 0, min_height = 0, max_height = 0; // of framebuffers, pixels
};

enum class ConnectorStatus : uint8_t { connected = 1, disconnected = 2, unknown = 3 };

struct Connector {
  uint32_t id = 0;
  uint32_t type = 0;    // DRM_MODE_CONNECTOR_*
  uint32_t type_id = 0; // counts connectors of one type from 1
  std::string type_name;
  std::string name; // "HDMI-A-1", as in sysfs behind the card's name
  ConnectorStatus status = ConnectorStatus::unknown;
  uint32_t mm_width = 0, mm_height = 0; // 0: unknown
  uint32_t subpixel = 0;                // DRM_MODE_SUBPIXEL_*
  uint32_t encoder = 0;                 // 0: none at present
  std::vector<uint32_t> encoders;       // that it can be driven by
  std::vector<Mode> modes;
};

struct Encoder {
  uint32_t id = 0;
  uint32_t type = 0; // DRM_MODE_ENCODER_*
  uint32_t crtc = 0; // 0: none at present
  uint32_t possible_crtcs = 0, possible_clones = 0;
};

struct Crtc {
  uint32_t id = 0;
  uint32_t framebuffer = 0; // on its primary plane; 0: none
  uint32_t x = 0, y = 0;
  uint32_t gamma_size = 0; // of the legacy table
  std::optional<Mode> mode;
};

enum class PlaneType : uint8_t { overlay = 0, primary = 1, cursor = 2 };

struct Plane {
  uint32_t id = 0;
  PlaneType type = PlaneType::overlay;
  uint32_t crtc = 0, framebuffer = 0; // 0: none at present
  uint32_t possible_crtcs = 0;
  /// What it shows, from IN_FORMATS. Where the driver has no such property (or a broken one), the plane's
  /// list of formats, each without modifiers: only framebuffers made without a modifier are known to fit.
  std::vector<FormatModifiers> formats;
  bool has_modifiers = false;
  /// What it can flip to asynchronously, from IN_FORMATS_ASYNC (Linux 6.16); none where the driver is silent.
  std::optional<std::vector<FormatModifiers>> async_formats;
};

Resources get_resources(int fd);

/// With `probe` the kernel asks the display (EDID, status), which can take hundreds of milliseconds; without,
/// or for who is not master, it says what it knew last (drm_mode_getconnector).
Connector get_connector(int fd, uint32_t id, bool probe);
Encoder get_encoder(int fd, uint32_t id);
Crtc get_crtc(int fd, uint32_t id);
Plane get_plane(int fd, uint32_t id);

/// The bytes of the connector's EDID blob; empty when it has none.
std::vector<std::byte> get_edid(int fd, uint32_t connector);

/// Formats that a writeback connector writes (WRITEBACK_PIXEL_FORMATS). Empty: it is no writeback connector.
std::vector<uint32_t> get_writeback_formats(int fd, uint32_t connector);

} // namespace scanout::kms
