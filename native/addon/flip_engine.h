// The class FlipEngine.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/loop.h"

namespace scanout::addon {

/// A promise that a command settles.
struct Waiting {
  Napi::Promise::Deferred deferred;
  const char* op;
  std::string subject;
  MakeResult result;
};

/// The JavaScript class FlipEngine: its life is in flip_engine.cc, its commands are in flip_commands.cc.
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
  Napi::Value lend(const Napi::CallbackInfo& info);
  Napi::Value pause(const Napi::CallbackInfo& info);
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

  static Napi::FunctionReference* constructor;

private:
  void drain();
  void settle(flip::Command& command);
  void notify(const flip::Notice& notice);
  void shut();

  base::UniqueFd drm_fd_;
  std::shared_ptr<flip::Engine> engine_;
  std::unique_ptr<LoopPoll> poll_;
  Napi::FunctionReference on_notice_;
  std::map<Waiting*, std::unique_ptr<Waiting>> waiting_;
};

} // namespace scanout::addon
