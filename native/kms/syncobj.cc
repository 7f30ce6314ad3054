#include "kms/syncobj.h"

#include <xf86drm.h>

#include "kms/compat.h"
#include "kms/ioctl.h"

namespace scanout::kms {

Syncobj::Syncobj(std::shared_ptr<Device> device, bool signalled) : device_(std::move(device)) {
  drm_syncobj_create create{.handle = 0, .flags = signalled ? DRM_SYNCOBJ_CREATE_SIGNALED : 0u};
  checked_ioctl(device_->fd(), DRM_IOCTL_SYNCOBJ_CREATE, &create, "DRM_IOCTL_SYNCOBJ_CREATE",
                device_->path());
  handle_ = create.handle;
}

std::unique_ptr<Syncobj> Syncobj::import(std::shared_ptr<Device> device, int fd) {
  drm_syncobj_handle command{};
  command.fd = fd;
  checked_ioctl(device->fd(), DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &command, "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE",
                device->path());
  return std::unique_ptr<Syncobj>(new Syncobj(std::move(device), command.handle, Adopted{}));
}

Syncobj::~Syncobj() {
  drm_syncobj_destroy destroy{.handle = handle_, .pad = 0};
  (void)try_ioctl(device_->fd(), DRM_IOCTL_SYNCOBJ_DESTROY, &destroy);
}

void Syncobj::call(unsigned long request, void* argument, const char* op) const {
  checked_ioctl(device_->fd(), request, argument, op, named("syncobj", handle_));
}

base::UniqueFd Syncobj::to_fd(uint32_t flags) const {
  drm_syncobj_handle command{};
  command.handle = handle_;
  command.flags = flags;
  command.fd = -1;
  call(DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &command, "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD");
  return base::UniqueFd(command.fd);
}

base::UniqueFd Syncobj::export_fd() const {
  return to_fd(0);
}

base::UniqueFd Syncobj::export_sync_file() const {
  return to_fd(DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE);
}

void Syncobj::import_sync_file(int fence) const {
  drm_syncobj_handle command{};
  command.handle = handle_;
  command.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE;
  command.fd = fence;
  call(DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &command, "DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE");
}

void Syncobj::reset() const {
  drm_syncobj_array array{.handles = reinterpret_cast<uint64_t>(&handle_), .count_handles = 1, .pad = 0};
  call(DRM_IOCTL_SYNCOBJ_RESET, &array, "DRM_IOCTL_SYNCOBJ_RESET");
}

void Syncobj::signal(uint64_t point) const {
  if (point == 0) {
    drm_syncobj_array array{.handles = reinterpret_cast<uint64_t>(&handle_), .count_handles = 1, .pad = 0};
    call(DRM_IOCTL_SYNCOBJ_SIGNAL, &array, "DRM_IOCTL_SYNCOBJ_SIGNAL");
    return;
  }
  drm_syncobj_timeline_array array{.handles = reinterpret_cast<uint64_t>(&handle_),
                                   .points = reinterpret_cast<uint64_t>(&point),
                                   .count_handles = 1,
                                   .flags = 0};
  call(DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, &array, "DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL");
}

uint64_t Syncobj::query(bool last_submitted) const {
  uint64_t point = 0;
  drm_syncobj_timeline_array array{.handles = reinterpret_cast<uint64_t>(&handle_),
                                   .points = reinterpret_cast<uint64_t>(&point),
                                   .count_handles = 1,
                                   .flags = last_submitted ? DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED : 0u};
  call(DRM_IOCTL_SYNCOBJ_QUERY, &array, "DRM_IOCTL_SYNCOBJ_QUERY");
  return point;
}

void Syncobj::transfer_from(const Syncobj& source, uint64_t source_point, uint64_t point) const {
  drm_syncobj_transfer transfer{};
  transfer.src_handle = source.handle_;
  transfer.dst_handle = handle_;
  transfer.src_point = source_point;
  transfer.dst_point = point;
  call(DRM_IOCTL_SYNCOBJ_TRANSFER, &transfer, "DRM_IOCTL_SYNCOBJ_TRANSFER");
}

bool Syncobj::wait(uint64_t point, int64_t deadline_ns, bool available) const {
  uint32_t flags = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT;
  if (available) flags |= DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE;
  drm_syncobj_timeline_wait wait{};
  wait.handles = reinterpret_cast<uint64_t>(&handle_);
  wait.points = reinterpret_cast<uint64_t>(&point);
  wait.timeout_nsec = deadline_ns;
  wait.count_handles = 1;
  wait.flags = flags;
  const int error = try_ioctl(device_->fd(), DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &wait);
  if (error == -ETIME) return false;
  if (error < 0)
    throw base::SystemError(-error, "DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT", named("syncobj", handle_));
  return true;
}

void Syncobj::notify(uint64_t point, int eventfd, bool available) const {
  drm_syncobj_eventfd command{};
  command.handle = handle_;
  command.flags = available ? DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE : 0;
  command.point = point;
  command.fd = eventfd;
  call(DRM_IOCTL_SYNCOBJ_EVENTFD, &command, "DRM_IOCTL_SYNCOBJ_EVENTFD");
}

} // namespace scanout::kms
