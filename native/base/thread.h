// A thread with real-time priority where the system grants it.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace scanout::base {

/// Joined on destruction; whoever owns it stops its body first.
class Thread {
public:
  /// `priority`: SCHED_RR 1 to 99, 0 for a normal thread. Where real-time scheduling is refused (no
  /// CAP_SYS_NICE and RLIMIT_RTPRIO too small) the thread runs normally and `realtime_reason` says why.
  /// `name`: at most 15 characters.
  Thread(const char* name, int priority, std::function<void()> body);
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  ~Thread() { join(); }

  void join();
  [[nodiscard]] bool realtime() const noexcept { return realtime_; }
  /// Empty when real-time.
  [[nodiscard]] const std::string& realtime_reason() const noexcept { return reason_; }

private:
  bool realtime_ = false;
  std::string reason_;
  std::thread thread_;
};

} // namespace scanout::base
