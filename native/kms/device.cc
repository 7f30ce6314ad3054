#include "kms/device.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xf86drm.h>

#include <algorithm>

#include "base/error.h"
#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

std::string node_of(int fd) {
  char path[256];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = readlink(link.c_str(), path, sizeof path);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : "fd " + std::to_string(fd);
}

// Not drmGetVersion, which expects every driver to have a date.
DriverVersion version_of(int fd, const std::string& path) {
  char name[64];
  char description[128];
  drm_version version{};
  version.name = name;
  version.name_len = sizeof name;
  version.desc = description;
  version.desc_len = sizeof description;
  checked_ioctl(fd, DRM_IOCTL_VERSION, &version, "DRM_IOCTL_VERSION", path);
  // The lengths that come back are the driver's, of which no more was copied than there was room for.
  return {.name = std::string(name, std::min(version.name_len, sizeof name)),
          .description = std::string(description, std::min(version.desc_len, sizeof description)),
          .major = version.version_major,
          .minor = version.version_minor,
          .patch = version.version_patchlevel};
}

/// Lays CAP_SYS_ADMIN down for a while, on this thread alone: the kernel authenticates every file that is
/// opened with it (drm_file_alloc), whoever is to have that.
class WithoutAdmin {
public:
  WithoutAdmin() {
    base::check(syscall(SYS_capget, &header_, had_), "capget");
    __user_cap_data_struct without[_LINUX_CAPABILITY_U32S_3] = {had_[0], had_[1]};
    uint32_t& effective = without[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective;
    laid_down_ = (effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
    effective &= ~CAP_TO_MASK(CAP_SYS_ADMIN);
    if (laid_down_) base::check(syscall(SYS_capset, &header_, without), "capset");
  }
  WithoutAdmin(const WithoutAdmin&) = delete;
  WithoutAdmin& operator=(const WithoutAdmin&) = delete;
  ~WithoutAdmin() {
    if (laid_down_) syscall(SYS_capset, &header_, had_); // what is permitted can be taken up again
  }

private:
  __user_cap_header_struct header_{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct had_[_LINUX_CAPABILITY_U32S_3]{};
  bool laid_down_ = false;
};

base::UniqueFd open_node(const std::string& path) {
  return base::UniqueFd(base::check(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK), "open", path));
}

} // namespace

std::shared_ptr<Device> Device::open(const std::string& path) {
  return std::shared_ptr<Device>(new Device(open_node(path)));
}

std::shared_ptr<Device> Device::adopt(base::UniqueFd fd) {
  const int flags = base::check(fcntl(fd.get(), F_GETFL), "fcntl(F_GETFL)");
  base::check(fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK), "fcntl(F_SETFL)");
  base::check(fcntl(fd.get(), F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)");
  return std::shared_ptr<Device>(new Device(std::move(fd)));
}

Device::Device(base::UniqueFd fd) : fd_(std::move(fd)), path_(node_of(fd_.get())), gem_(fd_.get()) {
  struct stat info;
  base::check(fstat(fd_.get(), &info), "fstat", path_);
  number_ = info.st_rdev;
  driver_ = version_of(fd_.get(), path_);
}

std::optional<uint64_t> Device::cap(uint64_t capability) const {
  drm_get_cap get{.capability = capability, .value = 0};
  const int error = try_ioctl(fd(), DRM_IOCTL_GET_CAP, &get);
  if (error == 0) return get.value;
  if (error == -EINVAL || error == -EOPNOTSUPP) return std::nullopt;
  throw base::SystemError(-error, "DRM_IOCTL_GET_CAP", named("capability", capability));
}

bool Device::set_client_cap(uint64_t capability, uint64_t value) const noexcept {
  drm_set_client_cap set{.capability = capability, .value = value};
  return try_ioctl(fd(), DRM_IOCTL_SET_CLIENT_CAP, &set) == 0;
}

bool Device::is_master() const noexcept {
  return drmIsMaster(fd()) != 0;
}

void Device::set_master() const {
  checked_ioctl(fd(), DRM_IOCTL_SET_MASTER, nullptr, "DRM_IOCTL_SET_MASTER", path_);
}

void Device::drop_master() const {
  checked_ioctl(fd(), DRM_IOCTL_DROP_MASTER, nullptr, "DRM_IOCTL_DROP_MASTER", path_);
}

base::UniqueFd open_without_master(const std::string& path) {
  base::UniqueFd fd;
  {
    const WithoutAdmin without;
    fd = open_node(path);
  }
  if (drmIsMaster(fd.get()) == 0) return fd;
  // EINVAL: it is not, though it seemed so, as with drivers that let everybody pass for one (NVIDIA's).
  const int error = try_ioctl(fd.get(), DRM_IOCTL_DROP_MASTER, nullptr);
  if (error != 0 && error != -EINVAL) throw base::SystemError(-error, "DRM_IOCTL_DROP_MASTER", path);
  return fd;
}

} // namespace scanout::kms
