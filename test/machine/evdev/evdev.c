/*
 * Hardware and far ends of the input tests: makes devices of uinput, plays events on them, and reads devices.
 *
 *   evdev make          what the device has, and what it does, by lines on standard input (see `command`)
 *   evdev read PATH     prints each event as "TYPE CODE VALUE"; with --grab nobody else gets them
 *   evdev record DIRECTORY PATH...   each event into a file of the directory, named by the number of its PATH
 * from 0 on, as struct record, until its standard input ends evdev led PATH CODE VALUE
 *
 * What is ready is said on standard output ("created PATH", "ready", "played N").
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/uinput.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct record {
  uint16_t type, code;
  int32_t value;
};

#define BATCH 64
#define MOST 128

static void die(const char* what) {
  fprintf(stderr, "evdev: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void must(int result, const char* what) {
  if (result < 0) die(what);
}

static void say(const char* text) {
  puts(text);
  fflush(stdout);
}

/* ---- making */

static int device = -1;
static struct uinput_setup setup;
static struct input_event queue[4096];
static size_t queued;

static void put(uint16_t type, uint16_t code, int32_t value) {
  if (queued == sizeof queue / sizeof *queue) {
    fprintf(stderr, "evdev: a frame is too long\n");
    exit(1);
  }
  queue[queued++] = (struct input_event){.type = type, .code = code, .value = value};
}

static void flush_frame(void) {
  put(EV_SYN, SYN_REPORT, 0);
  const size_t size = queued * sizeof *queue;
  queued = 0;
  if (write(device, queue, size) != (ssize_t)size) die("write");
}

static void set_bits(char* numbers, unsigned long request, int type) {
  must(ioctl(device, UI_SET_EVBIT, type), "UI_SET_EVBIT");
  for (char* word = strtok(numbers, " "); word; word = strtok(NULL, " ")) {
    int first, last;
    const int found = sscanf(word, "%d-%d", &first, &last);
    if (found < 1) continue;
    for (int code = first; code <= (found == 2 ? last : first); ++code)
      must(ioctl(device, request, code), "UI_SET_...BIT");
  }
}

static void create(void) {
  must(ioctl(device, UI_DEV_SETUP, &setup), "UI_DEV_SETUP");
  must(ioctl(device, UI_DEV_CREATE), "UI_DEV_CREATE");
  char name[64], command[160], path[128] = "";
  must(ioctl(device, UI_GET_SYSNAME(sizeof name), name), "UI_GET_SYSNAME");
  snprintf(command, sizeof command, "ls -d /sys/devices/virtual/input/%s/event*", name);
  FILE* listing = popen(command, "r");
  if (!listing || !fgets(path, sizeof path, listing)) die("no event node");
  pclose(listing);
  path[strcspn(path, "\n")] = '\0';
  printf("created /dev/input/%s %s\n", strrchr(path, '/') + 1, name);
  fflush(stdout);
}

/* Frames of a file, one each `interval` microseconds; none is late because one before it was. */
static void play(const char* path, long interval) {
  FILE* file = fopen(path, "rb");
  if (!file) die(path);
  struct record one;
  long frames = 0;
  struct timespec next;
  clock_gettime(CLOCK_MONOTONIC, &next);
  while (fread(&one, sizeof one, 1, file) == 1) {
    if (one.type != EV_SYN) {
      put(one.type, one.code, one.value);
      continue;
    }
    flush_frame();
    ++frames;
    next.tv_nsec += interval * 1000;
    next.tv_sec += next.tv_nsec / 1000000000;
    next.tv_nsec %= 1000000000;
    if (interval > 0) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
  }
  fclose(file);
  printf("played %ld\n", frames);
  fflush(stdout);
}

/*
 *   name TEXT   phys TEXT   id BUS VENDOR PRODUCT VERSION   prop N
 *   key|rel|msc|sw|led N N-M ...   abs CODE MINIMUM MAXIMUM RESOLUTION FUZZ FLAT   repeat   create
 *   e TYPE CODE VALUE   adds to the frame in hand;   s   sends it
 *   play FILE MICROSECONDS   destroy
 */
