// The connection: what comes, what is answered, and its end.
#include "guests/qemu_listener.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/fd_kind.h"

namespace scanout::guests {

namespace {

// Of one turn of the flip thread: others have their turn in between.
constexpr size_t most_bytes = 64u << 10;
constexpr int most_reads = 16;
// Calls beyond a burst are read at 4000 a second, and in a quarter of the flip thread's time: QEMU has some
// dozens at each refresh. Whoever sends more keeps them in its socket, and the thread has time for others.
constexpr int64_t call_ns = 250'000;
constexpr int64_t time_share = 4;
constexpr int64_t burst_ns = 256 * call_ns;
constexpr int64_t rest_ns = 4'000'000;

// Takes the descriptors out of a message. False when there were more than there is room for.
bool take_fds(msghdr& header, QemuFds& fds) noexcept {
  bool good = (header.msg_flags & MSG_CTRUNC) == 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      good = fds.add(fd) && good;
    }
  }
  return good;
}

} // namespace

QemuListener::QemuListener(QemuListenerOptions options, flip::Engine& engine)
    : engine_(engine), socket_(std::move(options.socket)),
      notify_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      timer_fd_(base::check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create")),
      picture_(options.first_stream, *this, engine.epoll()),
      pointer_(options.first_stream + 1, *this, engine.epoll()), uid_(options.uid),
      cursor_width_(options.cursor_width), cursor_height_(options.cursor_height),
      cursors_(std::move(options.cursors)) {
  timer_.listener = this;
}

QemuListener::~QemuListener() {
  while (const std::optional<QemuEvent> left = events_.pop()) {
    for (uint32_t i = 0; i < left->fd_count; ++i)
      base::close_untrusted(left->fds[i]);
  }
}

int QemuListener::on_enter(flip::Engine& engine) noexcept {
  std::array<char, 96> greeting{};
  const size_t size = qemu_greeting(uid_, greeting);
  // Into an empty socket, whose other end QEMU has not looked at yet.
  if (::send(socket_.get(), greeting.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return -errno;
  // Edge-triggered and never read.
  int error = engine.epoll().try_add(timer_fd_.get(), EPOLLIN | EPOLLET, &timer_);
  if (error == 0) error = engine.epoll().try_add(socket_.get(), EPOLLIN, this);
  polled_ = error == 0;
  if (error != 0) engine.epoll().remove(timer_fd_.get());
  return error;
}

void QemuListener::on_leave(flip::Engine& engine) noexcept {
  ended_ = true;
  if (std::exchange(polled_, false)) engine.epoll().remove(socket_.get());
  engine.epoll().remove(timer_fd_.get());
  reader_.fds().clear();
  reader_.close_spent();
}

[[gnu::hot]] void QemuListener::on_ready(uint32_t) noexcept {
  if (!polled_) return; // an event of the round in which it was let go
  now_ns_ = base::now_ns();
  // A flip that QEMU's guest waits for is paced by its answer, and its commit is none of what reading costs.
  if (read()) return;
  const int64_t spent = base::now_ns() - now_ns_;
  paid_until_ns_ = std::max(paid_until_ns_, now_ns_ - burst_ns) + spent * time_share;
}

// True when it has ended with such a flip.
[[gnu::hot]] bool QemuListener::read() noexcept {
  size_t budget = most_bytes;
  for (int reads = 0; reads < most_reads && budget > 0 && !waiting_ && !ended_; ++reads) {
    if (paid_until_ns_ > now_ns_) {
      rest();
      return false;
    }
    if (array_.left() > 0) {
      if (!receive_array(budget)) return false;
      if (array_.left() == 0) end_call();
      continue;
    }
    if (!receive()) return false;
    // A flip is committed before anything else is read: what more has come wakes the thread again.
    if (std::exchange(flipped_, false)) return true;
  }
  return false;
}

// Some bytes of a call. False when there are none now, or never again.
[[gnu::hot]] bool QemuListener::receive() noexcept {
  const std::span<uint8_t> room = reader_.want();
  iovec part{.iov_base = room.data(), .iov_len = room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * QemuFds::most)];
  msghdr header{.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size <= 0) {
    if (size == 0 || errno == ECONNRESET)
      end(QemuFault::closed, 0);
    else if (errno != EAGAIN && errno != EINTR)
      end(QemuFault::socket, errno);
    return false;
  }
  if (!take_fds(header, reader_.fds())) {
    end(QemuFault::bad_fds, 0);
    return false;
  }
  switch (reader_.filled(static_cast<size_t>(size))) {
  case QemuReader::Step::more:
    return true;
  case QemuReader::Step::fault:
    end(reader_.fault(), 0);
    return false;
  case QemuReader::Step::call:
    stats_.calls.fetch_add(1, std::memory_order_relaxed);
    paid_until_ns_ = std::max(paid_until_ns_, now_ns_ - burst_ns) + call_ns;
    if (!begin_call())
      wait();
    else
      take_early();
    return !ended_;
  }
  return false;
}

// Puts what came of the array with its arguments where it belongs, which may be all of it.
[[gnu::hot]] void QemuListener::take_early() noexcept {
  std::span<const uint8_t> early = reader_.early();
  while (!early.empty() && array_.left() > 0) {
    std::array<iovec, 1> part;
    array_.parts(part, early.size());
    std::memcpy(part[0].iov_base, early.data(), part[0].iov_len);
    array_.advance(part[0].iov_len);
    early = early.subspan(part[0].iov_len);
  }
  if (array_.left() == 0) end_call();
}

// Some pixels, straight to where they belong. False as above.
bool QemuListener::receive_array(size_t& budget) noexcept {
  std::array<iovec, 64> parts;
  const uint32_t count = array_.parts(parts, budget);
  msghdr header{.msg_iov = parts.data(), .msg_iovlen = count};
  const ssize_t size = recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size <= 0) {
    if (size == 0 || errno == ECONNRESET)
      end(QemuFault::closed, 0);
    else if (errno != EAGAIN && errno != EINTR)
      end(QemuFault::socket, errno);
    return false;
  }
  // Without room for them the kernel has closed what came, and says so.
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    end(QemuFault::bad_fds, 0);
    return false;
  }
  array_.advance(static_cast<size_t>(size));
  budget -= std::min(budget, static_cast<size_t>(size));
  return true;
}

