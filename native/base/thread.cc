#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <utility>

#include "base/error.h"

namespace scanout::base {

Thread::Thread(const char* name, int priority, std::function<void()> body) {
  // Signals belong to the JS thread; a handler that runs here would delay a flip.
  sigset_t all;
  sigset_t former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  thread_ = std::thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  pthread_setname_np(thread_.native_handle(), name);

  if (priority <= 0) {
    reason_ = "switched off by configuration";
    return;
  }
  const sched_param param{.sched_priority = priority};
  const int error = pthread_setschedparam(thread_.native_handle(), SCHED_RR | SCHED_RESET_ON_FORK, &param);
  realtime_ = error == 0;
  if (!realtime_) {
    reason_ = "SCHED_RR " + std::to_string(priority) + " refused: " + errno_name(error) +
              "; raise LimitRTPRIO (RLIMIT_RTPRIO) or give CAP_SYS_NICE";
  }
}

void Thread::join() {
  if (thread_.joinable()) thread_.join();
}

} // namespace scanout::base
