#include "base/seqpacket.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/unix_socket.h"

namespace scanout::base {

namespace {

std::vector<UniqueFd> take_descriptors(msghdr& header) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

size_t words_for(size_t bytes) {
  return (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t);
}

} // namespace

void SeqPacket::require_kind(int fd) {
  if (!is_unix_socket(fd, SOCK_SEQPACKET)) throw UsageError("unix seqpacket socket expected");
}

SeqPacket::SeqPacket(UniqueFd socket, size_t max_bytes, size_t max_fds)
    : socket_(std::move(socket)), max_fds_(max_fds), buffer_(max_bytes),
      control_(words_for(CMSG_SPACE(max_fds * sizeof(int)))) {
  if (max_bytes == 0 || max_fds > max_fds_of_kernel) throw UsageError("seqpacket: limits out of range");
}

SeqPacket::Sent SeqPacket::send(std::span<const uint8_t> data, std::span<const int> fds) {
  if (fds.size() > max_fds_of_kernel) throw UsageError("seqpacket: more descriptors than a message can have");
  iovec body{.iov_base = const_cast<uint8_t*>(data.data()), .iov_len = data.size()};
  msghdr header{};
  header.msg_iov = &body;
  header.msg_iovlen = 1;
  std::vector<uint64_t> control(words_for(CMSG_SPACE(fds.size_bytes())));
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  for (;;) {
    if (::sendmsg(fd(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::sent;
    if (errno == EAGAIN) return Sent::full;
    if (errno != EINTR) throw SystemError(errno, "sendmsg");
  }
}

ssize_t SeqPacket::receive_raw(msghdr& header) {
  for (;;) {
    const ssize_t size = ::recvmsg(fd(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size >= 0 || errno == EAGAIN) return size;
    // Said once, before what the peer had sent: its last messages come after it.
    if (errno == ECONNRESET)
      reset_ = true;
    else if (errno != EINTR)
      throw SystemError(errno, "recvmsg");
  }
}

SeqPacket::Received SeqPacket::receive() {
  iovec body{.iov_base = buffer_.data(), .iov_len = buffer_.size()};
  msghdr header{};
  header.msg_iov = &body;
  header.msg_iovlen = 1;
  header.msg_control = control_.data();
  // Not CMSG_SPACE: its padding has room for one descriptor more than was asked for.
  header.msg_controllen = max_fds_ == 0 ? 0 : CMSG_LEN(max_fds_ * sizeof(int));
  const ssize_t size = receive_raw(header);
  if (size < 0) return {};
  Received received{.what = Received::What::message,
                    .data = {buffer_.data(), static_cast<size_t>(size)},
                    .fds = take_descriptors(header),
                    .truncated = (header.msg_flags & MSG_TRUNC) != 0,
                    .control_truncated = (header.msg_flags & MSG_CTRUNC) != 0};
  // An empty message and the end look alike; only one of them comes with a hang-up.
  if (size == 0 && received.fds.empty() && !received.control_truncated && hung_up())
    received.what = Received::What::end;
  return received;
}

bool SeqPacket::hung_up() const {
  pollfd state{.fd = fd(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

} // namespace scanout::base
