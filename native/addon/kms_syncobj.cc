// The JavaScript class Syncobj.
#include <limits>

#include "addon/kms_classes.h"
#include "addon/kms_convert.h"
#include "addon/kms_device.h"
#include "base/clock.h"
#include "kms/syncobj.h"

namespace scanout::addon {

namespace {

class Syncobj final : public KmsClass<Syncobj> {
public:
  static constexpr const char* class_name = "Syncobj";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000007};
  struct Core {
    std::shared_ptr<DeviceState> state;
    std::shared_ptr<kms::Syncobj> syncobj;
  };

  explicit Syncobj(const Napi::CallbackInfo& info)
      : Syncobj(info, unbox<Core>(info, "KmsDevice.createSyncobj")) {}
  ~Syncobj() override = default;
  Napi::Value handle(const Napi::CallbackInfo& info);
  Napi::Value export_fd(const Napi::CallbackInfo& info);
  Napi::Value export_sync_file(const Napi::CallbackInfo& info);
  Napi::Value import_sync_file(const Napi::CallbackInfo& info);
  Napi::Value reset(const Napi::CallbackInfo& info);
  Napi::Value signal(const Napi::CallbackInfo& info);
  Napi::Value query(const Napi::CallbackInfo& info);
  Napi::Value transfer_from(const Napi::CallbackInfo& info);
  Napi::Value wait(const Napi::CallbackInfo& info);
  Napi::Value wait_async(const Napi::CallbackInfo& info);
  Napi::Value notify(const Napi::CallbackInfo& info);
  Napi::Value destroy(const Napi::CallbackInfo& info);

private:
  Syncobj(const Napi::CallbackInfo& info, Core core)
      : KmsClass(info), child_(std::move(core.state), std::move(core.syncobj)) {}
  [[nodiscard]] const std::shared_ptr<kms::Syncobj>& core() const {
    return child_.core(class_name, "destroyed");
  }
  ChildOf<kms::Syncobj> child_;
};

uint64_t to_point(const Napi::Value& value) {
  return value.IsUndefined() ? 0 : to_u64(value, "point");
}

// In milliseconds; negative is for ever.
int64_t to_deadline(const Napi::Value& value) {
  const int32_t timeout = to_i32(value, "timeoutMs");
  return timeout < 0 ? std::numeric_limits<int64_t>::max() : base::now_ns() + int64_t{timeout} * 1'000'000;
}

bool wants_available(const Napi::Value& options) {
  return option(to_options(options, "options"), "available", false);
}

Napi::Value Syncobj::handle(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), core()->handle());
}

Napi::Value Syncobj::export_fd(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), core()->export_fd());
}

Napi::Value Syncobj::export_sync_file(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), core()->export_sync_file());
}

Napi::Value Syncobj::import_sync_file(const Napi::CallbackInfo& info) {
  core()->import_sync_file(borrow_fd(info[0], "fence"));
  return info.Env().Undefined();
}

Napi::Value Syncobj::reset(const Napi::CallbackInfo& info) {
  core()->reset();
  return info.Env().Undefined();
}

Napi::Value Syncobj::signal(const Napi::CallbackInfo& info) {
  core()->signal(to_point(info[0]));
  return info.Env().Undefined();
}

Napi::Value Syncobj::query(const Napi::CallbackInfo& info) {
  const bool submitted = option(to_options(info[0], "options"), "lastSubmitted", false);
  return big(info.Env(), core()->query(submitted));
}

Napi::Value Syncobj::transfer_from(const Napi::CallbackInfo& info) {
  const auto& source = from(info[0], "source").core();
  const uint64_t source_point = to_point(info[1]);
  if (source->device() != core()->device()) throw base::UsageError("source is of another KmsDevice");
  core()->transfer_from(*source, source_point, to_point(info[2]));
  return info.Env().Undefined();
}

Napi::Value Syncobj::wait(const Napi::CallbackInfo& info) {
  const uint64_t point = to_point(info[0]);
  const int64_t deadline = to_deadline(info[1]);
  return Napi::Boolean::New(info.Env(), core()->wait(point, deadline, wants_available(info[2])));
}

Napi::Value Syncobj::wait_async(const Napi::CallbackInfo& info) {
  const uint64_t point = to_point(info[0]);
  const int64_t deadline = to_deadline(info[1]);
  const bool available = wants_available(info[2]);
  auto done = std::make_shared<bool>(false);
  return run_async(
      info.Env(), [=, syncobj = core()] { *done = syncobj->wait(point, deadline, available); },
      [=](Napi::Env env) { return Napi::Boolean::New(env, *done); });
}

Napi::Value Syncobj::notify(const Napi::CallbackInfo& info) {
  const uint64_t point = to_point(info[0]);
  const int eventfd = borrow_fd(info[1], "eventfd");
  core()->notify(point, eventfd, wants_available(info[2]));
  return info.Env().Undefined();
}

Napi::Value Syncobj::destroy(const Napi::CallbackInfo& info) {
  child_.end(class_name, "destroyed");
  return info.Env().Undefined();
}

} // namespace

Napi::Value KmsDevice::create_syncobj(const Napi::CallbackInfo& info) {
  const bool signalled = option(to_options(info[0], "options"), "signalled", false);
  Syncobj::Core core{.state = state_, .syncobj = std::make_shared<kms::Syncobj>(device(), signalled)};
  return Syncobj::make(info.Env(), std::move(core));
}

Napi::Value KmsDevice::import_syncobj(const Napi::CallbackInfo& info) {
  const int fd = borrow_fd(info[0], "fd");
  Syncobj::Core core{.state = state_, .syncobj = kms::Syncobj::import(device(), fd)};
  return Syncobj::make(info.Env(), std::move(core));
}

void init_kms_syncobj(Napi::Env env, Napi::Object exports) {
  using S = Syncobj;
  S::register_class(exports, S::DefineClass(env, S::class_name,
                                            {
                                                S::define_getter<&S::handle>("handle"),
                                                S::define<&S::export_fd>("exportFd"),
                                                S::define<&S::export_sync_file>("exportSyncFile"),
                                                S::define<&S::import_sync_file>("importSyncFile"),
                                                S::define<&S::reset>("reset"),
                                                S::define<&S::signal>("signal"),
                                                S::define<&S::query>("query"),
                                                S::define<&S::transfer_from>("transferFrom"),
                                                S::define<&S::wait>("wait"),
                                                S::define<&S::wait_async>("waitAsync"),
                                                S::define<&S::notify>("notify"),
                                                S::define<&S::destroy>("destroy"),
                                            }));
}

} // namespace scanout::addon
