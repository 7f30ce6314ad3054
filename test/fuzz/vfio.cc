// Fuzz target (libFuzzer): what a driver of VFIO can say of a device, its regions, its irqs, its planes and
// the registers of its EDID region. The driver is the input: each question takes the next bytes of it.
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "guests/vfio_device.h"
#include "guests/vfio_info.h"
#include "guests/vfio_region.h"

using namespace scanout;
using namespace scanout::guests;

namespace {

constexpr size_t region_bytes = 1 << 16; // of the file that stands for the device

void require(bool condition) {
  if (!condition) std::abort();
}

class Input {
public:
  void set(const uint8_t* data, size_t size) { data_ = data, size_ = size; }
  /// Fills as much as there is; the rest stays as it was.
  void take(void* to, size_t count) {
    const size_t given = std::min(count, size_);
    if (given == 0) return;
    std::memcpy(to, data_, given);
    data_ += given;
    size_ -= given;
  }
  uint8_t byte() {
    uint8_t value = 0;
    take(&value, 1);
    return value;
  }

private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

Input input;

/// A structure with `argsz` before it: as large as the caller has room for, and what it wants to be beyond
/// that.
int answer_info(void* argument, size_t fixed) {
  uint32_t room = 0;
  std::memcpy(&room, argument, sizeof room);
  require(room >= fixed && room <= 4096);
  if (input.byte() == 0xff) return EINVAL;
  auto* bytes = static_cast<uint8_t*>(argument);
  // A caller with little room sees how much there is; often the right size, at times an absurd one.
  uint32_t wanted = 16 + input.byte() * 4U;
  if (wanted == 16) input.take(&wanted, sizeof wanted);
  input.take(bytes + sizeof room, room - sizeof room);
  std::memcpy(bytes, &wanted, sizeof wanted);
  return 0;
}

void believe(const VfioPlane& plane) {
  require(plane.fourcc == 0 || (plane.width > 0 && plane.height > 0));
  require(plane.same_buffer(plane));
}

template <typename Call> void tried(const Call& call) {
  try {
    call();
  } catch (const base::SystemError& error) {
    require(error.error() > 0);
  }
}

/// A region that is let through can be copied without a look beyond it.
void copy_region(const VfioDevice& device, const VfioPlane& plane) {
  struct Host final : VfioRegionHost {
    void on_copied(uint32_t, const flip::Rect&, int) noexcept override {}
  } host;
  if (uint64_t{plane.stride} * plane.height > region_bytes * 4) return; // nobody's time worth
  std::array<VfioCanvas, vfio_canvases> canvases;
  const VfioRegion region(device, plane, std::move(canvases), host);
  require(region.plane() == plane);
}

} // namespace

// The kernel behind drmIoctl, and procfs, which says that a file is a device.
extern "C" int drmIoctl(int, unsigned long request, void* argument) {
  int error = ENOTTY;
  switch (request) {
  case VFIO_DEVICE_GET_INFO:
    error = answer_info(argument, sizeof(vfio_device_info) / 2);
    break;
  case VFIO_DEVICE_GET_REGION_INFO:
    error = answer_info(argument, sizeof(vfio_region_info));
    break;
  case VFIO_DEVICE_GET_IRQ_INFO:
    error = answer_info(argument, sizeof(vfio_irq_info));
    break;
  case VFIO_DEVICE_QUERY_GFX_PLANE:
    error = answer_info(argument, sizeof(uint32_t) * 2);
    break;
  case VFIO_DEVICE_SET_IRQS:
    error = input.byte() % 2 == 0 ? 0 : EINVAL;
    break;
  default:
    std::abort(); // of an ioctl that was never agreed on
  }
  errno = error;
  return error == 0 ? 0 : -1;
}

extern "C" ssize_t readlink(const char*, char* target, size_t room) noexcept {
  constexpr char name[] = "anon_inode:[vfio-device]";
  const size_t length = std::min(sizeof name - 1, room);
  std::memcpy(target, name, length);
  return static_cast<ssize_t>(length);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  input.set(data, size);
  static const int memory = [] {
    const int fd = memfd_create("device", MFD_CLOEXEC);
    return fd >= 0 && ftruncate(fd, region_bytes) == 0 ? fd : -1;
  }();
  require(memory >= 0);
  // The registers that write_edid reads where the driver says that they are.
  std::array<uint8_t, 64> registers{};
  input.take(registers.data(), registers.size());
  require(pwrite(memory, registers.data(), registers.size(), 0) == sizeof registers);
  tried([] {
    const VfioDevice device{base::UniqueFd(dup(memory))};
    for (const uint32_t type : {vfio_primary, vfio_cursor})
      (void)device.probe(type);
    VfioPlane plane;
    for (const VfioPlaneKind kind : {VfioPlaneKind::dma_buf, VfioPlaneKind::region}) {
      if (query_plane(device.fd(), vfio_primary, kind, plane) == 0) believe(plane);
    }
    tried([&] {
      if (const std::optional<uint32_t> irq = device.display_irq())
        require(*irq >= VFIO_PCI_NUM_IRQS && *irq < 64);
    });
    tried([&] { copy_region(device, plane); });
    tried([&] {
      const VfioRegionPlace place = device.region(plane.id);
      require(place.size > 0);
    });
    const std::array<uint8_t, 128> edid{};
    tried([&] { (void)device.write_edid(edid); });
  });
  // The file may have been written to at any place, and must not grow without end.
  require(ftruncate(memory, region_bytes) == 0);
  return 0;
}
