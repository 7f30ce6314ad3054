// KmsDevice: opening, capabilities, master.
#include "addon/kms_device.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <xf86drm.h>

#include "addon/kms_convert.h"
#include "addon/kms_events.h"
#include "kms/compat.h"

namespace scanout::addon {

using Device = std::shared_ptr<kms::Device>;

KmsDevice::KmsDevice(const Napi::CallbackInfo& info) : KmsClass(info) {
  Opened opened = unbox<Opened>(info, "KmsDevice.open or KmsDevice.adopt");
  state_ = std::make_shared<DeviceState>();
  state_->device = std::move(opened.device);
  caps_ = opened.caps;
}

KmsDevice::~KmsDevice() = default;

const Device& KmsDevice::device() const {
  if (!state_->device) gone("closed");
  return state_->device;
}

// The order is the kernel's: ATOMIC comes before what only atomic clients may ask for.
KmsDevice::Opened KmsDevice::with_caps(Device device, const Napi::Value& value) {
  const Napi::Object options = to_options(value, "options");
  const auto ask = [&](const char* name, bool fallback, uint64_t capability) {
    return option(options, name, fallback) && device->set_client_cap(capability, 1);
  };
  Caps caps;
  caps.universal_planes = ask("universalPlanes", true, DRM_CLIENT_CAP_UNIVERSAL_PLANES);
  caps.atomic = ask("atomic", true, DRM_CLIENT_CAP_ATOMIC);
  caps.writeback_connectors = ask("writebackConnectors", true, DRM_CLIENT_CAP_WRITEBACK_CONNECTORS);
  caps.stereo = ask("stereo", false, DRM_CLIENT_CAP_STEREO_3D);
  // Atomic clients have it anyway.
  caps.aspect_ratio = ask("aspectRatio", false, DRM_CLIENT_CAP_ASPECT_RATIO) || caps.atomic;
  caps.cursor_hotspot = ask("cursorHotspot", false, DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT);
  return {.device = std::move(device), .caps = caps};
}

Napi::Value KmsDevice::open(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string path = to_string(info[0], "path");
    return make(info.Env(), with_caps(kms::Device::open(path), info[1]));
  });
}

Napi::Value KmsDevice::adopt(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    to_options(info[1], "options"); // wrong arguments leave the descriptor where it is
    return make(info.Env(), with_caps(kms::Device::adopt(take_fd(info[0], "fd")), info[1]));
  });
}

Napi::Value KmsDevice::close(const Napi::CallbackInfo& info) {
  (void)device(); // throws when closed
  events_.reset();
  while (!state_->children.empty()) {
    DeviceChild* child = *state_->children.begin();
    state_->children.erase(child);
    child->close_with_device();
  }
  state_->device.reset();
  return info.Env().Undefined();
}

Napi::Value KmsDevice::closed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), !state_->device);
}

Napi::Value KmsDevice::path(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), device()->path());
}

Napi::Value KmsDevice::driver(const Napi::CallbackInfo& info) {
  const kms::DriverVersion& version = device()->driver();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("name", version.name);
  object.Set("description", version.description);
  object.Set("major", version.major);
  object.Set("minor", version.minor);
  object.Set("patch", version.patch);
  return object;
}

Napi::Value KmsDevice::number(const Napi::CallbackInfo& info) {
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("major", major(device()->number()));
  object.Set("minor", minor(device()->number()));
  return object;
}

Napi::Value KmsDevice::client_caps(const Napi::CallbackInfo& info) {
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("universalPlanes", caps_.universal_planes);
  object.Set("atomic", caps_.atomic);
  object.Set("writebackConnectors", caps_.writeback_connectors);
  object.Set("stereo", caps_.stereo);
  object.Set("aspectRatio", caps_.aspect_ratio);
  object.Set("cursorHotspot", caps_.cursor_hotspot);
  return object;
}

Napi::Value KmsDevice::dup_fd(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), base::UniqueFd(base::check(fcntl(fd(), F_DUPFD_CLOEXEC, 3),
                                                        "fcntl(F_DUPFD_CLOEXEC)", device()->path())));
}

Napi::Value KmsDevice::capability(const Napi::CallbackInfo& info) {
  const auto value = device()->cap(to_u64(info[0], "capability"));
  return value ? big(info.Env(), *value) : info.Env().Null();
}

Napi::Value KmsDevice::capabilities(const Napi::CallbackInfo& info) {
  const auto value = [&](uint64_t capability) { return device()->cap(capability).value_or(0); };
  const uint64_t prime = value(DRM_CAP_PRIME);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("dumbBuffers", value(DRM_CAP_DUMB_BUFFER) != 0);
  object.Set("dumbPreferredDepth", static_cast<double>(value(DRM_CAP_DUMB_PREFERRED_DEPTH)));
  object.Set("dumbPreferShadow", value(DRM_CAP_DUMB_PREFER_SHADOW) != 0);
  object.Set("primeImport", (prime & DRM_PRIME_CAP_IMPORT) != 0);
  object.Set("primeExport", (prime & DRM_PRIME_CAP_EXPORT) != 0);
  object.Set("monotonicTimestamps", value(DRM_CAP_TIMESTAMP_MONOTONIC) != 0);
  object.Set("asyncPageFlip", value(DRM_CAP_ASYNC_PAGE_FLIP) != 0);
  object.Set("atomicAsyncPageFlip", value(DRM_CAP_ATOMIC_ASYNC_PAGE_FLIP) != 0);
  object.Set("cursorWidth", static_cast<double>(value(DRM_CAP_CURSOR_WIDTH)));
  object.Set("cursorHeight", static_cast<double>(value(DRM_CAP_CURSOR_HEIGHT)));
  object.Set("modifiers", value(DRM_CAP_ADDFB2_MODIFIERS) != 0);
  object.Set("crtcInEvents", value(DRM_CAP_CRTC_IN_VBLANK_EVENT) != 0);
  object.Set("syncobj", value(DRM_CAP_SYNCOBJ) != 0);
  object.Set("syncobjTimeline", value(DRM_CAP_SYNCOBJ_TIMELINE) != 0);
  return object;
}

