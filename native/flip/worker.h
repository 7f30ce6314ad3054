// Does what blocks, so that the flip thread never does: mode sets and the watchdog's recovery.
#pragma once

#include <atomic>

#include "base/spsc_ring.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "kms/atomic.h"

namespace scanout::flip {

class Crtc;
class ModesetCommand;

/// One blocking commit. The request belongs to its sender and is left alone until the job is back.
struct Job {
  kms::AtomicRequest* request;
  uint32_t flags;
  ModesetCommand* modeset; // or null
  Crtc* recovery;          // or null
  int error;               // result: 0 or a positive errno
};

/// A thread that makes blocking commits, one after the other. `push` and `pop` on the flip thread.
class Worker {
public:
  /// `done_fd` is an eventfd of our own that is signalled when a job is back; borrowed.
  Worker(int drm_fd, int done_fd);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  /// False while too many jobs are under way; one is back before there is room again.
  bool push(const Job& job) noexcept;
  std::optional<Job> pop() noexcept;
  /// Nothing is under way. Flip thread.
  [[nodiscard]] bool idle() const noexcept { return under_way_ == 0; }

private:
  void run() noexcept;

  int drm_fd_;
  int done_fd_;
  base::UniqueFd wake_;
  std::atomic<bool> stop_{false};
  static constexpr size_t most = 64;
  size_t under_way_ = 0; // flip thread: pushed and not yet popped, so that neither ring can be full
  base::SpscRing<Job, most> jobs_;
  base::SpscRing<Job, most> done_;
  base::Thread thread_;
};

/// Adds 1 to an eventfd that nobody else shares.
void signal_own(int eventfd) noexcept;

} // namespace scanout::flip
