// What still draws into a buffer, by the fences that its dma-bufs carry.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "base/unique_fd.h"
#include "kms/framebuffer.h"

namespace scanout::kms {

/// DMA_BUF_IOCTL_EXPORT_SYNC_FILE(READ): a sync_file of what writes into `dmabuf` now, in `fence`. One that
/// has signalled where nothing does. Takes no lock and waits for nothing. 0 or -errno: ENOTTY before
/// Linux 6.0, ENOMEM, EMFILE.
int try_export_writers(int dmabuf, base::UniqueFd& fence) noexcept;

/// The dma-bufs of one buffer, to be asked before each of its frames. Without that the kernel would wait for
/// these fences in the commit, and everybody else in that commit with it.
class ImplicitFences {
public:
  /// Asks nothing: there are no fences.
  ImplicitFences() = default;
  /// Duplicates `dmabufs`, at most as many as a framebuffer has planes. Throws SystemError.
  explicit ImplicitFences(std::span<const int> dmabufs);

  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  /// What has to signal before the buffer may be shown: `acquire` (a sync_file of the guest's, or none) and
  /// whatever writes into the buffer. None when nothing does any more. What the kernel does not tell, it
  /// waits for itself. Any thread; never blocks.
  [[nodiscard]] base::UniqueFd pending(base::UniqueFd acquire) const noexcept;

private:
  std::array<base::UniqueFd, most_planes> dmabufs_;
  size_t count_ = 0;
};

} // namespace scanout::kms
