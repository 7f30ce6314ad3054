// What the add-on's files of the guest kinds share.
#pragma once

#include <napi.h>

#include "guests/socket.h"
#include "kms/implicit_fences.h"

namespace scanout::addon {

/// `{ taken, flips, superseded, missed, refused, copied, newestBuffer }`.
Napi::Object plane_stats_to_js(Napi::Env env, const guests::PlaneStats& stats);

/// The dma-bufs whose fences are to be asked, borrowed from an array of Fd; none where it is undefined.
kms::ImplicitFences to_implicit_fences(const Napi::Value& value);

} // namespace scanout::addon
