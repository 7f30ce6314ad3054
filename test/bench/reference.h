/* What the reference program does before it flips: the display, the guests' messages. Not measured. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "guests/protocol.h"

enum { MOST = 64, BUFFERS = 3 };

struct frame {
  uint64_t sequence; /* 0: none */
  uint32_t buffer;
  int64_t wake_ns, enter_ns, leave_ns;
};

struct guest {
  char name[SCANOUTD_NAME_SIZE];
  int crtc, place, x, y; /* place: the plane by its number among the CRTC's */
  uint32_t width, height;
  uint32_t plane, fb_property;
  int socket, kick, release;
  struct scanoutd_flip_page* page; /* NULL: not here yet */
  uint32_t framebuffers[BUFFERS];
  struct frame pending, queued, current;
};

struct crtc {
  uint32_t id, connector;
  bool used, in_flight;
};

static struct guest guests[MOST];
static struct crtc crtcs[MOST];
static int guest_count, crtc_count;
static uint32_t refresh_ns;

_Noreturn static void die(const char* what) {
  fprintf(stderr, "reference: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* ---- The display */

static uint32_t property(int drm, uint32_t object, const char* name, uint64_t* value) {
  drmModeObjectProperties* all = drmModeObjectGetProperties(drm, object, DRM_MODE_OBJECT_ANY);
  uint32_t id = 0;
  for (uint32_t i = 0; all != NULL && i < all->count_props && id == 0; i++) {
    drmModePropertyRes* one = drmModeGetProperty(drm, all->props[i]);
    if (one != NULL && strcmp(one->name, name) == 0) {
      id = one->prop_id;
      if (value != NULL) *value = all->prop_values[i];
    }
    drmModeFreeProperty(one);
  }
  drmModeFreeObjectProperties(all);
  errno = ENOENT;
  if (id == 0) die(name);
  return id;
}

static void set(int drm, drmModeAtomicReq* request, uint32_t object, const char* name, uint64_t value) {
  if (drmModeAtomicAddProperty(request, object, property(drm, object, name, NULL), value) < 0) die(name);
}

static uint32_t plane_at(int drm, int crtc, int place) {
  drmModePlaneRes* planes = drmModeGetPlaneResources(drm);
  uint32_t found = 0;
  int overlays = 0;
  for (uint32_t i = 0; planes != NULL && i < planes->count_planes && found == 0; i++) {
    drmModePlane* plane = drmModeGetPlane(drm, planes->planes[i]);
    uint64_t type = DRM_PLANE_TYPE_CURSOR;
    if (plane != NULL && (plane->possible_crtcs >> crtc & 1) != 0)
      property(drm, plane->plane_id, "type", &type);
    if (type == DRM_PLANE_TYPE_PRIMARY && place == 0) found = plane->plane_id;
    if (type == DRM_PLANE_TYPE_OVERLAY && ++overlays == place) found = plane->plane_id;
    drmModeFreePlane(plane);
  }
  drmModeFreePlaneResources(planes);
  errno = ENOENT;
  if (found == 0) die("plane");
  return found;
}

/* What is shown until the guest's first frame. */
static uint32_t black(int drm, uint32_t width, uint32_t height) {
  uint32_t handle, pitch, framebuffer;
  uint64_t size;
  if (drmModeCreateDumbBuffer(drm, width, height, 32, 0, &handle, &pitch, &size) < 0) die("dumb buffer");
  if (drmModeAddFB2(drm, width, height, DRM_FORMAT_XRGB8888, (uint32_t[4]){handle}, (uint32_t[4]){pitch},
                    (uint32_t[4]){0}, &framebuffer, 0) < 0)
    die("AddFB2");
  return framebuffer;
}

static void add_plane(int drm, drmModeAtomicReq* request, struct guest* guest) {
  guest->plane = plane_at(drm, guest->crtc, guest->place);
  guest->fb_property = property(drm, guest->plane, "FB_ID", NULL);
  set(drm, request, guest->plane, "FB_ID", black(drm, guest->width, guest->height));
  set(drm, request, guest->plane, "CRTC_ID", crtcs[guest->crtc].id);
  set(drm, request, guest->plane, "SRC_W", (uint64_t)guest->width << 16);
  set(drm, request, guest->plane, "SRC_H", (uint64_t)guest->height << 16);
  set(drm, request, guest->plane, "CRTC_X", (uint64_t)guest->x);
  set(drm, request, guest->plane, "CRTC_Y", (uint64_t)guest->y);
  set(drm, request, guest->plane, "CRTC_W", guest->width);
  set(drm, request, guest->plane, "CRTC_H", guest->height);
  printf("plane %s %u\n", guest->name, guest->plane);
}

static drmModeConnector* connector_of(int drm, const drmModeRes* resources, int crtc) {
  for (int i = 0; i < resources->count_connectors; i++) {
    drmModeConnector* connector = drmModeGetConnector(drm, resources->connectors[i]);
    uint32_t possible = drmModeConnectorGetPossibleCrtcs(drm, connector);
    for (int other = 0; other < crtc; other++)
      if (crtcs[other].connector == connector->connector_id) possible = 0;
    if ((possible >> crtc & 1) != 0 && connector->connection == DRM_MODE_CONNECTED) return connector;
    drmModeFreeConnector(connector);
  }
  errno = ENOENT;
  die("connector");
}

static void add_crtc(int drm, drmModeAtomicReq* request, const drmModeRes* resources, int index,
                     uint32_t width, uint32_t height) {
  struct crtc* crtc = &crtcs[index];
  drmModeConnector* connector = connector_of(drm, resources, index);
  const drmModeModeInfo* mode = NULL;
  for (int i = 0; i < connector->count_modes && mode == NULL; i++) {
    const drmModeModeInfo* one = &connector->modes[i];
    if (one->hdisplay == width && one->vdisplay == height && one->vrefresh == 60) mode = one;
  }
  uint32_t blob;
  errno = ENOENT;
  if (mode == NULL || drmModeCreatePropertyBlob(drm, mode, sizeof *mode, &blob) < 0) die("mode");
  refresh_ns = (uint32_t)(1e6 * mode->htotal * mode->vtotal / mode->clock);
  crtc->connector = connector->connector_id;
  set(drm, request, connector->connector_id, "CRTC_ID", crtc->id);
  set(drm, request, crtc->id, "MODE_ID", blob);
  set(drm, request, crtc->id, "ACTIVE", 1);
  drmModeFreeConnector(connector);
}

/* Lights every CRTC that has guests, with a picture of our own on each of their planes. */
static int light(const char* card, uint32_t width, uint32_t height) {
  const int drm = open(card, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (drm < 0 || drmSetClientCap(drm, DRM_CLIENT_CAP_ATOMIC, 1) < 0) die(card);
  drmModeRes* resources = drmModeGetResources(drm);
  drmModeAtomicReq* request = drmModeAtomicAlloc();
  if (resources == NULL || request == NULL) die(card);
  crtc_count = resources->count_crtcs < MOST ? resources->count_crtcs : MOST;
  for (int i = 0; i < crtc_count; i++) {
    crtcs[i].id = resources->crtcs[i];
    if (crtcs[i].used) add_crtc(drm, request, resources, i, width, height);
  }
  for (int i = 0; i < guest_count; i++)
    add_plane(drm, request, &guests[i]);
  if (drmModeAtomicCommit(drm, request, DRM_MODE_ATOMIC_ALLOW_MODESET, NULL) < 0) die("mode set");
  drmModeAtomicFree(request);
  drmModeFreeResources(resources);
  return drm;
}

/* ---- The guests' messages */

union message {
  struct scanoutd_header header;
  struct scanoutd_hello hello;
  struct scanoutd_add_buffer buffer;
  struct scanoutd_welcome welcome;
};

/* Takes one message of the wanted type; `fds` has room for as many descriptors as it must bring. */
static void receive(int socket, union message* message, uint32_t type, int* fds, size_t count) {
  char control[CMSG_SPACE(sizeof(int) * SCANOUTD_MAX_FDS)];
  struct iovec part = {message, sizeof *message};
  struct msghdr header = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &header, MSG_CMSG_CLOEXEC) < (ssize_t)sizeof message->header) die("receive");
  const struct cmsghdr* sent = CMSG_FIRSTHDR(&header);
  errno = EPROTO;
  if (message->header.type != type || sent == NULL || sent->cmsg_len != CMSG_LEN(sizeof(int) * count))
    die("message");
  memcpy(fds, CMSG_DATA(sent), sizeof(int) * count);
}

static void answer(int socket, void* bytes, uint32_t size, int fd) {
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec part = {bytes, size};
  struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    struct cmsghdr* sent = CMSG_FIRSTHDR(&header);
    sent->cmsg_level = SOL_SOCKET;
    sent->cmsg_type = SCM_RIGHTS;
    sent->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(sent), &fd, sizeof fd);
  }
  if (sendmsg(socket, &header, MSG_NOSIGNAL) < 0) die("answer");
}

