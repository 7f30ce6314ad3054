#include "systemd/notify.h"

#include <systemd/sd-daemon.h>

#include <cstdlib>

#include "base/error.h"

namespace scanout::systemd {

bool notify(const std::string& state, std::span<const int> fds) {
  const int result = ::sd_pid_notify_with_fds(0, 0, state.c_str(), fds.data(), fds.size());
  if (result < 0) throw base::SystemError(-result, "sd_notify");
  return result > 0;
}

uint64_t watchdog_usec() {
  uint64_t usec = 0;
  const int result = ::sd_watchdog_enabled(0, &usec);
  if (result < 0) throw base::SystemError(-result, "sd_watchdog_enabled");
  return result > 0 ? usec : 0;
}

std::vector<PassedFd> take_passed_fds() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) throw base::SystemError(-count, "sd_listen_fds_with_names");
  std::vector<PassedFd> passed;
  for (int i = 0; i < count; ++i) {
    passed.push_back({.name = names[i], .fd = base::UniqueFd(SD_LISTEN_FDS_START + i)});
    ::free(names[i]);
  }
  ::free(static_cast<void*>(names));
  return passed;
}

bool is_booted() {
  return ::sd_booted() > 0;
}

} // namespace scanout::systemd
