// Signals eventfds of other processes without ever blocking.
#pragma once

#include <linux/aio_abi.h>

#include <array>
#include <cstddef>

#include "base/unique_fd.h"

namespace scanout::base {

/// Adds 1 to eventfds that hostile processes share, on a thread that must not block.
///
/// write(2) to an eventfd blocks once its counter is full, and any process that shares the descriptor can
/// both fill the counter and clear O_NONBLOCK; a check before the write leaves a race. The kernel's own way
/// to signal an eventfd saturates instead of blocking, and Linux AIO (io_submit(2), IOCB_FLAG_RESFD) is the
/// door to it: a poll of a descriptor that is always ready completes at once and signals. One system call
/// signals a whole batch.
class EventfdSignaller {
public:
  static constexpr size_t batch = 64;

  /// Throws SystemError: where io_setup(2) is refused (CONFIG_AIO, seccomp) there is no safe way.
  EventfdSignaller();
  EventfdSignaller(const EventfdSignaller&) = delete;
  EventfdSignaller& operator=(const EventfdSignaller&) = delete;
  ~EventfdSignaller();

  /// Remembers `eventfd` (borrowed until `flush`). Flushes by itself when the batch is full.
  void add(int eventfd) noexcept;
  /// Signals all that were added. A descriptor that is no eventfd is passed over.
  void flush() noexcept;

private:
  void reap() noexcept;

  aio_context_t context_ = 0;
  UniqueFd ready_; // an eventfd that is always readable
  size_t count_ = 0;
  std::array<iocb, batch> requests_{};
  std::array<iocb*, batch> pointers_{};
};

} // namespace scanout::base
