// Counts allocations.
#pragma once

#include <cstddef>

namespace scanout::test {

/// How often the calling thread has asked for memory so far. Always 0 in a build with sanitizers.
size_t allocations() noexcept;

} // namespace scanout::test
