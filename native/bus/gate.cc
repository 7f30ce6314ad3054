#include "bus/gate.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/error.h"

namespace scanout::bus {

namespace {

constexpr size_t max_line = 512;
constexpr size_t max_handshake = 4096;
constexpr size_t read_chunk = 65536;

/// The uid in a hexadecimal identity ("30" is "0"); -1 when there is none in it.
int64_t claimed_uid(std::string_view hex) noexcept {
  std::string digits;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    uint8_t digit = 0;
    if (std::from_chars(&hex[i], &hex[i] + 2, digit, 16).ptr != &hex[i] + 2) return -1;
    digits.push_back(static_cast<char>(digit));
  }
  uint32_t uid = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), uid);
  const bool whole = end.ec == std::errc() && end.ptr == digits.data() + digits.size();
  return whole && !digits.empty() && hex.size() % 2 == 0 ? int64_t{uid} : -1;
}

/// The identity that a line of the handshake claims, empty when it claims none.
std::string_view claim_of(std::string_view line) noexcept {
  for (const std::string_view command : {"AUTH EXTERNAL ", "DATA "})
    if (line.starts_with(command)) return line.substr(command.size());
  return {};
}

void take_descriptors(msghdr& header, std::vector<base::UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
}

} // namespace

Gate::Gate(base::UniqueFd socket, uid_t uid, Limits limits)
    : socket_(std::move(socket)), uid_(uid), limits_(limits) {
  int pair[2];
  base::check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), "socketpair");
  outer_.reset(pair[0]);
  inner_.reset(pair[1]);
}

Gate::Step Gate::step(bool authenticated) noexcept {
  if (error_ != 0) return Step::refused;
  try {
    if (forwarding_) return forward();
    whole_message_ = false;
    if (!authenticated) return read_line();
    return filled_ < Frame::fixed_size ? read_header() : read_rest();
  } catch (const std::bad_alloc&) {
    return refuse(ENOMEM);
  }
}

Gate::Step Gate::refuse(int error) noexcept {
  error_ = error;
  fds_.clear();
  return Step::refused;
}

/// What a result of recv(2) that brought nothing means.
Gate::Step Gate::after_read(ssize_t size) noexcept {
  if (size == 0) return Step::ended;
  if (errno == EAGAIN || errno == EINTR) return Step::waiting;
  return refuse(errno);
}

/// Reads up to the end of one line and no further: what follows BEGIN is a message.
Gate::Step Gate::read_line() {
  char peeked[max_line];
  const ssize_t size = ::recv(socket_.get(), peeked, sizeof(peeked), MSG_PEEK | MSG_DONTWAIT);
  if (size <= 0) return after_read(size);
  // The handshake begins with a NUL, which is a line of its own here.
  const bool first = handshake_ == 0;
  const char* end = static_cast<const char*>(std::memchr(peeked, '\n', static_cast<size_t>(size)));
  const size_t wanted = first ? 1 : static_cast<size_t>(end != nullptr ? end + 1 - peeked : size);
  // Descriptors have no place here; a read without room for them drops them.
  if (::recv(socket_.get(), peeked, wanted, MSG_DONTWAIT) != static_cast<ssize_t>(wanted))
    return refuse(EPROTO);
  handshake_ += wanted;
  buffer_.insert(buffer_.end(), peeked, peeked + wanted);
  if (handshake_ > max_handshake || buffer_.size() > max_line || (first && peeked[0] != '\0'))
    return refuse(EPROTO);
  if (first) return forward();
  return buffer_.back() == '\n' ? complete_line() : Step::progress;
}

/// sd-bus takes any identity, since it sees our socketpair and not the peer: claims are held against the
/// credentials that the kernel gave, here.
Gate::Step Gate::complete_line() {
  const std::string_view line(reinterpret_cast<const char*>(buffer_.data()), buffer_.size());
  if (!line.ends_with("\r\n")) return refuse(EPROTO);
  const std::string_view claim = claim_of(line.substr(0, line.size() - 2));
  if ((!claim.empty() && claimed_uid(claim) != int64_t{uid_}) || line.starts_with("AUTH ANONYMOUS")) {
    constexpr std::string_view refused = "AUTH\r\n"; // to which it answers REJECTED
    buffer_.assign(refused.begin(), refused.end());
  }
  return forward();
}

ssize_t Gate::receive(std::span<uint8_t> into) {
  iovec body{.iov_base = into.data(), .iov_len = into.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)]; // SCM_MAX_FD
  msghdr header{};
  header.msg_iov = &body;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t size = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size <= 0) return size;
  take_descriptors(header, fds_);
  if ((header.msg_flags & MSG_CTRUNC) != 0 || fds_.size() > limits_.max_fds) refuse(EMSGSIZE);
  return size;
}

Gate::Step Gate::read_header() {
  buffer_.resize(Frame::fixed_size);
  const ssize_t size = receive(std::span(buffer_).subspan(filled_));
  if (error_ != 0) return Step::refused;
  if (size <= 0) return after_read(size);
  filled_ += static_cast<size_t>(size);
  if (filled_ < Frame::fixed_size) return Step::progress;
  const int result =
      read_frame(std::span<const uint8_t, Frame::fixed_size>(buffer_.data(), Frame::fixed_size),
                 limits_.max_message, frame_);
  return result < 0 ? refuse(-result) : Step::progress;
}

Gate::Step Gate::read_rest() {
  // Grows as bytes come, not as they are promised.
  const size_t wanted = std::min(frame_.size - filled_, read_chunk);
  if (wanted > 0) {
    buffer_.resize(filled_ + wanted);
    const ssize_t size = receive(std::span(buffer_).subspan(filled_));
    if (error_ != 0) return Step::refused;
    if (size <= 0) return after_read(size);
    filled_ += static_cast<size_t>(size);
    buffer_.resize(filled_);
    if (filled_ < frame_.size) return Step::progress;
  }
  if (!has_valid_fields(frame_, buffer_, fds_.size())) return refuse(EBADMSG);
  filled_ = 0;
  whole_message_ = true;
  return forward();
}

Gate::Step Gate::forward() noexcept {
  iovec body{.iov_base = buffer_.data() + forwarded_, .iov_len = buffer_.size() - forwarded_};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)];
  msghdr header{};
  header.msg_iov = &body;
  header.msg_iovlen = 1;
  if (!fds_.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds_.size() * sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds_.size() * sizeof(int));
    for (size_t i = 0; i < fds_.size(); ++i) {
      const int fd = fds_[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(int));
    }
  }
  const ssize_t size = ::sendmsg(outer_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (size < 0) return refuse(errno);
  fds_.clear();
  forwarded_ += static_cast<size_t>(size);
  forwarding_ = forwarded_ < buffer_.size();
  if (!forwarding_) {
    buffer_.clear();
    if (buffer_.capacity() > read_chunk) buffer_.shrink_to_fit();
    forwarded_ = 0;
  }
  return Step::progress;
}

} // namespace scanout::bus
