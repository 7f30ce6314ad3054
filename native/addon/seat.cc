// session/seat.h for JavaScript.
#include "session/seat.h"

#include <optional>

#include "addon/loop.h"
#include "addon/wrapped.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:seat";

class Seat : public Wrapped<Seat>, private session::SeatListener {
public:
  /// (onEnabled(), onDisabled(), onError(error)). The callbacks come from the loop, never from within a call.
  explicit Seat(const Napi::CallbackInfo& info) : Wrapped<Seat>(info) {
    guarded(info.Env(), [&] { open(info); });
  }
  Napi::Value name(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), seat().name()); }
  Napi::Value open_device(const Napi::CallbackInfo& info) {
    session::Seat::Device device = seat().open_device(to_string(info[0], "path"));
    later_->set(0);
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("id", device.id);
    object.Set("fd", wrap_fd(info.Env(), std::move(device.fd)));
    return object;
  }
  Napi::Value close_device(const Napi::CallbackInfo& info) {
    seat().close_device(to_i32(info[0], "id"));
    later_->set(0);
    return info.Env().Undefined();
  }
  Napi::Value switch_session(const Napi::CallbackInfo& info) {
    seat().switch_session(to_i32(info[0], "session"));
    later_->set(0);
    return info.Env().Undefined();
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    shut();
    return info.Env().Undefined();
  }

private:
  void open(const Napi::CallbackInfo& info);
  session::Seat& seat() const {
    if (!seat_) throw base::UsageError("the seat is closed");
    return *seat_;
  }
  void on_enabled() noexcept override { heard(true); }
  void on_disabled() noexcept override { heard(false); }
  void heard(bool enabled) noexcept;
  void dispatch();
  void tell();
  void shut();

  std::unique_ptr<session::Seat> seat_;
  std::unique_ptr<LoopPoll> poll_; // after seat_: must go first
  std::unique_ptr<LoopTimer> later_;
  Napi::FunctionReference on_enabled_, on_disabled_, on_error_;
  bool dispatching_ = false;
  bool closing_ = false;
  /// What was heard in a call from JavaScript, to be told from the loop.
  std::optional<bool> heard_;
};

void Seat::open(const Napi::CallbackInfo& info) {
  on_enabled_ = Napi::Persistent(to_function(info[0], "onEnabled"));
  on_disabled_ = Napi::Persistent(to_function(info[1], "onDisabled"));
  on_error_ = Napi::Persistent(to_function(info[2], "onError"));
  later_ = std::make_unique<LoopTimer>(info.Env(), [this] { dispatch(); });
  seat_ = std::make_unique<session::Seat>(static_cast<session::SeatListener&>(*this));
  poll_ = std::make_unique<LoopPoll>(info.Env(), seat_->fd(), [this](int) { dispatch(); });
  poll_->watch(UV_READABLE);
  later_->set(0);
  Ref(); // it works without anybody holding it, until it is closed
}

// A seat manager may go on as soon as the listener returns, so JavaScript is told from within.
void Seat::heard(bool enabled) noexcept {
  heard_ = enabled;
  if (dispatching_) enter_js(Env(), resource, [this] { tell(); });
}

void Seat::tell() {
  if (!heard_ || closing_) return;
  const bool enabled = *heard_;
  heard_.reset();
  (enabled ? on_enabled_ : on_disabled_).Value().Call({});
  if (!enabled && seat_) seat_->acknowledge();
}

void Seat::dispatch() {
  if (!seat_ || dispatching_) return;
  const Napi::HandleScope handles(Env());
  std::optional<base::SystemError> lost;
  dispatching_ = true;
  if (heard_) enter_js(Env(), resource, [this] { tell(); });
  try {
    seat_->dispatch();
  } catch (const base::SystemError& error) {
    lost = error;
  }
  dispatching_ = false;
  if (closing_) {
    shut();
  } else if (lost) {
    enter_js(Env(), resource, [&] {
      const Napi::Function on_error = on_error_.Value();
      shut();
      on_error.Call({to_js(Env(), *lost).Value()});
    });
  } else {
    poll_->watch(UV_READABLE);
  }
}

void Seat::shut() {
  if (!seat_) return;
  closing_ = true;
  if (dispatching_) return; // a callback closes it: libseat is still in there
  later_.reset();
  poll_.reset();
  seat_.reset();
  on_enabled_.Reset();
  on_disabled_.Reset();
  on_error_.Reset();
  Unref();
}

} // namespace

void init_seat(Napi::Env env, Napi::Object exports) {
  using S = Seat;
  exports.Set("Seat", S::DefineClass(env, "Seat",
                                     {
                                         S::define_getter<&S::name>("name"),
                                         S::define<&S::open_device>("openDevice"),
                                         S::define<&S::close_device>("closeDevice"),
                                         S::define<&S::switch_session>("switchSession"),
                                         S::define<&S::close>("close"),
                                     }));
}

} // namespace scanout::addon
