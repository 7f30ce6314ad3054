// KmsDevice: blobs, framebuffers and leases that are made from it.
#include <xf86drmMode.h>

#include "addon/kms_buffers.h"
#include "addon/kms_convert.h"
#include "addon/kms_device.h"
#include "kms/color.h"
#include "kms/gem.h"
#include "kms/lease.h"

namespace scanout::addon {

namespace {

std::string fb_name(uint32_t id) {
  return "fb " + std::to_string(id);
}

} // namespace

Napi::Value KmsDevice::create_blob(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), kms::create_blob(fd(), to_bytes(info[0], "data")));
}

Napi::Value KmsDevice::read_blob(const Napi::CallbackInfo& info) {
  return bytes(info.Env(), kms::read_blob(fd(), to_u32(info[0], "blob")));
}

Napi::Value KmsDevice::destroy_blob(const Napi::CallbackInfo& info) {
  kms::destroy_blob(fd(), to_u32(info[0], "blob"));
  return info.Env().Undefined();
}

Napi::Value KmsDevice::create_mode_blob(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), kms::create_mode_blob(fd(), to_mode(info[0], "mode")));
}

Napi::Value KmsDevice::create_lut_blob(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint16_array)
    throw base::UsageError("lut: Uint16Array expected");
  const auto array = info[0].As<Napi::Uint16Array>();
  if (array.ElementLength() % 3 != 0)
    throw base::UsageError("lut: red, green and blue of each entry expected");
  return Napi::Number::New(info.Env(), kms::create_lut_blob(fd(), {array.Data(), array.ElementLength()}));
}

Napi::Value KmsDevice::create_ctm_blob(const Napi::CallbackInfo& info) {
  const Napi::Array array = to_array(info[0], "matrix");
  std::array<double, 9> matrix;
  if (array.Length() != matrix.size()) throw base::UsageError("matrix: nine numbers expected");
  for (uint32_t i = 0; i < matrix.size(); ++i) {
    const Napi::Value element = array.Get(i);
    if (!element.IsNumber()) throw base::UsageError("matrix: nine numbers expected");
    matrix[i] = element.As<Napi::Number>().DoubleValue();
    if (!(matrix[i] > -2147483648.0 && matrix[i] < 2147483648.0))
      throw Napi::RangeError::New(info.Env(), "matrix: numbers between -2^31 and 2^31 expected");
  }
  return Napi::Number::New(info.Env(), kms::create_ctm_blob(fd(), matrix));
}

Napi::Value KmsDevice::create_damage_blob(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), kms::create_damage_blob(fd(), to_rectangles(info[0], "rectangles")));
}

Napi::Value KmsDevice::add_framebuffer(const Napi::CallbackInfo& info) {
  std::array<uint32_t, kms::most_planes> handles{};
  const auto layout = to_layout(info[0], "layout", [&](size_t index, const Napi::Object& plane) {
    handles[index] = handle_of(plane.Get("buffer"), "buffer", device());
  });
  uint32_t id = 0;
  const int error = kms::add_framebuffer(fd(), layout, handles, id);
  if (error < 0) {
    throw base::SystemError(-error, "DRM_IOCTL_MODE_ADDFB2",
                            "fb " + kms::describe(layout) + " from gem " + std::to_string(handles[0]));
  }
  return Napi::Number::New(info.Env(), id);
}

Napi::Value KmsDevice::remove_framebuffer(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "framebuffer");
  const int error = kms::remove_framebuffer(fd(), id);
  if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_MODE_RMFB", fb_name(id));
  return info.Env().Undefined();
}

Napi::Value KmsDevice::close_framebuffer(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "framebuffer");
  const int error = kms::close_framebuffer(fd(), id);
  if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_MODE_CLOSEFB", fb_name(id));
  return info.Env().Undefined();
}

Napi::Value KmsDevice::dirty_framebuffer(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "framebuffer");
  std::vector<std::array<int32_t, 4>> rectangles;
  if (!info[1].IsUndefined()) rectangles = to_rectangles(info[1], "rectangles");
  const int error = kms::dirty_framebuffer(fd(), id, rectangles);
  if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_MODE_DIRTYFB", fb_name(id));
  return info.Env().Undefined();
}

Napi::Value KmsDevice::create_lease(const Napi::CallbackInfo& info) {
  kms::Lease lease = kms::create_lease(fd(), to_u32_list(info[0], "objects"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("lessee", lease.lessee);
  object.Set("fd", wrap_fd(info.Env(), std::move(lease.fd)));
  return object;
}

Napi::Value KmsDevice::close_every_handle(const Napi::CallbackInfo& info) {
  kms::close_every_handle(fd());
  return info.Env().Undefined();
}

Napi::Value KmsDevice::revoke_lease(const Napi::CallbackInfo& info) {
  kms::revoke_lease(fd(), to_u32(info[0], "lessee"));
  return info.Env().Undefined();
}

} // namespace scanout::addon
