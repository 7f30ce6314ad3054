#include "fake_ioctl.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace scanout::test {

static std::atomic<FakeIoctl*> active{nullptr};

FakeIoctl::FakeIoctl(Answer answer) : answer_(std::move(answer)) {
  active = this;
}

FakeIoctl::~FakeIoctl() {
  active = nullptr;
}

int FakeIoctl::count(unsigned long request) const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(std::count(requests_.begin(), requests_.end(), request));
}

int FakeIoctl::total() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(requests_.size());
}

int FakeIoctl::call(int fd, unsigned long request, void* argument) {
  const std::lock_guard lock(mutex_);
  requests_.push_back(request);
  return answer_(fd, request, argument);
}

} // namespace scanout::test

// Defined in the executable, so it comes before libdrm's, also for libdrm's own calls.
extern "C" __attribute__((visibility("default"))) int drmIoctl(int fd, unsigned long request,
                                                               void* argument) {
  if (auto* fake = scanout::test::active.load()) {
    const int error = fake->call(fd, request, argument);
    errno = error;
    return error == 0 ? 0 : -1;
  }
  using Function = int (*)(int, unsigned long, void*);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "drmIoctl"));
  return real(fd, request, argument);
}
