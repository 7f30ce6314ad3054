// Unix sockets: what the add-on's files share.
#pragma once

#include <napi.h>

#include "base/unix_socket.h"

namespace scanout::addon {

/// `{ pid, uid, gid, groups }`.
Napi::Object credentials_to_js(Napi::Env env, const base::PeerCredentials& peer);

/// Exports the class UnixListener.
void init_unix_listener(Napi::Env env, Napi::Object exports);

} // namespace scanout::addon
