/*
 * Faults on demand between a program and the display driver, for tests: LD_PRELOAD=libfaults.so.
 *
 * Refuses, slows and counts what goes through drmIoctl (libdrm's own calls too), and loses, delays or repeats
 * flip events on their way through read(2). Everything else reaches the real driver. Steered from outside
 * through the file that SCANOUTD_FAULTS names (faults.ts makes it), which is mapped here; without that
 * variable nothing is done or counted.
 */
#include <dlfcn.h>
#include <drm.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* ---- The control file: faults.ts has the same layout; a change of it changes the version. */

#define MAGIC 0x544c4146u /* "FALT" */
#define VERSION 1u
#define MAX_RULES 32

enum action {
  REFUSE = 1,    /* value: the errno */
  SLEEP = 2,     /* value: milliseconds before the ioctl */
  DROP = 3,      /* of a flip event */
  DELAY = 4,     /* of a flip event; value: refreshes */
  DUPLICATE = 5, /* of a flip event */
};

struct rule {
  uint32_t active; /* written last */
  uint32_t action;
  uint32_t value;
  uint32_t ioctl;       /* _IOC_NR; not looked at for events */
  uint32_t flags_set;   /* of DRM_IOCTL_MODE_ATOMIC: all of these */
  uint32_t flags_clear; /* and none of these */
  uint32_t object;      /* that the request names, the CRTC of an event; 0: any */
  uint32_t skip;        /* so many matches pass first */
  uint32_t count;       /* then so many are hit; 0: for ever */
  uint32_t matches;     /* counted here, as are the hits */
  uint32_t hits;
  uint32_t reserved;
};

struct control {
  uint32_t magic, version, size, max_rules;
  uint32_t ioctls[256]; /* by _IOC_NR, refused ones too */
  uint32_t tests;       /* commits with TEST_ONLY */
  uint32_t nonblocking; /* commits with NONBLOCK, without TEST_ONLY */
  uint32_t blocking;    /* the other commits */
  uint32_t events;      /* flip events read from drivers */
  struct rule rules[MAX_RULES];
};

_Static_assert(sizeof(struct rule) == 48, "faults.ts");
_Static_assert(sizeof(struct control) == 16 + 1024 + 16 + 48 * MAX_RULES, "faults.ts");

static struct control* control; /* null: do nothing */

static uint32_t load(uint32_t* word) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static uint32_t add(uint32_t* word) {
  return __atomic_fetch_add(word, 1, __ATOMIC_ACQ_REL);
}

static void give_up(const char* path, const char* why) {
  fprintf(stderr, "libfaults: %s: %s\n", path, why);
  abort(); /* a test without its faults would prove nothing */
}

__attribute__((constructor)) static void start(void) {
  const char* path = getenv("SCANOUTD_FAULTS");
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) give_up(path, strerror(errno));
  struct stat stat;
  if (fstat(fd, &stat) < 0 || stat.st_size < (off_t)sizeof(struct control)) give_up(path, "too small");
  void* mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) give_up(path, strerror(errno));
  close(fd);
  struct control* found = mapped;
  if (found->magic != MAGIC || found->version != VERSION || found->size != sizeof *found)
    give_up(path, "made for another version");
  control = found;
}

/* True when it is this match's turn. */
static bool hit(struct rule* rule) {
  uint32_t before = add(&rule->matches);
  if (before < rule->skip) return false;
  if (rule->count != 0 && before - rule->skip >= rule->count) return false;
  add(&rule->hits);
  return true;
}

/* ---- ioctls */

static bool among(const uint32_t* ids, uint32_t count, uint32_t id) {
  for (uint32_t i = 0; i < count; i++)
    if (ids[i] == id) return true;
  return false;
}

static bool names_object(uint32_t number, const void* argument, uint32_t id) {
  switch (number) {
  case _IOC_NR(DRM_IOCTL_MODE_ATOMIC): {
    const struct drm_mode_atomic* atomic = argument;
    return among((const uint32_t*)(uintptr_t)atomic->objs_ptr, atomic->count_objs, id);
  }
  case _IOC_NR(DRM_IOCTL_MODE_ADDFB2):
    return among(((const struct drm_mode_fb_cmd2*)argument)->handles, 4, id);
  case _IOC_NR(DRM_IOCTL_MODE_RMFB):
  case _IOC_NR(DRM_IOCTL_GEM_CLOSE):
  case _IOC_NR(DRM_IOCTL_MODE_DESTROY_DUMB):
    return *(const uint32_t*)argument == id; /* their first member */
  case _IOC_NR(DRM_IOCTL_MODE_PAGE_FLIP):
    return ((const struct drm_mode_crtc_page_flip*)argument)->crtc_id == id;
  default:
    return false;
  }
}

static bool applies(struct rule* rule, uint32_t number, const void* argument) {
  if (!load(&rule->active) || rule->ioctl != number) return false;
  if (rule->action != REFUSE && rule->action != SLEEP) return false;
  if (rule->flags_set != 0 || rule->flags_clear != 0) {
    if (number != _IOC_NR(DRM_IOCTL_MODE_ATOMIC)) return false;
    uint32_t flags = ((const struct drm_mode_atomic*)argument)->flags;
    if ((flags & rule->flags_set) != rule->flags_set || (flags & rule->flags_clear) != 0) return false;
  }
  return rule->object == 0 || names_object(number, argument, rule->object);
}

