// Functions on fences, dma-bufs and udmabufs; the class DmabufMapping.
#include <fcntl.h>
#include <poll.h>

#include <optional>

#include "addon/kms_classes.h"
#include "addon/kms_convert.h"
#include "addon/loop.h"
#include "kms/dmabuf.h"
#include "kms/fence.h"
#include "kms/udmabuf.h"

namespace scanout::addon {

namespace {

/// Waits for a fence on the JS thread's loop. Deletes itself.
class FenceWait {
public:
  FenceWait(Napi::Env env, base::UniqueFd fence, int32_t timeout_ms)
      : env_(env), deferred_(Napi::Promise::Deferred::New(env)), fence_(std::move(fence)),
        poll_(env, fence_.get(), [this](int) { finish(true); }),
        timer_(env, [this] { finish(is_signalled()); }) {
    poll_.watch(UV_READABLE);
    if (timeout_ms >= 0) timer_.set(static_cast<uint64_t>(timeout_ms));
  }
  [[nodiscard]] Napi::Value promise() const { return deferred_.Promise(); }

private:
  // The loop looks at timers before it looks at descriptors.
  [[nodiscard]] bool is_signalled() const noexcept {
    pollfd entry{.fd = fence_.get(), .events = POLLIN, .revents = 0};
    return poll(&entry, 1, 0) > 0;
  }
  void finish(bool signalled) {
    const std::unique_ptr<FenceWait> end(this);
    enter_js(env_, "scanoutd.kms.fence", [&] { deferred_.Resolve(Napi::Boolean::New(env_, signalled)); });
  }
  Napi::Env env_;
  Napi::Promise::Deferred deferred_;
  base::UniqueFd fence_;
  LoopPoll poll_;
  LoopTimer timer_;
};

Napi::Value wait_fence(const Napi::CallbackInfo& info) {
  const int fence = borrow_fd(info[0], "fence");
  return Napi::Boolean::New(info.Env(), kms::wait_fence(fence, to_i32(info[1], "timeoutMs")));
}

Napi::Value wait_fence_async(const Napi::CallbackInfo& info) {
  const int fence = borrow_fd(info[0], "fence");
  const int32_t timeout = to_i32(info[1], "timeoutMs");
  // It may be done, or be no fence at all.
  if (kms::wait_fence(fence, 0) || timeout == 0) {
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Resolve(Napi::Boolean::New(info.Env(), kms::wait_fence(fence, 0)));
    return deferred.Promise();
  }
  // A descriptor of our own: the caller may close his meanwhile.
  base::UniqueFd own(base::check(fcntl(fence, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)"));
  auto* wait = new FenceWait(info.Env(), std::move(own), timeout);
  return wait->promise();
}

Napi::Value merge_fences(const Napi::CallbackInfo& info) {
  const int a = borrow_fd(info[0], "fence");
  const int b = borrow_fd(info[1], "fence");
  const std::string name = info[2].IsUndefined() ? "scanoutd" : to_string(info[2], "name");
  return wrap_fd(info.Env(), kms::merge_fences(a, b, name));
}

Napi::Value fence_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const kms::SyncFileInfo file = kms::fence_info(borrow_fd(info[0], "fence"));
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", file.name);
  object.Set("status", file.status);
  object.Set("fences", to_js_array(env, file.fences, [env](const kms::FenceInfo& fence) {
               Napi::Object one = Napi::Object::New(env);
               one.Set("object", fence.object);
               one.Set("driver", fence.driver);
               one.Set("status", fence.status);
               one.Set("timeNs", big(env, fence.time_ns));
               return static_cast<Napi::Value>(one);
             }));
  return object;
}

class DmabufMapping final : public KmsClass<DmabufMapping> {
public:
  static constexpr const char* class_name = "DmabufMapping";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000008};

  explicit DmabufMapping(const Napi::CallbackInfo& info) : KmsClass(info) {
    mapping_.emplace(unbox<kms::Mapping>(info, "mapDmabuf"));
  }
  ~DmabufMapping() override = default;
  Napi::Value data(const Napi::CallbackInfo& info) {
    if (!mapping_) gone("closed");
    return mapping_->bytes(info.Env());
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    if (!mapping_) gone("closed already");
    mapping_->detach();
    mapping_.reset();
    return info.Env().Undefined();
  }

private:
  std::optional<MappedBytes> mapping_;
};

Napi::Value map_dmabuf(const Napi::CallbackInfo& info) {
  const int dmabuf = borrow_fd(info[0], "fd");
  // Read-only pages behind a Uint8Array would turn a stray write into a crash.
  return DmabufMapping::make(info.Env(), kms::map_dmabuf(dmabuf, true));
}

Napi::Value dmabuf_info(const Napi::CallbackInfo& info) {
  const kms::DmabufInfo dmabuf = kms::dmabuf_info(borrow_fd(info[0], "fd"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("inode", big(info.Env(), dmabuf.inode));
  object.Set("size", static_cast<double>(dmabuf.size));
  return object;
}

Napi::Value begin_cpu_access(const Napi::CallbackInfo& info) {
  kms::begin_cpu_access(borrow_fd(info[0], "fd"), to_access(info[1], "access"));
  return info.Env().Undefined();
}

Napi::Value end_cpu_access(const Napi::CallbackInfo& info) {
  kms::end_cpu_access(borrow_fd(info[0], "fd"), to_access(info[1], "access"));
  return info.Env().Undefined();
}

Napi::Value export_sync_file(const Napi::CallbackInfo& info) {
  const int dmabuf = borrow_fd(info[0], "fd");
  return wrap_fd(info.Env(), kms::export_sync_file(dmabuf, to_access(info[1], "access")));
}

Napi::Value import_sync_file(const Napi::CallbackInfo& info) {
  const int dmabuf = borrow_fd(info[0], "fd");
  const int fence = borrow_fd(info[1], "fence");
  kms::import_sync_file(dmabuf, fence, to_access(info[2], "access"));
  return info.Env().Undefined();
}

Napi::Value set_dmabuf_name(const Napi::CallbackInfo& info) {
  const int dmabuf = borrow_fd(info[0], "fd");
  kms::set_dmabuf_name(dmabuf, to_string(info[1], "name"));
  return info.Env().Undefined();
}

Napi::Value create_udmabuf(const Napi::CallbackInfo& info) {
  const uint64_t size = to_u64(info[0], "size");
  const std::string name = info[1].IsUndefined() ? "scanoutd" : to_string(info[1], "name");
  kms::Udmabuf made = kms::create_udmabuf(size, name);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("memfd", wrap_fd(info.Env(), std::move(made.memfd)));
  object.Set("dmabuf", wrap_fd(info.Env(), std::move(made.dmabuf)));
  object.Set("size", static_cast<double>(made.size));
  return object;
}

Napi::Value udmabuf_of(const Napi::CallbackInfo& info) {
  const Napi::Array array = to_array(info[0], "ranges");
  std::vector<kms::MemfdRange> ranges;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object range = to_object(array.Get(i), "range");
    ranges.push_back({.memfd = borrow_fd(range.Get("memfd"), "memfd"),
                      .offset = to_u64(range.Get("offset"), "offset"),
                      .size = to_u64(range.Get("size"), "size")});
  }
  return wrap_fd(info.Env(), kms::udmabuf_of(ranges));
}

} // namespace

void init_kms_sync(Napi::Env env, Napi::Object exports) {
  using M = DmabufMapping;
  M::register_class(exports,
                    M::DefineClass(env, M::class_name,
                                   {M::define_getter<&M::data>("data"), M::define<&M::close>("close")}));
  export_function<wait_fence>(exports, "waitFence");
  export_function<wait_fence_async>(exports, "waitFenceAsync");
  export_function<merge_fences>(exports, "mergeFences");
  export_function<fence_info>(exports, "fenceInfo");
  export_function<map_dmabuf>(exports, "mapDmabuf");
  export_function<dmabuf_info>(exports, "dmabufInfo");
  export_function<begin_cpu_access>(exports, "beginCpuAccess");
  export_function<end_cpu_access>(exports, "endCpuAccess");
  export_function<export_sync_file>(exports, "exportSyncFile");
  export_function<import_sync_file>(exports, "importSyncFile");
  export_function<set_dmabuf_name>(exports, "setDmabufName");
  export_function<create_udmabuf>(exports, "createUdmabuf");
  export_function<udmabuf_of>(exports, "udmabufOf");
}

} // namespace scanout::addon
