// The class VirtioScanout, and a device's notices as JavaScript sees them.
#include "guests/virtio_scanout.h"

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/guests.h"
#include "addon/virtio.h"

namespace scanout::addon {

namespace {

class VirtioScanout : public Napi::ObjectWrap<VirtioScanout> {
public:
  /// (device, index, firstStream)
  explicit VirtioScanout(const Napi::CallbackInfo& info) : Napi::ObjectWrap<VirtioScanout>(info) {
    guarded(info.Env(), [&] {
      const VirtioDevice device = virtio_device_of(info[0], "device");
      const uint32_t index = to_u32(info[1], "index");
      if (index >= device.gpu->scanout_count()) throw base::UsageError("index: there is no such scanout");
      const uint32_t first_stream = to_u32(info[2], "firstStream");
      holder.enter(info.Env(), device.engine,
                   std::make_unique<guests::VirtioScanout>(device.gpu, index, first_stream,
                                                           *engine_of(device.engine)));
    });
  }
  Napi::Value set_area(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value leave(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return holder.leave(info.Env()); });
  }

  ProducerHolder holder;
  static Napi::FunctionReference* constructor;

private:
  guests::VirtioScanout& scanout() { return static_cast<guests::VirtioScanout&>(holder.producer(Env())); }
};

Napi::FunctionReference* VirtioScanout::constructor = nullptr;

Napi::Value VirtioScanout::set_area(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const flip::Rect area{to_i32(info[0], "x1"), to_i32(info[1], "y1"), to_i32(info[2], "x2"),
                          to_i32(info[3], "y2")};
    return post_simple(info.Env(), holder.engine_object(), "setArea", "scanout",
                       [scanout = &scanout(), area](flip::Engine&) {
                         scanout->set_area(area);
                         return 0;
                       });
  });
}

Napi::Value VirtioScanout::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t plane = to_u32(info[0], "plane");
    if (plane > 1) throw base::UsageError("plane: 0 or 1 expected");
    return plane_stats_to_js(info.Env(), scanout().stats(plane));
  });
}

const char* name_of(guests::GpuNotice::What what) {
  using What = guests::GpuNotice::What;
  switch (what) {
  case What::back:
    return "back";
  case What::import:
    return "import";
  case What::transfer:
    return "transfer";
  case What::release_buffer:
    return "releaseBuffer";
  case What::release_resource:
    return "releaseResource";
  case What::broken:
    return "broken";
  }
  return "";
}

} // namespace

Napi::Object notice_to_js(Napi::Env env, const guests::GpuNotice& notice) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("what", name_of(notice.what));
  object.Set("resource", notice.resource);
  object.Set("buffer", notice.buffer == guests::no_slot ? env.Null() : Napi::Number::New(env, notice.buffer));
  object.Set("width", notice.layout.width);
  object.Set("height", notice.layout.height);
  object.Set("format", notice.layout.format);
  object.Set("stride", notice.layout.stride);
  object.Set("offset", notice.layout.offset);
  object.Set("size", static_cast<double>(notice.size));
  object.Set("text", notice.text == nullptr ? "" : notice.text);
  Napi::Object rect = Napi::Object::New(env);
  rect.Set("x", notice.rect.x);
  rect.Set("y", notice.rect.y);
  rect.Set("width", notice.rect.width);
  rect.Set("height", notice.rect.height);
  rect.Set("start", Napi::BigInt::New(env, notice.offset));
  object.Set("rect", rect);
  return object;
}

void init_virtio_scanout(Napi::Env env, Napi::Object exports) {
  using S = VirtioScanout;
  const Napi::Function scanout =
      S::DefineClass(env, "VirtioScanout",
                     {S::InstanceMethod<&S::set_area>("setArea"), S::InstanceMethod<&S::stats>("stats"),
                      S::InstanceMethod<&S::leave>("leave")});
  S::constructor = new Napi::FunctionReference(Napi::Persistent(scanout));
  S::constructor->SuppressDestruct();
  register_producer_class([](const Napi::Object& object) -> ProducerHolder* {
    if (!object.InstanceOf(S::constructor->Value())) return nullptr;
    return &S::Unwrap(object)->holder;
  });
  exports.Set("VirtioScanout", scanout);
}

} // namespace scanout::addon
