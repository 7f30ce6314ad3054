// Structures of the C client from and to JavaScript.
#include "addon/guest_client.h"

namespace scanout::addon {

namespace {

constexpr const char* event_names[] = {"none", "connected", "configure", "formats", "state",
                                       "done", "error",     "page",      "input",   "closed"};

/// An optional member of an object: 0 when it is absent, the C client's word for "as usual".
uint32_t optional_u32(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsUndefined() ? 0 : to_u32(value, name);
}

int32_t optional_i32(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  return value.IsUndefined() ? 0 : to_i32(value, name);
}

template <size_t size> void to_u32s(const Napi::Value& value, const char* what, uint32_t (&to)[size]) {
  const Napi::Array array = to_array(value, what);
  if (array.Length() > size) throw base::UsageError(std::string(what) + ": too many elements");
  for (uint32_t i = 0; i < array.Length(); ++i)
    to[i] = to_u32(array.Get(i), what);
}

Napi::Value big(Napi::Env env, uint64_t number) {
  return Napi::BigInt::New(env, number);
}

Napi::Object to_js(Napi::Env env, const scanoutd_configure& configure) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("width", configure.width);
  js.Set("height", configure.height);
  js.Set("refreshMhz", configure.refresh_mhz);
  js.Set("lit", configure.lit != 0);
  js.Set("output", configure.output);
  return js;
}

Napi::Array to_js(Napi::Env env, const scanoutd_formats& formats) {
  Napi::Array js = Napi::Array::New(env, formats.count);
  for (uint32_t i = 0; i < formats.count; ++i) {
    Napi::Object format = Napi::Object::New(env);
    format.Set("fourcc", formats.formats[i].fourcc);
    format.Set("modifier", big(env, formats.formats[i].modifier));
    js.Set(i, format);
  }
  return js;
}

Napi::Object to_js(Napi::Env env, const scanoutd_state& state) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("state", state.state);
  js.Set("errnum", state.errnum);
  js.Set("text", state.text);
  return js;
}

Napi::Object to_js(Napi::Env env, const scanoutd_error& error) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("code", error.code);
  js.Set("errnum", error.errnum);
  js.Set("text", error.text);
  return js;
}

} // namespace

void plane_kinds_from_js(const Napi::Value& js, scanoutd_client_options& options) {
  to_u32s(js, "planes", options.plane_kinds);
  options.plane_count = to_array(js, "planes").Length();
}

scanoutd_layout layout_from_js(const Napi::Object& js) {
  scanoutd_layout layout{};
  layout.width = to_u32(js.Get("width"), "width");
  layout.height = to_u32(js.Get("height"), "height");
  layout.fourcc = to_u32(js.Get("fourcc"), "fourcc");
  layout.modifier = to_u64(js.Get("modifier"), "modifier");
  to_u32s(js.Get("strides"), "strides", layout.strides);
  to_u32s(js.Get("offsets"), "offsets", layout.offsets);
  layout.plane_count = to_array(js.Get("strides"), "strides").Length();
  if (to_array(js.Get("offsets"), "offsets").Length() != layout.plane_count)
    throw base::UsageError("offsets: as many as strides expected");
  return layout;
}

scanoutd_frame frame_from_js(const Napi::Object& js, std::vector<scanoutd_rect>& damage) {
  scanoutd_frame frame{};
  frame.buffer = optional_u32(js, "buffer");
  frame.flags = optional_u32(js, "flags");
  frame.src_x = optional_u32(js, "srcX");
  frame.src_y = optional_u32(js, "srcY");
  frame.src_w = optional_u32(js, "srcW");
  frame.src_h = optional_u32(js, "srcH");
  frame.dst_x = optional_i32(js, "dstX");
  frame.dst_y = optional_i32(js, "dstY");
  frame.dst_w = optional_u32(js, "dstW");
  frame.dst_h = optional_u32(js, "dstH");
  frame.hot_x = optional_i32(js, "hotX");
  frame.hot_y = optional_i32(js, "hotY");
  if (const Napi::Value fence = js.Get("fence"); !fence.IsUndefined()) {
    frame.fence = borrow_fd(fence, "fence");
    frame.flags |= SCANOUTD_FLIP_FENCED;
  }
  if (const Napi::Value list = js.Get("damage"); !list.IsUndefined()) {
    const Napi::Array rects = to_array(list, "damage");
    for (uint32_t i = 0; i < rects.Length(); ++i) {
      const Napi::Object rect = to_object(rects.Get(i), "damage");
      damage.push_back({to_i32(rect.Get("x1"), "x1"), to_i32(rect.Get("y1"), "y1"),
                        to_i32(rect.Get("x2"), "x2"), to_i32(rect.Get("y2"), "y2")});
    }
  }
  frame.damage = damage.data();
  frame.damage_count = static_cast<uint32_t>(damage.size());
  return frame;
}

Napi::Object submission_to_js(Napi::Env env, const scanoutd_submission& submission) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("sequence", big(env, submission.sequence));
  js.Set("reclaimed", big(env, submission.reclaimed));
  js.Set("reclaimedBuffer", submission.reclaimed_buffer);
  return js;
}

Napi::Object feedback_to_js(Napi::Env env, const scanoutd_flip_feedback& feedback) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("flags", feedback.flags);
  js.Set("taken", big(env, feedback.taken));
  js.Set("presented", big(env, feedback.presented));
  js.Set("presentedNs", big(env, feedback.presented_ns));
  js.Set("vblank", big(env, feedback.vblank));
  js.Set("refreshNs", feedback.refresh_ns);
  js.Set("refused", big(env, feedback.refused));
  js.Set("refusedCode", feedback.refused_code);
  js.Set("refusedErrno", feedback.refused_errno);
  js.Set("flips", big(env, feedback.flips));
  js.Set("superseded", big(env, feedback.superseded));
  js.Set("missed", big(env, feedback.missed));
  return js;
}

Napi::Object event_to_js(Napi::Env env, const scanoutd_client* client, const scanoutd_event& event) {
  Napi::Object js = Napi::Object::New(env);
  js.Set("type", event_names[event.type]);
  switch (event.type) {
  case SCANOUTD_EVENT_CONFIGURE:
    js.Set("configure", to_js(env, *scanoutd_client_configuration(client)));
    break;
  case SCANOUTD_EVENT_FORMATS:
    js.Set("plane", event.plane);
    js.Set("formats", to_js(env, *scanoutd_client_formats(client, event.plane)));
    break;
  case SCANOUTD_EVENT_STATE:
    js.Set("plane", event.plane);
    js.Set("state", to_js(env, *scanoutd_client_state(client, event.plane)));
    break;
  case SCANOUTD_EVENT_ERROR:
    js.Set("error", to_js(env, *event.error));
    [[fallthrough]];
  case SCANOUTD_EVENT_DONE:
    js.Set("serial", event.serial);
    js.Set("request", event.request);
    js.Set("buffer", event.buffer);
    js.Set("plane", event.plane);
    break;
  case SCANOUTD_EVENT_CLOSED:
    js.Set("reason",
           event.reason == 0 ? env.Null() : Napi::String::New(env, base::errno_name(-event.reason)));
    break;
  default:
    break;
  }
  return js;
}

} // namespace scanout::addon
