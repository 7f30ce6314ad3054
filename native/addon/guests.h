// What the add-on's files of the guest kinds share.
#pragma once

#include <napi.h>

#include "guests/socket.h"

namespace scanout::addon {

/// `{ taken, flips, superseded, missed, refused, copied, newestBuffer }`.
Napi::Object plane_stats_to_js(Napi::Env env, const guests::PlaneStats& stats);

} // namespace scanout::addon
