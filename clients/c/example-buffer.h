/* A framebuffer that a display can scan out, made of ordinary memory: memfd -> udmabuf -> dma-buf. */
#ifndef EXAMPLE_BUFFER_H
#define EXAMPLE_BUFFER_H

#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/udmabuf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scanoutd-client.h"

#define FOURCC(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define FOURCC_XR24 FOURCC('X', 'R', '2', '4')
#define FOURCC_AR24 FOURCC('A', 'R', '2', '4')
#define FOURCC_RG16 FOURCC('R', 'G', '1', '6')
#define FOURCC_NV12 FOURCC('N', 'V', '1', '2')

struct buffer {
  struct scanoutd_layout layout;
  int dmabuf;
  uint8_t* pixels;
  size_t size;
};

/* Rows begin at multiples of 256 bytes, which every display takes. Modifier 0 is linear. */
static struct scanoutd_layout linear_layout(uint32_t width, uint32_t height, uint32_t fourcc) {
  const uint32_t bytes = fourcc == FOURCC_NV12 ? 1 : fourcc == FOURCC_RG16 ? 2 : 4;
  struct scanoutd_layout layout = {.width = width, .height = height, .fourcc = fourcc, .plane_count = 1};
  layout.strides[0] = (width * bytes + 255) & ~255u;
  if (fourcc == FOURCC_NV12) {
    layout.plane_count = 2;
    layout.strides[1] = layout.strides[0];
    layout.offsets[1] = layout.strides[0] * height;
  }
  return layout;
}

static void destroy_buffer(struct buffer* buffer) {
  if (buffer->pixels != NULL) munmap(buffer->pixels, buffer->size);
  if (buffer->dmabuf >= 0) close(buffer->dmabuf);
  *buffer = (struct buffer){.dmabuf = -1};
}

/* 0, or a negative errno with `*stage` the call that failed. */
static int create_buffer(struct buffer* buffer, struct scanoutd_layout layout, const char** stage) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t rows = layout.height + (layout.plane_count == 2 ? (layout.height + 1) / 2 : 0);
  *buffer = (struct buffer){.layout = layout, .dmabuf = -1};
  buffer->size = (layout.strides[0] * rows + page - 1) & ~(page - 1);
  int memfd = -1, device = -1, error = 0;
  void* pixels = MAP_FAILED;
  *stage = "memfd_create";
  memfd = memfd_create("example-buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memfd < 0 || ftruncate(memfd, (off_t)buffer->size) < 0) goto failed;
  *stage = "F_SEAL_SHRINK"; /* udmabuf asks for it: pages in use by a device must not go */
  if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) goto failed;
  *stage = "open /dev/udmabuf";
  device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
  if (device < 0) goto failed;
  *stage = "UDMABUF_CREATE";
  struct udmabuf_create create = {
      .memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = buffer->size};
  buffer->dmabuf = ioctl(device, UDMABUF_CREATE, &create);
  if (buffer->dmabuf < 0) goto failed;
  *stage = "mmap";
  pixels = mmap(NULL, buffer->size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (pixels == MAP_FAILED) goto failed;
  buffer->pixels = pixels;
  close(device);
  close(memfd);
  return 0;
failed:
  error = -errno;
  if (device >= 0) close(device);
  if (memfd >= 0) close(memfd);
  destroy_buffer(buffer);
  return error;
}

/* Around every access of the processor, so that caches and the display agree. `flags`: DMA_BUF_SYNC_START or
 * _END. */
static void sync_buffer(const struct buffer* buffer, uint64_t flags) {
  struct dma_buf_sync sync = {.flags = flags | DMA_BUF_SYNC_RW};
  while (ioctl(buffer->dmabuf, DMA_BUF_IOCTL_SYNC, &sync) < 0 && errno == EINTR)
    continue;
}

#endif
