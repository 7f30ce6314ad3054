// The classes VfioDevice and VfioGuest.
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <vector>

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/guests.h"
#include "addon/kms_classes.h"
#include "addon/loop.h"
#include "addon/wrapped.h"
#include "guests/vfio.h"
#include "guests/vfio_owner.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:vfio";

Napi::Object to_object(Napi::Env env, const guests::VfioPlane& plane) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", plane.id);
  object.Set("fourcc", plane.fourcc);
  object.Set("modifier", Napi::BigInt::New(env, plane.modifier));
  object.Set("width", plane.width);
  object.Set("height", plane.height);
  object.Set("stride", plane.stride);
  object.Set("size", plane.size);
  return object;
}

guests::VfioPlane to_plane(const Napi::Value& value) {
  const Napi::Object object = addon::to_object(value, "plane");
  const auto number = [&](const char* name) { return to_u32(object.Get(name), name); };
  return {.fourcc = number("fourcc"),
          .modifier = to_u64(object.Get("modifier"), "modifier"),
          .width = number("width"),
          .height = number("height"),
          .stride = number("stride"),
          .size = number("size"),
          .id = number("id")};
}

// ---- VfioDevice

class VfioDevice : public Wrapped<VfioDevice> {
public:
  explicit VfioDevice(const Napi::CallbackInfo& info) : Wrapped<VfioDevice>(info) {
    guarded(info.Env(), [&] {
      const std::string how = to_string(info[0], "how");
      using Device = guests::VfioDevice;
      if (how == "fd") {
        device_ = std::make_shared<Device>(take_fd(info[1], "device"));
      } else {
        const std::string path = to_string(info[1], "path");
        device_ = std::make_shared<Device>(how == "open" ? Device::open(path) : Device::adopt(path));
      }
    });
  }
  Napi::Value probe(const Napi::CallbackInfo& info) {
    const std::optional<guests::VfioPlaneKind> kind = device()->probe(to_u32(info[0], "type"));
    if (!kind) return info.Env().Null();
    return Napi::String::New(info.Env(), *kind == guests::VfioPlaneKind::dma_buf ? "dma-buf" : "region");
  }
  Napi::Value dma_buf(const Napi::CallbackInfo& info) {
    return wrap_fd(info.Env(), device()->dma_buf(to_u32(info[0], "id")));
  }
  Napi::Value write_edid(const Napi::CallbackInfo& info) {
    if (!info[0].IsTypedArray()) throw base::UsageError("edid: Uint8Array expected");
    const auto bytes = info[0].As<Napi::Uint8Array>();
    std::vector<uint8_t> edid(bytes.Data(), bytes.Data() + bytes.ByteLength());
    auto written = std::make_shared<bool>(false);
    return run_async(
        info.Env(), [=, device = device(), edid = std::move(edid)] { *written = device->write_edid(edid); },
        [written](Napi::Env env) { return Napi::Boolean::New(env, *written); });
  }
  Napi::Value path(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), guests::vfio_device_path(device()->fd()));
  }
  Napi::Value owner(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), device()->owner_pid());
  }
  Napi::Value still_owned(const Napi::CallbackInfo& info) {
    const guests::VfioDevice& device = *this->device();
    return Napi::Boolean::New(info.Env(), device.owner_pid() == 0 ||
                                              guests::still_owns_vfio(device.owner_pid(), device.owner_fd()));
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    device_.reset();
    return info.Env().Undefined();
  }

  [[nodiscard]] const std::shared_ptr<const guests::VfioDevice>& device() const {
    if (!device_) throw base::UsageError("VfioDevice is closed");
    return device_;
  }
  static Napi::FunctionReference* constructor;

private:
  std::shared_ptr<const guests::VfioDevice> device_;
};

Napi::FunctionReference* VfioDevice::constructor = nullptr;

