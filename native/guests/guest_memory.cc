#include "guests/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace scanout::guests {

namespace {

// Offset of [address, address + length) in [start, start + size), if it is all in there.
std::optional<uint64_t> within(uint64_t start, uint64_t size, uint64_t address, uint64_t length) noexcept {
  if (address < start || address - start > size) return std::nullopt;
  const uint64_t offset = address - start;
  if (length > size - offset) return std::nullopt;
  return offset;
}

bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) noexcept {
  return a < b + b_size && b < a + a_size;
}

void check_file(const GuestRegion& region, const std::string& name) {
  const int seals = fcntl(region.fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    throw base::SystemError(
        EINVAL, "fcntl(F_GET_SEALS)", name,
        "guest memory must be a memfd with F_SEAL_SHRINK (memory-backend-memfd, share=on)");
  }
  struct stat status{};
  base::check(fstat(region.fd.get(), &status), "fstat", name);
  const auto file_size = static_cast<uint64_t>(status.st_size);
  if (!within(0, file_size, region.file_offset, region.size))
    throw base::SystemError(EINVAL, "fstat", name, "the region reaches beyond its file");
}

} // namespace

std::shared_ptr<const GuestMemory> GuestMemory::map(std::vector<GuestRegion> regions) {
  if (regions.size() > max_regions) {
    throw base::SystemError(E2BIG, "mmap", "guest memory",
                            std::to_string(regions.size()) + " regions; at most 8 are possible");
  }
  std::shared_ptr<GuestMemory> memory(new GuestMemory);
  memory->regions_.reserve(regions.size());
  for (GuestRegion& region : regions)
    memory->add(std::move(region));
  return memory;
}

void GuestMemory::add(GuestRegion region) {
  const std::string name = "guest memory region " + std::to_string(regions_.size());
  constexpr uint64_t last = std::numeric_limits<uint64_t>::max();
  if (region.size == 0 || region.size > last / 2 || region.guest_address > last - region.size ||
      region.user_address > last - region.size)
    throw base::SystemError(EINVAL, "mmap", name, "its addresses wrap around");
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  if (region.file_offset % page != 0)
    throw base::SystemError(EINVAL, "mmap", name, "its offset in the file is not that of a page");
  for (const Mapped& other : regions_) {
    if (overlap(region.guest_address, region.size, other.region.guest_address, other.region.size) ||
        overlap(region.user_address, region.size, other.region.user_address, other.region.size))
      throw base::SystemError(EINVAL, "mmap", name, "it overlaps another one");
  }
  check_file(region, name);
  void* memory = mmap(nullptr, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd.get(),
                      static_cast<off_t>(region.file_offset));
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap", name);
  // Not part of a core dump: it is the guest's.
  madvise(memory, region.size, MADV_DONTDUMP);
  regions_.push_back({std::move(region), static_cast<uint8_t*>(memory)});
}

GuestMemory::~GuestMemory() {
  for (const Mapped& mapped : regions_)
    munmap(mapped.memory, mapped.region.size);
}

const GuestMemory::Mapped* GuestMemory::find(uint64_t guest_address, uint64_t length) const noexcept {
  for (const Mapped& mapped : regions_) {
    if (within(mapped.region.guest_address, mapped.region.size, guest_address, length)) return &mapped;
  }
  return nullptr;
}

uint8_t* GuestMemory::at(uint64_t guest_address, uint64_t length) const noexcept {
  const Mapped* mapped = find(guest_address, length);
  return mapped == nullptr ? nullptr : mapped->memory + (guest_address - mapped->region.guest_address);
}

uint8_t* GuestMemory::at_user(uint64_t user_address, uint64_t length) const noexcept {
  for (const Mapped& mapped : regions_) {
    if (const auto offset = within(mapped.region.user_address, mapped.region.size, user_address, length))
      return mapped.memory + *offset;
  }
  return nullptr;
}

std::optional<GuestMemory::Place> GuestMemory::place(uint64_t guest_address, uint64_t length) const noexcept {
  const Mapped* mapped = find(guest_address, length);
  if (mapped == nullptr) return std::nullopt;
  const GuestRegion& region = mapped->region;
  return Place{region.fd.get(), region.file_offset + (guest_address - region.guest_address)};
}

} // namespace scanout::guests