static struct guest* welcome(int socket) {
  union message message;
  int fds[2];
  struct guest* guest = NULL;
  receive(socket, &message, SCANOUTD_HELLO, fds, 2);
  for (int i = 0; i < guest_count; i++)
    if (strcmp(guests[i].name, message.hello.name) == 0) guest = &guests[i];
  errno = ENOENT;
  if (guest == NULL || guest->page != NULL) die(message.hello.name);
  guest->socket = socket;
  guest->kick = fds[0];
  guest->release = fds[1];
  const int memfd = memfd_create("flip-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memfd < 0 || ftruncate(memfd, SCANOUTD_FLIP_PAGE_SIZE) < 0) die("flip page");
  if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) die("flip page");
  guest->page =
      mmap(NULL, SCANOUTD_FLIP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd, 0);
  if (guest->page == MAP_FAILED) die("flip page");
  guest->page->magic = SCANOUTD_FLIP_PAGE_MAGIC;
  guest->page->version_major = SCANOUTD_VERSION_MAJOR;
  guest->page->plane_count = 1;
  struct scanoutd_welcome reply = {.header = {SCANOUTD_WELCOME, sizeof reply, message.header.serial, 0},
                                   .version_major = SCANOUTD_VERSION_MAJOR,
                                   .page_size = SCANOUTD_FLIP_PAGE_SIZE};
  answer(socket, &reply, sizeof reply, memfd);
  close(memfd);
  return guest;
}