// Does what can be done before the call's array. False: not now.
[[gnu::hot]] bool QemuListener::begin_call() noexcept {
  const QemuCall& call = reader_.call();
  array_.begin(call.data_bytes, call.layout.strides[0], {});
  switch (call.method) {
  case QemuMethod::scanout:
    return begin_scanout(call);
  case QemuMethod::update:
    begin_update(call);
    return true;
  case QemuMethod::scanout_map:
    return begin_map(call);
  case QemuMethod::scanout_dmabuf:
  case QemuMethod::scanout_dmabuf2:
    return begin_dmabuf(call);
  case QemuMethod::cursor_define:
    begin_cursor(call);
    return true;
  default:
    return true;
  }
}

[[gnu::hot]] void QemuListener::end_call() noexcept {
  const QemuCall& call = reader_.call();
  bool owed = false;
  switch (call.method) {
  case QemuMethod::scanout:
    end_scanout();
    break;
  case QemuMethod::update:
    end_update(call);
    break;
  case QemuMethod::update_dmabuf:
    update(call);
    owed = call.wants_reply;
    break;
  case QemuMethod::update_map:
    update(call);
    break;
  case QemuMethod::cursor_define:
    end_cursor(call);
    break;
  case QemuMethod::mouse_set:
    move_pointer(call);
    break;
  case QemuMethod::disable:
    disable();
    break;
  default:
    break;
  }
  if (owed)
    owe(call);
  else if (call.wants_reply)
    answer(call);
  reader_.next();
}

void QemuListener::answer(const QemuCall& call) noexcept {
  switch (call.method) {
  case QemuMethod::unknown:
    send(answer_.error(call.serial, "org.freedesktop.DBus.Error.UnknownMethod",
                       "scanoutd has no such method of a display listener"));
    return;
  case QemuMethod::get_property:
  case QemuMethod::get_all_properties:
    send(answer_.property(call));
    return;
  case QemuMethod::scanout_map:
    if (map_refused_) {
      // QEMU then sends the pixels themselves.
      send(answer_.error(call.serial, "org.qemu.Display1.Error.Invalid",
                         "the descriptor is no memory that holds the picture"));
      return;
    }
    break;
  default:
    break;
  }
  send(answer_.empty(call.serial));
}

void QemuListener::send(std::span<const uint8_t> message) noexcept {
  if (ended_) return;
  const ssize_t size = ::send(socket_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (size == static_cast<ssize_t>(message.size())) return;
  // Answers are short: a full socket means thousands that were not read.
  if (size >= 0 || errno == EAGAIN)
    end(QemuFault::unread, 0);
  else if (errno == EPIPE || errno == ECONNRESET)
    end(QemuFault::closed, 0);
  else
    end(QemuFault::socket, errno);
}

// Not read any more until the JS thread has answered: what QEMU sends meanwhile waits in its socket.
void QemuListener::wait() noexcept {
  if (ended_) return;
  waiting_ = true;
  if (std::exchange(polled_, false)) engine_.epoll().remove(socket_.get());
}

void QemuListener::resume() noexcept {
  if (!waiting_ || ended_) return;
  waiting_ = false;
  now_ns_ = base::now_ns();
  if (!begin_call()) {
    waiting_ = true;
    return;
  }
  take_early();
  watch();
}

void QemuListener::rest() noexcept {
  resting_ = true;
  if (std::exchange(polled_, false)) engine_.epoll().remove(socket_.get());
  rested_at_ns_ = now_ns_ + rest_ns;
  arm(rested_at_ns_);
}

void QemuListener::watch() noexcept {
  if (ended_ || waiting_ || resting_ || polled_) return;
  const int error = engine_.epoll().try_add(socket_.get(), EPOLLIN, this);
  polled_ = error == 0;
  if (error != 0) end(QemuFault::socket, -error);
}

void QemuListener::end(QemuFault fault, int error) noexcept {
  if (std::exchange(ended_, true)) return;
  if (std::exchange(polled_, false)) engine_.epoll().remove(socket_.get());
  reader_.fds().clear();
  reader_.close_spent();
  // QEMU sees at once that nobody listens any more; its guest waits for no answer.
  shutdown(socket_.get(), SHUT_RDWR);
  QemuEvent event{};
  event.type = QemuEvent::Type::ended;
  event.fault = fault;
  event.error = error;
  tell(event);
}

void QemuListener::tell(const QemuEvent& event) noexcept {
  // Each slot has one event under way at most, and the end comes once: the ring is never full.
  events_.push(event);
  flip::signal_own(notify_.get());
}

} // namespace scanout::guests
