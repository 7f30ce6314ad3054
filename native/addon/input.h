// The class InputEngine: its life in input.cc, devices and seats in input_devices.cc, each way to a guest in
// a file of its own.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "addon/addon.h"
#include "addon/loop.h"
#include "addon/wrapped.h"
#include "input/engine.h"
#include "input/libinput_context.h"
#include "input/qemu_relay.h"

namespace scanout::addon {

input::Class to_input_class(const Napi::Value& value, const char* what);
input::Description to_input_description(const Napi::Value& value, const char* what);
Napi::Object input_description_to_js(Napi::Env env, const input::Description& description);
/// "keyboard" and so on, by input::Class.
const char* input_class_name(input::Class of) noexcept;

class InputEngine : public Wrapped<InputEngine> {
public:
  explicit InputEngine(const Napi::CallbackInfo& info);
  ~InputEngine() override { shut_down(); }

  Napi::Value open(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value add_seat(const Napi::CallbackInfo& info);
  Napi::Value remove_seat(const Napi::CallbackInfo& info);
  Napi::Value set_seat(const Napi::CallbackInfo& info);
  Napi::Value add_guest(const Napi::CallbackInfo& info);
  Napi::Value remove_guest(const Napi::CallbackInfo& info);
  Napi::Value add_uinput(const Napi::CallbackInfo& info);
  Napi::Value add_ring(const Napi::CallbackInfo& info);
  Napi::Value set_ring(const Napi::CallbackInfo& info);
  Napi::Value add_virtio(const Napi::CallbackInfo& info);
  Napi::Value relay_qemu(const Napi::CallbackInfo& info);
  Napi::Value close_qemu_relay(const Napi::CallbackInfo& info);
  Napi::Value add_qemu(const Napi::CallbackInfo& info);
  Napi::Value set_qemu(const Napi::CallbackInfo& info);
  Napi::Value remove_sink(const Napi::CallbackInfo& info);
  Napi::Value idle_ns(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value watch(const Napi::CallbackInfo& info);
  Napi::Value watched(const Napi::CallbackInfo& info);
  Napi::Value heartbeat(const Napi::CallbackInfo& info);
  Napi::Value wake(const Napi::CallbackInfo& info);
  Napi::Value realtime(const Napi::CallbackInfo& info);
  Napi::Value realtime_reason(const Napi::CallbackInfo& info);
  Napi::Value shut(const Napi::CallbackInfo& info);

  // For those files.
  /// Throws when it is shut.
  [[nodiscard]] input::Engine& engine() const;
  /// Throws a RangeError for an id that is not there.
  input::Guest& guest(const Napi::Value& id);
  input::Attachment& sink(const Napi::Value& id);

  /// What a promise resolves with once the command is back, without an error.
  using Result = std::function<Napi::Value(Napi::Env)>;
  /// Runs `body`, an `int(input::Engine&)` that gives a positive errno or 0, on the input thread. The promise
  /// is rejected with a SystemError (`op`) for an errno, and when the engine is shut meanwhile. `keep` lives
  /// until the command is back.
  /// `failed` is called before the promise is rejected.
  template <typename Body>
  Napi::Value post(const char* op, Body body, Result result = nullptr, std::shared_ptr<void> keep = nullptr,
                   std::function<void()> failed = nullptr) {
    return post_command(std::make_unique<input::BodyCommand<Body>>(std::move(body)), op, std::move(result),
                        std::move(keep), std::move(failed));
  }
  /// Adds a sink to a guest: the promise resolves with what `result` makes of the sink's id, or with the id.
  Napi::Value attach(input::Guest& guest, std::unique_ptr<input::Sink> sink,
                     const input::Attachment::Classes& classes,
                     std::function<Napi::Value(Napi::Env, uint32_t id)> result = nullptr);
  /// Something that JavaScript has by an id, such as a connection; goes with the engine at the latest.
  uint32_t next_id() noexcept { return ++last_id_; }

private:
  struct Waiting {
    Napi::Promise::Deferred deferred;
    const char* op;
    Result result;
    std::shared_ptr<void> keep;
    std::function<void()> failed;
  };
  template <typename T> using ById = std::map<uint32_t, std::shared_ptr<T>>;

  std::shared_ptr<input::QemuRelay> relay_of(const Napi::Value& id);
  Napi::Value post_command(std::unique_ptr<input::Command> command, const char* op, Result result,
                           std::shared_ptr<void> keep, std::function<void()> failed);
  std::unique_ptr<input::SeatTable> to_table(const Napi::Object& object);
  void drain();
  void settle(input::Command& command);
  void notify(const input::Notice& notice);
  void pass_on_lines(uint32_t device);
  void require_room() const;
  void shut_down();

  std::unique_ptr<input::Engine> engine_;
  std::unique_ptr<LoopPoll> poll_;
  Napi::FunctionReference on_notice_;
  std::map<Waiting*, std::unique_ptr<Waiting>> waiting_;
  uint32_t last_id_ = 0; // of everything
  uint32_t watch_ = 0;   // the newest
  input::LibinputContexts contexts_;
  ById<input::Device> devices_;
  ById<input::Seat> seats_;
  ById<input::Guest> guests_;
  ById<input::Attachment> sinks_;
  ById<input::QemuRelay> relays_;
};

} // namespace scanout::addon
