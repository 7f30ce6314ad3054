// What the machine's drivers cannot show: eventfds of sync objects, drivers without vblanks, ancient kernels.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cerrno>

#include "base/error.h"
#include "base/unique_fd.h"
#include "check.h"
#include "fake_ioctl.h"
#include "kms/compat.h"
#include "kms/fence.h"
#include "kms/lease.h"
#include "kms/syncobj.h"
#include "kms/vblank.h"

using namespace scanout::kms;
using scanout::base::SystemError;
using scanout::base::UniqueFd;
using scanout::test::FakeIoctl;

TEST(syncobj_eventfd_is_told_of_a_point) {
  drm_syncobj_eventfd seen{};
  drm_syncobj_timeline_wait waited{};
  FakeIoctl fake([&](int, unsigned long request, void* argument) {
    if (request == DRM_IOCTL_SYNCOBJ_CREATE) static_cast<drm_syncobj_create*>(argument)->handle = 4;
    if (request == DRM_IOCTL_SYNCOBJ_EVENTFD) seen = *static_cast<drm_syncobj_eventfd*>(argument);
    if (request != DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT) return 0;
    waited = *static_cast<drm_syncobj_timeline_wait*>(argument);
    return ETIME;
  });
  const Syncobj syncobj(Device::open("/dev/null"), false);
  syncobj.notify(9, 33, true);
  CHECK_EQ(seen.handle, 4u);
  CHECK_EQ(seen.point, 9u);
  CHECK_EQ(seen.fd, 33);
  CHECK_EQ(seen.flags, uint32_t{DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE});
  syncobj.notify(9, 33, false);
  CHECK_EQ(seen.flags, 0u);
  CHECK(!syncobj.wait(9, 12345, false));
  CHECK_EQ(waited.timeout_nsec, 12345);
  CHECK_EQ(waited.flags, uint32_t{DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT});
}

TEST(syncobj_is_destroyed_with_its_object_and_only_then) {
  FakeIoctl fake([](int, unsigned long, void*) { return 0; });
  {
    const Syncobj syncobj(Device::open("/dev/null"), true);
    CHECK_EQ(fake.count(DRM_IOCTL_SYNCOBJ_DESTROY), 0);
  }
  CHECK_EQ(fake.count(DRM_IOCTL_SYNCOBJ_DESTROY), 1);
}

TEST(vblank_of_drivers_without_any_says_so) {
  FakeIoctl fake([](int, unsigned long, void*) { return EOPNOTSUPP; });
  for (const bool queue : {false, true}) {
    try {
      if (queue)
        queue_sequence(9, 31, 1, DRM_CRTC_SEQUENCE_RELATIVE, 7);
      else
        get_sequence(9, 31);
      CHECK(false);
    } catch (const SystemError& error) {
      CHECK_EQ(error.error(), EOPNOTSUPP);
      CHECK_EQ(error.subject(), std::string("crtc 31"));
    }
  }
}

TEST(lease_descriptor_is_closed_on_exec_and_owned) {
  drm_mode_create_lease seen{};
  int fd = -1;
  FakeIoctl fake([&](int, unsigned long, void* argument) {
    auto& create = *static_cast<drm_mode_create_lease*>(argument);
    seen = create;
    fd = eventfd(0, EFD_CLOEXEC);
    create.fd = static_cast<uint32_t>(fd);
    create.lessee_id = 2;
    return 0;
  });
  const uint32_t objects[] = {31, 36};
  {
    const Lease lease = create_lease(9, objects);
    CHECK_EQ(lease.lessee, 2u);
    CHECK_EQ(seen.object_count, 2u);
    CHECK_EQ(seen.flags, uint32_t{O_CLOEXEC | O_NONBLOCK});
    CHECK(fcntl(fd, F_GETFD) >= 0);
  }
  CHECK(fcntl(fd, F_GETFD) < 0);
}

TEST(fence_is_a_sync_file_and_nothing_else) {
  const UniqueFd signalled(eventfd(1, EFD_CLOEXEC));
  CHECK_THROWS(wait_fence(signalled.get(), 0), SystemError);
  CHECK_THROWS(wait_fence(-1, 0), SystemError);
}
