#include "input/qemu_relay.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/fd_kind.h"

namespace scanout::input {

namespace {

// Of one turn: other devices and guests have theirs in between.
constexpr int most_steps = 32;
// Serials of the input thread's calls; sd-bus counts its own from 1.
constexpr uint32_t own_serials = 1u << 31;

int errno_of_end(int error) noexcept {
  return error == EPIPE || error == ECONNRESET ? 0 : error;
}

} // namespace

void QemuRelay::Fds::close() noexcept {
  for (size_t i = 0; i < count; ++i)
    base::close_untrusted(all[i]);
  count = 0;
}

QemuRelay::QemuRelay(base::UniqueFd qemu) : qemu_(std::move(qemu)) {
  int ends[2];
  base::check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), "socketpair");
  outer_.reset(ends[0]);
  inner_.reset(ends[1]);
  qemu_entry_.relay = outer_entry_.relay = this;
}

int QemuRelay::enter(base::Epoll& epoll) noexcept {
  epoll_ = &epoll;
  watch();
  return ended_ ? ECONNABORTED : 0;
}

// Edge-triggered: to be told anew of what is there already takes another entry.
void QemuRelay::watch() noexcept {
  epoll_->remove(qemu_.get());
  epoll_->remove(outer_.get());
  constexpr uint32_t events = EPOLLIN | EPOLLOUT | EPOLLET;
  int error = epoll_->try_add(qemu_.get(), events, &qemu_entry_);
  if (error == 0) error = epoll_->try_add(outer_.get(), events, &outer_entry_);
  if (error != 0) end(-error, "its sockets cannot be watched");
}

int QemuRelay::join(User& user) noexcept {
  if (ended_ || epoll_ == nullptr) return ENOTCONN;
  user.next_ = std::exchange(users_, &user);
  user.joined_ = true;
  return 0;
}

void QemuRelay::part(User& user) noexcept {
  if (!std::exchange(user.joined_, false)) return;
  User** at = &users_;
  while (*at != &user)
    at = &(*at)->next_;
  *at = std::exchange(user.next_, nullptr);
}

void QemuRelay::end(int error, const char* why) noexcept {
  if (std::exchange(ended_, true)) return;
  if (epoll_ != nullptr) {
    epoll_->remove(qemu_.get());
    epoll_->remove(outer_.get());
  }
  shutdown(qemu_.get(), SHUT_RDWR);
  shutdown(outer_.get(), SHUT_RDWR);
  up_fds_.close();
  down_fds_.close();
  while (users_ != nullptr) {
    User& user = *users_;
    part(user);
    user.closed(error, why);
  }
}

// ---- what goes on

void QemuRelay::pump() noexcept {
  int left = most_steps;
  for (bool moved = true; moved && !ended_ && left > 0; --left) {
    write_up();
    write_down();
    moved = read_up();
    moved = read_down() || moved;
  }
  if (!ended_ && left == 0) watch();
  tell_room();
}

// The first that is told may fill the socket: next time it is the last.
void QemuRelay::tell_room() noexcept {
  size_t count = 0;
  for (const User* user = users_; user != nullptr; user = user->next_)
    ++count;
  while (count-- > 0 && users_ != nullptr && idle()) {
    User& user = *users_;
    part(user);
    User** last = &users_;
    while (*last != nullptr)
      last = &(*last)->next_;
    *last = &user;
    user.joined_ = true;
    user.room();
  }
}

// -1 with errno, or how much came; descriptors are added.
ssize_t QemuRelay::receive(int socket, std::span<uint8_t> room, Fds& fds) noexcept {
  iovec part{.iov_base = room.data(), .iov_len = room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_fds)];
  msghdr header{.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return size;
  bool fit = (header.msg_flags & MSG_CTRUNC) == 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      if (fds.count < most_fds) {
        fds.all[fds.count++] = fd;
      } else {
        base::close_untrusted(fd);
        fit = false;
      }
    }
  }
  if (fit) return size;
  errno = ETOOMANYREFS;
  return -1;
}

