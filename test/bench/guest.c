/*
 * The guests of the benchmark: many in one process, which flip without drawing, so that what is measured is
 * the way of a frame and not its making.
 *
 *   guest --out FILE [--rate HZ] SOCKET:NAME:WIDTHxHEIGHT...
 *
 * On stdin: "run SECONDS" flips for so long; its end is told on stdout as "ran FLIPS LOST". The end of stdin
 * ends the program. FILE gets a row of doubles a flip: guest (by its place in the arguments), sequence, kick
 * (CLOCK_MONOTONIC ns, taken right before the write to the page-flip eventfd), presented (ns, from the
 * feedback), vblank, and whether it was lost.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "example-buffer.h"
#include "scanoutd-client.h"

#define SECOND 1000000000ll

enum { BUFFERS = 3, MOST_GUESTS = 64, CONNECT_MS = 20000, ANSWER_MS = 20000, LOST_NS = 1000000000 };

struct guest {
  struct scanoutd_client* client;
  struct buffer buffers[BUFFERS];
  uint64_t sequence; /* in flight, 0: none */
  int64_t kicked_ns;
  int64_t next_ns; /* when the next frame is due */
};

static struct guest guests[MOST_GUESTS];
static int guest_count;
static double rate; /* frames a second, 0: as many as are presented */
static FILE* out;
static int64_t kick_ns;
static uint32_t seed = 1;

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * SECOND + now.tv_nsec;
}

_Noreturn static void die(const char* what, int error) {
  fprintf(stderr, "guest: %s: %s\n", what, strerror(error < 0 ? -error : error));
  exit(1);
}

/* Linked with --wrap=write: the client library's kick, stamped as late as it can be. */
ssize_t real_write(int fd, const void* bytes, size_t size) __asm__("__real_write");
ssize_t stamped_write(int fd, const void* bytes, size_t size) __asm__("__wrap_write");
ssize_t stamped_write(int fd, const void* bytes, size_t size) {
  if (size == sizeof(uint64_t)) kick_ns = now_ns();
  return real_write(fd, bytes, size);
}

/* From 0 to 1; the same in every run. */
static double chance(void) {
  seed = seed * 1664525u + 1013904223u;
  return (seed >> 8) / 16777216.0;
}

static void add_buffers(struct guest* guest, uint32_t width, uint32_t height) {
  for (uint32_t id = 0; id < BUFFERS; id++) {
    const char* stage = "";
    struct buffer* buffer = &guest->buffers[id];
    uint32_t serial = 0;
    int error = create_buffer(buffer, linear_layout(width, height, FOURCC_XR24), &stage);
    if (error < 0 || buffer->pixels == NULL) die(stage, error);
    sync_buffer(buffer, DMA_BUF_SYNC_START);
    memset(buffer->pixels, 0x40 * (int)(id + 1), buffer->size);
    sync_buffer(buffer, DMA_BUF_SYNC_END);
    error = scanoutd_client_add_buffer(guest->client, id, &buffer->layout, &buffer->dmabuf, 1, &serial);
    if (error == 0) error = scanoutd_client_wait_answer(guest->client, serial, ANSWER_MS);
    if (error < 0) die(scanoutd_client_error(guest->client)->text, error);
  }
}

static void connect_guest(char* text) {
  char* name = strchr(text, ':');
  char* size = name != NULL ? strchr(name + 1, ':') : NULL;
  uint32_t width = 0, height = 0;
  if (size == NULL || sscanf(size + 1, "%ux%u", &width, &height) != 2 || guest_count == MOST_GUESTS)
    die(text, EINVAL);
  *name++ = *size = '\0';
  struct guest* guest = &guests[guest_count++];
  const struct scanoutd_client_options options = {.name = name};
  int error = scanoutd_client_create(text, &options, &guest->client);
  if (error == 0) error = scanoutd_client_connect(guest->client, CONNECT_MS);
  if (error < 0) die(name, error);
  add_buffers(guest, width, height);
}

static void submit(struct guest* guest) {
  struct scanoutd_submission submission;
  const int buffer = scanoutd_client_acquire(guest->client, (1u << BUFFERS) - 1, 0);
  guest->next_ns += SECOND / 1000; /* where nothing is free yet */
  if (buffer == -ETIMEDOUT) return;
  if (buffer < 0) die("acquire", buffer);
  const struct scanoutd_frame frame = {.buffer = (uint32_t)buffer};
  const int error = scanoutd_client_submit(guest->client, 0, &frame, &submission);
  if (error < 0) die("submit", error);
  guest->sequence = submission.sequence;
  guest->kicked_ns = kick_ns;
}

