#include "kms/device.h"

#include <fcntl.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "check.h"
#include "fake_ioctl.h"
#include "kms/commit.h"
#include "kms/compat.h"
#include "kms/dumb.h"
#include "kms/framebuffer.h"
#include "kms/framebuffer_cache.h"
#include "kms/objects.h"

using namespace scanout::kms;
using scanout::base::SystemError;
using scanout::base::UniqueFd;
using scanout::test::FakeIoctl;
using scanout::test::user_pointer;

namespace {

int answer_version(void* argument) {
  auto& version = *static_cast<drm_version*>(argument);
  const char name[] = "fake";
  if (version.name != nullptr) std::memcpy(version.name, name, 4);
  version.name_len = 4;
  version.desc_len = 0; // a driver may have no words for itself
  version.version_major = 1;
  return 0;
}

/// Knows the version; everything else is up to `more`.
template <typename More> auto driver(More more) {
  return [more](int fd, unsigned long request, void* argument) mutable {
    return request == DRM_IOCTL_VERSION ? answer_version(argument) : more(fd, request, argument);
  };
}

SystemError error_of(const auto& body) {
  try {
    body();
  } catch (const SystemError& error) {
    return error;
  }
  scanout::test::fail(__FILE__, __LINE__, "nothing was thrown");
  throw scanout::test::Abandon{};
}

} // namespace

TEST(device_that_is_none_is_refused) {
  CHECK_EQ(error_of([] { Device::open("/nonexistent/card0"); }).error(), ENOENT);
  const auto error = error_of([] { Device::open("/dev/null"); });
  CHECK_EQ(error.error(), ENOTTY);
  CHECK_EQ(error.op(), std::string("DRM_IOCTL_VERSION"));
  CHECK_EQ(error.subject(), std::string("/dev/null"));
}

