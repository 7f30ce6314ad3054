#include "kms/atomic.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cerrno>
#include <map>
#include <utility>

#include "check.h"
#include "fake_ioctl.h"

using scanout::kms::AtomicRequest;
using scanout::test::FakeIoctl;
using scanout::test::user_pointer;

namespace {

/// What the kernel would read from a request.
struct Seen {
  uint32_t flags = 0;
  uint64_t user_data = 0;
  size_t groups = 0;
  std::vector<std::pair<std::pair<uint32_t, uint32_t>, uint64_t>> values;
};

Seen decode(const drm_mode_atomic& atomic) {
  Seen seen{.flags = atomic.flags, .user_data = atomic.user_data, .groups = atomic.count_objs, .values = {}};
  const auto* objects = user_pointer<const uint32_t>(atomic.objs_ptr);
  const auto* counts = user_pointer<const uint32_t>(atomic.count_props_ptr);
  const auto* properties = user_pointer<const uint32_t>(atomic.props_ptr);
  const auto* values = user_pointer<const uint64_t>(atomic.prop_values_ptr);
  size_t next = 0;
  for (uint32_t i = 0; i < atomic.count_objs; ++i) {
    for (uint32_t k = 0; k < counts[i]; ++k, ++next)
      seen.values.push_back({{objects[i], properties[next]}, values[next]});
  }
  return seen;
}

Seen committed(AtomicRequest& request, uint32_t flags = 0, uint64_t user_data = 0, int error = 0) {
  Seen seen;
  FakeIoctl fake([&](int, unsigned long number, void* argument) {
    CHECK_EQ(number, DRM_IOCTL_MODE_ATOMIC);
    seen = decode(*static_cast<drm_mode_atomic*>(argument));
    return error;
  });
  CHECK_EQ(request.commit(9, flags, user_data), -error);
  return seen;
}

} // namespace

TEST(atomic_groups_properties_by_object) {
  AtomicRequest request;
  CHECK(request.empty());
  request.add(1, 10, 100);
  request.add(1, 11, 101);
  request.add(2, 10, UINT64_MAX);
  const Seen seen = committed(request, DRM_MODE_ATOMIC_NONBLOCK, 77);
  CHECK_EQ(seen.flags, uint32_t{DRM_MODE_ATOMIC_NONBLOCK});
  CHECK_EQ(seen.user_data, 77u);
  CHECK_EQ(seen.groups, 2u);
  REQUIRE(seen.values.size() == 3);
  CHECK((seen.values[1].first == std::pair<uint32_t, uint32_t>{1, 11}));
  CHECK_EQ(seen.values[2].second, UINT64_MAX);
  CHECK_EQ(request.size(), 3u); // a commit leaves it as it was
}

TEST(atomic_missing_property_is_sticky_and_needs_no_kernel) {
  AtomicRequest request;
  request.add_if_present(1, 0, 5);
  CHECK_EQ(request.error(), 0);
  CHECK(request.empty());
  request.add(1, 0, 5);
  request.add(1, 10, 5);
  CHECK_EQ(request.error(), -ENOENT);
  FakeIoctl fake([](int, unsigned long, void*) { return 0; });
  CHECK_EQ(request.commit(9, 0, 0), -ENOENT);
  CHECK_EQ(fake.total(), 0);
  request.clear();
  request.add(1, 10, 5);
  CHECK_EQ(request.commit(9, 0, 0), 0);
}

TEST(atomic_full_request_fails_and_keeps_its_bounds) {
  AtomicRequest few_objects(2, 8);
  for (uint32_t object = 1; object <= 3; ++object)
    few_objects.add(object, 1, 0);
  CHECK_EQ(few_objects.error(), -E2BIG);
  AtomicRequest few_properties(2, 2);
  for (uint32_t property = 1; property <= 3; ++property)
    few_properties.add(1, property, 0);
  CHECK_EQ(few_properties.error(), -E2BIG);
  CHECK_EQ(few_properties.size(), 2u);
}

TEST(atomic_rewind_drops_what_was_added_since) {
  AtomicRequest request;
  request.add(1, 10, 1);
  const size_t mark = request.mark();
  request.add(1, 11, 2);
  request.add(2, 10, 3);
  request.add(2, 0, 4);
  CHECK_EQ(request.error(), -ENOENT);
  request.rewind(mark);
  CHECK_EQ(request.error(), 0);
  request.add(3, 10, 5);
  const Seen seen = committed(request);
  CHECK_EQ(seen.groups, 2u);
  REQUIRE(seen.values.size() == 2);
  CHECK_EQ(seen.values[0].first.first, 1u);
  CHECK_EQ(seen.values[1].first.first, 3u);
}

TEST(atomic_rewind_keeps_an_older_failure) {
  AtomicRequest request;
  request.add(0, 10, 1);
  const size_t mark = request.mark();
  request.rewind(mark);
  CHECK_EQ(request.error(), -ENOENT);
  request.rewind(0);
  CHECK_EQ(request.error(), 0);
}

TEST(atomic_rewind_after_random_additions_equals_never_adding) {
  uint32_t state = 12345;
  const auto random = [&state](uint32_t below) {
    state = state * 1664525 + 1013904223;
    return (state >> 16) % below;
  };
  for (int round = 0; round < 200; ++round) {
    AtomicRequest request(16, 64);
    AtomicRequest wanted(16, 64);
    for (uint32_t i = random(12); i > 0; --i) {
      const uint32_t object = 1 + random(4);
      request.add(object, i, i);
      wanted.add(object, i, i);
    }
    const size_t mark = request.mark();
    for (uint32_t i = random(80); i > 0; --i)
      request.add(1 + random(4), random(9), i);
    request.rewind(mark);
    CHECK_EQ(request.error(), 0);
    CHECK(committed(request).values == committed(wanted).values);
  }
}

TEST(atomic_kernel_errors_come_back) {
  AtomicRequest request;
  request.add(1, 10, 1);
  committed(request, 0, 0, EBUSY);
  CHECK_EQ(request.error(), 0); // the kernel's refusal is not the request's failure
}
