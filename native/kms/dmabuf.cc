#include "kms/dmabuf.h"

#include <linux/dma-buf.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd_kind.h"
#include "kms/ioctl.h"

namespace scanout::kms {

namespace {

std::string subject_of(int dmabuf) {
  return named("dma-buf", static_cast<uint64_t>(dmabuf));
}

uint32_t flags_of(Access access) {
  static_assert(DMA_BUF_SYNC_READ == static_cast<int>(Access::read) &&
                DMA_BUF_SYNC_WRITE == static_cast<int>(Access::write));
  return static_cast<uint32_t>(access);
}

void sync(int dmabuf, uint64_t flags) {
  dma_buf_sync command{.flags = flags};
  checked_ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &command, "DMA_BUF_IOCTL_SYNC", subject_of(dmabuf));
}

} // namespace

DmabufInfo dmabuf_info(int dmabuf) {
  if (!base::is_dma_buf(dmabuf))
    throw base::SystemError(EINVAL, "fstat", subject_of(dmabuf), "not a dma-buf");
  struct stat info;
  base::check(fstat(dmabuf, &info), "fstat", subject_of(dmabuf));
  // Its size is where it ends; st_size of older kernels is 0.
  const off_t size = base::check(lseek(dmabuf, 0, SEEK_END), "lseek", subject_of(dmabuf));
  return {.inode = info.st_ino, .size = static_cast<uint64_t>(size)};
}

void begin_cpu_access(int dmabuf, Access access) {
  sync(dmabuf, DMA_BUF_SYNC_START | flags_of(access));
}

void end_cpu_access(int dmabuf, Access access) {
  sync(dmabuf, DMA_BUF_SYNC_END | flags_of(access));
}

Mapping map_dmabuf(int dmabuf, bool writable) {
  return {dmabuf, dmabuf_info(dmabuf).size, 0, writable};
}

base::UniqueFd export_sync_file(int dmabuf, Access access) {
  dma_buf_export_sync_file command{.flags = flags_of(access), .fd = -1};
  checked_ioctl(dmabuf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &command, "DMA_BUF_IOCTL_EXPORT_SYNC_FILE",
                subject_of(dmabuf));
  return base::UniqueFd(command.fd);
}

void import_sync_file(int dmabuf, int fence, Access access) {
  dma_buf_import_sync_file command{.flags = flags_of(access), .fd = fence};
  checked_ioctl(dmabuf, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &command, "DMA_BUF_IOCTL_IMPORT_SYNC_FILE",
                subject_of(dmabuf));
}

void set_dmabuf_name(int dmabuf, const std::string& name) {
  // The kernel is given a pointer, whichever of the three numbers a header has for it.
  checked_ioctl(dmabuf, DMA_BUF_SET_NAME_B, const_cast<char*>(name.c_str()), "DMA_BUF_SET_NAME",
                subject_of(dmabuf));
}

} // namespace scanout::kms
