#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include <cstdint>
#include <utility>

#include "base/error.h"

namespace scanout::base {

namespace {

/// Gives up the rights to pages with protection keys (pkeys(7)) that the JS thread has, down to those that a
/// process begins with. V8 guards its code by a key, and a new thread has its maker's rights; with rights
/// other than those of the kernel's own threads, each switch of threads writes the register, which costs an
/// emulated processor its TLB.
#if defined(__x86_64__)
__attribute__((target("pku"))) void drop_key_rights() noexcept {
  constexpr uint32_t at_first = 0x55555554; // init_pkru of the kernel: none but key 0 may be accessed
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & bit_OSPKE) != 0) _wrpkru(at_first);
}
#else
void drop_key_rights() noexcept {}
#endif

} // namespace

Thread::Thread(const char* name, int priority, std::function<void()> body) {
  // Signals belong to the JS thread; a handler that runs here would delay a flip.
  sigset_t all;
  sigset_t former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  thread_ = std::thread([body = std::move(body)] {
    drop_key_rights();
    body();
  });
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
