#include "pixels/mapped_buffer.h"

#include <drm_fourcc.h>
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "kms/dmabuf.h"

namespace scanout::pixels {

namespace {

constexpr uint32_t largest = 32767;

// A dma-buf is readable when no one writes to it.
void wait_for_writers(int fd, int64_t deadline_ns) {
  for (;;) {
    pollfd state{.fd = fd, .events = POLLIN, .revents = 0};
    const int64_t left = std::max<int64_t>(0, deadline_ns - base::now_ns());
    const int ready = poll(&state, 1, static_cast<int>((left + 999'999) / 1'000'000));
    if (ready > 0) return;
    if (ready == 0) throw base::SystemError(ETIMEDOUT, "poll", "guest buffer", "its writer does not finish");
    if (errno != EINTR) throw base::SystemError(errno, "poll", "guest buffer");
  }
}

void end_access(int fd) noexcept {
  try {
    kms::end_cpu_access(fd, kms::Access::read);
  } catch (const base::SystemError&) {
    // What was read is read; no exporter has anything to undo for reading.
  }
}

[[noreturn]] void refuse(int error, const char* op, const std::string& detail) {
  throw base::SystemError(error, op, "guest buffer", detail);
}

const Format& check(const BufferLayout& layout) {
  const Format* format = find_format(layout.fourcc);
  if (format == nullptr || !format->is_convertible())
    refuse(EOPNOTSUPP, "copy", "no converter reads this fourcc");
  if (layout.modifier != DRM_FORMAT_MOD_LINEAR && layout.modifier != DRM_FORMAT_MOD_INVALID)
    refuse(EOPNOTSUPP, "copy", "only linear buffers can be read by the CPU");
  if (layout.width < 1 || layout.height < 1 || layout.width > largest || layout.height > largest)
    refuse(EINVAL, "copy", "a size of 1 to 32767 expected");
  for (uint32_t i = 0; i < format->plane_count; ++i) {
    if (layout.strides[i] < plane_size(*format, i, layout.width, layout.height).min_stride)
      refuse(EINVAL, "copy", "stride of plane " + std::to_string(i) + " is shorter than a row");
  }
  return *format;
}

} // namespace

MappedBuffer::MappedBuffer(const BufferLayout& layout, std::span<const int> fds) {
  const Format& format = check(layout);
  picture_ = {&format, layout.width, layout.height, {}, layout.strides, layout.colors};
  if (fds.size() != 1 && fds.size() != format.plane_count)
    refuse(EINVAL, "copy", "one dma-buf expected, or one for each memory plane");
  const auto end_of = [&](uint32_t plane) {
    return plane_end(format, plane, layout.width, layout.height, layout.strides[plane],
                     layout.offsets[plane]);
  };
  for (; buffer_count_ < fds.size(); ++buffer_count_) {
    uint64_t needed = end_of(buffer_count_);
    for (uint32_t plane = 1; fds.size() == 1 && plane < format.plane_count; ++plane)
      needed = std::max(needed, end_of(plane));
    buffers_[buffer_count_] = map(fds[buffer_count_], needed);
  }
  for (uint32_t i = 0; i < format.plane_count; ++i)
    picture_.planes[i] = buffers_[fds.size() == 1 ? 0 : i].mapping.data() + layout.offsets[i];
}

MappedBuffer::DmaBuf MappedBuffer::map(int fd, uint64_t needed) {
  const uint64_t size = kms::dmabuf_info(fd).size;
  if (size < needed) {
    refuse(EINVAL, "mmap",
           "the layout needs " + std::to_string(needed) + " bytes, the dma-buf has " + std::to_string(size));
  }
  base::UniqueFd own(base::check(fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)", "guest buffer"));
  kms::Mapping mapping(own.get(), needed, 0, false);
  return {std::move(own), std::move(mapping)};
}

void MappedBuffer::begin_read(int timeout_ms) const {
  const int64_t deadline = base::now_ns() + int64_t{timeout_ms} * 1'000'000;
  uint32_t begun = 0;
  try {
    for (; begun < buffer_count_; ++begun) {
      wait_for_writers(buffers_[begun].fd.get(), deadline);
      kms::begin_cpu_access(buffers_[begun].fd.get(), kms::Access::read);
    }
  } catch (const base::SystemError&) {
    while (begun > 0)
      end_access(buffers_[--begun].fd.get());
    throw;
  }
}

void MappedBuffer::end_read() const noexcept {
  for (uint32_t i = 0; i < buffer_count_; ++i)
    end_access(buffers_[i].fd.get());
}

} // namespace scanout::pixels
