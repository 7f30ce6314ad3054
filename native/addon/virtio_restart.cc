// VirtioGpu, from one process to the next.
#include <fcntl.h>

#include "addon/kms_classes.h"
#include "addon/virtio_class.h"
#include "base/fd_kind.h"
#include "base/unix_socket.h"

namespace scanout::addon {

namespace {

/// As in a notice of the type VirtioNotice.
void set_layout(Napi::Object object, const guests::GpuLayout& layout) {
  object.Set("width", layout.width);
  object.Set("height", layout.height);
  object.Set("format", layout.format);
  object.Set("stride", layout.stride);
  object.Set("offset", layout.offset);
}

} // namespace

void VirtioGpu::keep(const std::string& name, int fd) {
  base::UniqueFd copy(base::check(fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)", name));
  on_keep_.Call({Napi::String::New(Env(), name), wrap_fd(Env(), std::move(copy))});
}

void VirtioGpu::drop(const std::string& name) {
  on_drop_.Call({Napi::String::New(Env(), name)});
}

/// (socket, kept): takes the connected socket over, and what was kept by name. Gives the resources that have
/// memory, with their buffers. `resume` or `disconnect` has to follow.
Napi::Value VirtioGpu::restore(const Napi::CallbackInfo& info) {
  if (vhost_ || ended_) throw base::UsageError("the device is connected already");
  if (!base::is_unix_socket(borrow_fd(info[0], "socket"), SOCK_STREAM))
    throw base::UsageError("socket: a stream socket expected");
  const Napi::Object named = to_object(info[1], "kept");
  guests::VhostUser::Kept kept;
  const Napi::Array names = named.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = to_string(names.Get(i), "kept");
    kept[name] = take_fd(named.Get(name), name.c_str());
  }
  if (const auto found = kept.find("gpu"); found != kept.end()) gpu_socket_ = std::move(found->second);
  attach(take_fd(info[0], "socket"));
  try {
    changes_ = vhost_->restore(std::move(kept));
  } catch (const guests::VhostRefusal& refusal) {
    throw base::SystemError(EPROTO, "restore", "vhost-user", refusal.what());
  }
  const guests::GpuRecord& record = gpu_->state()->gpu();
  Napi::Array resources = Napi::Array::New(Env());
  for (uint32_t i = 0; i < guests::max_gpu_resources; ++i) {
    if (!record.resources[i].backed) continue;
    Napi::Array buffers = Napi::Array::New(Env());
    for (uint32_t k = 0; k < guests::max_gpu_buffers; ++k) {
      const guests::GpuBuffer& buffer = record.buffers[k];
      if (buffer.state != guests::GpuBuffer::State::ready || buffer.resource != i) continue;
      Napi::Object object = Napi::Object::New(Env());
      object.Set("resource", i);
      object.Set("buffer", k);
      set_layout(object, buffer.layout);
      buffers.Set(buffers.Length(), object);
    }
    Napi::Object object = Napi::Object::New(Env());
    object.Set("resource", i);
    object.Set("buffers", buffers);
    resources.Set(resources.Length(), object);
  }
  return resources;
}

/// (resource): the memory that a resource had.
Napi::Value VirtioGpu::remake_backing(const Napi::CallbackInfo& info) {
  const uint32_t resource = to_u32(info[0], "resource");
  if (resource >= guests::max_gpu_resources) throw base::UsageError("resource: there is no such resource");
  auto made = std::make_shared<Made>();
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(Value()));
  return run_async(
      Env(),
      [made, gpu = gpu_, memory = memory(), resource] {
        made->backing = std::make_shared<guests::GpuBacking>(*memory, gpu->state()->read_pieces(resource));
        made->try_dma_buf(*memory);
      },
      [this, self, made, resource](Napi::Env env) -> Napi::Value {
        backings_[resource] = made->backing;
        return made->to_js(env);
      });
}

/// (buffer, copied, framebuffer)
Napi::Value VirtioGpu::restored(const Napi::CallbackInfo& info) {
  const uint32_t buffer = to_u32(info[0], "buffer");
  if (buffer >= guests::max_gpu_buffers) throw base::UsageError("buffer: there is no such buffer");
  const guests::GpuJobResult result{
      .done = true, .copied = to_bool(info[1], "copied"), .fb_id = to_u32(info[2], "framebuffer")};
  return flip("restored", [gpu = gpu().get(), buffer, result](flip::Engine&) {
    gpu->restored(buffer, result);
    return 0;
  });
}

/// Shows the pictures again, starts the rings, and reads on in the socket.
Napi::Value VirtioGpu::resume(const Napi::CallbackInfo& info) {
  if (!vhost_ || ended_) throw base::UsageError("the device is not connected");
  auto changes = std::make_shared<std::vector<std::unique_ptr<guests::RingChange>>>(std::move(changes_));
  auto body = [gpu = gpu_, changes](flip::Engine&) {
    int error = gpu->open();
    gpu->show_again();
    for (const auto& change : *changes) {
      if (error == 0) change->run(gpu->rings());
      if (error == 0) error = change->error;
    }
    return error;
  };
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(Value()));
  return post(info.Env(), engine_object_.Value(),
              std::make_unique<flip::SimpleCommand<decltype(body)>>(std::move(body)), "resume",
              "virtio device", [this, self](Napi::Env env, flip::Command&) -> Napi::Value {
                watch();
                return env.Undefined();
              });
}

/// Lets the rings, the connection and the record be as they are: another process goes on.
Napi::Value VirtioGpu::suspend(const Napi::CallbackInfo& info) {
  if (!vhost_ || ended_) return info.Env().Undefined();
  ended_ = true;
  socket_poll_->watch(0);
  auto body = [gpu = gpu_](flip::Engine&) {
    gpu->suspend();
    return 0;
  };
  return post(info.Env(), engine_object_.Value(),
              std::make_unique<flip::SimpleCommand<decltype(body)>>(std::move(body)), "suspend",
              "virtio device", [this](Napi::Env env, flip::Command&) -> Napi::Value {
                // The process ends: nothing of ours holds up its loop. The socket is not hung up.
                socket_poll_.reset();
                notice_poll_->watch(0);
                Unref();
                return env.Undefined();
              });
}

} // namespace scanout::addon