static void import(int drm, struct guest* guest) {
  union message message;
  int fd;
  uint32_t handle;
  receive(guest->socket, &message, SCANOUTD_ADD_BUFFER, &fd, 1);
  const struct scanoutd_add_buffer* buffer = &message.buffer;
  if (buffer->buffer >= BUFFERS || drmPrimeFDToHandle(drm, fd, &handle) < 0) die("buffer");
  if (drmModeAddFB2(drm, buffer->width, buffer->height, buffer->fourcc, (uint32_t[4]){handle},
                    buffer->strides, buffer->offsets, &guest->framebuffers[buffer->buffer], 0) < 0)
    die("AddFB2");
  close(fd);
  struct scanoutd_done reply = {.header = {SCANOUTD_DONE, sizeof reply, message.header.serial, 0}};
  answer(guest->socket, &reply, sizeof reply, -1);
}

/* Waits until every guest of the layout is here, with its buffers. */
static void welcome_all(int drm, const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  if (bind(listener, (const struct sockaddr*)&address, sizeof address) < 0 || listen(listener, MOST) < 0)
    die(path);
  printf("listening\n");
  for (int i = 0; i < guest_count; i++) {
    const int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (socket < 0) die("accept");
    struct guest* guest = welcome(socket);
    for (int b = 0; b < BUFFERS; b++)
      import(drm, guest);
  }
  close(listener);
}

#endif
