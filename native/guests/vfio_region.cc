#include "guests/vfio_region.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "kms/dmabuf.h"

namespace scanout::guests {

namespace {

size_t picture_bytes(const VfioPlane& plane, const VfioRegionPlace& place) {
  const uint64_t bytes = uint64_t{plane.stride} * plane.height;
  if (bytes == 0 || bytes > place.size)
    throw base::SystemError(EINVAL, "VFIO_DEVICE_QUERY_GFX_PLANE", "region " + std::to_string(plane.id),
                            "the plane reaches beyond its region");
  return bytes;
}

base::UniqueFd make_staging(size_t bytes) {
  base::UniqueFd fd(base::check(memfd_create("scanoutd-region", MFD_CLOEXEC), "memfd_create"));
  base::check(ftruncate(fd.get(), static_cast<off_t>(bytes)), "ftruncate", "region's copy");
  return fd;
}

base::UniqueFd make_event() {
  return base::UniqueFd(base::check(eventfd(0, EFD_CLOEXEC), "eventfd"));
}

void signal(int event) noexcept {
  const uint64_t one = 1;
  (void)!write(event, &one, sizeof one); // ours, and read: its counter is never full
}

} // namespace

VfioRegion::VfioRegion(const VfioDevice& device, const VfioPlane& plane,
                       std::array<VfioCanvas, vfio_canvases> canvases, VfioRegionHost& host)
    : plane_(plane), canvases_(std::move(canvases)), host_(host), device_(device.fd()),
      place_(device.region(plane.id)), bytes_(picture_bytes(plane, place_)),
      staging_fd_(make_staging(bytes_)),
      region_(place_.mappable ? kms::Mapping(device_, bytes_, static_cast<off_t>(place_.offset), false)
                              : kms::Mapping()),
      staging_(staging_fd_.get(), bytes_, 0, true), wake_(make_event()), done_(make_event()),
      thread_("scanoutd-region", 0, [this] { run(); }) {}

VfioRegion::~VfioRegion() {
  stop_ = true;
  signal(wake_.get());
  thread_.join();
}

int VfioRegion::enter(base::Epoll& epoll) noexcept {
  return epoll.try_add(done_.get(), EPOLLIN | EPOLLET, this);
}

void VfioRegion::leave(base::Epoll& epoll) noexcept {
  epoll.remove(done_.get());
}

void VfioRegion::copy(uint32_t canvas, int32_t former) noexcept {
  busy_ = true;
  canvas_ = canvas;
  former_ = former;
  signal(wake_.get());
}

void VfioRegion::on_ready(uint32_t) noexcept {
  uint64_t count = 0;
  if (read(done_.get(), &count, sizeof count) < 0) return;
  busy_ = false;
  host_.on_copied(canvas_, rows_, error_);
}

void VfioRegion::run() noexcept {
  for (uint64_t count = 0; !stop_;) {
    if (read(wake_.get(), &count, sizeof count) < 0 && errno != EINTR) return;
    if (stop_) return;
    error_ = fetch();
    if (error_ == 0) error_ = draw();
    signal(done_.get());
  }
}

// Into the staging memory. 0 or a positive errno.
int VfioRegion::fetch() noexcept {
  for (size_t at = 0; at < bytes_;) {
    const auto offset = static_cast<off_t>(at);
    const ssize_t size =
        region_.data() != nullptr
            ? pwrite(staging_fd_.get(), region_.data() + at, bytes_ - at, offset)
            : pread(device_, staging_.data() + at, bytes_ - at, static_cast<off_t>(place_.offset) + offset);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return size < 0 ? errno : EIO;
    at += static_cast<size_t>(size);
  }
  return 0;
}

// From there into the canvas, as far as it differs.
int VfioRegion::draw() noexcept {
  const size_t stride = plane_.stride;
  const std::byte* fresh = staging_.data();
  rows_ = {0, 0, static_cast<int32_t>(plane_.width), 0};
  const std::byte* old = former_ < 0 ? nullptr : canvases_[static_cast<uint32_t>(former_)].memory.data();
  for (uint32_t row = 0; row < plane_.height; ++row) {
    const size_t at = row * stride;
    if (old != nullptr && std::memcmp(old + at, fresh + at, stride) == 0) continue;
    if (rows_.y2 == 0) rows_.y1 = static_cast<int32_t>(row);
    rows_.y2 = static_cast<int32_t>(row) + 1;
  }
  if (rows_.y2 == 0) return 0;
  VfioCanvas& canvas = canvases_[canvas_];
  try {
    kms::begin_cpu_access(canvas.dmabuf.get(), kms::Access::read_write);
    for (uint32_t row = 0; row < plane_.height; ++row) {
      const size_t at = row * stride;
      if (std::memcmp(canvas.memory.data() + at, fresh + at, stride) != 0)
        std::memcpy(canvas.memory.data() + at, fresh + at, stride);
    }
    kms::end_cpu_access(canvas.dmabuf.get(), kms::Access::read_write);
  } catch (const base::SystemError& error) {
    return error.error();
  }
  return 0;
}

} // namespace scanout::guests
