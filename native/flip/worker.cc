#include "flip/worker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"

namespace scanout::flip {

void signal_own(int eventfd) noexcept {
  const uint64_t one = 1;
  while (write(eventfd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

Worker::Worker(int drm_fd, int done_fd)
    : drm_fd_(drm_fd), done_fd_(done_fd), wake_(base::check(eventfd(0, EFD_CLOEXEC), "eventfd")),
      thread_("scanoutd-block", 0, [this] { run(); }) {}

Worker::~Worker() {
  stop_ = true;
  signal_own(wake_.get());
  thread_.join();
}

bool Worker::push(const Job& job) noexcept {
  if (under_way_ == most) return false;
  ++under_way_;
  jobs_.push(job);
  signal_own(wake_.get());
  return true;
}

[[gnu::hot]] std::optional<Job> Worker::pop() noexcept {
  const std::optional<Job> job = done_.pop();
  if (job) --under_way_;
  return job;
}

void Worker::run() noexcept {
  while (!stop_) {
    uint64_t count = 0;
    if (read(wake_.get(), &count, sizeof count) < 0 && errno != EINTR) return;
    while (std::optional<Job> job = jobs_.pop()) {
      job->error = -job->request->commit(drm_fd_, job->flags, 0);
      done_.push(*job);
      signal_own(done_fd_);
    }
  }
}

} // namespace scanout::flip
