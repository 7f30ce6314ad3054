// What other modules' add-on files may have of the KMS layer's JavaScript objects.
#pragma once

#include <napi.h>

#include <memory>

#include "kms/device.h"
#include "kms/framebuffer_cache.h"

namespace scanout::addon {

/// The device of a KmsDevice. Throws when `value` is none or is closed.
std::shared_ptr<kms::Device> kms_device_of(const Napi::Value& value, const char* what);

/// The cache of a FramebufferCache, which holds its device. Throws when `value` is none or is closed.
std::shared_ptr<kms::FramebufferCache> framebuffer_cache_of(const Napi::Value& value, const char* what);

} // namespace scanout::addon
