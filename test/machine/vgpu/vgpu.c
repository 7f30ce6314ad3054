/*
 * Plays the virtual machine of a VFIO sample device (mbochs, mdpy): opens it, draws the bare guest's pictures
 * (../guest) into its memory and flips them by its registers.
 *
 *   vgpu DEVICE WIDTHxHEIGHT BUFFERS [SOCKET NAME]
 *
 * DEVICE: the directory in sysfs; mdpy has a size of its own, and one buffer. SOCKET: scanoutd's guest
 * socket, on which it can offer the device as guest NAME.
 *
 * Bytes on standard input: `f` flips the next frame, `F` flips sixteen without drawing, `d` switches the
 * display off, `e` says the EDID that the device has, `o` offers the device, `h` hangs up. The end of it ends
 * the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scanoutd-client.h"

enum {
  /* mbochs: the registers in BAR 2, as offsets of 16-bit words */
  REGISTERS = 0x500,
  X_SIZE = 1,
  Y_SIZE,
  BITS,
  ENABLE,
  VIRTUAL_WIDTH = 6,
  VIRTUAL_HEIGHT,
  X_OFFSET,
  Y_OFFSET,
  ENABLED = 0x41,
  /* mdpy: its size in PCI configuration space */
  MDPY_WIDTH = 0x48,
  MDPY_HEIGHT = 0x4c,
  MDPY_DEVICE = 0x000f,
  EDID_BYTES = 128,
  DAEMON_MS = 30000,
};

static int device, connection = -1;
static const char *socket_path, *guest_name;
static bool is_mdpy;
static uint32_t width, height, buffers, frame;
static uint8_t* memory;
static uint64_t configuration, registers;

_Noreturn static void fail(const char* what) {
  printf("@error what=%s errno=%d\n", what, errno);
  exit(1);
}

static struct vfio_region_info region(uint32_t index) {
  struct vfio_region_info info = {.argsz = sizeof info, .index = index};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) != 0) fail("region");
  return info;
}

static void open_device(const char* path) {
  char link[PATH_MAX], target[PATH_MAX] = "", group_path[64], real[PATH_MAX];
  snprintf(link, sizeof link, "%s/iommu_group", path);
  if (readlink(link, target, sizeof target - 1) < 0) fail("group");
  snprintf(group_path, sizeof group_path, "/dev/vfio/%s", basename(target));
  int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
  int group = open(group_path, O_RDWR | O_CLOEXEC);
  if (container < 0 || group < 0) fail("open");
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0) fail("container");
  if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) != 0) fail("iommu");
  if (realpath(path, real) == NULL) fail("realpath");
  device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, basename(real));
  if (device < 0) fail("device");
}

static void set_register(unsigned index, uint32_t value) {
  uint16_t word = (uint16_t)value;
  if (pwrite(device, &word, sizeof word, (off_t)(registers + REGISTERS + 2 * index)) != sizeof word)
    fail("register");
}

static uint32_t read_configuration(uint32_t at) {
  uint32_t value = 0;
  if (pread(device, &value, sizeof value, (off_t)(configuration + at)) != sizeof value) fail("configuration");
  return value;
}

static void start(const char* size) {
  configuration = region(VFIO_PCI_CONFIG_REGION_INDEX).offset;
  is_mdpy = read_configuration(0) >> 16 == MDPY_DEVICE;
  if (is_mdpy) {
    width = read_configuration(MDPY_WIDTH);
    height = read_configuration(MDPY_HEIGHT);
    buffers = 1;
  } else if (sscanf(size, "%ux%u", &width, &height) != 2) {
    fail("size");
  }
  struct vfio_region_info bar = region(VFIO_PCI_BAR0_REGION_INDEX);
  memory = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)bar.offset);
  if (memory == MAP_FAILED) fail("mmap");
  if (is_mdpy) return;
  registers = region(VFIO_PCI_BAR2_REGION_INDEX).offset;
  set_register(X_SIZE, width);
  set_register(Y_SIZE, height);
  set_register(BITS, 32);
  set_register(VIRTUAL_WIDTH, width);
  set_register(VIRTUAL_HEIGHT, height * buffers);
  set_register(X_OFFSET, 0);
}

/* As in ../guest/screen.c. */
static void draw(uint32_t number) {
  uint32_t* pixel = (uint32_t*)(memory + (size_t)(number % buffers) * width * height * 4);
  for (uint32_t y = 0; y < height; y++) {
    uint32_t value = (number + 1) * 0x9e3779b1 + y * 0x0010dcd9;
    for (uint32_t x = 0; x < width; x++, value += 0x00c2b2ae)
      *pixel++ = value;
  }
}

static void show(uint32_t number) {
  if (is_mdpy) return;
  set_register(Y_OFFSET, number % buffers * height);
  set_register(ENABLE, ENABLED);
}

static void say_edid(void) {
  printf("@edid bytes=");
  for (uint32_t at = 0; at < EDID_BYTES; at += 4) {
    uint8_t bytes[4];
    if (pread(device, bytes, 4, (off_t)(registers + at)) != 4) fail("edid");
    printf("%02x%02x%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]);
  }
  printf("\n");
}

/* The display is scanoutd's business from now on; all that this program does is to flip. */
static void offer(void) {
  struct scanoutd_error error;
  int result = scanoutd_offer_open(socket_path, guest_name, device, DAEMON_MS, &error);
  if (result >= 0) connection = result;
  printf("@offer errno=%d code=%u\n%s\n", result < 0 ? -result : 0, error.code, error.text);
}

/* What the daemon says of the device that it was offered. */
static void hear(void) {
  struct scanoutd_error error = {.code = SCANOUTD_OK};
  int result = scanoutd_offer_news(connection, &error);
  if (result == 0) return;
  printf("@ended errno=%d code=%u\n%s\n", -result, error.code, error.text);
  close(connection);
  connection = -1;
}

static void obey(int byte) {
  if (byte == 'f') {
    draw(frame);
    show(frame);
    printf("@flip frame=%u buffer=%u\n", frame, frame % buffers);
    frame++;
  } else if (byte == 'F') {
    for (int i = 0; i < 16; i++, frame++) {
      show(frame);
      usleep(40000);
    }
    printf("@flips frame=%u\n", frame);
  } else if (byte == 'd') {
    set_register(ENABLE, 0);
    printf("@disabled frame=%u\n", frame);
  } else if (byte == 'e') {
    say_edid();
  } else if (byte == 'o') {
    offer();
  } else if (byte == 'h') {
    close(connection);
    connection = -1;
  }
}

int main(int count, char** words) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  setvbuf(stdin, NULL, _IONBF, 0);
  if (count != 4 && count != 6) return 2;
  socket_path = count == 6 ? words[4] : NULL;
  guest_name = count == 6 ? words[5] : NULL;
  buffers = (uint32_t)strtoul(words[3], NULL, 10);
  open_device(words[1]);
  start(words[2]);
  printf("@buffers width=%u height=%u count=%u\n", width, height, buffers);
  for (;;) {
    struct pollfd inputs[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = connection, .events = POLLIN}};
    if (poll(inputs, 2, -1) < 0) fail("poll");
    if (inputs[1].revents != 0) hear();
    if (inputs[0].revents == 0) continue;
    int byte = getchar();
    if (byte == EOF) return 0;
    obey(byte);
  }
}