static void note(struct guest* guest, const struct scanoutd_flip_feedback* feedback, int lost) {
  const double row[6] = {(double)(guest - guests),       (double)guest->sequence,  (double)guest->kicked_ns,
                         (double)feedback->presented_ns, (double)feedback->vblank, lost};
  if (fwrite(row, sizeof row, 1, out) != 1) die("write", errno);
  guest->sequence = 0;
}

/* Frames come at no fixed distance from the vblank: in the first half of a refresh, or around the rate. */
static void plan(struct guest* guest, int64_t now, uint32_t refresh_ns) {
  const double period = refresh_ns != 0 ? refresh_ns : SECOND / 60.0;
  const int64_t paced = rate > 0 ? guest->kicked_ns + (int64_t)((0.5 + chance()) * SECOND / rate) : 0;
  const int64_t soon = now + (int64_t)(chance() * period / 2);
  guest->next_ns = paced > soon ? paced : soon;
}

/* Looks what came of the frame in flight. 1: presented, -1: lost, 0: neither yet. */
static int settle(struct guest* guest, int64_t now) {
  struct scanoutd_event event;
  struct scanoutd_flip_feedback feedback;
  while (scanoutd_client_dispatch(guest->client, &event) == 1) {
    if (event.type == SCANOUTD_EVENT_CLOSED) die("closed by the daemon", event.reason);
    if (event.type == SCANOUTD_EVENT_ERROR) die(event.error->text, EPROTO);
  }
  if (guest->sequence == 0) return 0;
  const int error = scanoutd_client_feedback(guest->client, 0, &feedback);
  if (error < 0) die("feedback", error);
  const int presented = feedback.presented >= guest->sequence;
  if (!presented && now - guest->kicked_ns < LOST_NS) return 0;
  note(guest, &feedback, !presented);
  plan(guest, now, feedback.refresh_ns);
  return presented ? 1 : -1;
}

/* When the guest wants to be woken: for its next frame, or to give the one in flight up. */
static int64_t due(const struct guest* guest) {
  return guest->sequence != 0 ? guest->kicked_ns + LOST_NS : guest->next_ns;
}

static void run(double seconds) {
  struct pollfd fds[MOST_GUESTS];
  const int64_t start = now_ns(), end = start + (int64_t)(seconds * SECOND);
  unsigned flips = 0, lost = 0, in_flight = 0;
  for (int i = 0; i < guest_count; i++) {
    fds[i] = (struct pollfd){.fd = scanoutd_client_release_fd(guests[i].client), .events = POLLIN};
    guests[i].kicked_ns = start;
    plan(&guests[i], start, 0);
  }
  for (int64_t now = start; now < end || in_flight > 0; now = now_ns()) {
    int64_t next = now < end ? end : INT64_MAX;
    in_flight = 0;
    for (int i = 0; i < guest_count; i++) {
      struct guest* guest = &guests[i];
      if (guest->sequence == 0 && now < end && guest->next_ns <= now) submit(guest);
      const int64_t wanted = guest->sequence == 0 && now >= end ? INT64_MAX : due(guest);
      if (wanted < next) next = wanted;
      in_flight += guest->sequence != 0;
    }
    if (now >= end && in_flight == 0) break;
    const int64_t left = next - now_ns();
    const struct timespec timeout = {left > 0 ? left / SECOND : 0, left > 0 ? left % SECOND : 0};
    if (ppoll(fds, (nfds_t)guest_count, &timeout, NULL) < 0 && errno != EINTR) die("poll", errno);
    const int64_t woken = now_ns();
    for (int i = 0; i < guest_count; i++) {
      if (fds[i].revents == 0 && woken < due(&guests[i])) continue;
      const int what = settle(&guests[i], woken);
      flips += what > 0;
      lost += what < 0;
    }
  }
  fflush(out);
  printf("ran %u %u\n", flips, lost);
}

int main(int argc, char** argv) {
  char line[64];
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--out") == 0 && i + 1 < argc)
      out = fopen(argv[++i], "w");
    else if (strcmp(argv[i], "--rate") == 0 && i + 1 < argc)
      rate = atof(argv[++i]);
    else
      connect_guest(argv[i]);
  }
  if (out == NULL || guest_count == 0) die("usage: guest --out FILE [--rate HZ] SOCKET:NAME:WxH...", EINVAL);
  printf("ready\n");
  while (fgets(line, sizeof line, stdin) != NULL)
    run(strncmp(line, "run ", 4) == 0 ? atof(line + 4) : 0);
  for (int i = 0; i < guest_count; i++) {
    scanoutd_client_bye(guests[i].client, ANSWER_MS);
    scanoutd_client_close(guests[i].client);
    for (int id = 0; id < BUFFERS; id++)
      destroy_buffer(&guests[i].buffers[id]);
  }
  return fclose(out) == 0 ? 0 : 1;
}
