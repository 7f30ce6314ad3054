// Memory for shadow copies.
#pragma once

#include <memory>

#include "guests/shadow.h"
#include "kms/device.h"

namespace scanout::guests {

/// A dumb buffer and its framebuffer: ARGB8888 with `alpha`, otherwise XRGB8888; black, or transparent. Holds
/// its device. Its framebuffer goes with the keeper, on whatever thread that is: nothing may show it any
/// more. Throws SystemError.
ShadowSurface make_shadow_surface(const std::shared_ptr<kms::Device>& device, uint32_t width, uint32_t height,
                                  bool alpha);

} // namespace scanout::guests
