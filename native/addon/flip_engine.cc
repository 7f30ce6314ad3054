// The class FlipEngine: commands out, notices and records in.
#include <uv.h>

#include <map>
#include <vector>

#include "addon/addon.h"
#include "addon/flip.h"

namespace scanout::addon {

namespace {

struct Waiting {
  Napi::Promise::Deferred deferred;
  const char* op;
  std::string subject;
  MakeResult result;
};

uv_loop_t* loop_of(Napi::Env env) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  return loop;
}

class FlipEngine : public Napi::ObjectWrap<FlipEngine> {
public:
  explicit FlipEngine(const Napi::CallbackInfo& info);
  ~FlipEngine() override { shut(); }

  Napi::Value add_crtc(const Napi::CallbackInfo& info);
  Napi::Value set_policy(const Napi::CallbackInfo& info);
  Napi::Value attach(const Napi::CallbackInfo& info);
  Napi::Value detach(const Napi::CallbackInfo& info);
  Napi::Value peek(const Napi::CallbackInfo& info);
  Napi::Value modeset(const Napi::CallbackInfo& info);
  Napi::Value capture(const Napi::CallbackInfo& info);
  Napi::Value resume(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value records(const Napi::CallbackInfo& info);
  Napi::Value heartbeat(const Napi::CallbackInfo& info);
  Napi::Value wake(const Napi::CallbackInfo& info);
  Napi::Value paused(const Napi::CallbackInfo& info);
  Napi::Value realtime(const Napi::CallbackInfo& info);
  Napi::Value realtime_reason(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  [[nodiscard]] std::shared_ptr<flip::Engine> engine() const {
    if (!engine_) throw Napi::Error::New(Env(), "FlipEngine is closed");
    return engine_;
  }
  Napi::Value post_command(std::unique_ptr<flip::Command> command, Waiting* waiting);
  void forget(Waiting* waiting) { waiting_.erase(waiting); }

  static Napi::FunctionReference* constructor;

private:
  void drain();
  void settle(flip::Command& command);
  void notify(const flip::Notice& notice);
  void shut();
  void reject_all();

  base::UniqueFd drm_fd_;
  std::shared_ptr<flip::Engine> engine_;
  uv_poll_t* poll_ = nullptr;
  Napi::FunctionReference on_notice_;
  std::map<Waiting*, std::unique_ptr<Waiting>> waiting_;
};

Napi::FunctionReference* FlipEngine::constructor = nullptr;

FlipEngine* unwrap(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(FlipEngine::constructor->Value())) {
    throw Napi::TypeError::New(value.Env(), "engine: FlipEngine expected");
  }
  return FlipEngine::Unwrap(value.As<Napi::Object>());
}

FlipEngine::FlipEngine(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FlipEngine>(info) {
  const Napi::Env env = info.Env();
  guarded(env, [&] {
    const int fd = borrow_fd(info[0], "drmFd");
    const Napi::Object options = to_object(info[1], "options");
    const uint32_t priority = to_u32(options.Get("realtimePriority"), "options.realtimePriority");
    if (priority > 99) throw base::UsageError("options.realtimePriority: 0 to 99 expected");
    on_notice_ = Napi::Persistent(to_function(options.Get("onNotice"), "options.onNotice"));
    // The same open file, and so the same DRM master and events; ours to keep as long as the thread runs.
    drm_fd_.reset(base::check(fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)"));
    engine_ = std::make_shared<flip::Engine>(drm_fd_.get(), static_cast<int>(priority));
  });
  poll_ = new uv_poll_t;
  uv_poll_init(loop_of(env), poll_, engine_->notify_fd());
  poll_->data = this;
  uv_poll_start(poll_, UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<FlipEngine*>(handle->data)->drain(); });
  uv_unref(
      reinterpret_cast<uv_handle_t*>(poll_)); // what waits for an answer keeps the process alive, not this
}

void FlipEngine::drain() {
  const Napi::Env env = Env();
  const Napi::HandleScope scope(env);
  const std::shared_ptr<flip::Engine> engine = engine_; // a callback may close us
  uint64_t count = 0;
  (void)!read(engine->notify_fd(), &count, sizeof count);
  while (std::unique_ptr<flip::Command> command = engine->finished())
    settle(*command);
  while (const std::optional<flip::Notice> notice = engine->notice())
    notify(*notice);
}

void FlipEngine::settle(flip::Command& command) {
  const Napi::Env env = Env();
  const auto found = waiting_.find(static_cast<Waiting*>(command.tag));
  if (found == waiting_.end()) return; // nobody waits: a producer that was collected
  const std::unique_ptr<Waiting> waiting = std::move(found->second);
  waiting_.erase(found);
  if (waiting_.empty() && poll_ != nullptr) uv_unref(reinterpret_cast<uv_handle_t*>(poll_));
  // The promise's reactions run when the callback scope closes.
  const Napi::AsyncContext context(env, "scanoutd:flip");
  const Napi::CallbackScope scope(env, context);
  if (command.error != 0) {
    waiting->deferred.Reject(
        to_js(env, base::SystemError(command.error, waiting->op, waiting->subject)).Value());
  } else {
    waiting->deferred.Resolve(waiting->result ? waiting->result(env, command) : env.Undefined());
  }
}

void FlipEngine::notify(const flip::Notice& notice) {
  static constexpr const char* names[] = {"",         "refused",      "asyncRefused", "paused",
                                          "gone",     "backingOff",   "stalled",      "recovered",
                                          "noVblank", "shadowFailed", "unrouted"};
  const Napi::Env env = Env();
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", names[static_cast<uint32_t>(notice.type)]);
  object.Set("crtc", notice.crtc_id);
  object.Set("plane", notice.plane_id);
  object.Set("stream", notice.stream);
  object.Set("errno", notice.error);
  object.Set("code", notice.error != 0 ? base::errno_name(notice.error) : "");
  object.Set("count", notice.count);
  object.Set("sequence", static_cast<double>(notice.sequence));
  const Napi::AsyncContext context(env, "scanoutd:flip");
  on_notice_.MakeCallback(env.Undefined(), {object}, context);
}

Napi::Value FlipEngine::post_command(std::unique_ptr<flip::Command> command, Waiting* waiting) {
  std::unique_ptr<Waiting> owned(waiting);
  command->tag = waiting;
  const Napi::Promise promise = waiting->deferred.Promise();
  if (!engine_ || !engine_->post(std::move(command))) {
    waiting->deferred.Reject(
        to_js(Env(), base::SystemError(engine_ ? EAGAIN : ESHUTDOWN, waiting->op, waiting->subject)).Value());
    return promise;
  }
  waiting_.emplace(waiting, std::move(owned));
  uv_ref(reinterpret_cast<uv_handle_t*>(poll_));
  return promise;
}

void FlipEngine::shut() {
  if (!engine_) return;
  engine_->stop();
  uv_poll_stop(poll_);
  uv_close(reinterpret_cast<uv_handle_t*>(poll_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
  poll_ = nullptr;
}

Napi::Value FlipEngine::close(const Napi::CallbackInfo& info) {
  if (!engine_) return info.Env().Undefined();
  shut();
  drain();
  for (auto& [key, waiting] : waiting_) {
    waiting->deferred.Reject(
        to_js(Env(), base::SystemError(ESHUTDOWN, waiting->op, waiting->subject)).Value());
  }
  waiting_.clear();
  engine_.reset();
  drm_fd_.reset();
  return info.Env().Undefined();
}

// ---- commands

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
          id("HOTSPOT_Y", false)};
}

flip::Stream& stream_of(const Napi::Value& producer, const Napi::Value& index) {
  flip::Producer& found = holder_of(producer, "producer").producer(producer.Env());
  const uint32_t number = to_u32(index, "stream");
  if (number >= found.stream_count()) throw base::UsageError("stream: the producer has no such stream");
  return found.stream(number);
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
  object.Set("off", frame.off);
  object.Set("srcX", frame.place.src_x);
  object.Set("srcY", frame.place.src_y);
  object.Set("srcW", frame.place.src_w);
  object.Set("srcH", frame.place.src_h);
  object.Set("x", frame.place.x);
  object.Set("y", frame.place.y);
  object.Set("w", frame.place.w);
  object.Set("h", frame.place.h);
  return object;
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

Napi::Value FlipEngine::resume(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return post_simple(info.Env(), info.This(), "resume", "", [](flip::Engine& engine) {
      engine.resume();
      return 0;
    });
  });
}

Napi::Value FlipEngine::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const flip::CrtcStats* stats = engine()->stats(to_u32(info[0], "crtc"));
    if (stats == nullptr) return info.Env().Null();
    Napi::Object object = Napi::Object::New(info.Env());
    const auto set = [&](const char* name, const auto& counter) {
      object.Set(name, static_cast<double>(counter.load(std::memory_order_relaxed)));
    };
    set("commits", stats->commits);
    set("flips", stats->flips);
    set("missed", stats->missed);
    set("busy", stats->busy);
    set("refused", stats->refused);
    set("recovered", stats->recovered);
    set("staleEvents", stats->stale_events);
    set("lastError", stats->last_error);
    set("marginNs", stats->margin_ns);
    return object;
  });
}

