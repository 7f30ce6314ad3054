// The class VirtioGpu: a vhost-user-gpu device and its connection.
#include <sys/socket.h>

#include "addon/kms_classes.h"
#include "addon/virtio.h"
#include "addon/virtio_class.h"
#include "base/fd_kind.h"
#include "base/unix_socket.h"

namespace scanout::addon {

namespace {

constexpr const char* resource_name = "scanoutd:virtio";

} // namespace

Napi::FunctionReference* VirtioGpu::constructor = nullptr;

VirtioGpu::VirtioGpu(const Napi::CallbackInfo& info) : Wrapped<VirtioGpu>(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<flip::Engine> engine = engine_of(info[0]);
    const Napi::Object options = to_object(info[1], "options");
    const uint32_t scanouts = to_u32(options.Get("scanouts"), "options.scanouts");
    if (scanouts < 1 || scanouts > guests::max_gpu_scanouts)
      throw base::UsageError("options.scanouts: 1 to 16 expected");
    on_notice_ = Napi::Persistent(to_function(options.Get("onNotice"), "options.onNotice"));
    on_refused_ = Napi::Persistent(to_function(options.Get("onRefused"), "options.onRefused"));
    on_end_ = Napi::Persistent(to_function(options.Get("onEnd"), "options.onEnd"));
    on_keep_ = Napi::Persistent(to_function(options.Get("onKeep"), "options.onKeep"));
    on_drop_ = Napi::Persistent(to_function(options.Get("onDrop"), "options.onDrop"));
    engine_object_ = Napi::Persistent(info[0].As<Napi::Object>());
    const std::string label = to_string(options.Get("label"), "options.label");
    const Napi::Value former = options.Get("state");
    gpu_ = std::make_shared<guests::VirtioGpu>(
        scanouts, *engine,
        former.IsNull() ? guests::VirtioState::make(scanouts, label)
                        : guests::VirtioState::open(take_fd(former, "options.state"), scanouts, label));
    config_.num_scanouts = scanouts;
    notice_poll_ = std::make_unique<LoopPoll>(info.Env(), gpu_->notice_fd(), [this](int) { on_notices(); });
  });
}

/// Takes the connected socket over. Once.
Napi::Value VirtioGpu::connect(const Napi::CallbackInfo& info) {
  if (vhost_ || ended_) throw base::UsageError("the device is connected already");
  if (!base::is_unix_socket(borrow_fd(info[0], "socket"), SOCK_STREAM))
    throw base::UsageError("socket: a stream socket expected");
  keep("state", gpu_->state()->fd());
  attach(take_fd(info[0], "socket"));
  keep("socket", vhost_->fd());
  watch();
  return flip("open", [gpu = gpu().get()](flip::Engine&) { return gpu->open(); });
}

void VirtioGpu::attach(base::UniqueFd socket) {
  const guests::VhostUser::Traits traits{.features = guests::VirtioGpu::features,
                                         .protocol_features = guests::vhost::protocol_config,
                                         .rings = 2};
  guests::VhostUser::Owner& owner = *this;
  vhost_ = std::make_unique<guests::VhostUser>(std::move(socket), traits, owner, gpu_->state()->transport());
  socket_poll_ = std::make_unique<LoopPoll>(Env(), vhost_->fd(), [this](int) { on_socket(); });
  Ref(); // until `disconnect`
  notice_poll_->watch(UV_READABLE);
}

void VirtioGpu::watch() {
  if (socket_poll_) socket_poll_->watch(vhost_->state() == guests::VhostUser::State::open ? UV_READABLE : 0);
}

void VirtioGpu::on_socket() {
  if (!vhost_ || ended_) return;
  enter_js(Env(), resource_name, [&] {
    vhost_->receive();
    watch();
    if (vhost_->state() != guests::VhostUser::State::ended) return;
    ended_ = true;
    on_end_.Call({Napi::String::New(Env(), vhost_->why_ended())});
  });
}

