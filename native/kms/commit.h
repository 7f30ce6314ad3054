// Atomic commits of control paths: errors are exceptions, out-fences come back.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "kms/atomic.h"

namespace scanout::kms {

/// A sync_file that signals when a commit is on the screen (a CRTC's) or in its buffer (a writeback
/// connector's).
struct OutFence {
  uint32_t object;
  base::UniqueFd fence;
};

/// A request with places for the fences that the kernel makes.
class ControlRequest {
public:
  ControlRequest(size_t max_objects, size_t max_properties) : request_(max_objects, max_properties) {}

  AtomicRequest& request() noexcept { return request_; }
  /// `property` is the object's OUT_FENCE_PTR or WRITEBACK_OUT_FENCE_PTR.
  void add_out_fence(uint32_t object, uint32_t property);
  void clear() noexcept;

  /// Commits, and gives the fences that were asked for (none with TEST_ONLY). Throws SystemError; its
  /// subject names flags and objects.
  std::vector<OutFence> commit(int fd, uint32_t flags, uint64_t user_data);

private:
  struct Slot {
    uint32_t object;
    int32_t fd; // the kernel writes here
  };
  AtomicRequest request_;
  std::deque<Slot> slots_; // a deque, for the addresses are in the request
};

/// "NONBLOCK PAGE_FLIP_EVENT": the flags of a commit by name.
std::string commit_flag_names(uint32_t flags);

} // namespace scanout::kms
