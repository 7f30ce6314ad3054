// What comes out of a device that libinput reads.
#pragma once

#include <libinput.h>

#include <utility>
#include <vector>

#include "input/types.h"

namespace scanout::input {

/// One description for each class, none when libinput makes nothing of the device that a guest could use.
/// Names, ids and the ranges of positions are those of `raw`, the device itself; a touchpad comes out as a
/// mouse. The libinput context must be the caller's.
std::vector<std::pair<Class, Description>> describe(libinput_device* device, const Description& raw);

} // namespace scanout::input