static void command(char* line) {
  line[strcspn(line, "\n")] = '\0';
  char* rest = strchr(line, ' ');
  rest = rest ? rest + 1 : line + strlen(line);
  long a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
  sscanf(rest, "%ld %ld %ld %ld %ld %ld", &a, &b, &c, &d, &e, &f);
  if (!strncmp(line, "name ", 5))
    snprintf(setup.name, sizeof setup.name, "%.*s", (int)sizeof setup.name - 1, rest);
  else if (!strncmp(line, "phys ", 5))
    must(ioctl(device, UI_SET_PHYS, rest), "UI_SET_PHYS");
  else if (!strncmp(line, "id ", 3))
    setup.id = (struct input_id){(uint16_t)a, (uint16_t)b, (uint16_t)c, (uint16_t)d};
  else if (!strncmp(line, "prop ", 5))
    must(ioctl(device, UI_SET_PROPBIT, (int)a), "UI_SET_PROPBIT");
  else if (!strncmp(line, "key ", 4))
    set_bits(rest, UI_SET_KEYBIT, EV_KEY);
  else if (!strncmp(line, "rel ", 4))
    set_bits(rest, UI_SET_RELBIT, EV_REL);
  else if (!strncmp(line, "msc ", 4))
    set_bits(rest, UI_SET_MSCBIT, EV_MSC);
  else if (!strncmp(line, "sw ", 3))
    set_bits(rest, UI_SET_SWBIT, EV_SW);
  else if (!strncmp(line, "led ", 4))
    set_bits(rest, UI_SET_LEDBIT, EV_LED);
  else if (!strcmp(line, "repeat"))
    must(ioctl(device, UI_SET_EVBIT, EV_REP), "UI_SET_EVBIT");
  else if (!strncmp(line, "abs ", 4)) {
    struct uinput_abs_setup axis = {
        .code = (uint16_t)a,
        .absinfo = {
            .minimum = (int)b, .maximum = (int)c, .resolution = (int)d, .fuzz = (int)e, .flat = (int)f}};
    must(ioctl(device, UI_SET_EVBIT, EV_ABS), "UI_SET_EVBIT");
    must(ioctl(device, UI_ABS_SETUP, &axis), "UI_ABS_SETUP");
  } else if (!strcmp(line, "create"))
    create();
  else if (!strncmp(line, "e ", 2))
    put((uint16_t)a, (uint16_t)b, (int32_t)c);
  else if (!strcmp(line, "s"))
    flush_frame();
  else if (!strncmp(line, "play ", 5)) {
    char path[256];
    if (sscanf(rest, "%255s %ld", path, &b) != 2) die("play FILE MICROSECONDS");
    play(path, b);
  } else if (!strcmp(line, "destroy")) {
    must(ioctl(device, UI_DEV_DESTROY), "UI_DEV_DESTROY");
    say("destroyed");
  } else {
    fprintf(stderr, "evdev: unknown: %s\n", line);
    exit(2);
  }
}

/* What is sent to the device: LEDs. */
static void show_sent(void) {
  struct input_event events[BATCH];
  const ssize_t got = read(device, events, sizeof events);
  for (ssize_t i = 0; i < got / (ssize_t)sizeof *events; ++i) {
    if (events[i].type == EV_LED) printf("led %d %d\n", events[i].code, events[i].value);
  }
  fflush(stdout);
}