static void count_ioctl(uint32_t number, const void* argument) {
  add(&control->ioctls[number]);
  if (number != _IOC_NR(DRM_IOCTL_MODE_ATOMIC)) return;
  uint32_t flags = ((const struct drm_mode_atomic*)argument)->flags;
  if (flags & DRM_MODE_ATOMIC_TEST_ONLY)
    add(&control->tests);
  else
    add(flags & DRM_MODE_ATOMIC_NONBLOCK ? &control->nonblocking : &control->blocking);
}

/* 0, or the errno of the first rule that refuses. */
static int obey(uint32_t number, const void* argument) {
  int refused = 0;
  for (int i = 0; i < MAX_RULES; i++) {
    struct rule* rule = &control->rules[i];
    if (!applies(rule, number, argument) || !hit(rule)) continue;
    if (rule->action == SLEEP) {
      struct timespec span = {rule->value / 1000, (long)(rule->value % 1000) * 1000000};
      nanosleep(&span, NULL);
    } else if (refused == 0) {
      refused = (int)rule->value;
    }
  }
  return refused;
}

int drmIoctl(int fd, unsigned long request, void* argument) {
  if (control != NULL && _IOC_TYPE(request) == DRM_IOCTL_BASE) {
    uint32_t number = _IOC_NR(request);
    count_ioctl(number, argument);
    int error = obey(number, argument);
    if (error != 0) {
      errno = error;
      return -1;
    }
  }
  /* All that libdrm's own does. It is not called: where libdrm came in with an add-on, RTLD_NEXT does not
   * find it. */
  int result;
  do {
    result = ioctl(fd, request, argument);
  } while (result == -1 && (errno == EINTR || errno == EAGAIN));
  return result;
}

/* ---- flip events */

/* An event that is held back comes out when this comes in: a vblank of the same CRTC, some refreshes later.
 */
#define RETURN_MARK 0x4641554c54000000ull
#define MAX_HELD 32

static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static struct drm_event_vblank held[MAX_HELD]; /* in use when its base.length is not 0 */

static bool hold_back(int fd, const struct drm_event_vblank* event, uint32_t refreshes) {
  pthread_mutex_lock(&held_lock);
  int index = 0;
  while (index < MAX_HELD && held[index].base.length != 0)
    index++;
  if (index < MAX_HELD) held[index] = *event;
  pthread_mutex_unlock(&held_lock);
  if (index == MAX_HELD) return false;
  struct drm_crtc_queue_sequence queue = {.crtc_id = event->crtc_id,
                                          .flags = DRM_CRTC_SEQUENCE_RELATIVE,
                                          .sequence = refreshes,
                                          .user_data = RETURN_MARK + (uint64_t)index};
  if (ioctl(fd, DRM_IOCTL_CRTC_QUEUE_SEQUENCE, &queue) == 0) return true;
  fprintf(stderr, "libfaults: cannot delay an event: %s\n", strerror(errno));
  abort();
}

static bool take_back(const struct drm_event* mark, struct drm_event_vblank* event) {
  if (mark->type != DRM_EVENT_CRTC_SEQUENCE) return false;
  uint64_t index = ((const struct drm_event_crtc_sequence*)mark)->user_data - RETURN_MARK;
  if (index >= MAX_HELD) return false;
  pthread_mutex_lock(&held_lock);
  *event = held[index];
  held[index].base.length = 0;
  pthread_mutex_unlock(&held_lock);
  return event->base.length != 0;
}

/* How often the event is to be told now. */
static int copies_of(int fd, const struct drm_event_vblank* event) {
  add(&control->events);
  int copies = 1;
  for (int i = 0; i < MAX_RULES; i++) {
    struct rule* rule = &control->rules[i];
    if (!load(&rule->active) || rule->action < DROP) continue;
    if ((rule->object != 0 && rule->object != event->crtc_id) || !hit(rule)) continue;
    if (rule->action == DROP) copies = 0;
    if (rule->action == DELAY && hold_back(fd, event, rule->value)) copies = 0;
    if (rule->action == DUPLICATE) copies++;
  }
  return copies;
}

/* Rewrites `size` bytes of events, growing to `room` at most; what does not fit is lost. */
static size_t rewrite_events(int fd, char* events, size_t size, size_t room) {
  char in[8192];
  if (size > sizeof in) return size;
  memcpy(in, events, size);
  size_t out = 0;
  for (size_t at = 0; at + sizeof(struct drm_event) <= size;) {
    struct drm_event_vblank event;
    struct drm_event header;
    memcpy(&header, in + at, sizeof header);
    const char* from = in + at;
    size_t length = header.length;
    if (length < sizeof header || length > size - at) break;
    at += length;
    int copies = 1;
    if (header.type == DRM_EVENT_FLIP_COMPLETE && length == sizeof event) {
      memcpy(&event, from, sizeof event);
      copies = copies_of(fd, &event);
    } else if (take_back((const struct drm_event*)from, &event)) {
      from = (const char*)&event;
      length = sizeof event;
    }
    for (; copies > 0 && out + length <= room; copies--, out += length)
      memcpy(events + out, from, length);
  }
  return out;
}

static bool is_drm(int fd) {
  struct stat stat;
  return fstat(fd, &stat) == 0 && S_ISCHR(stat.st_mode) && major(stat.st_rdev) == 226;
}

ssize_t read(int fd, void* buffer, size_t room) {
  static ssize_t (*real)(int, void*, size_t);
  if (real == NULL) real = (ssize_t(*)(int, void*, size_t))dlsym(RTLD_NEXT, "read");
  ssize_t size = real(fd, buffer, room);
  if (control == NULL || size <= 0 || !is_drm(fd)) return size;
  size = (ssize_t)rewrite_events(fd, buffer, (size_t)size, room);
  if (size > 0) return size;
  errno = EAGAIN; /* as if nothing had come */
  return -1;
}
