#include "base/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/error.h"

namespace scanout::base {

namespace {

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.empty() || path.find('\0') != std::string::npos)
    throw UsageError("socket path: empty, or has a NUL");
  if (path.size() >= sizeof(address.sun_path)) {
    throw SystemError(ENAMETOOLONG, "bind", path,
                      "a socket path has at most " + std::to_string(sizeof(address.sun_path) - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// 0 or -errno.
int try_connect(int socket, const sockaddr_un& address) {
  return ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0 ? -errno : 0;
}

UniqueFd make_socket(int type, const std::string& path) {
  return UniqueFd(check(::socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket", path));
}

/// Two daemons that start at once must not both find the file stale, or the second one removes the first
/// one's socket. A lock on the directory needs no lock file of its own.
UniqueFd lock_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : (slash == 0 ? "/" : path.substr(0, slash));
  UniqueFd fd(check(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", directory));
  const int64_t deadline = now_ns() + 1'000'000'000;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
    if (errno != EINTR && (errno != EWOULDBLOCK || now_ns() > deadline))
      throw SystemError(errno, "flock", directory);
    const timespec pause = to_timespec(5'000'000);
    ::nanosleep(&pause, nullptr);
  }
  return fd;
}

void remove_stale(const std::string& path, const sockaddr_un& address, int type) {
  struct stat found{};
  if (::lstat(path.c_str(), &found) < 0) {
    if (errno == ENOENT) return;
    throw SystemError(errno, "lstat", path);
  }
  if (!S_ISSOCK(found.st_mode)) throw SystemError(EEXIST, "bind", path, "a file that is no socket is there");
  const int result = try_connect(make_socket(type, path).get(), address);
  if (result == -ENOENT) return;
  if (result == -EACCES) throw SystemError(EACCES, "connect", path);
  // A listener of the other type answers EPROTOTYPE, one with a full backlog EAGAIN.
  if (result != -ECONNREFUSED) throw SystemError(EADDRINUSE, "bind", path, "another process listens there");
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) throw SystemError(errno, "unlink", path);
}

int socket_option(int socket, int option) {
  int value = 0;
  socklen_t size = sizeof(value);
  check(::getsockopt(socket, SOL_SOCKET, option, &value, &size), "getsockopt");
  return value;
}

} // namespace

bool is_unix_socket(int fd, int type) {
  struct stat found{};
  check(::fstat(fd, &found), "fstat");
  return S_ISSOCK(found.st_mode) && socket_option(fd, SO_DOMAIN) == AF_UNIX &&
         socket_option(fd, SO_TYPE) == type;
}

PeerCredentials peer_credentials(int socket) {
  ucred found{};
  socklen_t size = sizeof(found);
  check(::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &found, &size), "getsockopt(SO_PEERCRED)");
  // Of a socket that has no peer the kernel says pid 0 and uid -1, and calls that a success.
  if (found.uid == static_cast<uid_t>(-1)) throw SystemError(ENOTCONN, "getsockopt(SO_PEERCRED)");
  PeerCredentials peer{.pid = found.pid, .uid = found.uid, .gid = found.gid, .groups = {}};
  socklen_t bytes = 0;
  // An empty list is a success, a longer one says how long it is.
  while (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &bytes) < 0) {
    if (errno != ERANGE) throw SystemError(errno, "getsockopt(SO_PEERGROUPS)");
    peer.groups.resize(bytes / sizeof(gid_t));
  }
  peer.groups.resize(bytes / sizeof(gid_t));
  return peer;
}

UniqueFd connect_unix(const std::string& path, int type) {
  const sockaddr_un address = address_of(path);
  UniqueFd socket = make_socket(type, path);
  if (const int result = try_connect(socket.get(), address); result < 0)
    throw SystemError(-result, "connect", path);
  return socket;
}

int probe_unix(const std::string& path) {
  // The kernel looks at permissions and at who is there before it finds that the type is wrong.
  const int result = try_connect(make_socket(SOCK_DGRAM, path).get(), address_of(path));
  return result == -EPROTOTYPE ? 0 : -result;
}

UnixListener UnixListener::listen(const std::string& path, const ListenOptions& options) {
  const sockaddr_un address = address_of(path);
  const UniqueFd lock = lock_directory_of(path);
  remove_stale(path, address, options.type);
  UnixListener listener(make_socket(options.type, path));
  check(::bind(listener.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), "bind", path);
  struct stat made{};
  check(::lstat(path.c_str(), &made), "lstat", path);
  listener.path_ = path; // from here on it is removed when something fails
  listener.device_ = made.st_dev;
  listener.inode_ = made.st_ino;
  // Nobody can connect before listen(2), so nobody slips in under the mode that the umask made.
  if (options.group) check(::lchown(path.c_str(), static_cast<uid_t>(-1), *options.group), "chown", path);
  check(::chmod(path.c_str(), options.mode), "chmod", path);
  check(::listen(listener.fd(), options.backlog), "listen", path);
  return listener;
}

UnixListener UnixListener::adopt(UniqueFd socket, int type) {
  if (!is_unix_socket(socket.get(), type) || socket_option(socket.get(), SO_ACCEPTCONN) == 0) {
    throw UsageError("passed socket: a listening unix socket of the right type expected");
  }
  const int flags = check(::fcntl(socket.get(), F_GETFL), "fcntl(F_GETFL)");
  check(::fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK), "fcntl(F_SETFL)");
  check(::fcntl(socket.get(), F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)");
  return UnixListener(std::move(socket));
}

UniqueFd UnixListener::accept() {
  for (;;) {
    const int fd = ::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) return UniqueFd(fd);
    if (errno == EAGAIN) return {};
    if (errno != EINTR && errno != ECONNABORTED) throw SystemError(errno, "accept4", path_);
  }
}

void UnixListener::close() noexcept {
  struct stat found{};
  if (socket_ && !path_.empty() && ::lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ &&
      found.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  socket_.reset();
}

} // namespace scanout::base