Napi::Value FlipEngine::records(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    constexpr size_t columns = 12;
    std::vector<double> rows;
    while (const std::optional<flip::Record> r = engine()->record()) {
      const double row[columns] = {
          double(r->crtc_id),  double(r->plane_id), double(r->stream),          double(r->flags),
          double(r->sequence), double(r->kick_ns),  double(r->commit_enter_ns), double(r->commit_return_ns),
          double(r->flip_ns),  double(r->vblank),   double(r->missed),          double(r->retries)};
      rows.insert(rows.end(), row, row + columns);
    }
    Napi::Float64Array array = Napi::Float64Array::New(info.Env(), rows.size());
    std::copy(rows.begin(), rows.end(), array.Data());
    return array;
  });
}

Napi::Value FlipEngine::heartbeat(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(engine()->heartbeat()));
}
Napi::Value FlipEngine::wake(const Napi::CallbackInfo& info) {
  engine()->wake();
  return info.Env().Undefined();
}
Napi::Value FlipEngine::paused(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine()->is_paused());
}
Napi::Value FlipEngine::realtime(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine()->thread().realtime());
}
Napi::Value FlipEngine::realtime_reason(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), engine()->thread().realtime_reason());
}

} // namespace

std::shared_ptr<flip::Engine> engine_of(const Napi::Value& value) {
  return unwrap(value)->engine();
}

