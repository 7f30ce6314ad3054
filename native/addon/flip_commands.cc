// FlipEngine's commands: arguments checked here, run on the flip thread.
#include "addon/flip_engine.h"

namespace scanout::addon {

namespace {

flip::Policy to_policy(const Napi::Value& value) {
  const std::string name = to_string(value, "policy");
  if (name == "eager") return flip::Policy::eager;
  if (name == "deadline") return flip::Policy::deadline;
  throw base::UsageError("policy: 'eager' or 'deadline' expected");
}

int64_t to_period(const Napi::Value& value) {
  const int64_t period = to_i64(value, "periodNs");
  if (period < 1'000'000 || period > 1'000'000'000) throw base::UsageError("periodNs: 1 ms to 1 s expected");
  return period;
}

std::string crtc_name(uint32_t id) {
  return "CRTC " + std::to_string(id);
}

flip::PlaneProperties to_plane_properties(const Napi::Object& object) {
  const auto id = [&](const char* name, bool required) {
    const Napi::Value value = object.Get(name);
    if (value.IsUndefined() && !required) return uint32_t{0};
    return to_u32(value, name);
  };
  return {id("FB_ID", true),
          id("CRTC_ID", true),
          id("SRC_X", true),
          id("SRC_Y", true),
          id("SRC_W", true),
          id("SRC_H", true),
          id("CRTC_X", true),
          id("CRTC_Y", true),
          id("CRTC_W", true),
          id("CRTC_H", true),
          id("FB_DAMAGE_CLIPS", false),
          id("HOTSPOT_X", false),
          id("HOTSPOT_Y", false),
          id("rotation", false)};
}

flip::Stream& stream_of(const Napi::Value& producer, const Napi::Value& index) {
  flip::Producer& found = holder_of(producer, "producer").producer(producer.Env());
  const uint32_t number = to_u32(index, "stream");
  if (number >= found.stream_count()) throw base::UsageError("stream: the producer has no such stream");
  return found.stream(number);
}

class PeekCommand final : public flip::Command {
public:
  explicit PeekCommand(flip::Stream& stream) : stream_(stream) {}
  Result run(flip::Engine&) noexcept override {
    const flip::Frame* newest = stream_.newest();
    if (newest == nullptr && stream_.sink() != nullptr) newest = stream_.sink()->shown(stream_);
    found = newest != nullptr;
    if (found) frame = *newest;
    return Result::done;
  }
  bool found = false;
  flip::Frame frame;

private:
  flip::Stream& stream_;
};

Napi::Value describe(Napi::Env env, const flip::Frame& frame) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("framebuffer", frame.fb_id);
  object.Set("buffer", frame.buffer);
  object.Set("sequence", Napi::BigInt::New(env, frame.sequence));
  object.Set("off", frame.off);
  object.Set("srcX", frame.place.src_x);
  object.Set("srcY", frame.place.src_y);
  object.Set("srcW", frame.place.src_w);
  object.Set("srcH", frame.place.src_h);
  object.Set("x", frame.place.x);
  object.Set("y", frame.place.y);
  object.Set("w", frame.place.w);
  object.Set("h", frame.place.h);
  object.Set("reflectY", frame.place.reflect_y);
  return object;
}

} // namespace

Napi::Value FlipEngine::add_crtc(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_u32(info[0], "id");
    auto crtc = std::make_unique<flip::Crtc>(engine()->host(), id, to_period(info[1]), to_policy(info[2]));
    return post_simple(
        info.Env(), info.This(), "addCrtc", crtc_name(id),
        [crtc = std::move(crtc)](flip::Engine& engine) mutable { return engine.add_crtc(crtc); });
  });
}

Napi::Value FlipEngine::set_policy(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_u32(info[0], "id");
    const flip::Policy policy = to_policy(info[1]);
    return post_simple(info.Env(), info.This(), "setPolicy", crtc_name(id),
                       [id, policy](flip::Engine& engine) {
                         flip::Crtc* crtc = engine.crtc(id);
                         if (crtc != nullptr) crtc->set_policy(policy);
                         return crtc != nullptr ? 0 : ENOENT;
                       });
  });
}

Napi::Value FlipEngine::attach(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    flip::Stream& stream = stream_of(info[0], info[1]);
    const uint32_t crtc_id = to_u32(info[2], "crtc");
    const uint32_t plane_id = to_u32(info[3], "plane");
    const flip::PlaneProperties properties = crtc_id < flip::first_virtual_crtc
                                                 ? to_plane_properties(to_object(info[4], "properties"))
                                                 : flip::PlaneProperties{};
    return post_simple(info.Env(), info.This(), "attach", "plane " + std::to_string(plane_id),
                       [&stream, crtc_id, plane_id, properties](flip::Engine& engine) {
                         flip::Crtc* crtc = engine.crtc(crtc_id);
                         if (crtc == nullptr) return ENOENT;
                         const int index = crtc->add_plane(plane_id, properties);
                         if (index < 0) return ENOSPC;
                         crtc->attach(stream, static_cast<uint32_t>(index));
                         return 0;
                       });
  });
}

