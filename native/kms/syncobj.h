// DRM sync objects: fences in a box of their own, binary or with a timeline. Throws SystemError (EOPNOTSUPP
// where the driver has none).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/unique_fd.h"
#include "kms/device.h"

namespace scanout::kms {

/// Owns one handle. Points are of the timeline; 0 means the binary fence.
class Syncobj {
public:
  Syncobj(std::shared_ptr<Device> device, bool signalled);
  /// From another process or device.
  static std::unique_ptr<Syncobj> import(std::shared_ptr<Device> device, int fd);
  Syncobj(const Syncobj&) = delete;
  Syncobj& operator=(const Syncobj&) = delete;
  ~Syncobj();

  [[nodiscard]] uint32_t handle() const noexcept { return handle_; }
  [[nodiscard]] const std::shared_ptr<Device>& device() const noexcept { return device_; }

  [[nodiscard]] base::UniqueFd export_fd() const;
  /// The fence that is in it as a sync_file. EINVAL: none is.
  [[nodiscard]] base::UniqueFd export_sync_file() const;
  void import_sync_file(int fence) const;

  void reset() const;
  /// Signals from the processor: the binary fence with 0, a timeline up to `point` otherwise.
  void signal(uint64_t point) const;
  /// The last point that has signalled; with `last_submitted`, that has a fence.
  [[nodiscard]] uint64_t query(bool last_submitted) const;
  /// Copies the fence of `source` at `source_point` to `point`.
  void transfer_from(const Syncobj& source, uint64_t source_point, uint64_t point) const;

  /// Waits until `point` has signalled, or has a fence with `available`; a point without one is waited for as
  /// well. `deadline_ns` is CLOCK_MONOTONIC; the past only looks. False when the time is up. Blocks.
  [[nodiscard]] bool wait(uint64_t point, int64_t deadline_ns, bool available) const;
  /// Adds one to the eventfd when `wait` would return true. EINVAL before Linux 6.6.
  void notify(uint64_t point, int eventfd, bool available) const;

private:
  struct Adopted {};
  Syncobj(std::shared_ptr<Device> device, uint32_t handle, Adopted) noexcept
      : device_(std::move(device)), handle_(handle) {}
  void call(unsigned long request, void* argument, const char* op) const;
  [[nodiscard]] base::UniqueFd to_fd(uint32_t flags) const;

  std::shared_ptr<Device> device_;
  uint32_t handle_ = 0;
};

} // namespace scanout::kms
