#include "guests/vfio_device.h"

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fd_kind.h"
#include "guests/vfio_info.h"
#include "guests/vfio_owner.h"
#include "kms/ioctl.h"

namespace scanout::guests {

namespace {

// Drivers copy up to the union, not to the end of a structure that has grown since.
constexpr uint32_t plane_info_size = offsetof(vfio_device_gfx_plane_info, region_index) + sizeof(uint32_t);
constexpr uint32_t no_hot_spot = 0xffffffff;
constexpr uint32_t most_regions = 64;
// What a guest's driver needs to see that the monitor went away; as long as QEMU takes.
constexpr auto link_down_time = std::chrono::milliseconds(100);

uint32_t type_flag(VfioPlaneKind kind) noexcept {
  return kind == VfioPlaneKind::dma_buf ? VFIO_GFX_PLANE_TYPE_DMABUF : VFIO_GFX_PLANE_TYPE_REGION;
}

/// A region's description with its capabilities, which the kernel appends.
class RegionInfo {
public:
  RegionInfo(int device, uint32_t index)
      : bytes_(read_vfio_info(device, VFIO_DEVICE_GET_REGION_INFO, index, sizeof info_,
                              "VFIO_DEVICE_GET_REGION_INFO", kms::named("region", index))) {
    std::memcpy(&info_, bytes_.data(), sizeof info_);
  }
  [[nodiscard]] const vfio_region_info& info() const noexcept { return info_; }
  [[nodiscard]] bool is_edid() const noexcept {
    constexpr VfioType edid{.type = VFIO_REGION_TYPE_GFX, .subtype = VFIO_REGION_SUBTYPE_GFX_EDID};
    return (info_.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0 &&
           find_vfio_type(bytes_, info_.cap_offset, VFIO_REGION_INFO_CAP_TYPE) == edid;
  }

private:
  vfio_region_info info_{};
  std::vector<std::byte> bytes_;
};

void write_all(int device, const void* bytes, size_t size, uint64_t offset) {
  // Registers are written whole, by one call of their own size.
  const ssize_t written =
      base::check(pwrite(device, bytes, size, static_cast<off_t>(offset)), "pwrite", "EDID region");
  if (static_cast<size_t>(written) != size) throw base::SystemError(EIO, "pwrite", "EDID region");
}

void write_register(int device, uint64_t region, size_t offset, uint32_t value) {
  write_all(device, &value, sizeof value, region + offset);
}

std::string group_of(const std::string& path) {
  std::error_code error;
  const auto group = std::filesystem::read_symlink(path + "/iommu_group", error);
  if (error) throw base::SystemError(ENODEV, "readlink", path, "the device is not bound to VFIO");
  return group.filename();
}

} // namespace

bool VfioPlane::same_buffer(const VfioPlane& other) const noexcept {
  return id == other.id && fourcc == other.fourcc && modifier == other.modifier && width == other.width &&
         height == other.height && stride == other.stride && size == other.size;
}

VfioDevice::VfioDevice(base::UniqueFd device) : device_(std::move(device)) {
  if (!base::is_vfio_device(device_.get()))
    throw base::SystemError(EINVAL, "readlink", "device", "no VFIO device");
  (void)info();
}

vfio_device_info VfioDevice::info() const {
  vfio_device_info info{};
  info.argsz = sizeof info;
  kms::checked_ioctl(fd(), VFIO_DEVICE_GET_INFO, &info, "VFIO_DEVICE_GET_INFO");
  return info;
}

VfioDevice VfioDevice::open(const std::string& path) {
  const std::string group_path = "/dev/vfio/" + group_of(path);
  VfioDevice made;
  made.group_.reset(base::check(::open(group_path.c_str(), O_RDWR | O_CLOEXEC), "open", group_path));
  made.container_.reset(base::check(::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), "open", "/dev/vfio/vfio"));
  const int container = made.container_.get(), group = made.group_.get();
  if (base::check(ioctl(container, VFIO_GET_API_VERSION), "VFIO_GET_API_VERSION") != VFIO_API_VERSION)
    throw base::SystemError(EPROTO, "VFIO_GET_API_VERSION", "/dev/vfio/vfio");
  vfio_group_status status{.argsz = sizeof status, .flags = 0};
  kms::checked_ioctl(group, VFIO_GROUP_GET_STATUS, &status, "VFIO_GROUP_GET_STATUS", group_path);
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
    throw base::SystemError(EPERM, "VFIO_GROUP_GET_STATUS", group_path,
                            "not all devices of the group are VFIO's");
  int argument = container;
  kms::checked_ioctl(group, VFIO_GROUP_SET_CONTAINER, &argument, "VFIO_GROUP_SET_CONTAINER", group_path);
  base::check(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), "VFIO_SET_IOMMU", group_path);
  std::error_code error;
  const std::string name = std::filesystem::canonical(path, error).filename();
  made.device_.reset(
      base::check(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name.c_str()), "VFIO_GROUP_GET_DEVICE_FD", name));
  base::check(fcntl(made.device_.get(), F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)", name);
  return made;
}

