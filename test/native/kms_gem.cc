#include "kms/gem.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "fake_ioctl.h"

using scanout::kms::GemTable;
using scanout::test::FakeIoctl;

namespace {

/// Handles of a DRM file as the kernel keeps them: one per dma-buf, closed by the first close.
struct Kernel {
  std::map<int, uint32_t> imported; // handle by dma-buf
  std::set<uint32_t> open;
  uint32_t next = 1;
  int closed_twice = 0;

  int operator()(int, unsigned long request, void* argument) {
    if (request == DRM_IOCTL_PRIME_FD_TO_HANDLE) return import(*static_cast<drm_prime_handle*>(argument));
    if (request == DRM_IOCTL_GEM_CLOSE) return close(static_cast<drm_gem_close*>(argument)->handle);
    if (request == DRM_IOCTL_MODE_DESTROY_DUMB)
      return close(static_cast<drm_mode_destroy_dumb*>(argument)->handle);
    return EINVAL;
  }
  int import(drm_prime_handle& prime) {
    if (prime.fd < 0) return EBADF;
    const auto found = imported.find(prime.fd);
    if (found != imported.end() && open.count(found->second) != 0) {
      prime.handle = found->second;
      return 0;
    }
    prime.handle = next++;
    imported[prime.fd] = prime.handle;
    open.insert(prime.handle);
    return 0;
  }
  int close(uint32_t handle) {
    if (open.erase(handle) == 1) return 0;
    ++closed_twice;
    return EINVAL;
  }
};

} // namespace

TEST(gem_two_imports_share_a_handle_until_the_last_release) {
  Kernel kernel;
  FakeIoctl fake(std::ref(kernel));
  GemTable gem(9);
  uint32_t first = 0;
  uint32_t second = 0;
  CHECK_EQ(gem.import(5, first), 0);
  CHECK_EQ(gem.import(5, second), 0);
  CHECK_EQ(first, second);
  CHECK_EQ(gem.holders(first), 2u);
  CHECK_EQ(gem.live(), 1u);
  CHECK_EQ(gem.release(first), 0);
  CHECK_EQ(fake.count(DRM_IOCTL_GEM_CLOSE), 0);
  CHECK_EQ(gem.release(second), 0);
  CHECK_EQ(fake.count(DRM_IOCTL_GEM_CLOSE), 1);
  CHECK_EQ(gem.live(), 0u);
}

TEST(gem_release_of_what_nobody_holds_reaches_no_kernel) {
  Kernel kernel;
  FakeIoctl fake(std::ref(kernel));
  GemTable gem(9);
  uint32_t handle = 0;
  CHECK_EQ(gem.import(5, handle), 0);
  CHECK_EQ(gem.release(handle), 0);
  CHECK_EQ(gem.release(handle), -ENOENT);
  CHECK_EQ(kernel.closed_twice, 0);
}

TEST(gem_dumb_buffer_that_comes_back_is_destroyed_once_as_one) {
  Kernel kernel;
  kernel.imported[5] = 1; // it was exported, so the kernel knows its dma-buf
  kernel.open = {1};
  kernel.next = 2;
  FakeIoctl fake(std::ref(kernel));
  GemTable gem(9);
  gem.adopt(1, true);
  uint32_t handle = 0;
  CHECK_EQ(gem.import(5, handle), 0);
  CHECK_EQ(handle, 1u);
  CHECK_EQ(gem.release(1), 0);
  CHECK_EQ(gem.release(1), 0);
  CHECK_EQ(fake.count(DRM_IOCTL_MODE_DESTROY_DUMB), 1);
  CHECK_EQ(fake.count(DRM_IOCTL_GEM_CLOSE), 0);
}

TEST(gem_refused_import_holds_nothing) {
  Kernel kernel;
  FakeIoctl fake(std::ref(kernel));
  GemTable gem(9);
  uint32_t handle = 77;
  CHECK_EQ(gem.import(-1, handle), -EBADF);
  CHECK_EQ(handle, 77u);
  CHECK_EQ(gem.live(), 0u);
}

TEST(gem_handles_stay_valid_between_threads) {
  Kernel kernel;
  FakeIoctl fake(std::ref(kernel));
  GemTable gem(9);
  std::atomic<int> refused{0};
  const auto use = [&] {
    for (int i = 0; i < 2000; ++i) {
      uint32_t handle = 0;
      if (gem.import(5 + i % 2, handle) != 0 || gem.release(handle) != 0) ++refused;
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i)
    threads.emplace_back(use);
  for (auto& thread : threads)
    thread.join();
  CHECK_EQ(refused.load(), 0);
  CHECK_EQ(kernel.closed_twice, 0);
  CHECK(kernel.open.empty());
}
