/*
 * Stamps input events from outside of the program that hands them on: LD_PRELOAD=libinputstamp.so
 * SCANOUTD_INPUT_STAMPS=FILE.
 *
 * A frame begins with the kernel's own timestamp, as the program reads it, and ends when its write to uinput
 * has returned. Both programs that the benchmark compares run with it. src/bench/input.ts reads the file.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 1 << 21, FDS = 4096, WAITING = 4096, INPUT_MAJOR = 13, UINPUT_MAJOR = 10, UINPUT_MINOR = 223 };
enum kind { UNKNOWN, OTHER, SOURCE, SINK };

/* Doubles, since JavaScript reads them without conversion; all are whole numbers. */
struct file {
  double count;   /* of frames that were written; those beyond ROWS are lost */
  double read;    /* frames that were read */
  double dropped; /* SYN_DROPPED that were read */
  double reserved;
  struct {
    double kernel_ns, written_ns; /* CLOCK_MONOTONIC */
  } rows[ROWS];
};

static struct file* file;
static uint8_t kinds[FDS];
/* Frames of the newest read that are not written yet: one thread does both, and writes before it reads again.
 */
static double waiting[WAITING];
static uint32_t first, last;
/* After SYN_DROPPED the next report is none of a frame. */
static int read_drops, write_drops;

static ssize_t (*next_read)(int, void*, size_t);
static ssize_t (*next_write)(int, const void*, size_t);
static long (*next_syscall)(long, ...);
static int (*next_close)(int);

static void give_up(const char* path) {
  fprintf(stderr, "libinputstamp: %s: %s\n", path, strerror(errno));
  abort(); /* numbers without their stamps would prove nothing */
}

__attribute__((constructor)) static void start(void) {
  *(void**)&next_read = dlsym(RTLD_NEXT, "read");
  *(void**)&next_write = dlsym(RTLD_NEXT, "write");
  *(void**)&next_syscall = dlsym(RTLD_NEXT, "syscall");
  *(void**)&next_close = dlsym(RTLD_NEXT, "close");
  const char* path = getenv("SCANOUTD_INPUT_STAMPS");
  if (path == NULL) return;
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof *file) < 0) give_up(path);
  void* mapped = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (mapped == MAP_FAILED) give_up(path);
  next_close(fd);
  unsetenv("SCANOUTD_INPUT_STAMPS");
  file = mapped;
}

static enum kind kind_of(int fd) {
  struct stat stat;
  if (file == NULL || fd < 0 || fd >= FDS) return OTHER;
  if (kinds[fd] == UNKNOWN) {
    const int error = errno;
    const int device = fstat(fd, &stat) == 0 && S_ISCHR(stat.st_mode);
    const unsigned type = device ? major(stat.st_rdev) : 0;
    kinds[fd] = type == INPUT_MAJOR                                           ? SOURCE
                : type == UINPUT_MAJOR && minor(stat.st_rdev) == UINPUT_MINOR ? SINK
                                                                              : OTHER;
    errno = error;
  }
  return kinds[fd];
}

static double now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int close(int fd) {
  if (fd >= 0 && fd < FDS) kinds[fd] = UNKNOWN;
  return next_close(fd);
}

static void was_read(int fd, const void* buffer, ssize_t got) {
  if (got <= 0 || kind_of(fd) != SOURCE) return;
  const struct input_event* events = buffer;
  first = last;
  for (size_t i = 0; i < (size_t)got / sizeof *events; i++) {
    if (events[i].type != EV_SYN) continue;
    if (events[i].code == SYN_DROPPED) {
      file->dropped++;
      read_drops = 1;
    }
    if (events[i].code != SYN_REPORT) continue;
    const int whole = !read_drops;
    read_drops = 0;
    if (!whole) continue;
    file->read++;
    waiting[last++ % WAITING] =
        (double)events[i].input_event_sec * 1e9 + (double)events[i].input_event_usec * 1e3;
  }
}

static void was_written(int fd, const void* buffer, ssize_t written) {
  if (written <= 0 || kind_of(fd) != SINK) return;
  const double now = now_ns();
  const struct input_event* events = buffer;
  for (size_t i = 0; i < (size_t)written / sizeof *events; i++) {
    if (events[i].type != EV_SYN) continue;
    if (events[i].code == SYN_DROPPED) write_drops = 1; /* one that hands everything on */
    if (events[i].code != SYN_REPORT) continue;
    const int whole = !write_drops;
    write_drops = 0;
    if (!whole || first == last) continue;
    const uint32_t row = (uint32_t)file->count++;
    const double kernel = waiting[first++ % WAITING];
    if (row >= ROWS) continue;
    file->rows[row].kernel_ns = kernel;
    file->rows[row].written_ns = now;
  }
}

ssize_t read(int fd, void* buffer, size_t size) {
  const ssize_t got = next_read(fd, buffer, size);
  was_read(fd, buffer, got);
  return got;
}

ssize_t write(int fd, const void* buffer, size_t size) {
  const ssize_t written = next_write(fd, buffer, size);
  was_written(fd, buffer, written);
  return written;
}

/* As the daemon calls them, past the cancellation points of glibc. */
long syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long of[6];
  for (int i = 0; i < 6; i++)
    of[i] = va_arg(list, long);
  va_end(list);
  const long result = next_syscall(number, of[0], of[1], of[2], of[3], of[4], of[5]);
  if (number == SYS_read) was_read((int)of[0], (const void*)of[1], result);
  if (number == SYS_write) was_written((int)of[0], (const void*)of[1], result);
  return result;
}
