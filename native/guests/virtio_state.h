// What another process needs to go on with a virtio-gpu device, in memory that outlives this one.
#pragma once

#include <linux/virtio_gpu.h>

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "guests/vhost_inflight.h"
#include "guests/vhost_record.h"
#include "guests/virtio_gpu_types.h"

namespace scanout::guests {

/// The tables of a device. They live here and nowhere else, so that a process that dies has written
/// everything down already.
struct GpuRecord {
  std::array<GpuResource, max_gpu_resources> resources;
  std::array<GpuBuffer, max_gpu_buffers> buffers;
  std::array<GpuScanoutRecord, max_gpu_scanouts> scanouts;
  uint16_t stopped_at = 0; // where the control ring was stopped
};

/// One file: a header, these tables, the rings' in-flight records, and for each resource the pieces of guest
/// memory that it is made of. It is shared with nobody but the service manager, which keeps it.
class VirtioState {
public:
  struct Piece {
    uint64_t address, size; // guest-physical
  };

  /// `label`: whatever a successor has to agree on; at most 127 bytes. Throws SystemError.
  static std::shared_ptr<VirtioState> make(uint32_t scanouts, const std::string& label);
  /// Of a former process. Throws SystemError (EINVAL, with the difference): another version's, or another
  /// device's. Buffers and resources that were on their way out or not made yet are free in it.
  static std::shared_ptr<VirtioState> open(base::UniqueFd fd, uint32_t scanouts, const std::string& label);
  VirtioState(const VirtioState&) = delete;
  VirtioState& operator=(const VirtioState&) = delete;
  ~VirtioState();

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] VhostRecord& transport() noexcept { return file_->transport; }
  [[nodiscard]] GpuRecord& gpu() noexcept { return file_->gpu; }
  [[nodiscard]] const std::shared_ptr<const InflightMemory>& records() const noexcept { return records_; }

  /// Not of the flip thread. Throw SystemError.
  void write_pieces(uint32_t resource, std::span<const Piece> pieces);
  [[nodiscard]] std::vector<Piece> read_pieces(uint32_t resource) const;

private:
  struct File {
    uint64_t magic;
    uint32_t version, bytes, scanouts, reserved;
    char label[128];
    uint32_t piece_counts[max_gpu_resources];
    VhostRecord transport;
    GpuRecord gpu;
  };
  VirtioState(base::UniqueFd fd, File* file) noexcept : fd_(std::move(fd)), file_(file) {}
  static std::shared_ptr<VirtioState> map(base::UniqueFd fd);
  void check(uint32_t scanouts, const std::string& label) const;
  void tidy() noexcept;

  base::UniqueFd fd_;
  File* file_;
  std::shared_ptr<const InflightMemory> records_;
};

} // namespace scanout::guests
