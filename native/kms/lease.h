// DRM leases. Throws SystemError.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::kms {

struct Lease {
  uint32_t lessee;   // its id, for revoking
  base::UniqueFd fd; // master of the leased objects; O_CLOEXEC and O_NONBLOCK
};

/// Leases CRTCs, connectors and planes, at least one of each (planes where DRM_CLIENT_CAP_UNIVERSAL_PLANES is
/// set), or nothing at all. EBUSY: one is leased already. ENOENT: no such object. EINVAL: one that cannot be
/// leased, or `fd` is a lease itself. EACCES: not master. (drm_mode_create_lease_ioctl)
Lease create_lease(int fd, std::span<const uint32_t> objects);

/// Ids of lessees that were not revoked.
std::vector<uint32_t> list_lessees(int fd);

/// What a lease's own descriptor may use; everything there is for one that is no lease.
std::vector<uint32_t> get_lease(int fd);

/// Takes the objects from the lessee, whose descriptor stays open and fails with ENOENT from then on. ENOENT
/// here: it has closed it already.
void revoke_lease(int fd, uint32_t lessee);

} // namespace scanout::kms