QemuRelay::Sent QemuRelay::transmit(int socket, std::span<const uint8_t> bytes, size_t& sent,
                                    Fds* fds) noexcept {
  while (sent < bytes.size()) {
    // As msghdr wants it; nothing is written there.
    iovec part{.iov_base = const_cast<uint8_t*>(bytes.data() + sent), .iov_len = bytes.size() - sent};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_fds)];
    msghdr header{.msg_iov = &part, .msg_iovlen = 1};
    if (fds != nullptr && fds->count > 0) {
      const size_t size = sizeof(int) * fds->count;
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(size);
      std::memset(control, 0, sizeof control);
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(size);
      std::memcpy(CMSG_DATA(c), fds->all.data(), size);
    }
    const ssize_t size = sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN ? Sent::part : Sent::failed;
    }
    if (fds != nullptr) fds->close();
    sent += static_cast<size_t>(size);
  }
  return Sent::all;
}

// ---- up

// False when there is nothing now, or no room.
bool QemuRelay::read_up() noexcept {
  if (ended_ || up_whole_) return false;
  const size_t size = std::min(up_units_.want(), up_.size() - up_size_);
  const ssize_t got = receive(outer_.get(), {up_.data() + up_size_, size}, up_fds_);
  if (got <= 0) {
    if (got == 0)
      end(0, "the connection to QEMU was closed");
    else if (errno != EAGAIN && errno != EINTR)
      end(errno_of_end(errno), "the daemon's end cannot be read");
    return false;
  }
  const std::span<const uint8_t> bytes(up_.data() + up_size_, static_cast<size_t>(got));
  up_size_ += bytes.size();
  switch (up_units_.take(bytes)) {
  case BusUnits::Step::more:
    break;
  case BusUnits::Step::whole:
    up_whole_ = true;
    break;
  case BusUnits::Step::wrong:
    end(up_units_.error(), "what the daemon says to QEMU is no message that goes on");
    return false;
  }
  return true;
}

// False: QEMU's socket is full, or it is over.
[[gnu::hot]] bool QemuRelay::write_up() noexcept {
  while (!ended_ && (calls_size_ > 0 || up_whole_)) {
    const bool calls = calls_size_ > 0; // never when a part of a message is sent
    const Sent sent = calls ? transmit(qemu_.get(), {calls_.data(), calls_size_}, calls_sent_, nullptr)
                            : transmit(qemu_.get(), {up_.data(), up_size_}, up_sent_, &up_fds_);
    if (sent == Sent::failed) end(errno_of_end(errno), "QEMU cannot be written to");
    if (sent != Sent::all) return false;
    if (calls) {
      calls_size_ = calls_sent_ = 0;
    } else {
      up_whole_ = false;
      up_size_ = up_sent_ = 0;
    }
  }
  return !ended_;
}

[[gnu::hot]] void QemuRelay::put(std::span<const uint8_t> message) noexcept {
  if (message.size() > calls_.size() - calls_size_) return;
  std::memcpy(calls_.data() + calls_size_, message.data(), message.size());
  calls_size_ += message.size();
}

[[gnu::hot]] bool QemuRelay::send() noexcept {
  return write_up();
}

uint32_t QemuRelay::next_serial() noexcept {
  serial_ = (serial_ + 1) % own_serials;
  return own_serials + serial_;
}

// ---- down

bool QemuRelay::read_down() noexcept {
  if (ended_ || down_size_ > 0) return false;
  const size_t size = std::min(down_units_.want(), down_.size());
  const ssize_t got = receive(qemu_.get(), {down_.data(), size}, down_fds_);
  if (got <= 0) {
    if (got == 0)
      end(0, "QEMU closed the connection");
    else if (errno == ETOOMANYREFS)
      end(errno, "QEMU sent more descriptors than a message may have");
    else if (errno != EAGAIN && errno != EINTR)
      end(errno_of_end(errno), "QEMU cannot be read");
    return false;
  }
  down_size_ = static_cast<size_t>(got);
  if (down_units_.take({down_.data(), down_size_}) == BusUnits::Step::wrong) {
    end(down_units_.error(), "what QEMU says is no D-Bus");
    return false;
  }
  if (down_units_.has_begun() && !up_units_.has_begun()) {
    end(EPROTO, "QEMU sent a message before it was greeted");
    return false;
  }
  return true;
}

bool QemuRelay::write_down() noexcept {
  if (ended_ || down_size_ == 0) return !ended_;
  const Sent sent = transmit(outer_.get(), {down_.data(), down_size_}, down_sent_, &down_fds_);
  if (sent == Sent::failed) end(errno_of_end(errno), "the daemon's end cannot be written to");
  if (sent != Sent::all) return false;
  down_size_ = down_sent_ = 0;
  return true;
}

} // namespace scanout::input
