/*
 * Another device for the tests: makes buffers of the driver vgem and puts unsignalled fences on them, as a
 * GPU does that still draws; makes buffers of the system's dma-heap, too.
 *
 *   vgem SOCKET      a SOCK_SEQPACKET socket that somebody listens on
 *
 * It is asked by packets of two words, and answers each by two words and sometimes a descriptor. Its end
 * signals all fences (vgem does that when its file is closed).
 */
#include <drm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* include/uapi/drm/vgem_drm.h, which libdrm does not install */
struct fence_attach {
  uint32_t handle, flags, out_fence, pad;
};
struct fence_signal {
  uint32_t fence, flags;
};
#define FENCE_ATTACH DRM_IOWR(DRM_COMMAND_BASE + 1, struct fence_attach)
#define FENCE_SIGNAL DRM_IOW(DRM_COMMAND_BASE + 2, struct fence_signal)
enum { FENCE_WRITE = 1 };

enum {
  MAKE = 1,   /* bytes: a buffer; gives its handle, and a dma-buf */
  FENCE = 2,  /* handle: it is being written; gives the fence */
  SIGNAL = 3, /* fence: it is written */
  HEAP = 4,   /* bytes: a dma-buf of the system's heap */
};

struct packet {
  int32_t word, argument; /* asked: what; answered: 0 or -errno */
};

static int open_vgem(void) {
  for (int i = 0; i < 64; ++i) {
    char path[32], name[8] = "";
    snprintf(path, sizeof path, "/dev/dri/card%d", i);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct drm_version version = {.name = name, .name_len = sizeof name - 1};
    if (fd >= 0 && ioctl(fd, DRM_IOCTL_VERSION, &version) == 0 && strcmp(name, "vgem") == 0) return fd;
    if (fd >= 0) close(fd);
  }
  return -1;
}

static int make(int vgem, int32_t bytes, int32_t* handle, int* dmabuf) {
  struct drm_mode_create_dumb create = {.height = 1, .width = (uint32_t)bytes / 4, .bpp = 32};
  if (ioctl(vgem, DRM_IOCTL_MODE_CREATE_DUMB, &create) != 0) return -errno;
  struct drm_prime_handle prime = {.handle = create.handle, .flags = DRM_CLOEXEC | DRM_RDWR};
  if (ioctl(vgem, DRM_IOCTL_PRIME_HANDLE_TO_FD, &prime) != 0) return -errno;
  *handle = (int32_t)create.handle;
  *dmabuf = prime.fd;
  return 0;
}

static int make_of_heap(int32_t bytes, int* dmabuf) {
  int heap = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
  if (heap < 0) return -errno;
  struct dma_heap_allocation_data data = {.len = (uint64_t)bytes, .fd_flags = O_RDWR | O_CLOEXEC};
  int result = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) == 0 ? 0 : -errno;
  close(heap);
  if (result == 0) *dmabuf = (int)data.fd;
  return result;
}

static struct packet serve(int vgem, const struct packet* asked, int* dmabuf) {
  struct packet answer = {-EINVAL, 0};
  if (asked->word == MAKE) answer.word = make(vgem, asked->argument, &answer.argument, dmabuf);
  if (asked->word == HEAP) answer.word = make_of_heap(asked->argument, dmabuf);
  if (asked->word == FENCE) {
    struct fence_attach attach = {.handle = (uint32_t)asked->argument, .flags = FENCE_WRITE};
    answer.word = ioctl(vgem, FENCE_ATTACH, &attach) == 0 ? 0 : -errno;
    answer.argument = (int32_t)attach.out_fence;
  }
  if (asked->word == SIGNAL) {
    struct fence_signal signal = {.fence = (uint32_t)asked->argument};
    answer.word = ioctl(vgem, FENCE_SIGNAL, &signal) == 0 ? 0 : -errno;
  }
  return answer;
}

static int reply(int to, const struct packet* answer, int dmabuf) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec part = {.iov_base = (void*)answer, .iov_len = sizeof *answer};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (dmabuf >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof dmabuf);
    memcpy(CMSG_DATA(rights), &dmabuf, sizeof dmabuf);
  }
  ssize_t sent = sendmsg(to, &message, MSG_NOSIGNAL);
  if (dmabuf >= 0) close(dmabuf);
  return sent == sizeof *answer ? 0 : -1;
}

int main(int argc, char** argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int vgem = open_vgem();
  int to = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (argc != 2 || vgem < 0 || to < 0) {
    fprintf(stderr, "vgem: no socket was named, or there is no such device\n");
    return 1;
  }
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  if (connect(to, (struct sockaddr*)&address, sizeof address) != 0) {
    perror("vgem: connect");
    return 1;
  }
  struct packet asked;
  while (recv(to, &asked, sizeof asked, 0) == sizeof asked) {
    int dmabuf = -1;
    struct packet answer = serve(vgem, &asked, &dmabuf);
    if (reply(to, &answer, dmabuf) != 0) break;
  }
  return 0;
}
