// The names by which descriptors of a vhost-user connection are kept for another process.
#pragma once

#include <cstdint>
#include <string>

namespace scanout::guests {

constexpr const char* backend_name = "backend";
constexpr const char* inflight_name = "inflight";

inline std::string memory_name(uint64_t inode) {
  return "memory-" + std::to_string(inode);
}

} // namespace scanout::guests
