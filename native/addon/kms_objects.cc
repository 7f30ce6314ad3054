// KmsDevice: what the device has, read.
#include <fcntl.h>
#include <xf86drmMode.h>

#include "addon/kms_convert.h"
#include "addon/kms_device.h"
#include "kms/framebuffer.h"
#include "kms/lease.h"
#include "kms/objects.h"
#include "kms/vblank.h"

namespace scanout::addon {

Napi::Value KmsDevice::resources(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), kms::get_resources(fd()));
}

Napi::Value KmsDevice::connector(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "connector");
  const bool probe = option(to_options(info[1], "options"), "probe", false);
  return to_js(info.Env(), kms::get_connector(fd(), id, probe));
}

Napi::Value KmsDevice::probe_connector(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "connector");
  auto connector = std::make_shared<kms::Connector>();
  return run_async(
      info.Env(), [=, device = device()] { *connector = kms::get_connector(device->fd(), id, true); },
      [=](Napi::Env env) { return to_js(env, *connector); });
}

Napi::Value KmsDevice::encoder(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), kms::get_encoder(fd(), to_u32(info[0], "encoder")));
}

Napi::Value KmsDevice::crtc(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), kms::get_crtc(fd(), to_u32(info[0], "crtc")));
}

Napi::Value KmsDevice::plane(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), kms::get_plane(fd(), to_u32(info[0], "plane")));
}

Napi::Value KmsDevice::property(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), kms::get_property(fd(), to_u32(info[0], "property")));
}

Napi::Value KmsDevice::properties(const Napi::CallbackInfo& info) {
  const uint32_t object = to_u32(info[0], "object");
  const auto properties = kms::get_properties(fd(), object, DRM_MODE_OBJECT_ANY);
  return to_js_array(info.Env(), properties.all(), [&](const kms::Property& property) {
    return static_cast<Napi::Value>(to_js(info.Env(), property));
  });
}

Napi::Value KmsDevice::edid(const Napi::CallbackInfo& info) {
  const auto edid = kms::get_edid(fd(), to_u32(info[0], "connector"));
  return edid.empty() ? info.Env().Null() : bytes(info.Env(), edid);
}

Napi::Value KmsDevice::writeback_formats(const Napi::CallbackInfo& info) {
  return numbers(info.Env(), kms::get_writeback_formats(fd(), to_u32(info[0], "connector")));
}

Napi::Value KmsDevice::framebuffer(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), kms::get_framebuffer(*device(), to_u32(info[0], "framebuffer")));
}

Napi::Value KmsDevice::get_sequence(const Napi::CallbackInfo& info) {
  const auto sequence = kms::get_sequence(fd(), to_u32(info[0], "crtc"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("sequence", big(info.Env(), sequence.sequence));
  object.Set("timeNs", big(info.Env(), sequence.time_ns));
  object.Set("active", sequence.active);
  return object;
}

Napi::Value KmsDevice::queue_sequence(const Napi::CallbackInfo& info) {
  const uint32_t crtc = to_u32(info[0], "crtc");
  const uint64_t sequence = to_u64(info[1], "sequence");
  const Napi::Object options = to_options(info[2], "options");
  uint32_t flags = 0;
  if (option(options, "relative", false)) flags |= DRM_CRTC_SEQUENCE_RELATIVE;
  if (option(options, "nextOnMiss", false)) flags |= DRM_CRTC_SEQUENCE_NEXT_ON_MISS;
  const Napi::Value data = options.Get("userData");
  const uint64_t user_data = data.IsUndefined() ? 0 : to_u64(data, "userData");
  return big(info.Env(), kms::queue_sequence(fd(), crtc, sequence, flags, user_data));
}

Napi::Value KmsDevice::gem_handles(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(device()->gem().live()));
}

Napi::Value KmsDevice::framebuffers_of(const Napi::CallbackInfo& info) {
  (void)device(); // throws when closed
  return numbers(info.Env(), kms::get_resources(borrow_fd(info[0], "file")).framebuffers);
}

Napi::Value KmsDevice::lessees(const Napi::CallbackInfo& info) {
  return numbers(info.Env(), kms::list_lessees(fd()));
}

Napi::Value KmsDevice::lease(const Napi::CallbackInfo& info) {
  return numbers(info.Env(), kms::get_lease(fd()));
}

} // namespace scanout::addon
