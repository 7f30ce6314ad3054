// What the add-on's files of the virtio kind share.
#pragma once

#include <napi.h>

#include <memory>

#include "guests/virtio_gpu.h"

namespace scanout::addon {

struct VirtioDevice {
  std::shared_ptr<guests::VirtioGpu> gpu;
  Napi::Value engine; // the FlipEngine object
};

/// The device of a VirtioGpu object.
VirtioDevice virtio_device_of(const Napi::Value& value, const char* what);

/// A notice with every member of the type VirtioNotice.
Napi::Object notice_to_js(Napi::Env env, const guests::GpuNotice& notice);

/// Exports the class VirtioScanout.
void init_virtio_scanout(Napi::Env env, Napi::Object exports);

} // namespace scanout::addon
