// Explicit fences: sync_file descriptors. Throws SystemError.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::kms {

/// One fence of a sync_file (struct sync_fence_info).
struct FenceInfo {
  std::string object, driver;
  int32_t status = 0;  // 0 pending, 1 signalled, negative: failed with -errno
  int64_t time_ns = 0; // when it signalled, CLOCK_MONOTONIC
};

struct SyncFileInfo {
  std::string name;
  int32_t status = 0; // of all its fences, as FenceInfo's
  std::vector<FenceInfo> fences;
};

/// Waits until the fence has signalled, up to `timeout_ms` (negative: for ever; 0: only looks). False when
/// the time is up. Blocks.
bool wait_fence(int fence, int timeout_ms);

/// A sync_file that signals when both have. `name` shows up in debugfs and in `info`.
base::UniqueFd merge_fences(int a, int b, const std::string& name);

SyncFileInfo fence_info(int fence);

} // namespace scanout::kms
