#include "kms/implicit_fences.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/sync_file.h>
#include <poll.h>

#include <cstring>
#include <utility>

#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

bool is_signalled(int fence) noexcept {
  pollfd state{.fd = fence, .events = POLLIN, .revents = 0};
  return poll(&state, 1, 0) > 0;
}

int try_merge(int a, int b, base::UniqueFd& both) noexcept {
  sync_merge_data merge{};
  std::strncpy(merge.name, "scanoutd", sizeof merge.name - 1);
  merge.fd2 = b;
  const int error = try_ioctl(a, SYNC_IOC_MERGE, &merge);
  if (error == 0) both.reset(merge.fence);
  return error;
}

} // namespace

int try_export_writers(int dmabuf, base::UniqueFd& fence) noexcept {
  dma_buf_export_sync_file command{.flags = DMA_BUF_SYNC_READ, .fd = -1};
  const int error = try_ioctl(dmabuf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &command);
  if (error == 0) fence.reset(command.fd);
  return error;
}

ImplicitFences::ImplicitFences(std::span<const int> dmabufs) {
  if (dmabufs.size() > dmabufs_.size()) throw base::UsageError("fences: at most 4 dma-bufs");
  for (const int dmabuf : dmabufs)
    dmabufs_[count_++].reset(
        base::check(fcntl(dmabuf, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)", "dma-buf"));
}

base::UniqueFd ImplicitFences::pending(base::UniqueFd acquire) const noexcept {
  for (size_t i = 0; i < count_; ++i) {
    base::UniqueFd own;
    if (try_export_writers(dmabufs_[i].get(), own) < 0 || is_signalled(own.get())) continue;
    if (!acquire) {
      acquire = std::move(own);
      continue;
    }
    base::UniqueFd both;
    if (try_merge(acquire.get(), own.get(), both) == 0) acquire = std::move(both);
  }
  return acquire;
}

} // namespace scanout::kms
