#include "input/ring_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>

#include "base/error.h"

namespace scanout::input {

namespace {

base::UniqueFd make(const char* name, size_t size) {
  base::UniqueFd fd(base::check(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create", name));
  base::check(ftruncate(fd.get(), static_cast<off_t>(size)), "ftruncate", name);
  return fd;
}

void* map(const base::UniqueFd& fd, size_t size, int protection, const char* name) {
  void* memory = mmap(nullptr, size, protection, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap", name);
  return memory;
}

void seal(const base::UniqueFd& fd, int seals, const char* name) {
  base::check(fcntl(fd.get(), F_ADD_SEALS, seals | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
              "fcntl(F_ADD_SEALS)", name);
}

constexpr const char* ring_name = "scanoutd-input-ring";
constexpr const char* reply_name = "scanoutd-input-reply";

} // namespace

RingMemory::RingMemory()
    : ring_fd_(make(ring_name, sizeof(scanoutd_input_ring))),
      reply_fd_(make(reply_name, sizeof(scanoutd_input_reply))) {
  seal(reply_fd_, 0, reply_name);
  void* ring = map(ring_fd_, sizeof(scanoutd_input_ring), PROT_READ | PROT_WRITE, ring_name);
  ring_ = static_cast<scanoutd_input_ring*>(ring);
  try {
    // Ours, made before, is the last mapping that can write.
    seal(ring_fd_, F_SEAL_FUTURE_WRITE, ring_name);
    reply_ = static_cast<const scanoutd_input_reply*>(
        map(reply_fd_, sizeof(scanoutd_input_reply), PROT_READ, reply_name));
  } catch (...) {
    munmap(ring, sizeof(scanoutd_input_ring));
    throw;
  }
  ring_->magic = SCANOUTD_INPUT_MAGIC;
  ring_->version_major = SCANOUTD_VERSION_MAJOR;
  ring_->version_minor = SCANOUTD_VERSION_MINOR;
  ring_->capacity = SCANOUTD_INPUT_EVENTS;
  ring_->event_size = sizeof(scanoutd_input_event);
  ring_->device_size = sizeof(scanoutd_input_device);
}

RingMemory::~RingMemory() {
  munmap(ring_, sizeof(scanoutd_input_ring));
  munmap(const_cast<scanoutd_input_reply*>(reply_), sizeof(scanoutd_input_reply));
}

} // namespace scanout::input