Napi::Value KmsDevice::set_client_cap(const Napi::CallbackInfo& info) {
  const uint64_t capability = to_u64(info[0], "capability");
  return Napi::Boolean::New(info.Env(), device()->set_client_cap(capability, to_u64(info[1], "value")));
}

Napi::Value KmsDevice::is_master(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), device()->is_master());
}

Napi::Value KmsDevice::set_master(const Napi::CallbackInfo& info) {
  device()->set_master();
  return info.Env().Undefined();
}

Napi::Value KmsDevice::drop_master(const Napi::CallbackInfo& info) {
  device()->drop_master();
  return info.Env().Undefined();
}

std::shared_ptr<kms::Device> kms_device_of(const Napi::Value& value, const char* what) {
  return KmsDevice::from(value, what).device();
}

void init_kms_device(Napi::Env env, Napi::Object exports) {
  using D = KmsDevice;
  const auto function = D::DefineClass(env, D::class_name,
                                       {
                                           D::StaticMethod<&D::open>("open"),
                                           D::StaticMethod<&D::adopt>("adopt"),
                                           D::define<&D::close>("close"),
                                           D::define_getter<&D::closed>("closed"),
                                           D::define_getter<&D::path>("path"),
                                           D::define_getter<&D::driver>("driver"),
                                           D::define_getter<&D::number>("number"),
                                           D::define_getter<&D::client_caps>("clientCaps"),
                                           D::define_getter<&D::gem_handles>("gemHandles"),
                                           D::define<&D::dup_fd>("dupFd"),
                                           D::define<&D::capability>("capability"),
                                           D::define<&D::capabilities>("capabilities"),
                                           D::define<&D::set_client_cap>("setClientCap"),
                                           D::define<&D::is_master>("isMaster"),
                                           D::define<&D::set_master>("setMaster"),
                                           D::define<&D::drop_master>("dropMaster"),
                                           D::define<&D::resources>("resources"),
                                           D::define<&D::connector>("connector"),
                                           D::define<&D::probe_connector>("probeConnector"),
                                           D::define<&D::encoder>("encoder"),
                                           D::define<&D::crtc>("crtc"),
                                           D::define<&D::plane>("plane"),
                                           D::define<&D::property>("property"),
                                           D::define<&D::properties>("properties"),
                                           D::define<&D::edid>("edid"),
                                           D::define<&D::writeback_formats>("writebackFormats"),
                                           D::define<&D::framebuffer>("framebuffer"),
                                           D::define<&D::get_sequence>("getSequence"),
                                           D::define<&D::queue_sequence>("queueSequence"),
                                           D::define<&D::framebuffers_of>("framebuffersOf"),
                                           D::define<&D::lessees>("lessees"),
                                           D::define<&D::lease>("lease"),
                                           D::define<&D::create_blob>("createBlob"),
                                           D::define<&D::read_blob>("readBlob"),
                                           D::define<&D::destroy_blob>("destroyBlob"),
                                           D::define<&D::create_mode_blob>("createModeBlob"),
                                           D::define<&D::create_lut_blob>("createLutBlob"),
                                           D::define<&D::create_ctm_blob>("createCtmBlob"),
                                           D::define<&D::create_damage_blob>("createDamageBlob"),
                                           D::define<&D::add_framebuffer>("addFramebuffer"),
                                           D::define<&D::remove_framebuffer>("removeFramebuffer"),
                                           D::define<&D::close_framebuffer>("closeFramebuffer"),
                                           D::define<&D::dirty_framebuffer>("dirtyFramebuffer"),
                                           D::define<&D::import_dmabuf>("importDmabuf"),
                                           D::define<&D::create_dumb>("createDumb"),
                                           D::define<&D::framebuffer_cache>("framebufferCache"),
                                           D::define<&D::create_syncobj>("createSyncobj"),
                                           D::define<&D::import_syncobj>("importSyncobj"),
                                           D::define<&D::create_lease>("createLease"),
                                           D::define<&D::revoke_lease>("revokeLease"),
                                           D::define<&D::close_every_handle>("closeEveryHandle"),
                                           D::define<&D::commit>("commit"),
                                           D::define<&D::commit_async>("commitAsync"),
                                           D::define<&D::test>("test"),
                                           D::define<&D::on_event>("onEvent"),
                                       });
  D::register_class(exports, function);
}

} // namespace scanout::addon