VfioDevice VfioDevice::adopt(const std::string& path) {
  std::error_code error;
  const std::string real = std::filesystem::canonical(path, error);
  if (error) throw base::SystemError(ENODEV, "realpath", path);
  VfioOwner owner = find_vfio_owner(real, "/dev/vfio/" + group_of(path));
  VfioDevice made(std::move(owner.device));
  made.owner_pid_ = owner.pid;
  made.owner_fd_ = owner.fd;
  made.owner_process_ = std::move(owner.process);
  return made;
}

std::optional<VfioPlaneKind> VfioDevice::probe(uint32_t plane_type) const noexcept {
  for (const VfioPlaneKind kind : {VfioPlaneKind::dma_buf, VfioPlaneKind::region}) {
    vfio_device_gfx_plane_info info{};
    info.argsz = sizeof info;
    info.flags = VFIO_GFX_PLANE_TYPE_PROBE | type_flag(kind);
    if (kms::try_ioctl(fd(), VFIO_DEVICE_QUERY_GFX_PLANE, &info) != 0) continue;
    // The probe is of the device; whether it has a plane of the type, only asking for one says.
    VfioPlane plane;
    const int error = query_plane(fd(), plane_type, kind, plane);
    if (error == 0 || error == ENOMEM) return kind;
  }
  return std::nullopt;
}

base::UniqueFd VfioDevice::dma_buf(uint32_t id) const {
  uint32_t argument = id;
  base::UniqueFd buffer(base::check(ioctl(fd(), VFIO_DEVICE_GET_GFX_DMABUF, &argument),
                                    "VFIO_DEVICE_GET_GFX_DMABUF", kms::named("dma-buf", id)));
  base::check(fcntl(buffer.get(), F_SETFD, FD_CLOEXEC), "fcntl(F_SETFD)", kms::named("dma-buf", id));
  return buffer;
}

VfioRegionPlace VfioDevice::region(uint32_t index) const {
  const RegionInfo region(fd(), index);
  const vfio_region_info& info = region.info();
  if ((info.flags & VFIO_REGION_INFO_FLAG_READ) == 0 || info.size == 0)
    throw base::SystemError(EINVAL, "VFIO_DEVICE_GET_REGION_INFO", kms::named("region", index),
                            "not readable");
  return {info.offset, info.size, (info.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0};
}

std::optional<uint32_t> VfioDevice::display_irq() const {
  return find_vfio_display_irq(fd(), info().num_irqs);
}

bool VfioDevice::write_edid(std::span<const uint8_t> edid) const {
  const vfio_device_info device = info();
  // Those of PCI have numbers of their own and no type.
  for (uint32_t index = VFIO_PCI_NUM_REGIONS; index < std::min(device.num_regions, most_regions); ++index) {
    const RegionInfo region(fd(), index);
    if (!region.is_edid()) continue;
    const uint64_t at = region.info().offset;
    // Word by word: drivers take registers by their own size alone.
    std::array<uint32_t, sizeof(vfio_region_gfx_edid) / sizeof(uint32_t)> words{};
    for (size_t i = 0; i < words.size(); ++i) {
      const auto offset = static_cast<off_t>(at + i * sizeof(uint32_t));
      if (pread(fd(), &words[i], sizeof(uint32_t), offset) != sizeof(uint32_t))
        throw base::SystemError(errno != 0 ? errno : EIO, "pread", "EDID region");
    }
    vfio_region_gfx_edid registers{};
    std::memcpy(&registers, words.data(), sizeof registers);
    if (edid.size() > registers.edid_max_size || registers.edid_offset + edid.size() > region.info().size)
      throw base::SystemError(E2BIG, "pwrite", "EDID region");
    write_register(fd(), at, offsetof(vfio_region_gfx_edid, link_state), VFIO_DEVICE_GFX_LINK_STATE_DOWN);
    std::this_thread::sleep_for(link_down_time);
    write_all(fd(), edid.data(), edid.size(), at + registers.edid_offset);
    write_register(fd(), at, offsetof(vfio_region_gfx_edid, edid_size), static_cast<uint32_t>(edid.size()));
    write_register(fd(), at, offsetof(vfio_region_gfx_edid, link_state), VFIO_DEVICE_GFX_LINK_STATE_UP);
    return true;
  }
  return false;
}

int query_plane(int device, uint32_t plane_type, VfioPlaneKind kind, VfioPlane& plane) noexcept {
  vfio_device_gfx_plane_info info{};
  info.argsz = sizeof info;
  info.flags = type_flag(kind);
  info.drm_plane_type = plane_type;
  static_assert(plane_info_size <= sizeof info);
  const int error = kms::try_ioctl(device, VFIO_DEVICE_QUERY_GFX_PLANE, &info);
  if (error != 0) return -error;
  const auto hot = [](uint32_t value) { return value == no_hot_spot ? 0 : static_cast<int32_t>(value); };
  const bool off = info.drm_format == 0 || info.width == 0 || info.height == 0;
  plane = {.fourcc = off ? 0 : info.drm_format,
           .modifier = info.drm_format_mod,
           .width = info.width,
           .height = info.height,
           .stride = info.stride,
           .size = info.size,
           .x = static_cast<int32_t>(info.x_pos),
           .y = static_cast<int32_t>(info.y_pos),
           .hot_x = hot(info.x_hot),
           .hot_y = hot(info.y_hot),
           .id = kind == VfioPlaneKind::dma_buf ? info.dmabuf_id : info.region_index};
  return 0;
}

} // namespace scanout::guests
