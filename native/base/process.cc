#include "base/process.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "base/error.h"

namespace scanout::base {

UniqueFd open_process(pid_t process) {
  const long fd = syscall(SYS_pidfd_open, process, 0);
  return UniqueFd(check(static_cast<int>(fd), "pidfd_open", "process " + std::to_string(process)));
}

} // namespace scanout::base