const std::shared_ptr<const guests::VfioDevice>& device_of(const Napi::Value& value) {
  const Napi::Object object = addon::to_object(value, "device");
  if (!object.InstanceOf(VfioDevice::constructor->Value()))
    throw base::UsageError("device: VfioDevice expected");
  return VfioDevice::Unwrap(object)->device();
}

// ---- VfioGuest

class VfioGuest : public Wrapped<VfioGuest> {
public:
  explicit VfioGuest(const Napi::CallbackInfo& info);
  Napi::Value set_area(const Napi::CallbackInfo& info);
  Napi::Value add_buffer(const Napi::CallbackInfo& info);
  Napi::Value retire_buffer(const Napi::CallbackInfo& info);
  Napi::Value set_region(const Napi::CallbackInfo& info);
  Napi::Value set_copied(const Napi::CallbackInfo& info);
  Napi::Value heard(const Napi::CallbackInfo& info) {
    if (guest().irq_error() != 0) return Napi::String::New(info.Env(), base::errno_name(guest().irq_error()));
    return Napi::Boolean::New(info.Env(), guest().heard());
  }
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value leave(const Napi::CallbackInfo&);

  ProducerHolder holder;
  static Napi::FunctionReference* constructor;

private:
  guests::VfioGuest& guest() { return static_cast<guests::VfioGuest&>(holder.producer(Env())); }
  uint32_t plane(const Napi::Value& value) {
    const uint32_t index = to_u32(value, "plane");
    if (index >= guest().stream_count()) throw base::UsageError("plane: the guest has no such plane");
    return index;
  }
  void drain();
  void owner_ended();

  std::shared_ptr<const guests::VfioDevice> device_;
  Napi::FunctionReference on_news_;
  std::unique_ptr<LoopPoll> poll_, owner_poll_;
};

Napi::FunctionReference* VfioGuest::constructor = nullptr;

VfioGuest::VfioGuest(const Napi::CallbackInfo& info) : Wrapped<VfioGuest>(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<flip::Engine> engine = engine_of(info[0]);
    const Napi::Object options = addon::to_object(info[1], "options");
    device_ = device_of(options.Get("device"));
    const guests::VfioGuest::Options made{
        .first_stream = to_u32(options.Get("firstStream"), "options.firstStream"),
        .plane_count = to_u32(options.Get("planeCount"), "options.planeCount"),
        .kind = to_bool(options.Get("region"), "options.region") ? guests::VfioPlaneKind::region
                                                                 : guests::VfioPlaneKind::dma_buf,
        .period_ns = to_i64(options.Get("periodNs"), "options.periodNs")};
    if (made.plane_count < 1 || made.plane_count > guests::vfio_planes)
      throw base::UsageError("options.planeCount: 1 or 2 expected");
    if (made.period_ns < 1) throw base::UsageError("options.periodNs: a positive number expected");
    on_news_ = Napi::Persistent(to_function(options.Get("onNews"), "options.onNews"));
    auto producer = std::make_unique<guests::VfioGuest>(made, device_, *engine);
    poll_ = std::make_unique<LoopPoll>(info.Env(), producer->news_fd(),
                                       [this](int) { enter_js(Env(), resource, [this] { drain(); }); });
    poll_->watch(UV_READABLE);
    if (device_->owner_process() >= 0) {
      owner_poll_ = std::make_unique<LoopPoll>(info.Env(), device_->owner_process(), [this](int) {
        enter_js(Env(), resource, [this] { owner_ended(); });
      });
      owner_poll_->watch(UV_READABLE);
    }
    holder.enter(info.Env(), info[0], std::move(producer));
  });
}

