// The class VirtioGpu, for the files that make it up.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/loop.h"
#include "addon/wrapped.h"
#include "guests/vhost_user.h"
#include "guests/virtio_backing.h"
#include "guests/virtio_gpu.h"

namespace scanout::addon {

/// A resource's memory, being made.
struct Made {
  void try_dma_buf(const guests::GuestMemory& memory) {
    try {
      dma_buf = backing->dma_buf(memory);
    } catch (const base::SystemError& refused) {
      reason = refused.what();
      error = refused.error();
    }
  }
  Napi::Value to_js(Napi::Env env) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("dmaBuf", dma_buf.fd ? wrap_fd(env, std::move(dma_buf.fd)) : env.Null());
    object.Set("offset", static_cast<double>(dma_buf.offset));
    object.Set("pieces", static_cast<double>(backing->pieces()));
    object.Set("reason", reason);
    object.Set("errno", error);
    return object;
  }
  std::shared_ptr<const guests::GpuBacking> backing;
  guests::GpuBacking::DmaBuf dma_buf;
  std::string reason;
  int error = 0;
};

class VirtioGpu : public Wrapped<VirtioGpu>, private guests::VhostUser::Owner {
public:
  /// (engine, { scanouts, label, state, onNotice, onRefused, onEnd, onKeep, onDrop })
  explicit VirtioGpu(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value restore(const Napi::CallbackInfo& info);
  Napi::Value remake_backing(const Napi::CallbackInfo& info);
  Napi::Value restored(const Napi::CallbackInfo& info);
  Napi::Value resume(const Napi::CallbackInfo& info);
  Napi::Value suspend(const Napi::CallbackInfo& info);
  Napi::Value set_display(const Napi::CallbackInfo& info);
  Napi::Value config_changed(const Napi::CallbackInfo& info);
  Napi::Value read_backing(const Napi::CallbackInfo& info);
  Napi::Value finish_job(const Napi::CallbackInfo& info);
  Napi::Value transfer(const Napi::CallbackInfo& info);
  Napi::Value buffer_released(const Napi::CallbackInfo& info);
  Napi::Value resource_released(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value disconnect(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  /// Throws when it is closed.
  [[nodiscard]] const std::shared_ptr<guests::VirtioGpu>& gpu() const {
    if (!gpu_) throw base::UsageError("the device is closed");
    return gpu_;
  }
  [[nodiscard]] Napi::Value engine_object() const { return engine_object_.Value(); }
  static Napi::FunctionReference* constructor;

private:
  // Owner
  void apply(std::unique_ptr<guests::RingChange> change) override;
  void features_set(uint64_t) override {}
  bool get_config(uint32_t offset, std::span<uint8_t> config) override;
  bool set_config(uint32_t offset, std::span<const uint8_t> config) override;
  bool other(guests::vhost::Request request, std::span<const uint8_t> payload,
             guests::ReceivedFds& fds) override;
  void keep(const std::string& name, int fd) override;
  void drop(const std::string& name) override;
  void refused(const std::string& why) override;

  void attach(base::UniqueFd socket);
  void on_notices();
  void on_socket();
  void watch();
  std::shared_ptr<const guests::GuestMemory> memory() const {
    if (!vhost_ || !vhost_->memory()) throw base::SystemError(ENOTCONN, "memory", "virtio device");
    return vhost_->memory();
  }
  template <typename Body> Napi::Value flip(const char* op, Body body) {
    return post_simple(Env(), engine_object_.Value(), op, "virtio device", std::move(body));
  }

  std::shared_ptr<guests::VirtioGpu> gpu_;
  Napi::ObjectReference engine_object_;
  Napi::FunctionReference on_notice_, on_refused_, on_end_, on_keep_, on_drop_;
  std::unique_ptr<guests::VhostUser> vhost_;
  std::vector<std::unique_ptr<guests::RingChange>> changes_; // from `restore` to `resume`
  std::unique_ptr<LoopPoll> notice_poll_, socket_poll_;      // after what they watch
  base::UniqueFd gpu_socket_; // the VMM would take its end for an error of ours
  std::map<uint32_t, std::shared_ptr<const guests::GpuBacking>> backings_; // by resource
  virtio_gpu_config config_{};
  bool ended_ = false;
};

} // namespace scanout::addon
