// Structures of the C client from and to JavaScript. What does not fit throws as the checked conversions do.
#pragma once

#include <napi.h>

#include <vector>

#include "addon/addon.h"
#include "scanoutd-client.h"

namespace scanout::addon {

/// Sets the kinds and their count from an array of numbers.
void plane_kinds_from_js(const Napi::Value& js, scanoutd_client_options& options);
scanoutd_layout layout_from_js(const Napi::Object& js);
/// `damage` takes the rectangles and must outlive the frame. A member `fence` sets SCANOUTD_FLIP_FENCED.
scanoutd_frame frame_from_js(const Napi::Object& js, std::vector<scanoutd_rect>& damage);

Napi::Object submission_to_js(Napi::Env env, const scanoutd_submission& submission);
Napi::Object feedback_to_js(Napi::Env env, const scanoutd_flip_feedback& feedback);
Napi::Object input_frame_to_js(Napi::Env env, const scanoutd_input_frame& frame);
Napi::Object input_device_to_js(Napi::Env env, const scanoutd_input_device& device);
/// `{ type, ... }`, with what the event says and, for changes of state, the state. Before the next call with
/// `client`.
Napi::Object event_to_js(Napi::Env env, const scanoutd_client* client, const scanoutd_event& event);

} // namespace scanout::addon