static int make(void) {
  device = open("/dev/uinput", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (device < 0) die("/dev/uinput");
  static char buffer[65536];
  size_t length = 0;
  for (;;) {
    struct pollfd polled[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = device, .events = POLLIN}};
    if (poll(polled, 2, -1) < 0 && errno != EINTR) die("poll");
    if (polled[1].revents & POLLIN) show_sent();
    if (!(polled[0].revents & (POLLIN | POLLHUP))) continue;
    const ssize_t got = read(STDIN_FILENO, buffer + length, sizeof buffer - length - 1);
    if (got <= 0) return 0;
    length += (size_t)got;
    buffer[length] = '\0';
    char* start = buffer;
    for (char* end; (end = strchr(start, '\n')); start = end + 1) {
      *end = '\0';
      command(start);
    }
    length -= (size_t)(start - buffer);
    memmove(buffer, start, length);
  }
}

/* ---- reading */

static int open_device(const char* path, int flags) {
  const int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

static int read_device(const char* path, int grab) {
  const int fd = open_device(path, O_RDONLY);
  if (grab) must(ioctl(fd, EVIOCGRAB, 1), "EVIOCGRAB");
  say("ready");
  for (;;) {
    struct input_event events[BATCH];
    const ssize_t got = read(fd, events, sizeof events);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    for (ssize_t i = 0; i < got / (ssize_t)sizeof *events; ++i)
      printf("%d %d %d\n", events[i].type, events[i].code, events[i].value);
    fflush(stdout);
  }
  printf("gone %d\n", errno);
  return 0;
}

/* Everything that the device has for us now; it is not polled any more once it is gone. */
static void record_some(struct pollfd* polled, FILE* file) {
  struct input_event events[BATCH];
  const ssize_t got = read(polled->fd, events, sizeof events);
  if (got <= 0) {
    polled->fd = -1;
    return;
  }
  for (ssize_t i = 0; i < got / (ssize_t)sizeof *events; ++i) {
    const struct record one = {events[i].type, events[i].code, events[i].value};
    fwrite(&one, sizeof one, 1, file);
  }
}

static int record(const char* directory, char** paths, int count) {
  static struct pollfd polled[MOST + 1];
  static FILE* files[MOST];
  if (count > MOST) die("too many devices");
  /* Whoever reads too slowly loses events, and this is not what is tested. */
  const struct sched_param priority = {.sched_priority = 1};
  must(sched_setscheduler(0, SCHED_RR, &priority), "SCHED_RR");
  for (int i = 0; i < count; ++i) {
    char name[256];
    snprintf(name, sizeof name, "%s/%d", directory, i);
    files[i] = fopen(name, "wb");
    if (!files[i]) die(name);
    setvbuf(files[i], NULL, _IOFBF, 1 << 19);
    polled[i] = (struct pollfd){.fd = open_device(paths[i], O_RDONLY), .events = POLLIN};
  }
  polled[count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
  say("ready");
  while (!polled[count].revents) {
    if (poll(polled, (nfds_t)count + 1, -1) < 0 && errno != EINTR) die("poll");
    for (int i = 0; i < count; ++i) {
      if (polled[i].revents) record_some(&polled[i], files[i]);
    }
  }
  for (int i = 0; i < count; ++i) {
    if (fclose(files[i]) != 0) die("fclose");
  }
  say("recorded");
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 2 && !strcmp(argv[1], "make")) return make();
  if (argc == 3 && !strcmp(argv[1], "read")) return read_device(argv[2], 0);
  if (argc == 4 && !strcmp(argv[1], "read") && !strcmp(argv[3], "--grab")) return read_device(argv[2], 1);
  if (argc >= 4 && !strcmp(argv[1], "record")) return record(argv[2], argv + 3, argc - 3);
  if (argc == 5 && !strcmp(argv[1], "led")) {
    const int fd = open_device(argv[2], O_RDWR);
    const struct input_event events[] = {
        {.type = EV_LED, .code = (uint16_t)atoi(argv[3]), .value = atoi(argv[4])}, {.type = EV_SYN}};
    return write(fd, events, sizeof events) == sizeof events ? 0 : 1;
  }
  fprintf(stderr,
          "usage: evdev make | read PATH [--grab] | record DIRECTORY PATH... | led PATH CODE VALUE\n");
  return 2;
}
