// Handles of the JS thread's event loop, and the way from its callbacks into JavaScript.
#pragma once

#include <napi.h>
#include <uv.h>

#include <functional>

#include "addon/addon.h"

namespace scanout::addon {

/// Watches a descriptor (borrowed, open as long as this lives) on the loop of the JS thread.
///
/// When the environment ends first (process exit), it stops for good and every call is without effect.
class LoopPoll {
public:
  /// Runs on the loop, outside of JavaScript: use `enter_js` there. `events` are UV_READABLE and so on; 0 on
  /// an error of the descriptor, after which nothing is watched until `watch`.
  using Callback = std::function<void(int events)>;

  /// Watches nothing yet. Throws SystemError.
  LoopPoll(Napi::Env env, int fd, Callback callback);
  LoopPoll(const LoopPoll&) = delete;
  LoopPoll& operator=(const LoopPoll&) = delete;
  ~LoopPoll();

  /// 0 watches nothing. An active watch keeps the process alive.
  void watch(int events);

  struct Handle;
  /// The environment ends.
  void forget() { handle_ = nullptr; }

private:
  Handle* handle_;
  int events_ = 0;
  Callback callback_;
};

/// A one-shot timer on the loop of the JS thread. Ends with the environment as LoopPoll does.
class LoopTimer {
public:
  LoopTimer(Napi::Env env, std::function<void()> callback);
  LoopTimer(const LoopTimer&) = delete;
  LoopTimer& operator=(const LoopTimer&) = delete;
  ~LoopTimer();

  /// In `milliseconds`, instead of what was set before. Keeps the process alive meanwhile.
  void set(uint64_t milliseconds);
  void cancel();

  struct Handle;
  /// The environment ends.
  void forget() { handle_ = nullptr; }

private:
  Handle* handle_;
  std::function<void()> callback_;
};

/// Tells the process's handlers of uncaught exceptions.
void report_uncaught(Napi::Env env, const Napi::Error& error) noexcept;

/// Runs `body`, which may call JavaScript, from a callback of the loop; promises' reactions run at its end.
/// What it throws is an uncaught exception. `resource` names the source to async_hooks.
template <typename Body> void enter_js(Napi::Env env, const char* resource, Body&& body) noexcept {
  try {
    const Napi::HandleScope handles(env);
    const Napi::AsyncContext context(env, resource);
    const Napi::CallbackScope scope(env, context);
    try {
      body();
    } catch (const Napi::Error& error) {
      report_uncaught(env, error);
    } catch (const std::exception& error) {
      report_uncaught(env, to_js(env, error));
    }
  } catch (...) { // the environment ends, there is nobody to tell
  }
}

/// For callbacks from C: the result of `body`, or -ENOMEM when it throws even so.
template <typename Body> int shielded(Body&& body) noexcept {
  try {
    return body();
  } catch (...) {
    return -ENOMEM;
  }
}

} // namespace scanout::addon