Napi::Value FlipEngine::detach(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    flip::Stream& stream = stream_of(info[0], info[1]);
    return post_simple(info.Env(), info.This(), "detach", "stream " + std::to_string(stream.id()),
                       [&stream](flip::Engine&) {
                         stream.route(nullptr, 0);
                         return 0;
                       });
  });
}

Napi::Value FlipEngine::peek(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    flip::Stream& stream = stream_of(info[0], info[1]);
    return post(info.Env(), info.This(), std::make_unique<PeekCommand>(stream), "peek",
                "stream " + std::to_string(stream.id()), [](Napi::Env env, flip::Command& finished) {
                  const auto& done = static_cast<PeekCommand&>(finished);
                  return done.found ? describe(env, done.frame) : env.Null();
                });
  });
}

Napi::Value FlipEngine::modeset(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Napi::Object options = to_object(info[0], "options");
    auto command = std::make_unique<flip::ModesetCommand>();
    command->flags = to_u32(options.Get("flags"), "options.flags");
    const Napi::Value retakes = options.Get("retakes");
    command->retakes = !retakes.IsUndefined() && to_bool(retakes, "options.retakes");
    const Napi::Array properties = to_array(options.Get("properties"), "options.properties");
    for (uint32_t i = 0; i < properties.Length(); ++i) {
      const Napi::Array item = to_array(properties.Get(i), "options.properties[]");
      command->request.add(to_u32(item.Get(0u), "object"), to_u32(item.Get(1u), "property"),
                           to_u64(item.Get(2u), "value"));
    }
    if (command->request.error() != 0)
      throw base::UsageError("options.properties: too many, or a property id of 0");
    const Napi::Array targets = to_array(options.Get("targets"), "options.targets");
    std::string subject;
    for (uint32_t i = 0; i < targets.Length(); ++i) {
      const Napi::Object target = to_object(targets.Get(i), "options.targets[]");
      const Napi::Value period = target.Get("periodNs");
      command->targets.push_back({to_u32(target.Get("crtc"), "crtc"),
                                  to_u32(target.Get("primaryPlane"), "primaryPlane"),
                                  period.IsUndefined() ? 0 : to_period(period)});
      subject += (i > 0 ? ", " : "") + crtc_name(command->targets.back().crtc_id);
    }
    return post(info.Env(), info.This(), std::move(command), "DRM_IOCTL_MODE_ATOMIC",
                "mode set on " + subject);
  });
}

Napi::Value FlipEngine::capture(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto command = std::make_unique<flip::CaptureCommand>();
    command->crtc_id = to_u32(info[0], "crtc");
    command->fb_id = to_u32(info[1], "framebuffer");
    const Napi::Object writeback = to_object(info[2], "writeback");
    command->writeback = {to_u32(writeback.Get("connector"), "connector"),
                          to_u32(writeback.Get("WRITEBACK_FB_ID"), "WRITEBACK_FB_ID"),
                          to_u32(writeback.Get("WRITEBACK_OUT_FENCE_PTR"), "WRITEBACK_OUT_FENCE_PTR")};
    const std::string subject = "writeback of " + crtc_name(command->crtc_id);
    return post(info.Env(), info.This(), std::move(command), "DRM_IOCTL_MODE_ATOMIC", subject,
                [](Napi::Env env, flip::Command& finished) {
                  const auto& done = static_cast<flip::CaptureCommand&>(finished);
                  Napi::Array shown = Napi::Array::New(env, done.shown_count);
                  for (uint32_t i = 0; i < done.shown_count; ++i) {
                    const auto& frame = done.shown[i];
                    Napi::Object object = Napi::Object::New(env);
                    object.Set("stream", frame.stream);
                    object.Set("plane", frame.plane_id);
                    object.Set("framebuffer", frame.fb_id);
                    object.Set("sequence", Napi::BigInt::New(env, frame.sequence));
                    shown.Set(i, object);
                  }
                  return Napi::Value(shown);
                });
  });
}

Napi::Value FlipEngine::lend(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const uint32_t id = to_u32(info[0], "crtc");
    return post(info.Env(), info.This(), std::make_unique<flip::LendCommand>(id), "lend", crtc_name(id));
  });
}

Napi::Value FlipEngine::pause(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const std::chrono::milliseconds longest(to_u32(info[0], "longestMs"));
    return Napi::Boolean::New(info.Env(), engine()->pause(longest));
  });
}

Napi::Value FlipEngine::resume(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return post_simple(info.Env(), info.This(), "resume", "", [](flip::Engine& engine) {
      engine.resume();
      return 0;
    });
  });
}

} // namespace scanout::addon