TEST(device_adopts_without_leaving_the_descriptor_as_it_was) {
  FakeIoctl fake(driver([](int, unsigned long, void*) { return EINVAL; }));
  UniqueFd fd(open("/dev/null", O_RDWR)); // as another program may hand it over
  const int number = fd.get();
  const auto device = Device::adopt(std::move(fd));
  CHECK_EQ(device->fd(), number);
  CHECK_EQ(device->driver().name, std::string("fake"));
  CHECK_EQ(device->path(), std::string("/dev/null"));
  CHECK((fcntl(number, F_GETFL) & O_NONBLOCK) != 0);
  CHECK((fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST(device_refused_capabilities_are_answers) {
  FakeIoctl fake(driver([](int, unsigned long request, void* argument) {
    if (request == DRM_IOCTL_SET_CLIENT_CAP)
      return static_cast<drm_set_client_cap*>(argument)->capability == DRM_CLIENT_CAP_ATOMIC ? 0 : EINVAL;
    auto& get = *static_cast<drm_get_cap*>(argument);
    get.value = 42;
    return get.capability == 1 ? 0 : get.capability == 2 ? EOPNOTSUPP : EIO;
  }));
  const auto device = Device::open("/dev/null");
  CHECK(device->set_client_cap(DRM_CLIENT_CAP_ATOMIC, 1));
  CHECK(!device->set_client_cap(DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT, 1));
  CHECK_EQ(device->cap(1).value_or(0), 42u);
  CHECK(!device->cap(2).has_value());
  CHECK_EQ(error_of([&] { (void)device->cap(3); }).op(), std::string("DRM_IOCTL_GET_CAP"));
}

TEST(device_libdrm_asks_the_same_kernel) {
  // Proves that libdrm's own calls pass through a layer over drmIoctl, as the fault layer of other tests
  // does.
  FakeIoctl fake([](int, unsigned long, void*) { return EACCES; });
  const auto error = error_of([] { get_connector(9, 31, true); });
  CHECK_EQ(error.error(), EACCES);
  CHECK_EQ(error.op(), std::string("DRM_IOCTL_MODE_GETCONNECTOR"));
  CHECK_EQ(error.subject(), std::string("connector 31"));
  CHECK_EQ(fake.count(DRM_IOCTL_MODE_GETCONNECTOR), 1);
  CHECK_EQ(error_of([] { get_resources(9); }).op(), std::string("DRM_IOCTL_MODE_GETRESOURCES"));
  CHECK_EQ(error_of([] { get_properties(9, 5, 0); }).subject(), std::string("object 5"));
}

TEST(device_framebuffer_layout_is_told_whole) {
  drm_mode_fb_cmd2 seen{};
  FakeIoctl fake([&](int, unsigned long, void* argument) {
    seen = *static_cast<drm_mode_fb_cmd2*>(argument);
    static_cast<drm_mode_fb_cmd2*>(argument)->fb_id = 60;
    return 0;
  });
  FramebufferLayout layout{.width = 64, .height = 32, .format = DRM_FORMAT_NV12, .plane_count = 2};
  layout.pitches = {64, 64};
  layout.offsets = {0, 2048};
  uint32_t id = 0;
  CHECK_EQ(add_framebuffer(9, layout, {3, 3}, id), 0);
  CHECK_EQ(id, 60u);
  CHECK_EQ(seen.flags, 0u); // no modifier given, none told
  CHECK_EQ(seen.modifier[0], 0u);
  CHECK_EQ(seen.handles[2], 0u);
  layout.modifier = 7;
  CHECK_EQ(add_framebuffer(9, layout, {3, 3}, id), 0);
  CHECK_EQ(seen.flags, uint32_t{DRM_MODE_FB_MODIFIERS});
  CHECK_EQ(seen.modifier[1], 7u);
  CHECK_EQ(seen.modifier[2], 0u);
}

TEST(device_framebuffer_is_removed_where_it_cannot_be_closed) {
  {
    FakeIoctl old(
        [](int, unsigned long request, void*) { return request == DRM_IOCTL_MODE_CLOSEFB ? EINVAL : 0; });
    CHECK_EQ(close_framebuffer(9, 60), -EOPNOTSUPP);
    CHECK_EQ(drop_framebuffer(9, 60), 0);
    CHECK_EQ(old.count(DRM_IOCTL_MODE_RMFB), 1);
  }
  FakeIoctl current([](int, unsigned long, void*) { return ENOENT; });
  CHECK_EQ(drop_framebuffer(9, 60), -ENOENT);
  CHECK_EQ(current.count(DRM_IOCTL_MODE_RMFB), 0);
}

TEST(device_dumb_buffer_errors_name_the_buffer) {
  FakeIoctl fake(driver([](int, unsigned long, void*) { return ENOMEM; }));
  const auto device = Device::open("/dev/null");
  const auto error = error_of([&] { const DumbBuffer buffer(device, 640, 480, 32); });
  CHECK_EQ(error.error(), ENOMEM);
  CHECK_EQ(error.subject(), std::string("640x480 at 32 bits"));
  CHECK_EQ(device->gem().live(), 0u);
}

TEST(device_cache_takes_nothing_but_dmabufs) {
  FakeIoctl fake(driver([](int, unsigned long, void*) { return 0; }));
  const auto cache = FramebufferCache::make(Device::open("/dev/null"));
  const int before = fake.total();
  const UniqueFd file(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const int fds[] = {file.get(), file.get(), -1};
  const FramebufferLayout layout{.width = 8, .height = 8, .format = DRM_FORMAT_XRGB8888, .plane_count = 1};
  CHECK_EQ(cache->acquire(layout, {fds, 1}).error, -EINVAL);
  CHECK_EQ(std::string(cache->acquire(layout, {fds, 1}).op), std::string("dma-buf"));
  CHECK_EQ(cache->acquire(layout, {fds + 2, 1}).error, -EINVAL);
  CHECK_EQ(std::string(cache->acquire(layout, {fds, 2}).op), std::string("layout"));
  CHECK_EQ(cache->acquire(layout, {}).error, -EINVAL);
  FramebufferLayout many = layout;
  many.plane_count = 5;
  CHECK_EQ(cache->acquire(many, {fds, 1}).error, -EINVAL);
  CHECK_EQ(fake.total(), before);
  CHECK_EQ(cache->statistics().live, 0u);
}

TEST(commit_out_fences_come_back_by_object) {
  ControlRequest control(8, 8);
  control.request().add(31, 1, 1);
  control.add_out_fence(31, 22);
  control.add_out_fence(36, 23);
  int pipe_ends[2];
  REQUIRE(pipe2(pipe_ends, O_CLOEXEC) == 0);
  const UniqueFd other(pipe_ends[1]);
  FakeIoctl fake([&](int, unsigned long, void* argument) {
    const auto& atomic = *static_cast<drm_mode_atomic*>(argument);
    const auto* values = user_pointer<const uint64_t>(atomic.prop_values_ptr);
    CHECK_EQ(*user_pointer<int32_t>(values[1]), -1);
    *user_pointer<int32_t>(values[2]) = pipe_ends[0]; // the kernel made one fence of two
    return 0;
  });
  const auto fences = control.commit(9, 0, 0);
  REQUIRE(fences.size() == 1);
  CHECK_EQ(fences[0].object, 36u);
  CHECK_EQ(fences[0].fence.get(), pipe_ends[0]);
}

TEST(commit_errors_name_flags_and_objects) {
  ControlRequest control(8, 8);
  control.request().add(36, 1, 1);
  control.request().add(31, 1, 1);
  control.request().add(36, 2, 1);
  FakeIoctl fake([](int, unsigned long, void*) { return EBUSY; });
  const auto error =
      error_of([&] { control.commit(9, DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT, 1); });
  CHECK_EQ(error.error(), EBUSY);
  CHECK_EQ(error.op(), std::string("DRM_IOCTL_MODE_ATOMIC"));
  CHECK_EQ(error.subject(), std::string("objects 31 36, NONBLOCK PAGE_FLIP_EVENT"));
}
