// A client of wp_drm_lease_device_v1 on libwayland-client, for tests: does what its standard input says, and
// says what it is told, a line `@WORD NAME=VALUE...` each. It knows nothing of scanoutd; the socket is what
// WAYLAND_DISPLAY says.
//
//     bind                      one more object of each global
//     request DEVICE ID...      asks for a lease of the connectors with these ids; leases count from 0
//     misuse DEVICE WHAT ID...  a request that is against the rules: empty, twice or foreign (the last ID of
//     any device) release DEVICE            gives the device object back drop ID                   destroys
//     the newest object of the connector giveback LEASE            destroys the lease run LEASE PROGRAM...
//     runs a program, "{fd}" among its arguments being the lease stall NUMBER              binds that often,
//     and reads no more registries NUMBER         as many registries
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <wayland-client.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "drm-lease-v1-client.h"

enum { most = 256, most_words = 32 };

struct connector {
  struct wp_drm_lease_connector_v1* object; // null: none, or destroyed
  int device;
  uint32_t id;
  char name[64];
  char description[600];
};

static struct wl_display* display;
static struct wl_registry* registry;
static uint32_t globals[most];
static int global_count;
static struct wp_drm_lease_device_v1* devices[most];
static int device_count;
static struct connector connectors[most];
static int connector_count;
static struct {
  struct wp_drm_lease_v1* object;
  int fd;
} leases[most];
static int lease_count;

static void fail(const char* what) {
  fprintf(stderr, "wayland_client: %s\n", what);
  exit(1);
}

static int next(int* count) {
  if (*count == most) fail("too many objects");
  return (*count)++;
}

static void copy_word(char* to, size_t size, const char* from) {
  snprintf(to, size, "%s", from);
  for (char* at = to; *at != 0; at++)
    if (*at == ' ') *at = '_';
}

static void on_name(void* data, struct wp_drm_lease_connector_v1* object, const char* name) {
  (void)object;
  struct connector* connector = data;
  copy_word(connector->name, sizeof connector->name, name);
}

static void on_description(void* data, struct wp_drm_lease_connector_v1* object, const char* description) {
  (void)object;
  struct connector* connector = data;
  copy_word(connector->description, sizeof connector->description, description);
}

static void on_connector_id(void* data, struct wp_drm_lease_connector_v1* object, uint32_t id) {
  (void)object;
  ((struct connector*)data)->id = id;
}

static void on_connector_done(void* data, struct wp_drm_lease_connector_v1* object) {
  (void)object;
  const struct connector* connector = data;
  printf("@connector device=%d id=%u name=%s description=%s\n", connector->device, connector->id,
         connector->name, connector->description);
}

static void on_withdrawn(void* data, struct wp_drm_lease_connector_v1* object) {
  (void)object;
  const struct connector* connector = data;
  printf("@withdrawn device=%d id=%u\n", connector->device, connector->id);
}

static const struct wp_drm_lease_connector_v1_listener connector_listener = {
    .name = on_name,
    .description = on_description,
    .connector_id = on_connector_id,
    .done = on_connector_done,
    .withdrawn = on_withdrawn,
};

static int index_of(void* data) {
  return (int)(intptr_t)data;
}

static void on_drm_fd(void* data, struct wp_drm_lease_device_v1* object, int fd) {
  (void)object;
  int authenticated = -1;
  int pid = 0;
  int uid = 0;
  unsigned long magic = 0;
  unsigned long calls = 0;
  drmGetClient(fd, 0, &authenticated, &pid, &uid, &magic, &calls);
  printf("@drmfd device=%d master=%d auth=%d\n", index_of(data), drmIsMaster(fd), authenticated);
  close(fd);
}

static void on_connector(void* data, struct wp_drm_lease_device_v1* object,
                         struct wp_drm_lease_connector_v1* connector) {
  (void)object;
  struct connector* made = &connectors[next(&connector_count)];
  made->object = connector;
  made->device = index_of(data);
  wp_drm_lease_connector_v1_add_listener(connector, &connector_listener, made);
}

