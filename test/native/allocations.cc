#include "allocations.h"

namespace scanout::test {

static thread_local size_t count = 0;

size_t allocations() noexcept {
  return count;
}

} // namespace scanout::test

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

// Defined in the executable, so they come before the C library's, for `operator new` too.
extern "C" {
void* __libc_malloc(size_t size);                     // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(size_t count, size_t size);       // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void* memory, size_t size);      // NOLINT(bugprone-reserved-identifier)
void* __libc_memalign(size_t alignment, size_t size); // NOLINT(bugprone-reserved-identifier)

__attribute__((visibility("default"))) void* malloc(size_t size) noexcept {
  ++scanout::test::count;
  return __libc_malloc(size);
}
__attribute__((visibility("default"))) void* calloc(size_t count, size_t size) noexcept {
  ++scanout::test::count;
  return __libc_calloc(count, size);
}
__attribute__((visibility("default"))) void* realloc(void* memory, size_t size) noexcept {
  ++scanout::test::count;
  return __libc_realloc(memory, size);
}
__attribute__((visibility("default"))) void* aligned_alloc(size_t alignment, size_t size) noexcept {
  ++scanout::test::count;
  return __libc_memalign(alignment, size);
}
}

#endif
