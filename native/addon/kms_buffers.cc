#include "addon/kms_buffers.h"

#include "addon/kms_convert.h"
#include "addon/kms_device.h"

namespace scanout::addon {

GemBuffer::GemBuffer(const Napi::CallbackInfo& info)
    : GemBuffer(info, unbox<Core>(info, "KmsDevice.importDmabuf")) {}

GemBuffer::GemBuffer(const Napi::CallbackInfo& info, Core core)
    : KmsClass(info), child_(std::move(core.state), std::move(core.buffer)) {}

Napi::Value GemBuffer::handle(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), buffer().handle());
}

Napi::Value GemBuffer::export_fd(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), buffer().export_fd());
}

Napi::Value GemBuffer::destroy(const Napi::CallbackInfo& info) {
  child_.end(class_name, "destroyed");
  return info.Env().Undefined();
}

DumbBuffer::DumbBuffer(const Napi::CallbackInfo& info)
    : DumbBuffer(info, unbox<Core>(info, "KmsDevice.createDumb")) {}

DumbBuffer::DumbBuffer(const Napi::CallbackInfo& info, Core core)
    : KmsClass(info), child_(std::move(core.state), std::move(core.buffer)) {
  child_.on_close([this] {
    if (mapping_) mapping_->detach();
  });
}

Napi::Value DumbBuffer::handle(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), buffer().handle());
}

Napi::Value DumbBuffer::width(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), buffer().width());
}

Napi::Value DumbBuffer::height(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), buffer().height());
}

Napi::Value DumbBuffer::pitch(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), buffer().pitch());
}

Napi::Value DumbBuffer::size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(buffer().size()));
}

Napi::Value DumbBuffer::map(const Napi::CallbackInfo& info) {
  const kms::DumbBuffer& dumb = buffer();
  if (!mapping_) mapping_.emplace(dumb.map());
  return mapping_->bytes(info.Env());
}

Napi::Value DumbBuffer::export_fd(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), buffer().export_fd());
}

Napi::Value DumbBuffer::destroy(const Napi::CallbackInfo& info) {
  child_.end(class_name, "destroyed");
  return info.Env().Undefined();
}

uint32_t handle_of(const Napi::Value& value, const char* what, const std::shared_ptr<kms::Device>& device) {
  const auto check = [&](const DeviceState& state) {
    if (state.device != device) throw base::UsageError(std::string(what) + " is of another KmsDevice");
  };
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&DumbBuffer::tag)) {
    const DumbBuffer& dumb = DumbBuffer::from(value, what);
    const uint32_t handle = dumb.buffer().handle();
    check(dumb.state());
    return handle;
  }
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&GemBuffer::tag)) {
    const GemBuffer& gem = GemBuffer::from(value, what);
    const uint32_t handle = gem.buffer().handle();
    check(gem.state());
    return handle;
  }
  throw base::UsageError(std::string(what) + ": DumbBuffer or GemBuffer expected");
}

Napi::Value KmsDevice::import_dmabuf(const Napi::CallbackInfo& info) {
  const int dmabuf = borrow_fd(info[0], "fd");
  GemBuffer::Core core{.state = state_, .buffer = std::make_shared<kms::GemBuffer>(device(), dmabuf)};
  return GemBuffer::make(info.Env(), std::move(core));
}

Napi::Value KmsDevice::create_dumb(const Napi::CallbackInfo& info) {
  const uint32_t width = to_u32(info[0], "width");
  const uint32_t height = to_u32(info[1], "height");
  const uint32_t bits = info[2].IsUndefined() ? 32 : to_u32(info[2], "bitsPerPixel");
  DumbBuffer::Core core{.state = state_,
                        .buffer = std::make_shared<kms::DumbBuffer>(device(), width, height, bits)};
  return DumbBuffer::make(info.Env(), std::move(core));
}

void init_kms_buffers(Napi::Env env, Napi::Object exports) {
  GemBuffer::register_class(exports,
                            GemBuffer::DefineClass(env, GemBuffer::class_name,
                                                   {
                                                       GemBuffer::define_getter<&GemBuffer::handle>("handle"),
                                                       GemBuffer::define<&GemBuffer::export_fd>("exportFd"),
                                                       GemBuffer::define<&GemBuffer::destroy>("destroy"),
                                                   }));
  using D = DumbBuffer;
  D::register_class(exports, D::DefineClass(env, D::class_name,
                                            {
                                                D::define_getter<&D::handle>("handle"),
                                                D::define_getter<&D::width>("width"),
                                                D::define_getter<&D::height>("height"),
                                                D::define_getter<&D::pitch>("pitch"),
                                                D::define_getter<&D::size>("size"),
                                                D::define<&D::map>("map"),
                                                D::define<&D::export_fd>("exportFd"),
                                                D::define<&D::destroy>("destroy"),
                                            }));
}

} // namespace scanout::addon
