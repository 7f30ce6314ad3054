/*
 * Pointers that move: devices of uinput whose frames come at a rate.
 *
 *   input-play COUNT
 *
 * Says "device PATH" for each, then "ready". Each line "RATE SECONDS" on its standard input makes every
 * device move RATE times a second for so long; the frames of the devices are spread over the time between.
 * Says "played FRAMES LATE", LATE of which came more than a period after their time.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/uinput.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64 };

static int devices[MOST];

static void must(int result, const char* what) {
  if (result >= 0) return;
  fprintf(stderr, "input-play: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void make_device(int number) {
  const int fd = open("/dev/uinput", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  must(fd, "/dev/uinput");
  must(ioctl(fd, UI_SET_EVBIT, EV_KEY), "UI_SET_EVBIT");
  must(ioctl(fd, UI_SET_EVBIT, EV_REL), "UI_SET_EVBIT");
  for (int key = BTN_LEFT; key <= BTN_EXTRA; key++)
    must(ioctl(fd, UI_SET_KEYBIT, key), "UI_SET_KEYBIT");
  must(ioctl(fd, UI_SET_RELBIT, REL_X), "UI_SET_RELBIT");
  must(ioctl(fd, UI_SET_RELBIT, REL_Y), "UI_SET_RELBIT");
  struct uinput_setup setup = {.id = {BUS_USB, 1, 2, 1}};
  snprintf(setup.name, sizeof setup.name, "bench pointer %d", number);
  must(ioctl(fd, UI_DEV_SETUP, &setup), "UI_DEV_SETUP");
  must(ioctl(fd, UI_DEV_CREATE), "UI_DEV_CREATE");
  char name[64], pattern[128];
  must(ioctl(fd, UI_GET_SYSNAME(sizeof name), name), "UI_GET_SYSNAME");
  snprintf(pattern, sizeof pattern, "/sys/devices/virtual/input/%s/event*", name);
  glob_t found;
  if (glob(pattern, 0, NULL, &found) != 0) must(-1, pattern);
  printf("device /dev/input/%s\n", strrchr(found.gl_pathv[0], '/') + 1);
  globfree(&found);
  devices[number] = fd;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void play(int count, double rate, double seconds) {
  const double step = 1e9 / (rate * count); /* from one frame of any device to the next */
  const long frames = (long)(rate * count * seconds);
  const int64_t start = now_ns();
  long late = 0;
  for (long i = 0; i < frames; i++) {
    const int64_t due = start + (int64_t)((double)i * step);
    const struct timespec until = {due / 1000000000, due % 1000000000};
    const int64_t now = now_ns();
    if (now < due)
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    else if ((double)(now - due) > step * count)
      late++;
    const int way = i / count % 2 == 0 ? 1 : -1;
    const struct input_event frame[] = {{.type = EV_REL, .code = REL_X, .value = way},
                                        {.type = EV_REL, .code = REL_Y, .value = way},
                                        {.type = EV_SYN, .code = SYN_REPORT}};
    if (write(devices[i % count], frame, sizeof frame) != sizeof frame) must(-1, "write");
  }
  printf("played %ld %ld\n", frames, late);
}

int main(int argc, char** argv) {
  const int count = argc == 2 ? atoi(argv[1]) : 0;
  if (count < 1 || count > MOST) {
    fprintf(stderr, "usage: input-play COUNT\n");
    return 2;
  }
  for (int i = 0; i < count; i++)
    make_device(i);
  puts("ready");
  fflush(stdout);
  double rate, seconds;
  while (scanf("%lf %lf", &rate, &seconds) == 2) {
    play(count, rate, seconds);
    fflush(stdout);
  }
  return 0;
}
