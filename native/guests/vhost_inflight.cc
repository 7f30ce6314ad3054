#include "guests/vhost_inflight.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace scanout::guests {

namespace {

constexpr const char* what = "in-flight records";

/// What comes before is in memory first, should the process die in between.
void in_order() noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

} // namespace

void InflightRing::reset(uint16_t used) noexcept {
  if (at_ == nullptr) return;
  for (uint32_t i = 0; i < entries_; ++i)
    entry(static_cast<uint16_t>(i)).held = 0;
  counter_ = 0;
  in_order();
  region() = {.features = 0,
              .version = version,
              .entries = static_cast<uint16_t>(entries_),
              .last_head = 0,
              .used = used};
}

void InflightRing::taken(uint16_t head) noexcept {
  if (at_ == nullptr) return;
  entry(head).counter = counter_++;
  in_order();
  entry(head).held = 1;
  in_order();
}

void InflightRing::giving(uint16_t head) noexcept {
  if (at_ == nullptr) return;
  entry(head).next = region().last_head;
  in_order();
  region().last_head = head;
  in_order();
}

void InflightRing::given(uint16_t head, uint16_t used) noexcept {
  if (at_ == nullptr) return;
  in_order();
  entry(head).held = 0;
  in_order();
  region().used = used;
}

uint32_t InflightRing::recover(uint16_t used, Heads& heads) noexcept {
  if (at_ == nullptr) return 0;
  Region former;
  std::memcpy(&former, at_, sizeof former);
  if (former.version != version) {
    reset(used);
    return 0;
  }
  // It died after raising the used index, and before its record said so.
  const auto behind = static_cast<uint16_t>(used - former.used);
  uint16_t head = former.last_head;
  for (uint16_t i = 0; behind <= entries_ && i < behind && head < entries_; ++i) {
    Entry given;
    std::memcpy(&given, &entry(head), sizeof given);
    entry(head).held = 0;
    head = given.next;
  }
  in_order();
  region().used = used;
  uint32_t count = 0;
  counter_ = 0;
  for (uint32_t i = 0; i < entries_; ++i) {
    Entry one;
    std::memcpy(&one, &entry(static_cast<uint16_t>(i)), sizeof one);
    if (one.held != 1) continue;
    heads[count++] = {.counter = one.counter, .head = static_cast<uint16_t>(i)};
    counter_ = std::max(counter_, one.counter + 1);
  }
  std::sort(heads.begin(), heads.begin() + count,
            [](const Head& a, const Head& b) { return a.counter < b.counter; });
  return count;
}

std::shared_ptr<const InflightMemory> InflightMemory::map(base::UniqueFd fd, uint64_t size, uint64_t offset,
                                                          uint32_t rings, uint32_t entries) {
  const auto refuse = [](const char* why) -> void { throw base::SystemError(EINVAL, "mmap", what, why); };
  if (entries == 0 || entries > max_queue_size) refuse("a size of their rings that is not possible");
  if (size < bytes(rings, entries)) refuse("they are too short for their rings");
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) refuse("they must be in a memfd with F_SEAL_SHRINK");
  struct stat status{};
  base::check(fstat(fd.get(), &status), "fstat", what);
  const auto file = static_cast<uint64_t>(status.st_size);
  if (offset > file || size > file - offset) refuse("they reach beyond their file");
  if (offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) != 0)
    refuse("their offset is not that of a page");
  const size_t mapped = bytes(rings, entries);
  void* memory =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), static_cast<off_t>(offset));
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap", what);
  return std::shared_ptr<const InflightMemory>(
      new InflightMemory(static_cast<uint8_t*>(memory), mapped, entries));
}

base::UniqueFd InflightMemory::make(uint32_t rings, uint32_t entries) {
  base::UniqueFd fd(
      base::check(memfd_create("in-flight", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create", what));
  base::check(ftruncate(fd.get(), static_cast<off_t>(bytes(rings, entries))), "ftruncate", what);
  base::check(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "fcntl(F_ADD_SEALS)",
              what);
  return fd;
}

InflightMemory::~InflightMemory() {
  munmap(memory_, size_);
}

} // namespace scanout::guests
