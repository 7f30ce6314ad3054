// The class SocketGuest: the hot half of a socket guest.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/guests.h"
#include "base/fd_kind.h"

namespace scanout::addon {

namespace {

class SocketGuest : public Napi::ObjectWrap<SocketGuest> {
public:
  explicit SocketGuest(const Napi::CallbackInfo& info);
  Napi::Value page_fd(const Napi::CallbackInfo& info);
  Napi::Value fence_fd(const Napi::CallbackInfo& info);
  Napi::Value set_area(const Napi::CallbackInfo& info);
  Napi::Value set_mode(const Napi::CallbackInfo& info);
  Napi::Value add_buffer(const Napi::CallbackInfo& info);
  Napi::Value renew_buffer(const Napi::CallbackInfo& info);
  Napi::Value await_former(const Napi::CallbackInfo& info);
  Napi::Value retire_buffer(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value leave(const Napi::CallbackInfo& info);

  ProducerHolder holder;
  static Napi::FunctionReference* constructor;

private:
  base::UniqueFd fence_end_; // the guest's end, until it is handed out
  guests::SocketGuest& guest() { return static_cast<guests::SocketGuest&>(holder.producer(Env())); }
  uint32_t plane(const Napi::Value& value) {
    const uint32_t index = to_u32(value, "plane");
    if (index >= guest().stream_count()) throw base::UsageError("plane: the guest has no such plane");
    return index;
  }
};

Napi::FunctionReference* SocketGuest::constructor = nullptr;

base::UniqueFd take_eventfd(const Napi::Value& value, const char* what) {
  if (!base::is_eventfd(borrow_fd(value, what)))
    throw base::SystemError(EINVAL, "readlink", what, "no eventfd");
  return take_fd(value, what);
}

SocketGuest::SocketGuest(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SocketGuest>(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<flip::Engine> engine = engine_of(info[0]);
    const Napi::Object options = to_object(info[1], "options");
    const uint32_t planes = to_u32(options.Get("planeCount"), "options.planeCount");
    if (planes < 1 || planes > SCANOUTD_MAX_PLANES)
      throw base::UsageError("options.planeCount: 1 to 4 expected");
    const uint32_t first_stream = to_u32(options.Get("firstStream"), "options.firstStream");
    guests::SocketGuest::Descriptors descriptors{take_eventfd(options.Get("kick"), "kick eventfd"),
                                                 take_eventfd(options.Get("release"), "release eventfd"),
                                                 {}};
    if (to_bool(options.Get("fences"), "options.fences")) {
      int ends[2];
      base::check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "socketpair", "fence socket");
      descriptors.fence_socket.reset(ends[0]);
      fence_end_.reset(ends[1]);
    }
    holder.enter(
        info.Env(), info[0],
        std::make_unique<guests::SocketGuest>(first_stream, planes, std::move(descriptors), *engine));
  });
}

Napi::Value SocketGuest::page_fd(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return wrap_fd(info.Env(), base::UniqueFd(base::check(fcntl(guest().page_fd(), F_DUPFD_CLOEXEC, 3),
                                                          "fcntl(F_DUPFD_CLOEXEC)", "flip page")));
  });
}

Napi::Value SocketGuest::fence_fd(const Napi::CallbackInfo& info) {
  return fence_end_ ? wrap_fd(info.Env(), std::move(fence_end_)) : info.Env().Null();
}

Napi::Value SocketGuest::set_area(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const flip::Rect area{to_i32(info[0], "x1"), to_i32(info[1], "y1"), to_i32(info[2], "x2"),
                          to_i32(info[3], "y2")};
    return post_simple(info.Env(), holder.engine_object(), "setArea", "guest",
                       [guest = &guest(), area](flip::Engine&) {
                         guest->set_area(area);
                         return 0;
                       });
  });
}

Napi::Value SocketGuest::set_mode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t index = plane(info[0]);
    const uint32_t mode = to_u32(info[1], "mode");
    if (mode > SCANOUTD_PRESENT_ASYNC) throw base::UsageError("mode: 0 to 2 expected");
    return post_simple(info.Env(), holder.engine_object(), "setMode", "guest",
                       [guest = &guest(), index, mode](flip::Engine&) {
                         guest->set_mode(index, static_cast<flip::PresentMode>(mode));
                         return 0;
                       });
  });
}

Napi::Value SocketGuest::add_buffer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_u32(info[0], "buffer");
    const uint32_t fb_id = to_u32(info[1], "framebuffer");
    const uint32_t width = to_u32(info[2], "width");
    const uint32_t height = to_u32(info[3], "height");
    return post_simple(info.Env(), holder.engine_object(), "addBuffer", "buffer " + std::to_string(id),
                       [guest = &guest(), id, fb_id, width, height,
                        fences = to_implicit_fences(info[4])](flip::Engine&) mutable {
                         return guest->add_buffer(id, fb_id, width, height, std::move(fences));
                       });
  });
}

uint32_t to_buffer(const Napi::Value& value) {
  const uint32_t id = to_u32(value, "buffer");
  if (id >= SCANOUTD_MAX_BUFFERS) throw base::UsageError("buffer: 0 to 63 expected");
  return id;
}

