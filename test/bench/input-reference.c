/*
 * The least that handing on a pointer's events takes: read, look up where to, write. One thread, no policy.
 *
 *   input-reference PRIORITY DEVICE...
 *
 * Says "ready" when every device has its sink; ends with its standard input.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/uinput.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, BATCH = 64 };

static struct route {
  int from, to;
} routes[MOST];

static void must(int result, const char* what) {
  if (result >= 0) return;
  fprintf(stderr, "input-reference: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int make_sink(int number) {
  const int fd = open("/dev/uinput", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  must(fd, "/dev/uinput");
  for (int key = BTN_LEFT; key <= BTN_EXTRA; key++)
    must(ioctl(fd, UI_SET_KEYBIT, key), "UI_SET_KEYBIT");
  for (int axis = REL_X; axis <= REL_Y; axis++)
    must(ioctl(fd, UI_SET_RELBIT, axis), "UI_SET_RELBIT");
  must(ioctl(fd, UI_SET_EVBIT, EV_KEY), "UI_SET_EVBIT");
  must(ioctl(fd, UI_SET_EVBIT, EV_REL), "UI_SET_EVBIT");
  struct uinput_setup setup = {.id = {BUS_VIRTUAL, 1, 1, 1}};
  snprintf(setup.name, sizeof setup.name, "reference %d", number);
  must(ioctl(fd, UI_DEV_SETUP, &setup), "UI_DEV_SETUP");
  must(ioctl(fd, UI_DEV_CREATE), "UI_DEV_CREATE");
  return fd;
}

int main(int argc, char** argv) {
  if (argc < 3 || argc - 2 > MOST) {
    fprintf(stderr, "usage: input-reference PRIORITY DEVICE...\n");
    return 2;
  }
  const struct sched_param priority = {.sched_priority = atoi(argv[1])};
  if (priority.sched_priority > 0) must(sched_setscheduler(0, SCHED_RR, &priority), "SCHED_RR");
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  must(epoll, "epoll_create1");
  for (int i = 0; i < argc - 2; i++) {
    struct route* route = &routes[i];
    route->from = open(argv[i + 2], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    must(route->from, argv[i + 2]);
    const int clock = CLOCK_MONOTONIC;
    must(ioctl(route->from, EVIOCSCLOCKID, &clock), "EVIOCSCLOCKID");
    must(ioctl(route->from, EVIOCGRAB, 1), "EVIOCGRAB");
    route->to = make_sink(i);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = route};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, route->from, &event), "epoll_ctl");
  }
  struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input), "epoll_ctl");
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event ready[MOST];
    const int count = epoll_wait(epoll, ready, MOST, -1);
    for (int i = 0; i < count; i++) {
      const struct route* route = ready[i].data.ptr;
      if (route == NULL) return 0;
      struct input_event events[BATCH];
      const ssize_t got = read(route->from, events, sizeof events);
      if (got > 0 && write(route->to, events, (size_t)got) != got) must(-1, "write");
    }
  }
}
