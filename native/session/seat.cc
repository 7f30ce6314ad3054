#include "session/seat.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include "base/error.h"

namespace scanout::session {

namespace {

// What libseat says is the only word on why a seat cannot be had: its errors are often a bare ENOENT. It has
// one handler a process.
std::string& complaints() {
  static std::string text;
  return text;
}

[[gnu::format(printf, 2, 0)]] void take_log(libseat_log_level level, const char* format, va_list arguments) {
  if (level != LIBSEAT_LOG_LEVEL_ERROR) return;
  char line[256];
  if (vsnprintf(line, sizeof line, format, arguments) < 0) return;
  std::string& text = complaints();
  if (text.size() > 1024) return;
  text.append(text.empty() ? "" : "; ").append(line);
}

// Throws from `errno`, and tells what libseat had to say.
[[noreturn]] void refuse(const char* op, const std::string& subject = {}) {
  throw base::SystemError(errno, op, subject, complaints());
}

} // namespace

Seat::Seat(SeatListener& listener)
    : callbacks_{
          .enable_seat = [](libseat*, void* data) { static_cast<SeatListener*>(data)->on_enabled(); },
          .disable_seat = [](libseat*, void* data) { static_cast<SeatListener*>(data)->on_disabled(); }} {
  libseat_set_log_handler(take_log);
  libseat_set_log_level(LIBSEAT_LOG_LEVEL_ERROR);
  complaints().clear();
  seat_.reset(libseat_open_seat(&callbacks_, &listener));
  if (!seat_) refuse("libseat_open_seat");
  fd_ = libseat_get_fd(seat_.get());
  if (fd_ < 0) refuse("libseat_get_fd");
}

Seat::~Seat() = default;

void Seat::dispatch() {
  complaints().clear();
  for (;;) {
    const int done = libseat_dispatch(seat_.get(), 0);
    if (done > 0 || (done < 0 && errno == EINTR)) continue;
    if (done < 0 && errno != EAGAIN) refuse("libseat_dispatch");
    break;
  }
  // libseat takes the end of the connection for silence.
  pollfd state{.fd = fd_, .events = POLLRDHUP, .revents = 0};
  if (poll(&state, 1, 0) > 0)
    throw base::SystemError(ECONNRESET, "libseat_dispatch", {}, "the seat manager is gone");
}

void Seat::acknowledge() {
  complaints().clear();
  if (libseat_disable_seat(seat_.get()) < 0) refuse("libseat_disable_seat");
}

Seat::Device Seat::open_device(const std::string& path) {
  complaints().clear();
  int fd = -1;
  const int id = libseat_open_device(seat_.get(), path.c_str(), &fd);
  if (id < 0) refuse("libseat_open_device", path);
  base::UniqueFd& given = devices_[id];
  given.reset(fd);
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  const int error = errno;
  if (own < 0) close_device(id);
  if (own < 0) throw base::SystemError(error, "fcntl(F_DUPFD_CLOEXEC)", path);
  return {.id = id, .fd = base::UniqueFd(own)};
}

void Seat::close_device(int id) noexcept {
  libseat_close_device(seat_.get(), id);
  devices_.erase(id);
}

void Seat::switch_session(int session) {
  complaints().clear();
  if (libseat_switch_session(seat_.get(), session) < 0)
    refuse("libseat_switch_session", "session " + std::to_string(session));
}

} // namespace scanout::session
