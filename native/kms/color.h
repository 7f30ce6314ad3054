// Blobs of a CRTC's colour properties and of damage. Control path: throws SystemError.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace scanout::kms {

/// A blob for DEGAMMA_LUT or GAMMA_LUT: `rgb` holds red, green, blue of each entry, 0 to 65535. The number
/// of entries has to be what DEGAMMA_LUT_SIZE or GAMMA_LUT_SIZE says; most drivers check that at the commit.
uint32_t create_lut_blob(int fd, std::span<const uint16_t> rgb);

/// A blob for CTM: the 3x3 matrix by rows, applied between DEGAMMA_LUT and GAMMA_LUT. Elements are rounded
/// to S31.32.
uint32_t create_ctm_blob(int fd, const std::array<double, 9>& matrix);

/// The kernel's form of one element: sign and magnitude, 32 fractional bits (struct drm_color_ctm).
uint64_t to_sign_magnitude(double value) noexcept;

/// A blob for FB_DAMAGE_CLIPS: x1, y1, x2, y2 of each rectangle in framebuffer pixels, x2 and y2 exclusive.
uint32_t create_damage_blob(int fd, std::span<const std::array<int32_t, 4>> rectangles);

} // namespace scanout::kms
