// Objects that one path visits after each sleep, on as few pages as they fit on.
#pragma once

#include <cstddef>

namespace scanout::base {

/// Base of classes whose objects are allocated next to each other: by first fit on pages that only such
/// objects have, aligned to 64 bytes, and none across two pages. What is larger than a page comes from the
/// heap.
///
/// A thread that sleeps between events finds each page anew, in caches and in the TLB; on heaps that others
/// use as well, each object of a path costs a page. For objects that a path needs and that are made seldom.
///
/// Any thread; takes a lock. Pages are kept for later objects. A build with the address sanitizer uses the
/// heap, which that watches.
class Packed {
public:
  /// Throws std::bad_alloc.
  static void* operator new(size_t size);
  static void operator delete(void* object, size_t size) noexcept;

protected:
  Packed() = default;
  ~Packed() = default;
};

} // namespace scanout::base
