#include "kms/udmabuf.h"

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "kms/ioctl.h"

namespace scanout::kms {

Udmabuf create_udmabuf(uint64_t size, const std::string& name) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  Udmabuf made;
  made.size = (size + page - 1) / page * page;
  made.memfd.reset(
      base::check(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create", name));
  base::check(ftruncate(made.memfd.get(), static_cast<off_t>(made.size)), "ftruncate", name);
  base::check(fcntl(made.memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
              "fcntl(F_ADD_SEALS)", name);
  const MemfdRange whole{.memfd = made.memfd.get(), .offset = 0, .size = made.size};
  made.dmabuf = udmabuf_of({&whole, 1});
  return made;
}

base::UniqueFd udmabuf_of(std::span<const MemfdRange> ranges) {
  const base::UniqueFd node(base::check(open("/dev/udmabuf", O_RDWR | O_CLOEXEC), "open", "/dev/udmabuf"));
  // The list is a structure with a flexible end, which C++ does not have.
  std::vector<std::byte> memory(sizeof(udmabuf_create_list) + ranges.size() * sizeof(udmabuf_create_item));
  const udmabuf_create_list header{.flags = UDMABUF_FLAGS_CLOEXEC,
                                   .count = static_cast<uint32_t>(ranges.size())};
  std::memcpy(memory.data(), &header, sizeof header);
  for (size_t i = 0; i < ranges.size(); ++i) {
    udmabuf_create_item item{};
    item.memfd = static_cast<uint32_t>(ranges[i].memfd);
    item.offset = ranges[i].offset;
    item.size = ranges[i].size;
    std::memcpy(memory.data() + sizeof header + i * sizeof item, &item, sizeof item);
  }
  const int dmabuf = drmIoctl(node.get(), UDMABUF_CREATE_LIST, memory.data());
  return base::UniqueFd(
      base::check(dmabuf, "UDMABUF_CREATE_LIST", std::to_string(ranges.size()) + " ranges"));
}

} // namespace scanout::kms
