#include "addon/loop.h"

#include <memory>

namespace scanout::addon {

/// What outlives its owner until the loop has let go of it.
struct LoopPoll::Handle {
  uv_poll_t uv{};
  LoopPoll* owner = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
};

struct LoopTimer::Handle {
  uv_timer_t uv{};
  LoopTimer* owner = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;
};

namespace {

uv_loop_t* loop_of(Napi::Env env) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok)
    throw base::SystemError(ENOSYS, "napi_get_uv_event_loop");
  return loop;
}

void check_uv(int result, const char* op) {
  if (result < 0) throw base::SystemError(-result, op); // libuv's errors are negative errnos on Linux
}

template <typename Handle> uv_handle_t* base_of(Handle* handle) {
  return reinterpret_cast<uv_handle_t*>(&handle->uv);
}

/// Frees the handle when the loop has let go of it.
template <typename Handle> void close_handle(Handle* handle) {
  handle->owner = nullptr;
  if (uv_is_closing(base_of(handle)) != 0) return;
  uv_close(base_of(handle), [](uv_handle_t* uv) {
    auto* closed = static_cast<Handle*>(uv->data);
    if (closed->hook != nullptr) napi_remove_async_cleanup_hook(closed->hook);
    delete closed;
  });
}

/// The environment ends before the owner: it waits until the handle is closed, and the owner forgets it.
template <typename Handle> void close_with_environment(Napi::Env env, Handle* handle) {
  handle->uv.data = handle;
  napi_add_async_cleanup_hook(
      env,
      [](napi_async_cleanup_hook_handle, void* data) {
        auto* ending = static_cast<Handle*>(data);
        if (ending->owner != nullptr) ending->owner->forget();
        close_handle(ending);
      },
      handle, &handle->hook);
}

} // namespace

LoopPoll::LoopPoll(Napi::Env env, int fd, Callback callback)
    : handle_(nullptr), callback_(std::move(callback)) {
  auto handle = std::make_unique<Handle>();
  check_uv(uv_poll_init(loop_of(env), &handle->uv, fd), "uv_poll_init");
  handle_ = handle.release(); // from here on the loop's
  handle_->owner = this;
  close_with_environment(env, handle_);
}

LoopPoll::~LoopPoll() {
  if (handle_ != nullptr) close_handle(handle_);
}

void LoopPoll::watch(int events) {
  if (handle_ == nullptr || events == events_) return;
  events_ = events;
  if (events == 0) {
    uv_poll_stop(&handle_->uv);
    return;
  }
  check_uv(uv_poll_start(&handle_->uv, events,
                         [](uv_poll_t* uv, int status, int ready) {
                           LoopPoll* owner = static_cast<Handle*>(uv->data)->owner;
                           // libuv reports POLLERR as EBADF, and has stopped watching by then.
                           if (status < 0) owner->events_ = 0;
                           const Callback callback = owner->callback_; // it may destroy its owner
                           callback(status < 0 ? 0 : ready);
                         }),
           "uv_poll_start");
}

LoopTimer::LoopTimer(Napi::Env env, std::function<void()> callback)
    : handle_(new Handle), callback_(std::move(callback)) {
  uv_timer_init(loop_of(env), &handle_->uv);
  handle_->owner = this;
  close_with_environment(env, handle_);
}

LoopTimer::~LoopTimer() {
  if (handle_ != nullptr) close_handle(handle_);
}

void LoopTimer::set(uint64_t milliseconds) {
  if (handle_ == nullptr) return;
  uv_update_time(handle_->uv.loop); // the loop's clock stands still while JavaScript runs
  uv_timer_start(
      &handle_->uv,
      [](uv_timer_t* uv) {
        const std::function<void()> callback = static_cast<Handle*>(uv->data)->owner->callback_;
        callback();
      },
      milliseconds, 0);
}

void LoopTimer::cancel() {
  if (handle_ != nullptr) uv_timer_stop(&handle_->uv);
}

void report_uncaught(Napi::Env env, const Napi::Error& error) noexcept {
  napi_fatal_exception(env, error.Value());
}

} // namespace scanout::addon
