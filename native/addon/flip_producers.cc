// Producers as JavaScript objects: how they enter and leave the engine, and the daemon's own pictures.
#include <vector>

#include "addon/addon.h"
#include "addon/flip.h"
#include "base/clock.h"
#include "flip/picture.h"

namespace scanout::addon {

namespace {

std::vector<FindProducer>& finders() {
  static std::vector<FindProducer> list;
  return list;
}

std::unique_ptr<flip::LeaveCommand> leave_command(std::unique_ptr<flip::Producer> producer) {
  auto command = std::make_unique<flip::LeaveCommand>();
  command->producer = producer.get();
  command->owned = std::move(producer);
  return command;
}

} // namespace

void register_producer_class(FindProducer find) {
  finders().push_back(find);
}

ProducerHolder& holder_of(const Napi::Value& value, const char* what) {
  if (value.IsObject()) {
    for (const FindProducer find : finders()) {
      if (ProducerHolder* holder = find(value.As<Napi::Object>()); holder != nullptr) return *holder;
    }
  }
  throw Napi::TypeError::New(value.Env(), std::string(what) + ": Picture, SocketGuest or Shadow expected");
}

ProducerHolder::~ProducerHolder() {
  // Collected without `leave`: the flip thread may still use it, so it goes with a command that nobody waits
  // for.
  if (producer_ && !left_ && !engine_->stopped()) engine_->post(leave_command(std::move(producer_)));
}

void ProducerHolder::enter(Napi::Env env, const Napi::Value& engine_object,
                           std::unique_ptr<flip::Producer> producer) {
  engine_ = engine_of(engine_object);
  engine_object_ = Napi::Persistent(engine_object.As<Napi::Object>());
  producer_ = std::move(producer);
  flip::Producer* raw = producer_.get();
  post_simple(env, engine_object, "enter", "producer",
              [raw](flip::Engine& engine) { return -raw->on_enter(engine); });
}

flip::Producer& ProducerHolder::producer(Napi::Env env) const {
  if (left_ || !producer_) throw Napi::Error::New(env, "the producer has left the engine");
  return *producer_;
}

Napi::Value ProducerHolder::leave(Napi::Env env) {
  producer(env);
  left_ = true;
  return post(env, engine_object_.Value(), leave_command(std::move(producer_)), "leave", "producer");
}

namespace {

class Picture : public Napi::ObjectWrap<Picture> {
public:
  explicit Picture(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Picture>(info) {
    guarded(info.Env(), [&] {
      const std::shared_ptr<flip::Engine> engine = engine_of(info[0]);
      holder.enter(info.Env(), info[0], std::make_unique<flip::Picture>(to_u32(info[1], "stream"), *engine));
    });
  }

  Napi::Value show(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      flip::Stream& stream = holder.producer(info.Env()).stream(0);
      flip::Frame frame;
      frame.fb_id = to_u32(info[0], "framebuffer");
      const uint32_t width = to_u32(info[1], "width");
      const uint32_t height = to_u32(info[2], "height");
      frame.place = {.src_w = width << 16, .src_h = height << 16, .w = width, .h = height};
      return post_simple(info.Env(), holder.engine_object(), "show",
                         "framebuffer " + std::to_string(frame.fb_id),
                         [&stream, frame](flip::Engine&) mutable {
                           frame.kick_ns = frame.ready_ns = base::now_ns();
                           stream.submit(frame);
                           return 0;
                         });
    });
  }

  Napi::Value leave(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return holder.leave(info.Env()); });
  }

  ProducerHolder holder;
  static Napi::FunctionReference* constructor;
};

Napi::FunctionReference* Picture::constructor = nullptr;

} // namespace

void init_flip_producers(Napi::Env env, Napi::Object exports) {
  const Napi::Function picture = Picture::DefineClass(
      env, "Picture",
      {Picture::InstanceMethod<&Picture::show>("show"), Picture::InstanceMethod<&Picture::leave>("leave")});
  Picture::constructor = new Napi::FunctionReference(Napi::Persistent(picture));
  Picture::constructor->SuppressDestruct();
  register_producer_class([](const Napi::Object& object) -> ProducerHolder* {
    if (!object.InstanceOf(Picture::constructor->Value())) return nullptr;
    return &Picture::Unwrap(object)->holder;
  });
  exports.Set("Picture", picture);
}

} // namespace scanout::addon