Napi::Value SocketGuest::renew_buffer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_buffer(info[0]);
    const uint32_t fb_id = to_u32(info[1], "framebuffer");
    return post_simple(
        info.Env(), holder.engine_object(), "renewBuffer", "buffer " + std::to_string(id),
        [guest = &guest(), id, fb_id, fences = to_implicit_fences(info[2])](flip::Engine&) mutable {
          return guest->renew_buffer(id, fb_id, std::move(fences));
        });
  });
}

class FormerCommand final : public flip::Command {
public:
  FormerCommand(guests::SocketGuest& guest, uint32_t buffer) : guest_(guest), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    guest_.await_former(buffer_, *this);
    return Result::later;
  }

private:
  guests::SocketGuest& guest_;
  uint32_t buffer_;
};

Napi::Value SocketGuest::await_former(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_buffer(info[0]);
    return post(info.Env(), holder.engine_object(), std::make_unique<FormerCommand>(guest(), id),
                "awaitFormer", "buffer " + std::to_string(id));
  });
}

class RetireCommand final : public flip::Command {
public:
  RetireCommand(guests::SocketGuest& guest, uint32_t buffer) : guest_(guest), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    guest_.retire_buffer(buffer_, *this);
    return Result::later;
  }

private:
  guests::SocketGuest& guest_;
  uint32_t buffer_;
};

Napi::Value SocketGuest::retire_buffer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_buffer(info[0]);
    return post(info.Env(), holder.engine_object(), std::make_unique<RetireCommand>(guest(), id),
                "retireBuffer", "buffer " + std::to_string(id));
  });
}

Napi::Value SocketGuest::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return plane_stats_to_js(info.Env(), guest().stats(plane(info[0]))); });
}

Napi::Value SocketGuest::leave(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return holder.leave(info.Env()); });
}

// What a descriptor is, for checks before it is used.
Napi::Value fd_kind(const Napi::CallbackInfo& info) {
  const int fd = borrow_fd(info[0], "fd");
  const char* kind = base::is_eventfd(fd)       ? "eventfd"
                     : base::is_sync_file(fd)   ? "sync_file"
                     : base::is_dma_buf(fd)     ? "dma-buf"
                     : base::is_vfio_device(fd) ? "vfio-device"
                                                : "other";
  return Napi::String::New(info.Env(), kind);
}

// In bytes; dma-bufs say it by lseek(2) (Documentation/driver-api/dma-buf.rst).
Napi::Value dma_buf_size(const Napi::CallbackInfo& info) {
  const int fd = borrow_fd(info[0], "fd");
  if (!base::is_dma_buf(fd)) throw base::SystemError(EINVAL, "lseek", "fd", "no dma-buf");
  const off_t size = base::check(lseek(fd, 0, SEEK_END), "lseek", "dma-buf");
  base::check(lseek(fd, 0, SEEK_SET), "lseek", "dma-buf");
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value close_untrusted(const Napi::CallbackInfo& info) {
  base::close_untrusted(take_fd(info[0], "fd").release());
  return info.Env().Undefined();
}

} // namespace

kms::ImplicitFences to_implicit_fences(const Napi::Value& value) {
  if (value.IsUndefined()) return {};
  const auto list = value.As<Napi::Array>();
  std::vector<int> dmabufs;
  for (uint32_t i = 0; value.IsArray() && i < list.Length(); ++i)
    dmabufs.push_back(borrow_fd(list.Get(i), "fences"));
  return kms::ImplicitFences(dmabufs);
}

Napi::Object plane_stats_to_js(Napi::Env env, const guests::PlaneStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  const auto set = [&](const char* name, const std::atomic<uint64_t>& counter) {
    object.Set(name, static_cast<double>(counter.load(std::memory_order_relaxed)));
  };
  set("taken", stats.taken);
  set("flips", stats.flips);
  set("superseded", stats.superseded);
  set("missed", stats.missed);
  set("refused", stats.refused);
  set("copied", stats.copied);
  object.Set("newestBuffer", stats.newest_buffer.load(std::memory_order_relaxed));
  return object;
}

void init_guests(Napi::Env env, Napi::Object exports) {
  using G = SocketGuest;
  const Napi::Function guest = G::DefineClass(
      env, "SocketGuest",
      {G::InstanceMethod<&G::page_fd>("pageFd"), G::InstanceMethod<&G::fence_fd>("fenceFd"),
       G::InstanceMethod<&G::set_area>("setArea"), G::InstanceMethod<&G::set_mode>("setMode"),
       G::InstanceMethod<&G::add_buffer>("addBuffer"), G::InstanceMethod<&G::retire_buffer>("retireBuffer"),
       G::InstanceMethod<&G::renew_buffer>("renewBuffer"), G::InstanceMethod<&G::await_former>("awaitFormer"),
       G::InstanceMethod<&G::stats>("stats"), G::InstanceMethod<&G::leave>("leave")});
  G::constructor = new Napi::FunctionReference(Napi::Persistent(guest));
  G::constructor->SuppressDestruct();
  register_producer_class([](const Napi::Object& object) -> ProducerHolder* {
    if (!object.InstanceOf(G::constructor->Value())) return nullptr;
    return &G::Unwrap(object)->holder;
  });
  exports.Set("SocketGuest", guest);
  export_function<fd_kind>(exports, "fdKind");
  export_function<dma_buf_size>(exports, "dmaBufSize");
  export_function<close_untrusted>(exports, "closeUntrusted");
}

} // namespace scanout::addon
