#include "base/eventfd_signal.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <cerrno>

#include "base/error.h"

namespace scanout::base {

EventfdSignaller::EventfdSignaller() : ready_(check(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  check(syscall(SYS_io_setup, batch, &context_), "io_setup");
  for (size_t i = 0; i < batch; ++i) {
    requests_[i].aio_lio_opcode = IOCB_CMD_POLL;
    requests_[i].aio_fildes = static_cast<__u32>(ready_.get());
    requests_[i].aio_buf = POLLIN;
    requests_[i].aio_flags = IOCB_FLAG_RESFD;
    pointers_[i] = &requests_[i];
  }
}

EventfdSignaller::~EventfdSignaller() {
  syscall(SYS_io_destroy, context_);
}

[[gnu::hot]] void EventfdSignaller::add(int eventfd) noexcept {
  if (count_ == batch) flush();
  requests_[count_++].aio_resfd = static_cast<__u32>(eventfd);
}

[[gnu::hot]] void EventfdSignaller::flush() noexcept {
  size_t done = 0;
  while (done < count_) {
    const long accepted = syscall(SYS_io_submit, context_, count_ - done, pointers_.data() + done);
    if (accepted > 0) {
      done += static_cast<size_t>(accepted);
    } else if (accepted < 0 && errno == EAGAIN) {
      reap(); // the completion ring is full
    } else {
      ++done; // this one is no eventfd (EINVAL, EBADF): its owner loses a wake-up, nobody else does
    }
  }
  if (count_ > 0) reap();
  count_ = 0;
}

[[gnu::hot]] void EventfdSignaller::reap() noexcept {
  io_event events[batch];
  timespec no_wait{};
  while (syscall(SYS_io_getevents, context_, 0, batch, events, &no_wait) == static_cast<long>(batch)) {
  }
}

} // namespace scanout::base
