// The JavaScript class KmsDevice. Its methods lie in kms_device.cc (the device), kms_objects.cc (what it
// has), kms_make.cc (what is made from it), kms_events.cc (its events).
#pragma once

#include <napi.h>

#include <memory>

#include "addon/kms_classes.h"
#include "kms/device.h"

namespace scanout::addon {

class EventPoll;

class KmsDevice final : public KmsClass<KmsDevice> {
public:
  static constexpr const char* class_name = "KmsDevice";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000001};

  explicit KmsDevice(const Napi::CallbackInfo& info);
  ~KmsDevice() override;

  static Napi::Value open(const Napi::CallbackInfo& info);
  static Napi::Value adopt(const Napi::CallbackInfo& info);

  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value closed(const Napi::CallbackInfo& info);
  Napi::Value path(const Napi::CallbackInfo& info);
  Napi::Value driver(const Napi::CallbackInfo& info);
  Napi::Value number(const Napi::CallbackInfo& info);
  Napi::Value client_caps(const Napi::CallbackInfo& info);
  Napi::Value dup_fd(const Napi::CallbackInfo& info);
  Napi::Value capability(const Napi::CallbackInfo& info);
  Napi::Value capabilities(const Napi::CallbackInfo& info);
  Napi::Value set_client_cap(const Napi::CallbackInfo& info);
  Napi::Value is_master(const Napi::CallbackInfo& info);
  Napi::Value set_master(const Napi::CallbackInfo& info);
  Napi::Value drop_master(const Napi::CallbackInfo& info);

  Napi::Value resources(const Napi::CallbackInfo& info);
  Napi::Value connector(const Napi::CallbackInfo& info);
  Napi::Value probe_connector(const Napi::CallbackInfo& info);
  Napi::Value encoder(const Napi::CallbackInfo& info);
  Napi::Value crtc(const Napi::CallbackInfo& info);
  Napi::Value plane(const Napi::CallbackInfo& info);
  Napi::Value property(const Napi::CallbackInfo& info);
  Napi::Value properties(const Napi::CallbackInfo& info);
  Napi::Value edid(const Napi::CallbackInfo& info);
  Napi::Value writeback_formats(const Napi::CallbackInfo& info);
  Napi::Value framebuffer(const Napi::CallbackInfo& info);
  Napi::Value get_sequence(const Napi::CallbackInfo& info);
  Napi::Value queue_sequence(const Napi::CallbackInfo& info);
  Napi::Value gem_handles(const Napi::CallbackInfo& info);
  Napi::Value framebuffers_of(const Napi::CallbackInfo& info);
  Napi::Value lessees(const Napi::CallbackInfo& info);
  Napi::Value lease(const Napi::CallbackInfo& info);

  Napi::Value create_blob(const Napi::CallbackInfo& info);
  Napi::Value read_blob(const Napi::CallbackInfo& info);
  Napi::Value destroy_blob(const Napi::CallbackInfo& info);
  Napi::Value create_mode_blob(const Napi::CallbackInfo& info);
  Napi::Value create_lut_blob(const Napi::CallbackInfo& info);
  Napi::Value create_ctm_blob(const Napi::CallbackInfo& info);
  Napi::Value create_damage_blob(const Napi::CallbackInfo& info);
  Napi::Value add_framebuffer(const Napi::CallbackInfo& info);
  Napi::Value remove_framebuffer(const Napi::CallbackInfo& info);
  Napi::Value close_framebuffer(const Napi::CallbackInfo& info);
  Napi::Value dirty_framebuffer(const Napi::CallbackInfo& info);
  Napi::Value import_dmabuf(const Napi::CallbackInfo& info);
  Napi::Value create_dumb(const Napi::CallbackInfo& info);
  Napi::Value framebuffer_cache(const Napi::CallbackInfo& info);
  Napi::Value create_syncobj(const Napi::CallbackInfo& info);
  Napi::Value import_syncobj(const Napi::CallbackInfo& info);
  Napi::Value create_lease(const Napi::CallbackInfo& info);
  Napi::Value revoke_lease(const Napi::CallbackInfo& info);
  Napi::Value close_every_handle(const Napi::CallbackInfo& info);

  Napi::Value commit(const Napi::CallbackInfo& info);
  Napi::Value commit_async(const Napi::CallbackInfo& info);
  Napi::Value test(const Napi::CallbackInfo& info);

  Napi::Value on_event(const Napi::CallbackInfo& info);

  /// Throws when closed.
  [[nodiscard]] const std::shared_ptr<kms::Device>& device() const;
  [[nodiscard]] int fd() const { return device()->fd(); }

private:
  struct Caps {
    bool universal_planes = false, atomic = false, writeback_connectors = false;
    bool stereo = false, aspect_ratio = false, cursor_hotspot = false;
  };
  friend struct ClientCapNames;
  /// A device and the client capabilities that it got.
  struct Opened {
    std::shared_ptr<kms::Device> device;
    Caps caps;
  };
  static Opened with_caps(std::shared_ptr<kms::Device> device, const Napi::Value& options);

  std::shared_ptr<DeviceState> state_;
  Caps caps_;
  std::unique_ptr<EventPoll> events_;
};

} // namespace scanout::addon
