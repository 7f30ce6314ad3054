// What an evdev device says of itself (Documentation/input/input.rst, linux/input.h).
#pragma once

#include <optional>

#include "input/types.h"

namespace scanout::input {

/// Asks the device behind an evdev descriptor. Throws base::SystemError: ENOTTY for what is no evdev device,
/// ERANGE for axes that no device can have (empty, or beyond +-2^30), with the axis as its detail.
Description describe(int fd);

/// Null for what no guest could make use of: an accelerometer, or a device without events.
std::optional<Class> classify(const Description& description) noexcept;

/// Slots of a device of multitouch protocol B (Documentation/input/multi-touch-protocol.rst); 0 of others.
int32_t slot_count(const Description& description) noexcept;

} // namespace scanout::input
