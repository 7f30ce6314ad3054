#include "guests/fence_inbox.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/fd_kind.h"

namespace scanout::guests {

namespace {

// Of frames that were replaced unseen there may be many; what is beyond is read for the next frame.
constexpr int most_read = 64;

// Takes the descriptors out of a message. Gives their number; `fence` is the sync_file, where there was one.
uint32_t take_descriptors(msghdr& header, base::UniqueFd& fence) noexcept {
  uint32_t count = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < fds; ++i, ++count) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      // Only one of them can be a fence; whatever else it is, it is not closed here.
      if (fence || !base::is_sync_file(fd)) {
        base::close_untrusted(fd);
      } else {
        fence.reset(fd);
      }
    }
  }
  return count;
}

} // namespace

base::UniqueFd FenceInbox::take(uint32_t plane, uint64_t sequence) noexcept {
  for (Kept& kept : kept_[plane]) {
    if (kept.sequence == sequence) return std::exchange(kept, {}).fence;
    if (kept.sequence < sequence) kept = {};
  }
  for (int i = 0; i < most_read; ++i) {
    Message message;
    if (!receive(message)) break;
    if (!message.good) continue;
    if (message.plane == plane && message.sequence == sequence) return std::move(message.fence);
    if (message.plane != plane || message.sequence > sequence) keep(message);
  }
  return {};
}

// False when there is nothing more.
bool FenceInbox::receive(Message& message) noexcept {
  if (!socket_) return false;
  scanoutd_fence body{};
  iovec part{.iov_base = &body, .iov_len = sizeof body};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * SCANOUTD_MAX_FDS)];
  msghdr header{.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size <= 0) return false;
  const uint32_t count = take_descriptors(header, message.fence);
  message.plane = body.plane;
  message.sequence = body.sequence;
  message.good = size == sizeof body && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && count == 1 &&
                 message.fence && body.plane < SCANOUTD_MAX_PLANES;
  return true;
}

void FenceInbox::keep(Message& message) noexcept {
  auto& kept = kept_[message.plane];
  Kept& oldest = *std::min_element(kept.begin(), kept.end(),
                                   [](const Kept& a, const Kept& b) { return a.sequence < b.sequence; });
  oldest = {message.sequence, std::move(message.fence)};
}

} // namespace scanout::guests
