/*
 * What the guests of the benchmark have in common: when they flip, what they note, which orders they take.
 * C and C++.
 *
 * On stdin: "run SECONDS" flips for so long; its end is told on stdout as "ran FLIPS LOST". The end of stdin
 * ends the program. The file of --out gets a row of doubles a flip: guest (by its number), sequence, kick
 * (CLOCK_MONOTONIC ns, taken right before what tells the daemon), presented (ns), vblank, and whether it was
 * lost. Frames come at no fixed distance from the vblank, one in flight for each guest.
 */
#ifndef BENCH_PACE_H
#define BENCH_PACE_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_GUESTS = 64 };
static const int64_t pace_second = 1000000000ll;
static const int64_t pace_lost_ns = 1000000000ll;

struct pace {
  int fd;            /* readable when there may be news of its frame */
  uint64_t sequence; /* in flight, 0: none */
  int64_t kicked_ns;
  int64_t next_ns; /* when the next frame is due */
};

/* What became of a frame. */
struct news {
  int64_t presented_ns;
  uint64_t vblank;     /* 0: not known */
  uint32_t refresh_ns; /* 0: not known */
};

/* The guest's part, for the guest with this number. */
/* Sends a frame off: gives its sequence and when it was kicked. 0: no buffer is free yet. */
static uint64_t pace_submit(int guest, int64_t* kicked_ns);
/* Takes what has come; whether the frame in flight was presented. */
static int pace_settle(int guest, int64_t now, struct news* news);

static struct pace paces[MOST_GUESTS];
static int pace_count;
static double pace_rate; /* frames a second, 0: as many as are presented */
static FILE* pace_out;
static uint32_t pace_seed = 1;

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * pace_second + now.tv_nsec;
}

__attribute__((noreturn)) static void die(const char* what, int error) {
  fprintf(stderr, "guest: %s: %s\n", what, strerror(error < 0 ? -error : error));
  exit(1);
}

/* From 0 to 1; the same in every run. */
static double pace_chance(void) {
  pace_seed = pace_seed * 1664525u + 1013904223u;
  return (pace_seed >> 8) / 16777216.0;
}

/* Takes --out FILE and --rate HZ; false for any other word. */
static int pace_option(int argc, char** argv, int* at) {
  if (*at + 1 >= argc) return 0;
  if (strcmp(argv[*at], "--out") == 0)
    pace_out = fopen(argv[++*at], "w");
  else if (strcmp(argv[*at], "--rate") == 0)
    pace_rate = atof(argv[++*at]);
  else
    return 0;
  return 1;
}

/* In the first half of a refresh, or around the rate. */
static void pace_plan(struct pace* pace, int64_t now, uint32_t refresh_ns) {
  const double period = refresh_ns != 0 ? refresh_ns : pace_second / 60.0;
  const int64_t paced =
      pace_rate > 0 ? pace->kicked_ns + (int64_t)((0.5 + pace_chance()) * pace_second / pace_rate) : 0;
  const int64_t soon = now + (int64_t)(pace_chance() * period / 2);
  pace->next_ns = paced > soon ? paced : soon;
}

static void pace_begin(struct pace* pace, int guest) {
  pace->next_ns += pace_second / 1000; /* where nothing is free yet */
  pace->sequence = pace_submit(guest, &pace->kicked_ns);
}

/* Looks what came of the frame in flight. 1: presented, -1: lost, 0: neither yet. */
static int pace_look(struct pace* pace, int guest, int64_t now) {
  struct news news;
  memset(&news, 0, sizeof news);
  const int presented = pace_settle(guest, now, &news);
  if (pace->sequence == 0) return 0;
  if (!presented && now - pace->kicked_ns < pace_lost_ns) return 0;
  const double row[6] = {(double)guest,           (double)pace->sequence,
                         (double)pace->kicked_ns, (double)news.presented_ns,
                         (double)news.vblank,     (double)!presented};
  if (fwrite(row, sizeof row, 1, pace_out) != 1) die("write", errno);
  pace->sequence = 0;
  pace_plan(pace, now, news.refresh_ns);
  return presented ? 1 : -1;
}

/* When the guest wants to be woken: for its next frame, or to give the one in flight up. */
static int64_t pace_due(const struct pace* pace) {
  return pace->sequence != 0 ? pace->kicked_ns + pace_lost_ns : pace->next_ns;
}

/* Sends off what is due; gives when to look again, and how many frames are in flight. */
static int64_t pace_send(int64_t now, int64_t end, unsigned* in_flight) {
  int64_t next = now < end ? end : INT64_MAX;
  *in_flight = 0;
  for (int i = 0; i < pace_count; i++) {
    struct pace* pace = &paces[i];
    if (pace->sequence == 0 && now < end && pace->next_ns <= now) pace_begin(pace, i);
    const int64_t wanted = pace->sequence == 0 && now >= end ? INT64_MAX : pace_due(pace);
    if (wanted < next) next = wanted;
    *in_flight += pace->sequence != 0;
  }
  return next;
}

static void pace_run(double seconds) {
  struct pollfd fds[MOST_GUESTS];
  const int64_t start = now_ns(), end = start + (int64_t)(seconds * pace_second);
  unsigned flips = 0, lost = 0, in_flight = 0;
  for (int i = 0; i < pace_count; i++) {
    fds[i].fd = paces[i].fd;
    fds[i].events = POLLIN;
    paces[i].kicked_ns = start;
    pace_plan(&paces[i], start, 0);
  }
  for (int64_t now = start; now < end || in_flight > 0; now = now_ns()) {
    const int64_t next = pace_send(now, end, &in_flight);
    if (now >= end && in_flight == 0) break;
    const int64_t left = next - now_ns();
    struct timespec timeout;
    timeout.tv_sec = left > 0 ? left / pace_second : 0;
    timeout.tv_nsec = left > 0 ? left % pace_second : 0;
    if (ppoll(fds, (nfds_t)pace_count, &timeout, NULL) < 0 && errno != EINTR) die("poll", errno);
    const int64_t woken = now_ns();
    for (int i = 0; i < pace_count; i++) {
      if (fds[i].revents == 0 && woken < pace_due(&paces[i])) continue;
      const int what = pace_look(&paces[i], i, woken);
      flips += what > 0;
      lost += what < 0;
    }
  }
  fflush(pace_out);
  printf("ran %u %u\n", flips, lost);
}

/* Everything is ready: takes orders until there are no more. */
static void pace_serve(void) {
  char line[64];
  printf("ready\n");
  while (fgets(line, sizeof line, stdin) != NULL)
    pace_run(strncmp(line, "run ", 4) == 0 ? atof(line + 4) : 0);
}

#endif
