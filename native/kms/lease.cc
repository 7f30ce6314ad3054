#include "kms/lease.h"

#include <fcntl.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include <memory>
#include <string>

#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

struct DrmFree {
  void operator()(void* memory) const noexcept { drmFree(memory); }
};

std::string list(std::span<const uint32_t> objects) {
  std::string text = "objects";
  for (const uint32_t object : objects)
    text.append(" ").append(std::to_string(object));
  return text;
}

} // namespace

Lease create_lease(int fd, std::span<const uint32_t> objects) {
  drm_mode_create_lease create{};
  create.object_ids = reinterpret_cast<uint64_t>(objects.data());
  create.object_count = static_cast<uint32_t>(objects.size());
  create.flags = O_CLOEXEC | O_NONBLOCK;
  checked_ioctl(fd, DRM_IOCTL_MODE_CREATE_LEASE, &create, "DRM_IOCTL_MODE_CREATE_LEASE", list(objects));
  return {.lessee = create.lessee_id, .fd = base::UniqueFd(static_cast<int>(create.fd))};
}

std::vector<uint32_t> list_lessees(int fd) {
  const std::unique_ptr<drmModeLesseeListRes, DrmFree> raw(drmModeListLessees(fd));
  if (!raw) throw base::SystemError(errno, "DRM_IOCTL_MODE_LIST_LESSEES");
  return {raw->lessees, raw->lessees + raw->count};
}

std::vector<uint32_t> get_lease(int fd) {
  const std::unique_ptr<drmModeObjectListRes, DrmFree> raw(drmModeGetLease(fd));
  if (!raw) throw base::SystemError(errno, "DRM_IOCTL_MODE_GET_LEASE");
  return {raw->objects, raw->objects + raw->count};
}

void revoke_lease(int fd, uint32_t lessee) {
  drm_mode_revoke_lease revoke{.lessee_id = lessee};
  checked_ioctl(fd, DRM_IOCTL_MODE_REVOKE_LEASE, &revoke, "DRM_IOCTL_MODE_REVOKE_LEASE",
                named("lessee", lessee));
}

} // namespace scanout::kms