void VirtioGpu::apply(std::unique_ptr<guests::RingChange> change) {
  class Command final : public flip::Command {
  public:
    Command(std::shared_ptr<guests::VirtioGpu> gpu, std::unique_ptr<guests::RingChange> change)
        : change(std::move(change)), gpu_(std::move(gpu)) {}
    Result run(flip::Engine&) noexcept override {
      change->run(gpu_->rings());
      return Result::done;
    }
    std::unique_ptr<guests::RingChange> change;

  private:
    std::shared_ptr<guests::VirtioGpu> gpu_;
  };
  // This object stays while it is connected, and `disconnect` waits for every command before its own.
  const Napi::Value promise =
      post(Env(), engine_object_.Value(), std::make_unique<Command>(gpu_, std::move(change)), "apply",
           "virtio ring", [this](Napi::Env env, flip::Command& command) -> Napi::Value {
             if (vhost_) {
               vhost_->finished(std::move(static_cast<Command&>(command).change));
               on_socket(); // more may have come meanwhile, and an end must be told
             }
             return env.Undefined();
           });
  // Rejected only when the engine is closed, and the daemon with it.
  const Napi::Function ignore = Napi::Function::New(Env(), [](const Napi::CallbackInfo&) {});
  promise.As<Napi::Object>().Get("catch").As<Napi::Function>().Call(promise, {ignore});
}

bool VirtioGpu::get_config(uint32_t offset, std::span<uint8_t> config) {
  // Front ends may ask for more than a device has: the rest is 0.
  if (offset >= sizeof config_) return false;
  std::fill(config.begin(), config.end(), uint8_t{0});
  const size_t part = std::min(config.size(), sizeof config_ - offset);
  std::memcpy(config.data(), reinterpret_cast<const uint8_t*>(&config_) + offset, part);
  return true;
}

bool VirtioGpu::set_config(uint32_t offset, std::span<const uint8_t> config) {
  constexpr size_t at = offsetof(virtio_gpu_config, events_clear);
  uint32_t cleared = 0;
  if (offset > at || offset + config.size() < at + sizeof cleared) return false;
  std::memcpy(&cleared, &config[at - offset], sizeof cleared);
  config_.events_read &= ~cleared;
  return true;
}

bool VirtioGpu::other(guests::vhost::Request request, std::span<const uint8_t>, guests::ReceivedFds& fds) {
  if (request != guests::vhost::Request::gpu_set_socket) return false;
  if (fds.size() != 1 || !base::is_unix_socket(fds.peek(0), SOCK_STREAM))
    throw guests::VhostRefusal("one unix socket expected");
  keep("gpu", fds.peek(0));
  gpu_socket_ = fds.take(0);
  return true;
}

void VirtioGpu::refused(const std::string& why) {
  on_refused_.Call({Napi::String::New(Env(), why)});
}

void VirtioGpu::on_notices() {
  if (!gpu_) return;
  uint64_t count = 0;
  (void)!read(gpu_->notice_fd(), &count, sizeof count);
  enter_js(Env(), resource_name, [&] {
    while (const auto notice = gpu_->notice())
      on_notice_.Call({notice_to_js(Env(), *notice)});
  });
}

/// (scanout, width, height, edid or null)
Napi::Value VirtioGpu::set_display(const Napi::CallbackInfo& info) {
  const uint32_t scanout = to_u32(info[0], "scanout");
  if (scanout >= gpu()->scanout_count()) throw base::UsageError("scanout: there is no such scanout");
  auto display = std::make_shared<guests::GpuDisplay>();
  display->width = to_u32(info[1], "width");
  display->height = to_u32(info[2], "height");
  if (info[3].IsTypedArray()) {
    const auto edid = info[3].As<Napi::Uint8Array>();
    if (edid.ByteLength() > guests::max_edid) throw base::UsageError("edid: at most 1024 bytes expected");
    display->edid_size = static_cast<uint32_t>(edid.ByteLength());
    std::copy_n(edid.Data(), edid.ByteLength(), display->edid.begin());
  }
  config_.events_read |= VIRTIO_GPU_EVENT_DISPLAY;
  return flip("setDisplay", [gpu = gpu().get(), scanout, display](flip::Engine&) {
    gpu->set_display(scanout, *display);
    return 0;
  });
}

Napi::Value VirtioGpu::config_changed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), vhost_ && vhost_->config_changed());
}

