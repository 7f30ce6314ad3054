// Display modes.
#pragma once

#include <xf86drmMode.h>

#include <cstdint>

namespace scanout::kms {

/// A mode in the kernel's own terms (struct drm_mode_modeinfo): clock in kHz, sizes in pixels and lines.
using Mode = drmModeModeInfo;

/// Refresh rate in mHz, exact where `vrefresh` is rounded: 59940 for 59.94 Hz. Counts fields of interlaced
/// modes. 0 when the mode has no totals.
uint32_t refresh_mhz(const Mode& mode) noexcept;

/// Whether the timings are equal; names and types may differ.
bool same_timings(const Mode& a, const Mode& b) noexcept;

/// A blob for a CRTC's MODE_ID. Throws SystemError.
uint32_t create_mode_blob(int fd, const Mode& mode);

} // namespace scanout::kms