static void on_done(void* data, struct wp_drm_lease_device_v1* object) {
  (void)object;
  printf("@done device=%d\n", index_of(data));
}

static void on_released(void* data, struct wp_drm_lease_device_v1* object) {
  printf("@released device=%d\n", index_of(data));
  wp_drm_lease_device_v1_destroy(object);
  devices[index_of(data)] = NULL;
}

static const struct wp_drm_lease_device_v1_listener device_listener = {
    .drm_fd = on_drm_fd,
    .connector = on_connector,
    .done = on_done,
    .released = on_released,
};

static void on_lease_fd(void* data, struct wp_drm_lease_v1* object, int fd) {
  (void)object;
  drmModeObjectListRes* objects = drmModeGetLease(fd);
  printf("@leasefd lease=%d objects=%u\n", index_of(data), objects == NULL ? 0 : objects->count);
  drmFree(objects);
  leases[index_of(data)].fd = fd;
}

static void on_finished(void* data, struct wp_drm_lease_v1* object) {
  (void)object;
  printf("@finished lease=%d\n", index_of(data));
}

static const struct wp_drm_lease_v1_listener lease_listener = {
    .lease_fd = on_lease_fd,
    .finished = on_finished,
};

static void on_global(void* data, struct wl_registry* from, uint32_t name, const char* interface,
                      uint32_t version) {
  (void)data;
  (void)from;
  printf("@global number=%u interface=%s version=%u\n", name, interface, version);
  if (strcmp(interface, wp_drm_lease_device_v1_interface.name) == 0) globals[next(&global_count)] = name;
}

static void on_global_remove(void* data, struct wl_registry* from, uint32_t name) {
  (void)data;
  (void)from;
  printf("@gone number=%u\n", name);
}

static const struct wl_registry_listener registry_listener = {
    .global = on_global,
    .global_remove = on_global_remove,
};

static struct connector* find_connector(int device, const char* word) {
  const uint32_t id = (uint32_t)strtoul(word, NULL, 10);
  for (int i = connector_count - 1; i >= 0; i--) {
    const bool fits = connectors[i].id == id && connectors[i].object != NULL;
    if (fits && (device < 0 || connectors[i].device == device)) return &connectors[i];
  }
  fail("no such connector");
  return NULL;
}

static struct wp_drm_lease_request_v1* new_request(int device) {
  if (device >= device_count || devices[device] == NULL) fail("no such device");
  return wp_drm_lease_device_v1_create_lease_request(devices[device]);
}

static void submit(struct wp_drm_lease_request_v1* request) {
  const int lease = next(&lease_count);
  leases[lease].object = wp_drm_lease_request_v1_submit(request);
  leases[lease].fd = -1;
  wp_drm_lease_v1_add_listener(leases[lease].object, &lease_listener, (void*)(intptr_t)lease);
}

static void bind_all(void) {
  for (int i = 0; i < global_count; i++) {
    const int device = next(&device_count);
    devices[device] = wl_registry_bind(registry, globals[i], &wp_drm_lease_device_v1_interface, 1);
    wp_drm_lease_device_v1_add_listener(devices[device], &device_listener, (void*)(intptr_t)device);
  }
}

static void ask(char** words, int count) {
  const int device = atoi(words[1]);
  struct wp_drm_lease_request_v1* request = new_request(device);
  for (int i = 2; i < count; i++)
    wp_drm_lease_request_v1_request_connector(request, find_connector(device, words[i])->object);
  submit(request);
}

static void misuse(char** words, int count) {
  struct wp_drm_lease_request_v1* request = new_request(atoi(words[1]));
  const int times = strcmp(words[2], "empty") == 0 ? 0 : strcmp(words[2], "twice") == 0 ? 2 : 1;
  for (int i = 0; i < times && count > 3; i++)
    wp_drm_lease_request_v1_request_connector(request, find_connector(-1, words[3])->object);
  if (times == 0) submit(request); // after which the object is not known here by name
}

