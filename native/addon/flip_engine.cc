// The class FlipEngine: what it answers, tells and counts. Its commands are in flip_commands.cc.
#include "addon/flip_engine.h"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

namespace scanout::addon {

Napi::FunctionReference* FlipEngine::constructor = nullptr;

namespace {

FlipEngine* unwrap(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(FlipEngine::constructor->Value())) {
    throw Napi::TypeError::New(value.Env(), "engine: FlipEngine expected");
  }
  return FlipEngine::Unwrap(value.As<Napi::Object>());
}

} // namespace

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
  poll_ = std::make_unique<LoopPoll>(env, engine_->notify_fd(),
                                     [this](int) { enter_js(Env(), "scanoutd:flip", [this] { drain(); }); });
  poll_->watch(UV_READABLE);
}

void FlipEngine::drain() {
  const std::shared_ptr<flip::Engine> engine = engine_; // a callback may close us
  if (!engine) return;
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
                                          "noVblank", "shadowFailed", "unrouted",     "reshaped"};
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
  on_notice_.Call({object});
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
  return promise;
}

void FlipEngine::shut() {
  if (!engine_) return;
  engine_->stop();
  poll_.reset();
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
                                                   E::InstanceMethod<&E::lend>("lend"),
                                                   E::InstanceMethod<&E::pause>("pause"),
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
