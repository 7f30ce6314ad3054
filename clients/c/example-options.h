/* The example's command line. */
#ifndef EXAMPLE_OPTIONS_H
#define EXAMPLE_OPTIONS_H

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "example-buffer.h"

/* What the command line says; 0 and NULL where it says nothing. */
struct options {
  const char *socket, *name, *stats, *input;
  uint32_t kinds[SCANOUTD_MAX_PLANES], kind_count;
  uint32_t fourcc, width, height;
  int32_t x, y;
  uint64_t frames;
  double seconds, rate;
  bool fifo, check, reconnect, cursor;
};

static const char* const kind_names[] = {"none", "primary", "overlay", "cursor"};

static const char usage[] =
    "Usage: example [OPTION]...\n"
    "Shows a moving test card as a guest of scanoutd.\n\n"
    "  --socket PATH       the daemon's socket (" SCANOUTD_SOCKET_PATH ")\n"
    "  --name NAME         the guest's name in the configuration (example)\n"
    "  --plane KIND        primary, overlay or cursor; again for more planes, bottom to top (primary)\n"
    "  --size WIDTHxHEIGHT of the first plane (the configured area)\n"
    "  --position X,Y      of the first plane (0,0)\n"
    "  --format FOURCC     XR24, AR24, RG16 or NV12 (XR24)\n"
    "  --frames N          end after N frames\n"
    "  --seconds N         end after N seconds\n"
    "  --fifo              show every frame, in place of the newest\n"
    "  --rate HZ           draw HZ frames a second, in place of one for each that is shown\n"
    "  --cursor            move a cursor plane besides\n"
    "  --stats FILE        write what happened to FILE as JSON\n"
    "  --input FILE        write what the devices of its seat send to FILE, a line an event\n"
    "  --check             see to it that released buffers are as they were left, and poison them\n"
    "  --reconnect         wait for the daemon, and for its return when it goes\n";

static bool add_kind(struct options* set, const char* name) {
  for (uint32_t kind = SCANOUTD_PLANE_PRIMARY; kind <= SCANOUTD_PLANE_CURSOR; kind++) {
    if (strcmp(name, kind_names[kind]) != 0 || set->kind_count == SCANOUTD_MAX_PLANES) continue;
    set->kinds[set->kind_count++] = kind;
    return true;
  }
  return false;
}

static bool set_format(struct options* set, const char* name) {
  static const uint32_t known[] = {FOURCC_XR24, FOURCC_AR24, FOURCC_RG16, FOURCC_NV12};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (strlen(name) == 4 && FOURCC(name[0], name[1], name[2], name[3]) == known[i]) set->fourcc = known[i];
  return set->fourcc != 0;
}

static bool set_option(struct options* set, int option, const char* value) {
  switch (option) {
  case 's':
    set->socket = value;
    return true;
  case 'n':
    set->name = value;
    return true;
  case 'p':
    return add_kind(set, value);
  case 'S':
    return sscanf(value, "%" SCNu32 "x%" SCNu32, &set->width, &set->height) == 2;
  case 'P':
    return sscanf(value, "%" SCNd32 ",%" SCNd32, &set->x, &set->y) == 2;
  case 'f':
    return set_format(set, value);
  case 'N':
    set->frames = strtoull(value, NULL, 10);
    return set->frames > 0;
  case 't':
    set->seconds = strtod(value, NULL);
    return set->seconds > 0;
  case 'r':
    set->rate = strtod(value, NULL);
    return set->rate > 0;
  case 'F':
    set->fifo = true;
    return true;
  case 'c':
    set->cursor = true;
    return true;
  case 'j':
    set->stats = value;
    return true;
  case 'i':
    set->input = value;
    return true;
  case 'k':
    set->check = true;
    return true;
  case 'R':
    set->reconnect = true;
    return true;
  default:
    return false;
  }
}

static bool read_options(struct options* set, int argc, char** argv) {
  static const struct option known[] = {
      {"socket", required_argument, NULL, 's'},
      {"name", required_argument, NULL, 'n'},
      {"plane", required_argument, NULL, 'p'},
      {"size", required_argument, NULL, 'S'},
      {"position", required_argument, NULL, 'P'},
      {"format", required_argument, NULL, 'f'},
      {"frames", required_argument, NULL, 'N'},
      {"seconds", required_argument, NULL, 't'},
      {"rate", required_argument, NULL, 'r'},
      {"fifo", no_argument, NULL, 'F'},
      {"cursor", no_argument, NULL, 'c'},
      {"stats", required_argument, NULL, 'j'},
      {"input", required_argument, NULL, 'i'},
      {"check", no_argument, NULL, 'k'},
      {"reconnect", no_argument, NULL, 'R'},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0},
  };
  int option;
  while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
    if (option == 'h') {
      fputs(usage, stdout);
      exit(0);
    }
    if (!set_option(set, option, optarg)) {
      if (option != '?') fprintf(stderr, "example: bad value: %s\n", optarg);
      return false;
    }
  }
  if (set->kind_count == 0) add_kind(set, "primary");
  return (!set->cursor || add_kind(set, "cursor")) && optind == argc;
}

#endif
