// The JavaScript classes of buffers.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>

#include "addon/kms_classes.h"
#include "kms/dumb.h"
#include "kms/gem_buffer.h"

namespace scanout::addon {

/// A dma-buf that was imported into a device.
class GemBuffer final : public KmsClass<GemBuffer> {
public:
  static constexpr const char* class_name = "GemBuffer";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000002};
  struct Core {
    std::shared_ptr<DeviceState> state;
    std::shared_ptr<kms::GemBuffer> buffer;
  };

  explicit GemBuffer(const Napi::CallbackInfo& info);
  ~GemBuffer() override = default;
  Napi::Value handle(const Napi::CallbackInfo& info);
  Napi::Value export_fd(const Napi::CallbackInfo& info);
  Napi::Value destroy(const Napi::CallbackInfo& info);
  [[nodiscard]] const kms::GemBuffer& buffer() const { return *child_.core(class_name, "destroyed"); }
  [[nodiscard]] const DeviceState& state() const { return *child_.state(); }

private:
  explicit GemBuffer(const Napi::CallbackInfo& info, Core core);
  ChildOf<kms::GemBuffer> child_;
};

/// A dumb buffer and its mapping.
class DumbBuffer final : public KmsClass<DumbBuffer> {
public:
  static constexpr const char* class_name = "DumbBuffer";
  static constexpr napi_type_tag tag = {0x5ca0d1ce00000001, 0x6b6d730000000003};
  struct Core {
    std::shared_ptr<DeviceState> state;
    std::shared_ptr<kms::DumbBuffer> buffer;
  };

  explicit DumbBuffer(const Napi::CallbackInfo& info);
  ~DumbBuffer() override = default;
  Napi::Value handle(const Napi::CallbackInfo& info);
  Napi::Value width(const Napi::CallbackInfo& info);
  Napi::Value height(const Napi::CallbackInfo& info);
  Napi::Value pitch(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value map(const Napi::CallbackInfo& info);
  Napi::Value export_fd(const Napi::CallbackInfo& info);
  Napi::Value destroy(const Napi::CallbackInfo& info);
  [[nodiscard]] const kms::DumbBuffer& buffer() const { return *child_.core(class_name, "destroyed"); }
  [[nodiscard]] const DeviceState& state() const { return *child_.state(); }

private:
  explicit DumbBuffer(const Napi::CallbackInfo& info, Core core);
  ChildOf<kms::DumbBuffer> child_;
  std::optional<MappedBytes> mapping_;
};

/// The GEM handle of a GemBuffer or DumbBuffer of `device`. Throws for everything else.
uint32_t handle_of(const Napi::Value& value, const char* what, const std::shared_ptr<kms::Device>& device);

} // namespace scanout::addon
