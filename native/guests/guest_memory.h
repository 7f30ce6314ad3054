// The memory of a virtual machine, as its VMM shares it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::guests {

/// What a VMM says of one region of its guest's memory. Addresses and sizes in bytes.
struct GuestRegion {
  uint64_t guest_address = 0, size = 0;
  uint64_t user_address = 0; // where the VMM has it; vring addresses are said in these
  uint64_t file_offset = 0;
  base::UniqueFd fd;
};

/// Regions of guest memory, mapped. Immutable: another memory table is another object, and whoever reads in
/// this one keeps it alive. Any thread.
///
/// Only memfds that nobody can shrink (F_SEAL_SHRINK) are mapped: cut off under us, memory ends the daemon
/// with SIGBUS. A guest that punches holes reads zeroes.
class GuestMemory {
public:
  static constexpr size_t max_regions = 8; // VHOST_MEMORY_BASELINE_NREGIONS

  /// Takes the descriptors over. Throws SystemError: no memfd, no seal, not within its file, regions that
  /// overlap (EINVAL, with what is to be done about it).
  static std::shared_ptr<const GuestMemory> map(std::vector<GuestRegion> regions);
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory();

  /// `length` bytes at a guest-physical address, or null when they are not all in one region.
  [[nodiscard]] uint8_t* at(uint64_t guest_address, uint64_t length) const noexcept;
  /// The same by an address of the VMM's.
  [[nodiscard]] uint8_t* at_user(uint64_t user_address, uint64_t length) const noexcept;

  struct Place {
    int fd; // the region's
    uint64_t offset;
  };
  /// Where in which memfd `length` bytes are.
  [[nodiscard]] std::optional<Place> place(uint64_t guest_address, uint64_t length) const noexcept;

private:
  struct Mapped {
    GuestRegion region;
    uint8_t* memory = nullptr;
  };
  GuestMemory() = default;
  void add(GuestRegion region);
  [[nodiscard]] const Mapped* find(uint64_t guest_address, uint64_t length) const noexcept;

  std::vector<Mapped> regions_;
};

} // namespace scanout::guests
