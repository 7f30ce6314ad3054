#include "guests/vfio_owner.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/error.h"

namespace scanout::guests {

namespace {

namespace fs = std::filesystem;
constexpr const char* device_link = "anon_inode:[vfio-device]";
constexpr const char* fdinfo_key = "vfio-device-syspath:"; // Linux 6.18 and later

/// Descriptors of a process whose files have the name; none when it went away or is not ours to look at.
std::vector<int> descriptors(const std::string& pid, const std::string& name) {
  std::vector<int> found;
  std::error_code error;
  for (fs::directory_iterator entry("/proc/" + pid + "/fd", error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unreadable;
    if (fs::read_symlink(entry->path(), unreadable) == name && !unreadable)
      found.push_back(std::atoi(entry->path().filename().c_str()));
  }
  return found;
}

/// What the kernel says which device a descriptor is of; empty where it does not say.
std::string device_of(const std::string& pid, int fd) {
  std::ifstream info("/proc/" + pid + "/fdinfo/" + std::to_string(fd));
  for (std::string word; info >> word;) {
    if (word == fdinfo_key && info >> word) {
      std::error_code error;
      const fs::path real = fs::canonical(word.starts_with("/sys") ? word : "/sys" + word, error);
      return error ? word : real.string();
    }
  }
  return {};
}

VfioOwner take_from(int pid, int fd) {
  const std::string subject = "process " + std::to_string(pid);
  const auto checked = [&](int64_t result, const char* op) {
    return base::UniqueFd(static_cast<int>(base::check(result, op, subject)));
  };
  VfioOwner owner{.pid = pid, .fd = fd};
  owner.process = checked(syscall(SYS_pidfd_open, pid, 0), "pidfd_open");
  owner.device = checked(syscall(SYS_pidfd_getfd, owner.process.get(), fd, 0), "pidfd_getfd");
  return owner;
}

/// The descriptor of the device among those of one process, -1 for none.
int pick(const std::string& pid, const std::string& device) {
  const std::vector<int> devices = descriptors(pid, device_link);
  for (const int fd : devices) {
    if (device_of(pid, fd) == device) return fd;
  }
  // A kernel that does not tell them apart: right where there is one only.
  const bool untold = devices.size() == 1 && device_of(pid, devices[0]).empty();
  return untold ? devices[0] : -1;
}

} // namespace

VfioOwner find_vfio_owner(const std::string& device, const std::string& group) {
  std::error_code error;
  for (fs::directory_iterator process("/proc", error), end; !error && process != end;
       process.increment(error)) {
    const std::string pid = process->path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    if (std::atoi(pid.c_str()) == getpid() || descriptors(pid, group).empty()) continue;
    const int fd = pick(pid, device);
    if (fd < 0) continue;
    return take_from(std::atoi(pid.c_str()), fd);
  }
  throw base::SystemError(ENODEV, "readlink", device, "no process has it open that we may look at");
}

std::string vfio_device_path(int fd) {
  return device_of("self", fd);
}

bool still_owns_vfio(int pid, int fd) noexcept {
  char target[64];
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  const ssize_t size = readlink(path.c_str(), target, sizeof target);
  return size > 0 && std::string_view(target, static_cast<size_t>(size)) == device_link;
}

} // namespace scanout::guests
