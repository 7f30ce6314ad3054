// base/process.h for JavaScript.
#include "base/process.h"

#include "addon/loop.h"
#include "addon/wrapped.h"

namespace scanout::addon {

namespace {

/// Waits for the end of a process.
class ProcessWatch : public Wrapped<ProcessWatch> {
public:
  /// (pidfd, onEnd)
  explicit ProcessWatch(const Napi::CallbackInfo& info) : Wrapped<ProcessWatch>(info) {
    guarded(info.Env(), [&] {
      on_end_ = Napi::Persistent(to_function(info[1], "onEnd"));
      fd_ = take_fd(info[0], "pidfd");
      poll_ = std::make_unique<LoopPoll>(info.Env(), fd_.get(), [this](int) { ended(); });
      poll_->watch(UV_READABLE);
      Ref();
    });
  }
  Napi::Value close(const Napi::CallbackInfo& info) {
    shut();
    return info.Env().Undefined();
  }

private:
  void ended() {
    enter_js(Env(), "scanoutd:process", [&] {
      const Napi::Function on_end = on_end_.Value();
      shut();
      on_end.Call({});
    });
  }
  void shut() {
    if (poll_ == nullptr) return;
    poll_.reset();
    fd_.reset();
    on_end_.Reset();
    Unref();
  }

  base::UniqueFd fd_;
  std::unique_ptr<LoopPoll> poll_; // after fd_: must go first
  Napi::FunctionReference on_end_;
};

Napi::Value open_process(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), base::open_process(to_i32(info[0], "process")));
}

} // namespace

void init_process(Napi::Env env, Napi::Object exports) {
  using P = ProcessWatch;
  exports.Set("ProcessWatch", P::DefineClass(env, "ProcessWatch", {P::define<&P::close>("close")}));
  export_function<open_process>(exports, "openProcess");
}

} // namespace scanout::addon
