// The JavaScript class AtomicRequest, and the commits of a KmsDevice.
#include <xf86drmMode.h>

#include <utility>

#include "addon/kms_classes.h"
#include "addon/kms_convert.h"
#include "addon/kms_device.h"
#include "kms/commit.h"

namespace scanout::addon {

namespace {

constexpr uint32_t all_flags = DRM_MODE_ATOMIC_FLAGS;

class AtomicRequest final : public KmsClass<AtomicRequest> {
public:
  static constexpr const char* class_name = "AtomicRequest";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000004};

  explicit AtomicRequest(const Napi::CallbackInfo& info);
  ~AtomicRequest() override = default;
  Napi::Value add(const Napi::CallbackInfo& info);
  Napi::Value add_out_fence(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value mark(const Napi::CallbackInfo& info);
  Napi::Value rewind(const Napi::CallbackInfo& info);
  Napi::Value clear(const Napi::CallbackInfo& info);

  /// Throws while a commit of it runs on another thread.
  const std::shared_ptr<kms::ControlRequest>& request() {
    if (request_.use_count() > 1) throw base::UsageError("AtomicRequest is being committed");
    return request_;
  }

private:
  std::shared_ptr<kms::ControlRequest> request_;
};

uint32_t object_id(const Napi::Value& value, const char* what) {
  const uint32_t id = to_u32(value, what);
  if (id == 0) throw Napi::RangeError::New(value.Env(), std::string(what) + ": 0 is no id");
  return id;
}

// Negative values are those of signed ranges.
uint64_t property_value(const Napi::Value& value) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value() ? 1 : 0;
  if (value.IsNumber() && value.As<Napi::Number>().DoubleValue() < 0)
    return static_cast<uint64_t>(to_i64(value, "value"));
  if (!value.IsBigInt()) return to_u64(value, "value");
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  return lossless ? number : static_cast<uint64_t>(to_i64(value, "value"));
}

AtomicRequest::AtomicRequest(const Napi::CallbackInfo& info) : KmsClass(info) {
  const Napi::Object options = to_options(info[0], "options");
  const uint32_t objects = option(options, "objects", 256u);
  const uint32_t properties = option(options, "properties", 2048u);
  if (objects < 1 || objects > 65536 || properties < 1 || properties > 65536)
    throw Napi::RangeError::New(info.Env(), "options: integers from 1 to 65536 expected");
  request_ = std::make_shared<kms::ControlRequest>(objects, properties);
}

Napi::Value AtomicRequest::add(const Napi::CallbackInfo& info) {
  const uint32_t object = object_id(info[0], "object");
  const uint32_t property = object_id(info[1], "property");
  request()->request().add(object, property, property_value(info[2]));
  return info.This();
}

Napi::Value AtomicRequest::add_out_fence(const Napi::CallbackInfo& info) {
  const uint32_t object = object_id(info[0], "object");
  request()->add_out_fence(object, object_id(info[1], "property"));
  return info.This();
}

Napi::Value AtomicRequest::size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(request_->request().size()));
}

Napi::Value AtomicRequest::mark(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(request()->request().mark()));
}

Napi::Value AtomicRequest::rewind(const Napi::CallbackInfo& info) {
  request()->request().rewind(to_u32(info[0], "mark"));
  return info.This();
}

Napi::Value AtomicRequest::clear(const Napi::CallbackInfo& info) {
  request()->clear();
  return info.This();
}

uint32_t to_flags(const Napi::Value& value) {
  const uint32_t flags = value.IsUndefined() ? 0 : to_u32(value, "flags");
  if ((flags & ~all_flags) != 0) throw Napi::RangeError::New(value.Env(), "flags: unknown bits");
  return flags;
}

uint64_t to_user_data(const Napi::Value& value) {
  return value.IsUndefined() ? 0 : to_u64(value, "userData");
}

Napi::Value fences_to_js(Napi::Env env, std::vector<kms::OutFence>& fences) {
  Napi::Array array = Napi::Array::New(env, fences.size());
  for (uint32_t i = 0; i < fences.size(); ++i) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("object", fences[i].object);
    object.Set("fence", wrap_fd(env, std::move(fences[i].fence)));
    array.Set(i, object);
  }
  return array;
}

} // namespace

Napi::Value KmsDevice::commit(const Napi::CallbackInfo& info) {
  const auto& request = AtomicRequest::from(info[0], "request").request();
  const uint32_t flags = to_flags(info[1]);
  auto fences = request->commit(fd(), flags, to_user_data(info[2]));
  return fences_to_js(info.Env(), fences);
}

Napi::Value KmsDevice::commit_async(const Napi::CallbackInfo& info) {
  const auto request = AtomicRequest::from(info[0], "request").request();
  const uint32_t flags = to_flags(info[1]);
  const uint64_t user_data = to_user_data(info[2]);
  auto fences = std::make_shared<std::vector<kms::OutFence>>();
  return run_async(
      info.Env(), [=, device = device()] { *fences = request->commit(device->fd(), flags, user_data); },
      [=](Napi::Env env) { return fences_to_js(env, *fences); });
}

Napi::Value KmsDevice::test(const Napi::CallbackInfo& info) {
  const auto& request = AtomicRequest::from(info[0], "request").request();
  const uint32_t flags = to_flags(info[1]) | DRM_MODE_ATOMIC_TEST_ONLY;
  return Napi::Number::New(info.Env(), -request->request().commit(fd(), flags, 0));
}

void init_kms_request(Napi::Env env, Napi::Object exports) {
  using R = AtomicRequest;
  R::register_class(exports, R::DefineClass(env, R::class_name,
                                            {
                                                R::define<&R::add>("add"),
                                                R::define<&R::add_out_fence>("addOutFence"),
                                                R::define_getter<&R::size>("size"),
                                                R::define<&R::mark>("mark"),
                                                R::define<&R::rewind>("rewind"),
                                                R::define<&R::clear>("clear"),
                                            }));
}

} // namespace scanout::addon