void VfioGuest::drain() {
  uint64_t count = 0;
  if (read(guest().news_fd(), &count, sizeof count) < 0) return;
  // It may leave by what it is told.
  while (poll_ != nullptr) {
    const std::optional<guests::VfioNews> news = guest().news();
    if (!news) return;
    constexpr const char* types[] = {"", "unknown", "gone", "failed"};
    Napi::Object object = Napi::Object::New(Env());
    object.Set("type", types[static_cast<uint32_t>(news->type)]);
    object.Set("index", news->index);
    object.Set("errno", news->error);
    object.Set("code", news->error == 0 ? "" : base::errno_name(news->error));
    object.Set("plane", to_object(Env(), news->plane));
    on_news_.Call({object});
  }
}

void VfioGuest::owner_ended() {
  owner_poll_->watch(0);
  Napi::Object object = Napi::Object::New(Env());
  object.Set("type", "ended");
  on_news_.Call({object});
}

Napi::Value VfioGuest::set_area(const Napi::CallbackInfo& info) {
  const flip::Rect area{to_i32(info[0], "x1"), to_i32(info[1], "y1"), to_i32(info[2], "x2"),
                        to_i32(info[3], "y2")};
  const uint32_t crtc = to_u32(info[4], "crtc");
  const int64_t period = to_i64(info[5], "periodNs");
  if (period < 1) throw base::UsageError("periodNs: a positive number expected");
  return post_simple(info.Env(), holder.engine_object(), "setArea", "guest",
                     [guest = &guest(), area, crtc, period](flip::Engine&) {
                       guest->set_area(area, crtc, period);
                       return 0;
                     });
}

Napi::Value VfioGuest::add_buffer(const Napi::CallbackInfo& info) {
  const uint32_t index = plane(info[0]);
  const uint32_t slot = to_u32(info[1], "slot");
  const uint32_t fb_id = to_u32(info[3], "framebuffer");
  return post_simple(info.Env(), holder.engine_object(), "addBuffer", "buffer " + std::to_string(slot),
                     [guest = &guest(), index, slot, shape = to_plane(info[2]), fb_id,
                      fences = to_implicit_fences(info[4])](flip::Engine&) mutable {
                       return guest->add_buffer(index, slot, shape, fb_id, std::move(fences));
                     });
}

class RetireVfioBuffer final : public flip::Command {
public:
  RetireVfioBuffer(guests::VfioGuest& guest, uint32_t slot) : guest_(guest), slot_(slot) {}
  Result run(flip::Engine&) noexcept override {
    guest_.retire_buffer(slot_, *this);
    return Result::later;
  }

private:
  guests::VfioGuest& guest_;
  uint32_t slot_;
};

Napi::Value VfioGuest::retire_buffer(const Napi::CallbackInfo& info) {
  const uint32_t slot = to_u32(info[0], "slot");
  if (slot >= guests::vfio_buffers) throw base::UsageError("slot: 0 to 31 expected");
  return post(info.Env(), holder.engine_object(), std::make_unique<RetireVfioBuffer>(guest(), slot),
              "retireBuffer", "buffer " + std::to_string(slot));
}

// Carries the region to the flip thread, and the former one back to be freed.
class SetRegionCommand final : public flip::Command {
public:
  SetRegionCommand(guests::VfioGuest& guest, std::unique_ptr<guests::VfioRegion> region)
      : guest_(guest), region_(std::move(region)) {}
  Result run(flip::Engine&) noexcept override {
    error = guest_.set_region(region_);
    return Result::done;
  }

private:
  guests::VfioGuest& guest_;
  std::unique_ptr<guests::VfioRegion> region_;
};

