// Stream sockets that TypeScript hands on: pairs, connections, and descriptors sent through them.
#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>

#include "addon/addon.h"
#include "addon/kms_convert.h"
#include "addon/sockets.h"

namespace scanout::addon {

namespace {

/// [ours, theirs]: connected, closed on exec; ours is non-blocking.
Napi::Value stream_pair(const Napi::CallbackInfo& info) {
  int ends[2];
  base::check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  base::UniqueFd ours(ends[0]);
  base::UniqueFd theirs(ends[1]);
  base::check(fcntl(ours.get(), F_SETFL, O_NONBLOCK), "fcntl(F_SETFL)");
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(uint32_t{0}, wrap_fd(info.Env(), std::move(ours)));
  pair.Set(uint32_t{1}, wrap_fd(info.Env(), std::move(theirs)));
  return pair;
}

Napi::Value connect_stream(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), base::connect_unix(to_string(info[0], "path"), SOCK_STREAM));
}

Napi::Value peer_of(const Napi::CallbackInfo& info) {
  return credentials_to_js(info.Env(), base::peer_credentials(borrow_fd(info[0], "socket")));
}

// (socket, data, fd): all of `data`, with `fd` (borrowed) at its first byte.
Napi::Value send_with_fd(const Napi::CallbackInfo& info) {
  const int socket = borrow_fd(info[0], "socket");
  const std::span<const std::byte> data = to_bytes(info[1], "data");
  const int fd = borrow_fd(info[2], "fd");
  iovec part{.iov_base = const_cast<std::byte*>(data.data()), .iov_len = data.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)]{};
  const msghdr header{
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  const ssize_t sent = base::check(sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL), "sendmsg");
  if (static_cast<size_t>(sent) != data.size())
    throw base::SystemError(EAGAIN, "sendmsg", "", "the peer does not read");
  return info.Env().Undefined();
}

} // namespace

void init_streams(Napi::Env, Napi::Object exports) {
  export_function<stream_pair>(exports, "streamPair");
  export_function<connect_stream>(exports, "connectStream");
  export_function<peer_of>(exports, "peerOf");
  export_function<send_with_fd>(exports, "sendWithFd");
}

} // namespace scanout::addon
