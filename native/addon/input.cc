// The class InputEngine: its life, its commands, and what it tells.
#include "addon/input.h"

#include <unistd.h>

#include <utility>

#include "input/describe.h"
#include "input/libinput_device.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:input";

} // namespace

InputEngine::InputEngine(const Napi::CallbackInfo& info) : Wrapped<InputEngine>(info) {
  guarded(info.Env(), [&] {
    const uint32_t priority = to_u32(info[0], "priority");
    if (priority > 99) throw base::UsageError("priority: 0 to 99 expected");
    on_notice_ = Napi::Persistent(to_function(info[1], "onNotice"));
    engine_ = std::make_unique<input::Engine>(static_cast<int>(priority));
    poll_ = std::make_unique<LoopPoll>(info.Env(), engine_->notify_fd(),
                                       [this](int) { enter_js(Env(), resource, [this] { drain(); }); });
    poll_->watch(UV_READABLE);
  });
}

input::Engine& InputEngine::engine() const {
  if (!engine_) throw base::UsageError("the input engine is shut");
  return *engine_;
}

void InputEngine::drain() {
  if (!engine_) return;
  uint64_t count = 0;
  (void)!read(engine_->notify_fd(), &count, sizeof count);
  while (engine_) { // a callback may shut us
    const std::unique_ptr<input::Command> command = engine_->finished();
    if (!command) break;
    settle(*command);
  }
  while (engine_) {
    const std::optional<input::Notice> notice = engine_->notice();
    if (!notice) break;
    notify(*notice);
  }
}

void InputEngine::settle(input::Command& command) {
  const auto found = waiting_.find(static_cast<Waiting*>(command.tag));
  if (found == waiting_.end()) return;
  const std::unique_ptr<Waiting> waiting = std::move(found->second);
  waiting_.erase(found);
  if (command.error != 0 && waiting->failed) waiting->failed();
  if (command.error != 0)
    waiting->deferred.Reject(to_js(Env(), base::SystemError(command.error, waiting->op)).Value());
  else
    waiting->deferred.Resolve(waiting->result ? waiting->result(Env()) : Env().Undefined());
}

Napi::Value InputEngine::post_command(std::unique_ptr<input::Command> command, const char* op, Result result,
                                      std::shared_ptr<void> keep, std::function<void()> failed) {
  auto waiting = std::make_unique<Waiting>(Waiting{Napi::Promise::Deferred::New(Env()), op, std::move(result),
                                                   std::move(keep), std::move(failed)});
  command->tag = waiting.get();
  const Napi::Promise promise = waiting->deferred.Promise();
  const bool posted = engine().post(std::move(command));
  if (!posted && waiting->failed) waiting->failed();
  if (!posted)
    waiting->deferred.Reject(to_js(Env(), base::SystemError(EAGAIN, op)).Value());
  else
    waiting_.emplace(waiting.get(), std::move(waiting));
  return promise;
}

void InputEngine::notify(const input::Notice& notice) {
  using What = input::Notice::What;
  if (notice.what == What::said) {
    pass_on_lines(notice.id);
    return;
  }
  const Napi::Env env = Env();
  Napi::Object object = Napi::Object::New(env);
  const auto type = [&](const char* name, const char* of) {
    object.Set("type", name);
    if (*of != '\0') object.Set(of, notice.id);
  };
  switch (notice.what) {
  case What::hotkey:
    type("hotkey", "id");
    object.Set("seat", notice.seat);
    object.Set("switches", notice.switches);
    object.Set("guest", notice.guest == 0 ? env.Null() : Napi::Number::New(env, notice.guest));
    break;
  case What::device_gone:
    type("deviceGone", "device");
    break;
  case What::dropped:
    type("dropped", "device");
    break;
  case What::said: // dealt with above
    break;
  case What::sink_ended:
    type("sinkEnded", "sink");
    object.Set("why", notice.why);
    break;
  case What::leds:
    type("leds", "sink");
    object.Set("leds", notice.leds);
    break;
  }
  if (notice.what == What::device_gone || notice.what == What::sink_ended) {
    object.Set("errno", notice.error);
    object.Set("code", notice.error != 0 ? base::errno_name(notice.error) : "");
  }
  on_notice_.Call({object});
}

/// What libinput has to say of a device.
void InputEngine::pass_on_lines(uint32_t id) {
  const auto found = devices_.find(id);
  if (found == devices_.end()) return;
  const std::shared_ptr<input::Device> device = found->second; // a callback may close it
  auto* const one = dynamic_cast<input::LibinputDevice*>(device.get());
  while (one != nullptr) {
    const auto line = one->line();
    if (!line) return;
    Napi::Object object = Napi::Object::New(Env());
    object.Set("type", "nonsense");
    object.Set("device", id);
    object.Set("why", line->text.data());
    on_notice_.Call({object});
  }
}

Napi::Value InputEngine::heartbeat(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(engine().heartbeat()));
}
Napi::Value InputEngine::wake(const Napi::CallbackInfo& info) {
  engine().wake();
  return info.Env().Undefined();
}
Napi::Value InputEngine::realtime(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine().thread().realtime());
}
Napi::Value InputEngine::realtime_reason(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), engine().thread().realtime_reason());
}

void InputEngine::shut_down() {
  if (!engine_) return;
  engine_->stop();
  poll_.reset();
}

Napi::Value InputEngine::shut(const Napi::CallbackInfo& info) {
  if (!engine_) return info.Env().Undefined();
  shut_down();
  drain();
  for (auto& [key, waiting] : waiting_)
    waiting->deferred.Reject(to_js(Env(), base::SystemError(ESHUTDOWN, waiting->op)).Value());
  waiting_.clear();
  engine_.reset();
  seats_.clear();
  devices_.clear();
  sinks_.clear();
  relays_.clear();
  guests_.clear();
  return info.Env().Undefined();
}

void init_input(Napi::Env env, Napi::Object exports) {
  using E = InputEngine;
  exports.Set("InputEngine", E::DefineClass(env, "InputEngine",
                                            {
                                                E::define<&E::open>("open"),
                                                E::define<&E::close>("close"),
                                                E::define<&E::add_seat>("addSeat"),
                                                E::define<&E::remove_seat>("removeSeat"),
                                                E::define<&E::set_seat>("setSeat"),
                                                E::define<&E::add_guest>("addGuest"),
                                                E::define<&E::remove_guest>("removeGuest"),
                                                E::define<&E::add_uinput>("addUinput"),
                                                E::define<&E::add_ring>("addRing"),
                                                E::define<&E::set_ring>("setRing"),
                                                E::define<&E::add_virtio>("addVirtio"),
                                                E::define<&E::relay_qemu>("relayQemu"),
                                                E::define<&E::close_qemu_relay>("closeQemuRelay"),
                                                E::define<&E::add_qemu>("addQemu"),
                                                E::define<&E::set_qemu>("setQemu"),
                                                E::define<&E::remove_sink>("removeSink"),
                                                E::define<&E::idle_ns>("idleNs"),
                                                E::define<&E::stats>("stats"),
                                                E::define<&E::watch>("watch"),
                                                E::define<&E::watched>("watched"),
                                                E::define<&E::heartbeat>("heartbeat"),
                                                E::define<&E::wake>("wake"),
                                                E::define_getter<&E::realtime>("realtime"),
                                                E::define_getter<&E::realtime_reason>("realtimeReason"),
                                                E::define<&E::shut>("shut"),
                                            }));
  init_input_descriptions(env, exports);
}

} // namespace scanout::addon