/// (resource, wantedSize): reads the memory of the command in hand, and makes a dma-buf of it if that can be.
Napi::Value VirtioGpu::read_backing(const Napi::CallbackInfo& info) {
  const uint32_t resource = to_u32(info[0], "resource");
  const uint64_t wanted = to_u64(info[1], "size");
  auto made = std::make_shared<Made>();
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(Value()));
  return run_async(
      Env(),
      [made, gpu = gpu_, memory = memory(), resource, wanted] {
        made->backing = std::make_shared<guests::GpuBacking>(*memory, gpu->job_chain(), gpu->job_entries_at(),
                                                             gpu->job_entries());
        if (made->backing->size() < wanted) {
          throw base::SystemError(EINVAL, "attach", "resource",
                                  std::to_string(made->backing->size()) +
                                      " bytes, of which its pixels need " + std::to_string(wanted));
        }
        made->try_dma_buf(*memory);
        gpu->state()->write_pieces(resource, made->backing->parts());
      },
      [this, self, made, resource](Napi::Env env) -> Napi::Value {
        backings_[resource] = made->backing;
        return made->to_js(env);
      });
}

/// (done, copied, framebuffer)
Napi::Value VirtioGpu::finish_job(const Napi::CallbackInfo& info) {
  const guests::GpuJobResult result{.done = to_bool(info[0], "done"),
                                    .copied = to_bool(info[1], "copied"),
                                    .fb_id = to_u32(info[2], "framebuffer")};
  return flip("finishJob", [gpu = gpu().get(), result](flip::Engine&) {
    gpu->finish_job(result);
    return 0;
  });
}

/// (notice, target, targetStride): copies on a thread of the pool.
Napi::Value VirtioGpu::transfer(const Napi::CallbackInfo& info) {
  const Napi::Object notice = to_object(info[0], "notice");
  const Napi::Object from = to_object(notice.Get("rect"), "notice.rect");
  const auto found = backings_.find(to_u32(notice.Get("resource"), "notice.resource"));
  if (found == backings_.end()) throw base::UsageError("notice.resource: it has no memory");
  if (!info[1].IsTypedArray()) throw base::UsageError("target: Uint8Array expected");
  auto target = info[1].As<Napi::Uint8Array>();
  const guests::GpuLayout layout{.width = to_u32(notice.Get("width"), "notice.width"),
                                 .height = to_u32(notice.Get("height"), "notice.height"),
                                 .format = to_u32(notice.Get("format"), "notice.format"),
                                 .stride = to_u32(notice.Get("stride"), "notice.stride")};
  const guests::GpuRect rect{.x = to_u32(from.Get("x"), "rect.x"),
                             .y = to_u32(from.Get("y"), "rect.y"),
                             .width = to_u32(from.Get("width"), "rect.width"),
                             .height = to_u32(from.Get("height"), "rect.height")};
  const uint64_t start = to_u64(from.Get("start"), "rect.start");
  const uint32_t stride = to_u32(info[2], "targetStride");
  auto held = std::make_shared<Napi::Reference<Napi::Uint8Array>>(Napi::Persistent(target));
  const std::span<uint8_t> bytes(target.Data(), target.ByteLength());
  return run_async(
      Env(),
      [backing = found->second, memory = memory(), layout, rect, start, bytes, stride] {
        backing->copy(*memory, layout, rect, start, bytes, stride);
      },
      [held](Napi::Env env) -> Napi::Value {
        held->Reset();
        return env.Undefined();
      });
}

Napi::Value VirtioGpu::buffer_released(const Napi::CallbackInfo& info) {
  const uint32_t buffer = to_u32(info[0], "buffer");
  if (buffer >= guests::max_gpu_buffers) throw base::UsageError("buffer: there is no such buffer");
  return flip("bufferReleased", [gpu = gpu().get(), buffer](flip::Engine&) {
    gpu->buffer_released(buffer);
    return 0;
  });
}

Napi::Value VirtioGpu::resource_released(const Napi::CallbackInfo& info) {
  const uint32_t resource = to_u32(info[0], "resource");
  if (resource >= guests::max_gpu_resources) throw base::UsageError("resource: there is no such resource");
  backings_.erase(resource);
  return flip("resourceReleased", [gpu = gpu().get(), resource](flip::Engine&) {
    gpu->resource_released(resource);
    return 0;
  });
}

