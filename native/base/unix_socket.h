// Unix sockets: who is at the other end, connecting, and listening at a path.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::base {

/// Who connected (or, at the connecting end, who listens), as the kernel recorded it then.
struct PeerCredentials {
  pid_t pid; ///< 0 when the process is not visible from this PID namespace
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups; ///< supplementary ones, in no order
};

/// SO_PEERCRED and SO_PEERGROUPS of a connected unix socket (borrowed). Throws SystemError.
PeerCredentials peer_credentials(int socket);

/// True when `fd` (borrowed) is a unix socket of `type`. Throws SystemError.
bool is_unix_socket(int fd, int type);

/// Connects to a listening socket at `path`; `type` is SOCK_STREAM or SOCK_SEQPACKET. Never waits: a listener
/// whose backlog is full is an EAGAIN. The socket is non-blocking and closed on exec. Throws SystemError.
UniqueFd connect_unix(const std::string& path, int type);

/// Whether a process has a socket of any type bound at `path`, and this one may connect to it: 0, or the
/// errno that connect(2) would give. Nobody is connected and nobody notices.
int probe_unix(const std::string& path);

struct ListenOptions {
  int type = 0;               ///< SOCK_STREAM or SOCK_SEQPACKET
  mode_t mode = 0660;         ///< of the socket file; who may write to it may connect
  std::optional<gid_t> group; ///< of the socket file; absent: the process's own
  int backlog = 64;           ///< connections that wait to be accepted
};

/// A listening unix socket. Not thread-safe.
class UnixListener {
public:
  /// Makes the socket file. One that a dead process left is removed first; where somebody listens, or where
  /// the file is no socket, this throws SystemError (EADDRINUSE, EEXIST) and changes nothing.
  static UnixListener listen(const std::string& path, const ListenOptions& options);
  /// Takes over a socket that listens already (socket activation). Its file is not removed on close.
  /// Throws UsageError when it is no listening unix socket of that type.
  static UnixListener adopt(UniqueFd socket, int type);

  UnixListener(UnixListener&& other) noexcept = default;
  UnixListener& operator=(UnixListener&& other) = delete;
  ~UnixListener() { close(); }

  /// The next connection, non-blocking and closed on exec; none when nobody waits. Throws SystemError.
  UniqueFd accept();
  /// Removes the socket file when it is still this one. May be called again.
  void close() noexcept;
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

private:
  explicit UnixListener(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
  std::string path_; // empty when adopted
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

} // namespace scanout::base