Napi::Value VfioGuest::set_region(const Napi::CallbackInfo& info) {
  const guests::VfioPlane shape = to_plane(info[0]);
  const Napi::Array list = to_array(info[1], "canvases");
  if (list.Length() != guests::vfio_canvases) throw base::UsageError("canvases: three expected");
  std::array<guests::VfioCanvas, guests::vfio_canvases> canvases;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Napi::Object object = addon::to_object(list.Get(i), "canvases[]");
    const int memfd = borrow_fd(object.Get("memfd"), "canvases[].memfd");
    const size_t bytes = size_t{shape.stride} * shape.height;
    canvases[i].slot = to_u32(object.Get("slot"), "canvases[].slot");
    canvases[i].dmabuf.reset(
        base::check(fcntl(borrow_fd(object.Get("dmabuf"), "canvases[].dmabuf"), F_DUPFD_CLOEXEC, 3),
                    "fcntl(F_DUPFD_CLOEXEC)"));
    if (static_cast<uint64_t>(base::check(lseek(memfd, 0, SEEK_END), "lseek", "memfd")) < bytes)
      throw base::UsageError("canvases[].memfd: smaller than the plane");
    canvases[i].memory = kms::Mapping(memfd, bytes, 0, true);
  }
  auto region = std::make_unique<guests::VfioRegion>(*device_, shape, std::move(canvases), guest().host());
  return post(info.Env(), holder.engine_object(),
              std::make_unique<SetRegionCommand>(guest(), std::move(region)), "setRegion",
              "region " + std::to_string(shape.id));
}

Napi::Value VfioGuest::set_copied(const Napi::CallbackInfo& info) {
  const uint32_t index = plane(info[0]);
  const bool copied = to_bool(info[1], "copied");
  return post_simple(info.Env(), holder.engine_object(), "setCopied", "guest",
                     [guest = &guest(), index, copied](flip::Engine&) {
                       guest->set_copied(index, copied);
                       return 0;
                     });
}

Napi::Value VfioGuest::stats(const Napi::CallbackInfo& info) {
  const guests::VfioStats& stats = guest().stats(plane(info[0]));
  Napi::Object object = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, const std::atomic<uint64_t>& counter) {
    object.Set(name, static_cast<double>(counter.load(std::memory_order_relaxed)));
  };
  set("queries", stats.queries);
  set("taken", stats.taken);
  set("flips", stats.flips);
  set("superseded", stats.superseded);
  set("missed", stats.missed);
  set("refused", stats.refused);
  set("copied", stats.copied);
  object.Set("newestBuffer", stats.newest_buffer.load(std::memory_order_relaxed));
  return object;
}

Napi::Value VfioGuest::leave(const Napi::CallbackInfo& info) {
  guest();
  poll_.reset();
  owner_poll_.reset();
  device_.reset(); // its group is free as soon as the last one of us has let go
  return holder.leave(info.Env());
}

} // namespace

void init_vfio(Napi::Env env, Napi::Object exports) {
  using D = VfioDevice;
  const Napi::Function device =
      D::DefineClass(env, "VfioDevice",
                     {D::define<&D::probe>("probe"), D::define<&D::dma_buf>("dmaBuf"),
                      D::define<&D::write_edid>("writeEdid"), D::define_getter<&D::path>("path"),
                      D::define_getter<&D::owner>("owner"), D::define<&D::still_owned>("stillOwned"),
                      D::define<&D::close>("close")});
  D::constructor = new Napi::FunctionReference(Napi::Persistent(device));
  D::constructor->SuppressDestruct();
  exports.Set("VfioDevice", device);

  using G = VfioGuest;
  const Napi::Function guest =
      G::DefineClass(env, "VfioGuest",
                     {G::define<&G::set_area>("setArea"), G::define<&G::add_buffer>("addBuffer"),
                      G::define<&G::retire_buffer>("retireBuffer"), G::define<&G::set_region>("setRegion"),
                      G::define<&G::set_copied>("setCopied"), G::define<&G::stats>("stats"),
                      G::define_getter<&G::heard>("heard"), G::define<&G::leave>("leave")});
  G::constructor = new Napi::FunctionReference(Napi::Persistent(guest));
  G::constructor->SuppressDestruct();
  register_producer_class([](const Napi::Object& object) -> ProducerHolder* {
    if (!object.InstanceOf(G::constructor->Value())) return nullptr;
    return &G::Unwrap(object)->holder;
  });
  exports.Set("VfioGuest", guest);
}

} // namespace scanout::addon
