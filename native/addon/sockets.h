// Unix sockets: what the add-on's files share.
#pragma once

#include <napi.h>

#include <vector>

#include "base/unix_socket.h"

namespace scanout::addon {

/// `{ pid, uid, gid, groups }`.
Napi::Object credentials_to_js(Napi::Env env, const base::PeerCredentials& peer);

/// Of an array of Fd, which keep them; undefined: none.
std::vector<int> borrow_fds(const Napi::Value& value, const char* what);

/// `{ mode, group, backlog }`, each absent or a number. Throws UsageError.
base::ListenOptions to_listen_options(const Napi::Object& object, int type);

/// Exports the class UnixListener.
void init_unix_listener(Napi::Env env, Napi::Object exports);

} // namespace scanout::addon
