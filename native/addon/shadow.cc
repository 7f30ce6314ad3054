// The class Shadow: a shadow copy as JavaScript sees it.
#include "guests/shadow.h"

#include <map>

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/kms.h"
#include "addon/pixels.h"
#include "guests/shadow_surface.h"
#include "guests/shadow_thread.h"

namespace scanout::addon {

namespace {

// One thread for all shadows of an engine, for as long as there are any. JS thread only.
std::shared_ptr<guests::ShadowThread> thread_of(const std::shared_ptr<flip::Engine>& engine) {
  static std::map<flip::Engine*, std::weak_ptr<guests::ShadowThread>> threads;
  std::weak_ptr<guests::ShadowThread>& known = threads[engine.get()];
  std::shared_ptr<guests::ShadowThread> thread = known.lock();
  if (!thread) {
    // It does not keep the engine: that may own shadows, which keep the thread.
    known = thread = std::make_shared<guests::ShadowThread>(*engine);
  }
  return thread;
}

class Shadow : public Napi::ObjectWrap<Shadow> {
public:
  explicit Shadow(const Napi::CallbackInfo& info);
  Napi::Value attach(const Napi::CallbackInfo& info);
  Napi::Value set_buffer(const Napi::CallbackInfo& info);
  Napi::Value replace_buffer(const Napi::CallbackInfo& info);
  Napi::Value remove_buffer(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value leave(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return holder.leave(info.Env()); });
  }

  ProducerHolder holder;
  static Napi::FunctionReference* constructor;

private:
  guests::Shadow& shadow() { return static_cast<guests::Shadow&>(holder.producer(Env())); }
};

Napi::FunctionReference* Shadow::constructor = nullptr;

Shadow::Shadow(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Shadow>(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<flip::Engine> engine = engine_of(info[0]);
    const std::shared_ptr<kms::Device> device = kms_device_of(info[1], "device");
    const Napi::Object options = to_object(info[2], "options");
    guests::ShadowOptions made;
    made.stream = to_u32(options.Get("stream"), "options.stream");
    made.alpha = to_bool(options.Get("alpha"), "options.alpha");
    const Napi::Value follows = options.Get("followsLayer");
    made.follows_layer = !follows.IsUndefined() && to_bool(follows, "options.followsLayer");
    made.area.x1 = to_i32(options.Get("x"), "options.x");
    made.area.y1 = to_i32(options.Get("y"), "options.y");
    const uint32_t width = to_u32(options.Get("width"), "options.width");
    const uint32_t height = to_u32(options.Get("height"), "options.height");
    if (width == 0 || height == 0 || width > 16384 || height > 16384)
      throw base::UsageError("options.width, options.height: 1 to 16384 expected");
    made.area.x2 = made.area.x1 + static_cast<int32_t>(width);
    made.area.y2 = made.area.y1 + static_cast<int32_t>(height);
    std::array<guests::ShadowSurface, 2> surfaces{
        guests::make_shadow_surface(device, width, height, made.alpha),
        guests::make_shadow_surface(device, width, height, made.alpha)};
    holder.enter(
        info.Env(), info[0],
        std::make_unique<guests::Shadow>(made, std::move(surfaces), thread_of(engine), engine->epoll()));
  });
}

Napi::Value Shadow::attach(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    flip::Producer& guest = holder_of(info[0], "producer").producer(info.Env());
    const uint32_t index = to_u32(info[1], "stream");
    if (index >= guest.stream_count()) throw base::UsageError("stream: the producer has no such stream");
    flip::Stream& stream = guest.stream(index);
    const int32_t z = to_i32(info[2], "z");
    return post_simple(info.Env(), holder.engine_object(), "attach", "shadow copy",
                       [shadow = &shadow(), &stream, z](flip::Engine&) { return shadow->attach(stream, z); });
  });
}

// Carries the mapping to the flip thread, and back to be unmapped where it is not taken.
class SetBufferCommand final : public flip::Command {
public:
  SetBufferCommand(guests::Shadow& shadow, uint32_t stream, uint32_t buffer) noexcept
      : shadow_(shadow), stream_(stream), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    error = shadow_.set_buffer(stream_, buffer_, mapped, map_error);
    return Result::done;
  }
  std::unique_ptr<pixels::MappedBuffer> mapped;
  int map_error = 0;

private:
  guests::Shadow& shadow_;
  uint32_t stream_, buffer_;
};

Napi::Value Shadow::set_buffer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t stream = to_u32(info[0], "stream");
    const uint32_t buffer = to_u32(info[1], "buffer");
    auto command = std::make_unique<SetBufferCommand>(shadow(), stream, buffer);
    try {
      command->mapped = map_buffer(to_object(info[2], "layout"));
    } catch (const base::SystemError& error) {
      command->map_error = error.error(); // its frames are refused with it, when there are any
    }
    return post(info.Env(), holder.engine_object(), std::move(command), "setBuffer",
                "buffer " + std::to_string(buffer));
  });
}

Napi::Value Shadow::replace_buffer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t stream = to_u32(info[0], "stream");
    const uint32_t buffer = to_u32(info[1], "buffer");
    auto command = std::make_unique<guests::ReplaceBufferCommand>(shadow(), stream, buffer);
    try {
      command->mapped = map_buffer(to_object(info[2], "layout"));
    } catch (const base::SystemError& error) {
      command->map_error = error.error(); // its frames are refused with it, when there are any
    }
    return post(info.Env(), holder.engine_object(), std::move(command), "replaceBuffer",
                "buffer " + std::to_string(buffer));
  });
}

Napi::Value Shadow::remove_buffer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t stream = to_u32(info[0], "stream");
    const uint32_t buffer = to_u32(info[1], "buffer");
    return post(info.Env(), holder.engine_object(),
                std::make_unique<guests::RemoveBufferCommand>(shadow(), stream, buffer), "removeBuffer",
                "buffer " + std::to_string(buffer));
  });
}

Napi::Value Shadow::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const guests::ShadowStats& stats = shadow().stats;
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("copies", static_cast<double>(stats.copies.load(std::memory_order_relaxed)));
    object.Set("failures", static_cast<double>(stats.failures.load(std::memory_order_relaxed)));
    object.Set("pixels", static_cast<double>(stats.pixels.load(std::memory_order_relaxed)));
    object.Set("drawNs", static_cast<double>(stats.draw_ns.load(std::memory_order_relaxed)));
    return object;
  });
}

} // namespace

void init_shadow(Napi::Env env, Napi::Object exports) {
  using S = Shadow;
  const Napi::Function shadow =
      S::DefineClass(env, "Shadow",
                     {S::InstanceMethod<&S::attach>("attach"), S::InstanceMethod<&S::set_buffer>("setBuffer"),
                      S::InstanceMethod<&S::remove_buffer>("removeBuffer"),
                      S::InstanceMethod<&S::replace_buffer>("replaceBuffer"),
                      S::InstanceMethod<&S::stats>("stats"), S::InstanceMethod<&S::leave>("leave")});
  S::constructor = new Napi::FunctionReference(Napi::Persistent(shadow));
  S::constructor->SuppressDestruct();
  register_producer_class([](const Napi::Object& object) -> ProducerHolder* {
    if (!object.InstanceOf(S::constructor->Value())) return nullptr;
    return &S::Unwrap(object)->holder;
  });
  exports.Set("Shadow", shadow);
}

} // namespace scanout::addon