static void run(char** words, int count) {
  const int fd = dup(leases[atoi(words[1])].fd); // without close-on-exec
  char number[16];
  snprintf(number, sizeof number, "%d", fd);
  words[count] = NULL;
  for (int i = 2; i < count; i++)
    if (strcmp(words[i], "{fd}") == 0) words[i] = number;
  fflush(stdout);
  if (fork() == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(words[2], words + 2);
    _exit(127);
  }
  close(fd);
}

static void stall(int number) {
  for (int i = 0; i < number && global_count > 0; i++) {
    wl_registry_bind(registry, globals[0], &wp_drm_lease_device_v1_interface, 1);
    wl_display_flush(display);
  }
  printf("@stalled\n");
  fflush(stdout);
  for (;;)
    pause();
}

static void obey(char* line) {
  char* words[most_words + 1];
  int count = 0;
  for (char* word = strtok(line, " \n"); word != NULL && count < most_words; word = strtok(NULL, " \n"))
    words[count++] = word;
  if (count == 0) return;
  const char* command = words[0];
  if (strcmp(command, "bind") == 0) {
    bind_all();
    return;
  }
  if (count < 2) fail("a command without an argument");
  const int number = atoi(words[1]);
  if (strcmp(command, "request") == 0)
    ask(words, count);
  else if (strcmp(command, "misuse") == 0 && count > 2)
    misuse(words, count);
  else if (strcmp(command, "release") == 0)
    wp_drm_lease_device_v1_release(devices[number]);
  else if (strcmp(command, "run") == 0 && count > 2)
    run(words, count);
  else if (strcmp(command, "stall") == 0)
    stall(number);
  else if (strcmp(command, "registries") == 0)
    for (int i = 0; i < number; i++)
      wl_display_get_registry(display);
  else if (strcmp(command, "giveback") == 0) {
    wp_drm_lease_v1_destroy(leases[number].object);
    close(leases[number].fd);
  } else if (strcmp(command, "drop") == 0) {
    struct connector* connector = find_connector(-1, words[1]);
    wp_drm_lease_connector_v1_destroy(connector->object);
    connector->object = NULL;
  } else
    fail("an unknown command");
}

/// Whole lines of standard input; false at its end.
static bool read_commands(void) {
  static char buffer[8192];
  static size_t used;
  const ssize_t got = read(STDIN_FILENO, buffer + used, sizeof buffer - 1 - used);
  if (got <= 0) return false;
  used += (size_t)got;
  for (char* end; (end = memchr(buffer, '\n', used)) != NULL;) {
    const size_t size = (size_t)(end - buffer) + 1;
    *end = 0;
    obey(buffer);
    memmove(buffer, buffer + size, used - size);
    used -= size;
  }
  return true;
}

static void tell_end(void) {
  const struct wl_interface* interface = NULL;
  const int error = wl_display_get_error(display);
  const uint32_t code = error == EPROTO ? wl_display_get_protocol_error(display, &interface, NULL) : 0;
  printf("@end errno=%d code=%u interface=%s\n", error, code, interface == NULL ? "none" : interface->name);
  exit(0);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  display = wl_display_connect(NULL);
  if (display == NULL) {
    printf("@refused errno=%d\n", errno);
    return 0;
  }
  registry = wl_display_get_registry(display);
  wl_registry_add_listener(registry, &registry_listener, NULL);
  if (wl_display_roundtrip(display) < 0) tell_end();
  printf("@ready\n");
  for (;;) {
    while (wl_display_prepare_read(display) != 0)
      if (wl_display_dispatch_pending(display) < 0) tell_end();
    wl_display_flush(display); // an error is told by what follows
    struct pollfd ready[] = {{.fd = wl_display_get_fd(display), .events = POLLIN},
                             {.fd = 0, .events = POLLIN}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) fail("poll");
    if (ready[0].revents != 0) {
      if (wl_display_read_events(display) < 0) tell_end();
    } else
      wl_display_cancel_read(display);
    if (wl_display_dispatch_pending(display) < 0) tell_end();
    if (ready[1].revents != 0 && !read_commands()) return 0;
  }
}
