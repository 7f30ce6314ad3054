// What is refused before anything is mapped. Real dma-bufs are met in the test machine.
#include "pixels/mapped_buffer.h"

#include <drm_fourcc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "check.h"

using namespace scanout;
using pixels::BufferLayout;
using pixels::MappedBuffer;

namespace {

int error_of(const BufferLayout& layout, std::span<const int> fds) {
  try {
    const MappedBuffer buffer(layout, fds);
  } catch (const base::SystemError& error) {
    return error.error();
  }
  return 0;
}

BufferLayout xrgb() {
  return {.width = 16, .height = 16, .fourcc = DRM_FORMAT_XRGB8888, .strides = {64}};
}

} // namespace

TEST(mapped_buffer_refuses_what_it_cannot_read) {
  const base::UniqueFd memfd(memfd_create("test", MFD_CLOEXEC));
  CHECK_EQ(ftruncate(memfd.get(), 4096), 0);
  const int fds[] = {memfd.get(), memfd.get()};
  const std::span<const int> one(fds, 1);
  // Not even a memfd of the right size: it could shrink under a reader.
  CHECK_EQ(error_of(xrgb(), one), EINVAL);

  const auto changed = [&](auto change) {
    BufferLayout layout = xrgb();
    change(layout);
    return error_of(layout, one);
  };
  CHECK_EQ(changed([](BufferLayout& l) { l.fourcc = 0; }), EOPNOTSUPP);
  CHECK_EQ(changed([](BufferLayout& l) { l.fourcc = DRM_FORMAT_NV15; }), EOPNOTSUPP);
  CHECK_EQ(changed([](BufferLayout& l) { l.modifier = DRM_FORMAT_MOD_ARM_AFBC(1); }), EOPNOTSUPP);
  CHECK_EQ(changed([](BufferLayout& l) { l.strides[0] = 63; }), EINVAL);
  CHECK_EQ(changed([](BufferLayout& l) { l.width = 0; }), EINVAL);
  CHECK_EQ(changed([](BufferLayout& l) { l.height = 40000; }), EINVAL);
  CHECK_EQ(error_of(xrgb(), fds), EINVAL); // two descriptors for one memory plane
  CHECK_EQ(error_of(xrgb(), {}), EINVAL);
}

TEST(mapped_buffer_of_own_memory_needs_no_bracket) {
  const pixels::Picture picture{.format = pixels::find_format(DRM_FORMAT_XRGB8888), .width = 3, .height = 4};
  const MappedBuffer buffer(picture);
  CHECK_EQ(buffer.picture().width, 3u);
  buffer.begin_read(0);
  buffer.end_read();
}
