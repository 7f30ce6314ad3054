#include "kms/fence.h"

#include <linux/sync_file.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/fd_kind.h"
#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

template <size_t Size> std::string bounded(const char (&text)[Size]) {
  return std::string(text, strnlen(text, Size));
}

} // namespace

bool wait_fence(int fence, int timeout_ms) {
  // Anything else would be ready when it pleases.
  if (!base::is_sync_file(fence))
    throw base::SystemError(EINVAL, "poll", named("fence", static_cast<uint64_t>(fence)), "not a sync_file");
  const int64_t deadline = base::now_ns() + int64_t{timeout_ms} * 1'000'000;
  pollfd entry{.fd = fence, .events = POLLIN, .revents = 0};
  int left = timeout_ms;
  for (;;) {
    const int ready = poll(&entry, 1, left);
    if (ready >= 0) return ready > 0;
    if (errno != EINTR) throw base::SystemError(errno, "poll", named("fence", static_cast<uint64_t>(fence)));
    if (timeout_ms >= 0)
      left = static_cast<int>(std::max<int64_t>(0, (deadline - base::now_ns() + 999'999) / 1'000'000));
  }
}

base::UniqueFd merge_fences(int a, int b, const std::string& name) {
  sync_merge_data merge{};
  std::strncpy(merge.name, name.c_str(), sizeof merge.name - 1);
  merge.fd2 = b;
  checked_ioctl(a, SYNC_IOC_MERGE, &merge, "SYNC_IOC_MERGE", named("fence", static_cast<uint64_t>(a)));
  return base::UniqueFd(merge.fence);
}

SyncFileInfo fence_info(int fence) {
  const std::string subject = named("fence", static_cast<uint64_t>(fence));
  sync_file_info raw{};
  checked_ioctl(fence, SYNC_IOC_FILE_INFO, &raw, "SYNC_IOC_FILE_INFO", subject);
  std::vector<sync_fence_info> fences(raw.num_fences);
  if (!fences.empty()) {
    raw.sync_fence_info = reinterpret_cast<uint64_t>(fences.data());
    checked_ioctl(fence, SYNC_IOC_FILE_INFO, &raw, "SYNC_IOC_FILE_INFO", subject);
  }
  SyncFileInfo info{.name = bounded(raw.name), .status = raw.status, .fences = {}};
  for (const auto& one : fences) {
    info.fences.push_back({.object = bounded(one.obj_name),
                           .driver = bounded(one.driver_name),
                           .status = one.status,
                           .time_ns = static_cast<int64_t>(one.timestamp_ns)});
  }
  return info;
}

} // namespace scanout::kms
