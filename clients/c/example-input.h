/* The example's input: what the devices of its seat send, a line an event. */
#ifndef EXAMPLE_INPUT_H
#define EXAMPLE_INPUT_H

#include <errno.h>
#include <inttypes.h>
#include <linux/input-event-codes.h>
#include <stdio.h>

#include "scanoutd-client.h"

static const char* const class_names[] = {"keyboard", "pointer", "absolute", "touchscreen", "touchpad",
                                          "tablet",   "pad",     "switch",   "joystick"};
enum { CLASSES = sizeof class_names / sizeof class_names[0] };

/* Asks for it; the file that events go to, or NULL. */
static FILE* open_input(struct scanoutd_client* client, const char* path) {
  FILE* file = fopen(path, "we");
  if (file == NULL) return NULL;
  const int result = scanoutd_client_take_input(client, NULL);
  if (result == 0) return file;
  fclose(file);
  errno = -result;
  return NULL;
}

static void write_devices(struct scanoutd_client* client, FILE* file) {
  for (uint32_t i = 0; i < CLASSES; i++) {
    const struct scanoutd_input_device* device = scanoutd_client_input_device(client, i);
    if (device != NULL) fprintf(file, "device %s %s\n", class_names[i], device->name);
  }
  fputs("devices\n", file);
}

/* Reads all that is there. A negative value: the connection has ended, of which an event will tell. */
static int read_input(struct scanoutd_client* client, FILE* file) {
  struct scanoutd_input_frame frame;
  int result;
  while ((result = scanoutd_client_read_input(client, &frame)) > 0) {
    if (result == 2) {
      write_devices(client, file);
      continue;
    }
    for (uint32_t i = 0; i < frame.count; i++) {
      const struct scanoutd_input_value* event = &frame.events[i];
      fprintf(file, "%s %" PRIu64 " %u %u %" PRId32 "\n",
              frame.device < CLASSES ? class_names[frame.device] : "unknown", frame.time_ns, event->type,
              event->code, event->value);
    }
  }
  fflush(file);
  return result;
}

#endif
