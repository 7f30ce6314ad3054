#include "dbus-control.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

static int monitor = -1;
static int found[2]; /* a pipe through which the listener's descriptor goes */

_Noreturn static void die(const char* what, int error) {
  fprintf(stderr, "dbus: %s: %s\n", what, strerror(error < 0 ? -error : error));
  exit(1);
}

/* ---- the monitor */

/* One command; `fd` is set when a descriptor came along. False at the end of the connection. */
static int read_command(int socket, int* fd) {
  char control[CMSG_SPACE(sizeof(int))], line[512];
  size_t size = 0;
  while (size == 0 || line[size - 1] != '\n') {
    struct iovec part = {line + size, sizeof line - size};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const ssize_t count = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
    if (count <= 0) return 0;
    size += (size_t)count;
    const struct cmsghdr* sent = CMSG_FIRSTHDR(&header);
    if (sent != NULL && sent->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(sent), sizeof *fd);
    if (size == sizeof line) die("a command is too long", EPROTO);
  }
  return 1;
}

static void say(int socket, const char* text) {
  if (send(socket, text, strlen(text), MSG_NOSIGNAL) < 0) die("monitor", errno);
}

/* Serves one client until it goes; gives the connection to the display that it handed over, or -1. */
static int serve_monitor(int socket) {
  int fd = -1;
  say(socket, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
  while (read_command(socket, &fd))
    say(socket, "{\"return\": {}}\r\n");
  close(socket);
  return fd;
}

/* ---- the display */

static int consoles(sd_bus* bus, const char* path, const char* interface, const char* property,
                    sd_bus_message* reply, void* data, sd_bus_error* error) {
  (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
  return sd_bus_message_append(reply, "au", 1, 0u);
}

static int type(sd_bus* bus, const char* path, const char* interface, const char* property,
                sd_bus_message* reply, void* data, sd_bus_error* error) {
  (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
  return sd_bus_message_append(reply, "s", "Graphic");
}

static int register_listener(sd_bus_message* call, void* data, sd_bus_error* error) {
  int fd;
  (void)data, (void)error;
  if (sd_bus_message_read(call, "h", &fd) < 0) return -EINVAL;
  fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (fd < 0 || write(found[1], &fd, sizeof fd) != sizeof fd) die("listener", errno);
  return sd_bus_reply_method_return(call, "");
}

static int set_ui_info(sd_bus_message* call, void* data, sd_bus_error* error) {
  (void)data, (void)error;
  return sd_bus_reply_method_return(call, "");
}

static const sd_bus_vtable vm[] = {SD_BUS_VTABLE_START(0),
                                   SD_BUS_PROPERTY("ConsoleIDs", "au", consoles, 0, 0), SD_BUS_VTABLE_END};
static const sd_bus_vtable console[] = {
    SD_BUS_VTABLE_START(0), SD_BUS_PROPERTY("Type", "s", type, 0, 0),
    SD_BUS_METHOD("RegisterListener", "h", "", register_listener, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("SetUIInfo", "qqiiuu", "", set_ui_info, SD_BUS_VTABLE_UNPRIVILEGED), SD_BUS_VTABLE_END};

static void serve_display(int fd) {
  sd_bus* bus = NULL;
  int error = sd_bus_new(&bus);
  if (error >= 0) error = sd_bus_set_fd(bus, fd, fd);
  if (error >= 0)
    error = sd_bus_set_server(bus, 1, SD_ID128_MAKE(62, 65, 6e, 63, 68, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
  if (error >= 0) error = sd_bus_set_trusted(bus, 1);
  if (error >= 0) error = sd_bus_negotiate_fds(bus, 1);
  if (error >= 0)
    error = sd_bus_add_object_vtable(bus, NULL, "/org/qemu/Display1/VM", "org.qemu.Display1.VM", vm, NULL);
  if (error >= 0)
    error = sd_bus_add_object_vtable(bus, NULL, "/org/qemu/Display1/Console_0", "org.qemu.Display1.Console",
                                     console, NULL);
  if (error >= 0) error = sd_bus_start(bus);
  while (error >= 0) {
    error = sd_bus_process(bus, NULL);
    if (error == 0) error = sd_bus_wait(bus, UINT64_MAX);
  }
  sd_bus_unref(bus); /* the daemon is gone, or comes again */
}

static void* serve(void* nothing) {
  (void)nothing;
  for (;;) {
    const int socket = accept4(monitor, NULL, NULL, SOCK_CLOEXEC);
    if (socket < 0) die("accept", errno);
    const int display = serve_monitor(socket);
    if (display >= 0) serve_display(display);
  }
}

int control_listener(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  pthread_t thread;
  int listener;
  monitor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  if (bind(monitor, (const struct sockaddr*)&address, sizeof address) < 0 || listen(monitor, 1) < 0)
    die(path, errno);
  if (pipe2(found, O_CLOEXEC) < 0) die("pipe", errno);
  const int error = pthread_create(&thread, NULL, serve, NULL);
  if (error != 0) die("thread", error);
  if (read(found[0], &listener, sizeof listener) != sizeof listener) die("listener", errno);
  return listener;
}
