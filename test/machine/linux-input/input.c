/*
 * A program for a Linux guest: says what its input devices are and what they send, on standard output.
 *
 *   input COUNT    waits for so many devices
 *
 * Numbers are decimal, names hexadecimal, and so are sets of bits and other texts, after an x:
 *   @device name= bus= vendor= product= version= props= uniq=    and its @bits name= type= set=, @axis ...
 *   @frame name= events=TYPE.CODE.VALUE,...                       up to SYN_REPORT, which is left out
 *
 * Bytes on standard input: `c` sets the LED of Caps Lock on every keyboard, `n` that of Num Lock, `o` puts
 * all out.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { MOST = 16, FRAME = 512 };

static struct device {
  int fd;
  char name[2 * 80 + 1];
  struct input_event frame[FRAME];
  size_t count;
} devices[MOST];
static int device_count;

_Noreturn static void fail(const char* what) {
  printf("@error what=%s errno=%d\n", what, errno);
  exit(1);
}

static void print_hex(const unsigned char* bytes, size_t size) {
  for (size_t i = 0; i < size; i++)
    printf("%02x", bytes[i]);
}

static void say_bits(const struct device* device, int type, int limit) {
  unsigned char set[KEY_CNT / 8] = {0};
  if (ioctl(device->fd, EVIOCGBIT(type, sizeof set), set) < 0) fail("EVIOCGBIT");
  printf("@bits name=%s type=%d set=x", device->name, type);
  print_hex(set, (size_t)(limit + 7) / 8);
  printf("\n");
}

static void say_axes(const struct device* device) {
  unsigned char axes[(ABS_CNT + 7) / 8] = {0};
  if (ioctl(device->fd, EVIOCGBIT(EV_ABS, sizeof axes), axes) < 0) fail("EVIOCGBIT");
  for (int code = 0; code < ABS_CNT; code++) {
    if (!(axes[code / 8] >> code % 8 & 1)) continue;
    struct input_absinfo info;
    if (ioctl(device->fd, EVIOCGABS(code), &info) < 0) fail("EVIOCGABS");
    printf("@axis name=%s code=%d minimum=%d maximum=%d fuzz=%d flat=%d resolution=%d\n", device->name, code,
           info.minimum, info.maximum, info.fuzz, info.flat, info.resolution);
  }
}

static void say_device(const struct device* device) {
  struct input_id id;
  unsigned char props[(INPUT_PROP_CNT + 7) / 8] = {0};
  if (ioctl(device->fd, EVIOCGID, &id) < 0) fail("EVIOCGID");
  if (ioctl(device->fd, EVIOCGPROP(sizeof props), props) < 0) fail("EVIOCGPROP");
  char uniq[80] = "";
  ioctl(device->fd, EVIOCGUNIQ(sizeof uniq - 1), uniq);
  say_bits(device, 0, EV_CNT);
  say_bits(device, EV_KEY, KEY_CNT);
  say_bits(device, EV_REL, REL_CNT);
  say_bits(device, EV_MSC, MSC_CNT);
  say_bits(device, EV_LED, LED_CNT);
  say_axes(device);
  printf("@device name=%s bus=%d vendor=%d product=%d version=%d props=x", device->name, id.bustype,
         id.vendor, id.product, id.version);
  print_hex(props, sizeof props);
  printf(" uniq=x");
  print_hex((const unsigned char*)uniq, strlen(uniq));
  printf("\n");
}

static void open_devices(int wanted) {
  for (int tries = 0; device_count < wanted; tries++) {
    if (tries == 6000) fail("devices");
    char path[32];
    snprintf(path, sizeof path, "/dev/input/event%d", device_count);
    struct device* device = &devices[device_count];
    device->fd = open(path, O_RDWR | O_NONBLOCK);
    if (device->fd < 0) {
      usleep(10000);
      continue;
    }
    char name[80] = "";
    if (ioctl(device->fd, EVIOCGNAME(sizeof name - 1), name) < 0) fail("EVIOCGNAME");
    for (size_t i = 0; name[i] != '\0'; i++)
      snprintf(&device->name[2 * i], 3, "%02x", (unsigned char)name[i]);
    device_count++;
  }
}

static void take(struct device* device, const struct input_event* event) {
  if (event->type != EV_SYN || event->code != SYN_REPORT) {
    if (device->count == FRAME) fail("frame");
    device->frame[device->count++] = *event;
    return;
  }
  printf("@frame name=%s events=", device->name);
  for (size_t i = 0; i < device->count; i++) {
    const struct input_event* one = &device->frame[i];
    printf("%s%d.%d.%d", i == 0 ? "" : ",", one->type, one->code, one->value);
  }
  printf("\n");
  device->count = 0;
}

static void read_device(struct device* device) {
  struct input_event events[64];
  const ssize_t got = read(device->fd, events, sizeof events);
  for (ssize_t i = 0; i < got / (ssize_t)sizeof *events; i++)
    take(device, &events[i]);
}

static void set_led(int led, int value) {
  for (int i = 0; i < device_count; i++) {
    unsigned char leds[(LED_CNT + 7) / 8] = {0};
    if (ioctl(devices[i].fd, EVIOCGBIT(EV_LED, sizeof leds), leds) < 0) fail("EVIOCGBIT");
    if (!(leds[led / 8] >> led % 8 & 1)) continue;
    const struct input_event events[] = {{.type = EV_LED, .code = (unsigned short)led, .value = value},
                                         {.type = EV_SYN}};
    if (write(devices[i].fd, events, sizeof events) != sizeof events) fail("led");
  }
}

static void hear(void) {
  char byte = 0;
  if (read(STDIN_FILENO, &byte, 1) != 1) fail("stdin");
  if (byte == 'c') set_led(LED_CAPSL, 1);
  if (byte == 'n') set_led(LED_NUML, 1);
  if (byte == 'o') {
    set_led(LED_CAPSL, 0);
    set_led(LED_NUML, 0);
  }
}

int main(int argc, char** argv) {
  struct termios raw;
  if (tcgetattr(STDIN_FILENO, &raw) == 0) {
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST | ONLCR;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  open_devices(argc > 1 ? atoi(argv[1]) : 1);
  for (int i = 0; i < device_count; i++)
    say_device(&devices[i]);
  printf("@ready\n");
  for (;;) {
    struct pollfd polled[MOST + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};
    for (int i = 0; i < device_count; i++)
      polled[i + 1] = (struct pollfd){.fd = devices[i].fd, .events = POLLIN};
    if (poll(polled, (nfds_t)device_count + 1, -1) < 0) fail("poll");
    for (int i = 0; i < device_count; i++) {
      if (polled[i + 1].revents & POLLIN) read_device(&devices[i]);
    }
    if (polled[0].revents & POLLIN) hear();
  }
}
