// Devices that are read through libinput, for the class InputEngine.
#pragma once

#include <napi.h>

#include <memory>

#include "input/libinput_device.h"

namespace scanout::addon {

/// `options` as DeviceOptions of src/native/input.ts. Throws what LibinputDevice throws, and TypeErrors and
/// RangeErrors.
std::shared_ptr<input::LibinputDevice>
open_libinput(uint32_t id, base::UniqueFd fd, const Napi::Object& options, input::LibinputContexts& contexts);

/// Its settings that were refused, a line for each; empty for others.
Napi::Array refused_to_js(Napi::Env env, const input::Device& device);

} // namespace scanout::addon