Napi::Value post(Napi::Env env, const Napi::Value& engine_object, std::unique_ptr<flip::Command> command,
                 const char* op, const std::string& subject, MakeResult result) {
  auto* waiting = new Waiting{Napi::Promise::Deferred::New(env), op, subject, std::move(result)};
  return unwrap(engine_object)->post_command(std::move(command), waiting);
}

void init_flip_producers(Napi::Env env, Napi::Object exports);

void init_flip(Napi::Env env, Napi::Object exports) {
  using E = FlipEngine;
  const Napi::Function engine = E::DefineClass(env, "FlipEngine",
                                               {
                                                   E::InstanceMethod<&E::add_crtc>("addCrtc"),
                                                   E::InstanceMethod<&E::set_policy>("setPolicy"),
                                                   E::InstanceMethod<&E::attach>("attach"),
                                                   E::InstanceMethod<&E::detach>("detach"),
                                                   E::InstanceMethod<&E::peek>("peek"),
                                                   E::InstanceMethod<&E::modeset>("modeset"),
                                                   E::InstanceMethod<&E::capture>("capture"),
                                                   E::InstanceMethod<&E::resume>("resume"),
                                                   E::InstanceMethod<&E::stats>("stats"),
                                                   E::InstanceMethod<&E::records>("records"),
                                                   E::InstanceAccessor<&E::heartbeat>("heartbeat"),
                                                   E::InstanceMethod<&E::wake>("wake"),
                                                   E::InstanceAccessor<&E::paused>("paused"),
                                                   E::InstanceAccessor<&E::realtime>("realtime"),
                                                   E::InstanceAccessor<&E::realtime_reason>("realtimeReason"),
                                                   E::InstanceMethod<&E::close>("close"),
                                               });
  E::constructor = new Napi::FunctionReference(Napi::Persistent(engine));
  E::constructor->SuppressDestruct();
  exports.Set("FlipEngine", engine);
  init_flip_producers(env, exports);
}

} // namespace scanout::addon
