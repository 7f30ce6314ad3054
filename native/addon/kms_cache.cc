// The JavaScript classes FramebufferCache and CachedFramebuffer.
#include "addon/kms_classes.h"
#include "addon/kms_convert.h"
#include "addon/kms_device.h"
#include "kms/framebuffer_cache.h"

namespace scanout::addon {

namespace {

class CachedFramebuffer final : public KmsClass<CachedFramebuffer> {
public:
  static constexpr const char* class_name = "CachedFramebuffer";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000005};
  struct Core {
    std::shared_ptr<DeviceState> state;
    std::shared_ptr<kms::FramebufferRef> ref;
  };

  explicit CachedFramebuffer(const Napi::CallbackInfo& info)
      : CachedFramebuffer(info, unbox<Core>(info, "FramebufferCache.acquire")) {}
  ~CachedFramebuffer() override = default;
  Napi::Value id(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), child_.core(class_name, "released")->id());
  }
  Napi::Value release(const Napi::CallbackInfo& info) {
    child_.end(class_name, "released");
    return info.Env().Undefined();
  }

private:
  CachedFramebuffer(const Napi::CallbackInfo& info, Core core)
      : KmsClass(info), child_(std::move(core.state), std::move(core.ref)) {}
  ChildOf<kms::FramebufferRef> child_;
};

class FramebufferCache final : public KmsClass<FramebufferCache> {
public:
  static constexpr const char* class_name = "FramebufferCache";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000006};
  struct Core {
    std::shared_ptr<DeviceState> state;
    std::shared_ptr<kms::FramebufferCache> cache;
  };

  explicit FramebufferCache(const Napi::CallbackInfo& info)
      : FramebufferCache(info, unbox<Core>(info, "KmsDevice.framebufferCache")) {}
  ~FramebufferCache() override = default;
  Napi::Value acquire(const Napi::CallbackInfo& info);
  Napi::Value trim(const Napi::CallbackInfo& info) {
    cache()->trim();
    return info.Env().Undefined();
  }
  Napi::Value statistics(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info) {
    child_.end(class_name, "closed");
    return info.Env().Undefined();
  }
  [[nodiscard]] const std::shared_ptr<kms::FramebufferCache>& cache() const {
    return child_.core(class_name, "closed");
  }

private:
  FramebufferCache(const Napi::CallbackInfo& info, Core core)
      : KmsClass(info), child_(std::move(core.state), std::move(core.cache)) {}
  ChildOf<kms::FramebufferCache> child_;
};

Napi::Value FramebufferCache::acquire(const Napi::CallbackInfo& info) {
  std::array<int, kms::most_planes> fds{};
  const auto layout = to_layout(info[0], "layout", [&](size_t index, const Napi::Object& plane) {
    fds[index] = borrow_fd(plane.Get("fd"), "fd");
  });
  const bool fresh = option(to_options(info[1], "options"), "fresh", false);
  auto result = cache()->acquire(layout, std::span(fds).first(layout.plane_count), fresh);
  if (result.error < 0) throw base::SystemError(-result.error, result.op, "fb " + kms::describe(layout));
  CachedFramebuffer::Core core{.state = child_.state(),
                               .ref = std::make_shared<kms::FramebufferRef>(std::move(result.ref))};
  return CachedFramebuffer::make(info.Env(), std::move(core));
}

Napi::Value FramebufferCache::statistics(const Napi::CallbackInfo& info) {
  const auto counts = cache()->statistics();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("imports", static_cast<double>(counts.imports));
  object.Set("hits", static_cast<double>(counts.hits));
  object.Set("live", static_cast<double>(counts.live));
  object.Set("idle", static_cast<double>(counts.idle));
  return object;
}

} // namespace

Napi::Value KmsDevice::framebuffer_cache(const Napi::CallbackInfo& info) {
  const uint32_t idle = option(to_options(info[0], "options"), "idle", 0u);
  FramebufferCache::Core core{.state = state_, .cache = kms::FramebufferCache::make(device(), idle)};
  return FramebufferCache::make(info.Env(), std::move(core));
}

std::shared_ptr<kms::FramebufferCache> framebuffer_cache_of(const Napi::Value& value, const char* what) {
  return FramebufferCache::from(value, what).cache();
}

void init_kms_cache(Napi::Env env, Napi::Object exports) {
  using F = CachedFramebuffer;
  F::register_class(exports,
                    F::DefineClass(env, F::class_name,
                                   {F::define_getter<&F::id>("id"), F::define<&F::release>("release")}));
  using C = FramebufferCache;
  C::register_class(exports, C::DefineClass(env, C::class_name,
                                            {
                                                C::define<&C::acquire>("acquire"),
                                                C::define<&C::trim>("trim"),
                                                C::define<&C::statistics>("statistics"),
                                                C::define<&C::close>("close"),
                                            }));
}

} // namespace scanout::addon
