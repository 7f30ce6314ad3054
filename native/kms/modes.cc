#include "kms/modes.h"

#include <span>

#include "kms/properties.h"

namespace scanout::kms {

uint32_t refresh_mhz(const Mode& mode) noexcept {
  // As drm_mode_vrefresh, times 1000.
  uint64_t numerator = uint64_t{mode.clock} * 1'000'000;
  uint64_t denominator = uint64_t{mode.htotal} * mode.vtotal;
  if (denominator == 0) return 0;
  if ((mode.flags & DRM_MODE_FLAG_INTERLACE) != 0) numerator *= 2;
  if ((mode.flags & DRM_MODE_FLAG_DBLSCAN) != 0) denominator *= 2;
  if (mode.vscan > 1) denominator *= mode.vscan;
  return static_cast<uint32_t>((numerator + denominator / 2) / denominator);
}

bool same_timings(const Mode& a, const Mode& b) noexcept {
  return a.clock == b.clock && a.hdisplay == b.hdisplay && a.hsync_start == b.hsync_start &&
         a.hsync_end == b.hsync_end && a.htotal == b.htotal && a.hskew == b.hskew &&
         a.vdisplay == b.vdisplay && a.vsync_start == b.vsync_start && a.vsync_end == b.vsync_end &&
         a.vtotal == b.vtotal && a.vscan == b.vscan && a.flags == b.flags;
}

uint32_t create_mode_blob(int fd, const Mode& mode) {
  return create_blob(fd, std::as_bytes(std::span(&mode, 1)));
}

} // namespace scanout::kms
