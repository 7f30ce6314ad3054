// Stands in for the kernel behind drmIoctl, for what needs no device.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

namespace scanout::test {

/// What a pointer field of a uapi structure points at.
template <typename T> T* user_pointer(uint64_t value) {
  return reinterpret_cast<T*>(value); // NOLINT(performance-no-int-to-ptr): the ABI has it as a number
}

/// While one lives, every drmIoctl of the process (libdrm's own included) is answered by it. One at a time.
class FakeIoctl {
public:
  /// Gives 0 or a positive errno. Called under a lock, from whichever thread.
  using Answer = std::function<int(int fd, unsigned long request, void* argument)>;
  explicit FakeIoctl(Answer answer);
  FakeIoctl(const FakeIoctl&) = delete;
  FakeIoctl& operator=(const FakeIoctl&) = delete;
  ~FakeIoctl();

  /// How often `request` was made so far.
  [[nodiscard]] int count(unsigned long request) const;
  [[nodiscard]] int total() const;
  /// For the interposed function: the answer, recorded.
  int call(int fd, unsigned long request, void* argument);

private:
  Answer answer_;
  mutable std::mutex mutex_;
  std::vector<unsigned long> requests_;
};

} // namespace scanout::test