Napi::Value VirtioGpu::stats(const Napi::CallbackInfo& info) {
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("commands", static_cast<double>(gpu()->commands()));
  object.Set("late", static_cast<double>(gpu()->late()));
  return object;
}

/// Stops the rings, lets everything of the guest go, and ends the connection. Notices still come until every
/// scanout has left.
Napi::Value VirtioGpu::disconnect(const Napi::CallbackInfo& info) {
  if (!vhost_) return info.Env().Undefined();
  ended_ = true;
  socket_poll_->watch(0);
  class Command final : public flip::Command {
  public:
    explicit Command(std::shared_ptr<guests::VirtioGpu> gpu) : gpu_(std::move(gpu)) {}
    Result run(flip::Engine&) noexcept override {
      change_.run(gpu_->rings());
      gpu_->reset();
      gpu_->close();
      return Result::done;
    }

  private:
    std::shared_ptr<guests::VirtioGpu> gpu_;
    guests::RingChange change_{guests::RingChange::What::stop_all};
  };
  return post(info.Env(), engine_object_.Value(), std::make_unique<Command>(gpu_), "disconnect",
              "virtio device", [this](Napi::Env env, flip::Command&) -> Napi::Value {
                socket_poll_.reset();
                vhost_->hang_up(); // the service manager has the socket, too
                vhost_.reset();
                gpu_socket_.reset();
                notice_poll_->watch(0);
                Unref();
                return env.Undefined();
              });
}

/// Lets the device go: its rings' eventfds, its state. They would stay until the garbage is collected.
Napi::Value VirtioGpu::close(const Napi::CallbackInfo& info) {
  if (!gpu_) return info.Env().Undefined();
  if (vhost_) throw base::UsageError("the device is connected");
  ended_ = true;
  // Commands before this one have a bare pointer to it.
  auto body = [gpu = std::move(gpu_)](flip::Engine&) { return 0; };
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(Value()));
  return post(info.Env(), engine_object_.Value(),
              std::make_unique<flip::SimpleCommand<decltype(body)>>(std::move(body)), "close",
              "virtio device", [this, self](Napi::Env env, flip::Command&) -> Napi::Value {
                notice_poll_.reset();
                return env.Undefined();
              });
}

VirtioDevice virtio_device_of(const Napi::Value& value, const char* what) {
  const Napi::Object object = to_object(value, what);
  if (!object.InstanceOf(VirtioGpu::constructor->Value()))
    throw base::UsageError(std::string(what) + ": VirtioGpu expected");
  const VirtioGpu* device = VirtioGpu::Unwrap(object);
  return {device->gpu(), device->engine_object()};
}

void init_virtio(Napi::Env env, Napi::Object exports) {
  using G = VirtioGpu;
  const Napi::Function gpu = G::DefineClass(env, "VirtioGpu",
                                            {
                                                G::define<&G::connect>("connect"),
                                                G::define<&G::restore>("restore"),
                                                G::define<&G::remake_backing>("remakeBacking"),
                                                G::define<&G::restored>("restored"),
                                                G::define<&G::resume>("resume"),
                                                G::define<&G::suspend>("suspend"),
                                                G::define<&G::set_display>("setDisplay"),
                                                G::define<&G::config_changed>("configChanged"),
                                                G::define<&G::read_backing>("readBacking"),
                                                G::define<&G::finish_job>("finishJob"),
                                                G::define<&G::transfer>("transfer"),
                                                G::define<&G::buffer_released>("bufferReleased"),
                                                G::define<&G::resource_released>("resourceReleased"),
                                                G::define<&G::stats>("stats"),
                                                G::define<&G::disconnect>("disconnect"),
                                                G::define<&G::close>("close"),
                                            });
  G::constructor = new Napi::FunctionReference(Napi::Persistent(gpu));
  G::constructor->SuppressDestruct();
  exports.Set("VirtioGpu", gpu);
  init_virtio_scanout(env, exports);
}

} // namespace scanout::addon
