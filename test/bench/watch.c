/*
 * watch(fd, callback): what Node.js lacks for js-loop.ts, an eventfd on its loop. The callback gets the time
 * of the wake-up (CLOCK_MONOTONIC ns); the eventfd has been read. Nothing is ever stopped or freed.
 */
#include <node_api.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

struct watch {
  uv_poll_t poll;
  int fd;
  napi_env env;
  napi_ref callback;
  napi_async_context context;
};

static void on_ready(uv_poll_t* handle, int status, int events) {
  struct watch* watch = handle->data;
  const double woken = (double)uv_hrtime();
  uint64_t kicks;
  napi_handle_scope scope;
  napi_value callback, time, global, result;
  (void)events;
  if (status < 0 || read(watch->fd, &kicks, sizeof kicks) < 0) return;
  napi_open_handle_scope(watch->env, &scope);
  napi_get_reference_value(watch->env, watch->callback, &callback);
  napi_create_double(watch->env, woken, &time);
  napi_get_global(watch->env, &global);
  if (napi_make_callback(watch->env, watch->context, global, callback, 1, &time, &result) != napi_ok) abort();
  napi_close_handle_scope(watch->env, scope);
}

static napi_value start(napi_env env, napi_callback_info info) {
  napi_value arguments[2], name;
  size_t count = 2;
  uv_loop_t* loop;
  struct watch* watch = calloc(1, sizeof *watch);
  if (watch == NULL) abort();
  watch->env = env;
  watch->poll.data = watch;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  napi_create_string_utf8(env, "watch", NAPI_AUTO_LENGTH, &name);
  if (napi_get_value_int32(env, arguments[0], &watch->fd) != napi_ok ||
      napi_create_reference(env, arguments[1], 1, &watch->callback) != napi_ok ||
      napi_async_init(env, NULL, name, &watch->context) != napi_ok ||
      napi_get_uv_event_loop(env, &loop) != napi_ok || uv_poll_init(loop, &watch->poll, watch->fd) < 0 ||
      uv_poll_start(&watch->poll, UV_READABLE, on_ready) < 0)
    napi_throw_error(env, NULL, "watch: bad arguments");
  return NULL;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "watch", NAPI_AUTO_LENGTH, start, NULL, &function);
  napi_set_named_property(env, exports, "watch", function);
  return exports;
}
