/*
 * Stamps commits from outside of the program that makes them: LD_PRELOAD=libstamp.so SCANOUTD_STAMPS=FILE.
 *
 * Every program that the benchmark compares runs with it, so that the entry into the commit is taken by the
 * same clock at the same place in all of them, and what it costs is in all of them. Only non-blocking commits
 * are noted. src/bench/stamps.ts reads the file.
 */
#include <drm.h>
#include <errno.h>
#include <fcntl.h>
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

enum { ROWS = 1 << 18, FDS = 1024 };

/* One object of one commit. Doubles, since JavaScript reads them without conversion; all are whole numbers.
 */
struct row {
  double object; /* object id + minor number of the card * 2^32 */
  double enter_ns;
  double leave_ns; /* CLOCK_MONOTONIC */
  double error;    /* errno, or 0 */
};

struct file {
  double count; /* of the rows that were wanted; those beyond ROWS are lost */
  double reserved[3];
  struct row rows[ROWS];
};

static struct file* file;
static uint32_t count;
static double cards[FDS]; /* minor numbers + 1 by descriptor; 0: not asked yet */

static void give_up(const char* path) {
  fprintf(stderr, "libstamp: %s: %s\n", path, strerror(errno));
  abort(); /* numbers without their stamps would prove nothing */
}

__attribute__((constructor)) static void start(void) {
  const char* path = getenv("SCANOUTD_STAMPS");
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof *file) < 0) give_up(path);
  /* Populated: a page fault in the middle of a flip would be ours. */
  void* mapped = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (mapped == MAP_FAILED) give_up(path);
  close(fd);
  unsetenv("SCANOUTD_STAMPS"); /* what this program starts has no part in the file */
  file = mapped;
}

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double card_of(int fd) {
  struct stat stat;
  if (fd < 0 || fd >= FDS) return 0;
  if (cards[fd] == 0 && fstat(fd, &stat) == 0) cards[fd] = minor(stat.st_rdev) + 1;
  return (cards[fd] - 1) * 4294967296.0;
}

static void note(int fd, const struct drm_mode_atomic* atomic, double enter, double leave, int error) {
  const uint32_t* objects = (const uint32_t*)(uintptr_t)atomic->objs_ptr;
  const uint32_t first = __atomic_fetch_add(&count, atomic->count_objs, __ATOMIC_RELAXED);
  for (uint32_t i = 0; i < atomic->count_objs && first + i < ROWS; i++)
    file->rows[first + i] = (struct row){objects[i] + card_of(fd), enter, leave, error};
  file->count = first + atomic->count_objs;
}

int drmIoctl(int fd, unsigned long request, void* argument) {
  const struct drm_mode_atomic* atomic = argument;
  const int noted = file != NULL && request == DRM_IOCTL_MODE_ATOMIC &&
                    (atomic->flags & DRM_MODE_ATOMIC_NONBLOCK) != 0 &&
                    (atomic->flags & DRM_MODE_ATOMIC_TEST_ONLY) == 0;
  const double enter = noted ? now_ns() : 0;
  int result;
  do { /* all that libdrm's own does */
    result = ioctl(fd, request, argument);
  } while (result == -1 && (errno == EINTR || errno == EAGAIN));
  if (!noted) return result;
  const int error = result == 0 ? 0 : errno;
  note(fd, atomic, enter, now_ns(), error);
  errno = error;
  return result;
}
