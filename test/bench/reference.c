/*
 * The smallest correct flip program, the measure of `npm run bench`: poll the page-flip eventfds, commit the
 * newest frame, handle the flip event, release what was shown before. It speaks just enough of the guest
 * protocol to serve the same guests as scanoutd. No policy, no fallback, no recovery: what goes wrong ends
 * it.
 *
 *   reference --card PATH --socket PATH --out FILE [--mode WxH] [--priority N] NAME:CRTC:PLANE:X:Y:WxH...
 *
 * CRTC counts the card's CRTCs, PLANE the planes of that CRTC: the primary one, then the overlays. Flipping
 * begins when all guests are there; SIGTERM ends it. FILE gets a row of doubles a flip: guest, sequence,
 * wake-up, commit entered, commit returned, flip event's time (ns).
 */
#include "reference.h"

enum { RECORDS = 1 << 18, COLUMNS = 6 };

static double records[RECORDS][COLUMNS];
static int record_count;
static volatile sig_atomic_t ended;
static bool busy; /* a commit was refused with EBUSY: to be tried again soon */

static void record(const struct guest* guest, int64_t flip_ns) {
  if (record_count == RECORDS) return;
  const struct frame* frame = &guest->current;
  const double row[COLUMNS] = {(double)(guest - guests), (double)frame->sequence, (double)frame->wake_ns,
                               (double)frame->enter_ns,  (double)frame->leave_ns, (double)flip_ns};
  memcpy(records[record_count++], row, sizeof row);
}

static void write_feedback(struct guest* guest, int64_t flip_ns, uint32_t vblank) {
  struct scanoutd_flip_feedback* feedback = &guest->page->slots[0].feedback;
  __atomic_store_n(&feedback->lock, feedback->lock + 1, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  feedback->flags = SCANOUTD_PRESENTED_VSYNC | SCANOUTD_PRESENTED_HW_CLOCK | SCANOUTD_PRESENTED_DIRECT;
  feedback->taken = feedback->presented = guest->current.sequence;
  feedback->presented_ns = (uint64_t)flip_ns;
  feedback->vblank = vblank;
  feedback->refresh_ns = refresh_ns;
  feedback->flips++;
  __atomic_store_n(&feedback->lock, feedback->lock + 1, __ATOMIC_RELEASE);
}

static void release(struct guest* guest, const struct frame* frame) {
  if (frame->sequence != 0)
    __atomic_store_n(&guest->page->released[frame->buffer], frame->sequence, __ATOMIC_RELEASE);
}

/* The newest frame is the pending one; an older pending one is released unseen. */
static void take(struct guest* guest, int64_t wake_ns) {
  struct scanoutd_flip_slot* slot = &guest->page->slots[0];
  const uint64_t word = __atomic_exchange_n(&slot->pending, 0, __ATOMIC_ACQ_REL);
  if ((word & 3) == 0) return;
  const struct scanoutd_flip_entry entry = slot->entries[(word & 3) - 1];
  if (entry.buffer >= BUFFERS) return;
  release(guest, &guest->pending);
  guest->pending = (struct frame){.sequence = entry.sequence, .buffer = entry.buffer, .wake_ns = wake_ns};
}

/* All that is pending on a CRTC in one commit, unless one is in flight: its event leads here again. */
static void commit(int crtc, int drm) {
  uint32_t planes[MOST], counts[MOST], properties[MOST], count = 0;
  uint64_t values[MOST];
  struct guest* moved[MOST];
  for (int i = 0; i < guest_count && !crtcs[crtc].in_flight; i++) {
    struct guest* guest = &guests[i];
    if (guest->crtc != crtc || guest->pending.sequence == 0) continue;
    planes[count] = guest->plane;
    counts[count] = 1;
    properties[count] = guest->fb_property;
    values[count] = guest->framebuffers[guest->pending.buffer];
    moved[count++] = guest;
  }
  if (count == 0) return;
  struct drm_mode_atomic atomic = {.flags = DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT,
                                   .count_objs = count,
                                   .objs_ptr = (uintptr_t)planes,
                                   .count_props_ptr = (uintptr_t)counts,
                                   .props_ptr = (uintptr_t)properties,
                                   .prop_values_ptr = (uintptr_t)values,
                                   .user_data = (uint64_t)crtc};
  const int64_t enter = now_ns();
  if (drmIoctl(drm, DRM_IOCTL_MODE_ATOMIC, &atomic) < 0) {
    if (errno != EBUSY) die("commit");
    busy = true;
    return;
  }
  const int64_t leave = now_ns();
  crtcs[crtc].in_flight = true;
  for (uint32_t i = 0; i < count; i++) {
    moved[i]->queued = moved[i]->pending;
    moved[i]->queued.enter_ns = enter;
    moved[i]->queued.leave_ns = leave;
    moved[i]->pending.sequence = 0;
  }
}

static void on_flip(const struct drm_event_vblank* event) {
  const int crtc = (int)event->user_data;
  const int64_t flip_ns = event->tv_sec * 1000000000ll + event->tv_usec * 1000ll;
  const uint64_t one = 1;
  crtcs[crtc].in_flight = false;
  for (int i = 0; i < guest_count; i++) {
    struct guest* guest = &guests[i];
    if (guest->crtc != crtc || guest->queued.sequence == 0) continue;
    const struct frame former = guest->current;
    guest->current = guest->queued;
    guest->queued.sequence = 0;
    write_feedback(guest, flip_ns, event->sequence);
    release(guest, &former);
    record(guest, flip_ns);
    if (write(guest->release, &one, sizeof one) < 0 && errno != EAGAIN) die("release eventfd");
  }
}

static void read_events(int drm) {
  _Alignas(8) char events[1024];
  const ssize_t size = read(drm, events, sizeof events);
  for (ssize_t at = 0; at + (ssize_t)sizeof(struct drm_event) <= size;) {
    const struct drm_event* event = (const void*)(events + at);
    if (event->type == DRM_EVENT_FLIP_COMPLETE) on_flip((const void*)event);
    at += event->length;
  }
}

static void loop(int drm, const sigset_t* signals) {
  struct pollfd fds[MOST + 1] = {{.fd = drm, .events = POLLIN}};
  const struct timespec soon = {.tv_nsec = 500000};
  uint64_t kicks;
  for (int i = 0; i < guest_count; i++)
    fds[i + 1] = (struct pollfd){.fd = guests[i].kick, .events = POLLIN};
  while (!ended) {
    if (ppoll(fds, (nfds_t)guest_count + 1, busy ? &soon : NULL, signals) < 0) {
      if (errno != EINTR) die("poll");
      continue;
    }
    const int64_t woken = now_ns();
    busy = false;
    if (fds[0].revents != 0) read_events(drm);
    for (int i = 0; i < guest_count; i++)
      if (fds[i + 1].revents != 0 && read(guests[i].kick, &kicks, sizeof kicks) > 0) take(&guests[i], woken);
    for (int i = 0; i < crtc_count; i++)
      commit(i, drm);
  }
}

static void end(int number) {
  (void)number;
  ended = 1;
}

static void add_guest(const char* text) {
  struct guest* guest = &guests[guest_count];
  if (guest_count == MOST ||
      sscanf(text, "%63[^:]:%d:%d:%d:%d:%ux%u", guest->name, &guest->crtc, &guest->place, &guest->x,
             &guest->y, &guest->width, &guest->height) != 7) {
    errno = EINVAL;
    die(text);
  }
  crtcs[guest->crtc].used = true;
  guest_count++;
}

int main(int argc, char** argv) {
  const char *card = "/dev/dri/card0", *path = SCANOUTD_SOCKET_PATH, *file = NULL;
  uint32_t width = 640, height = 480;
  int priority = 10;
  for (int i = 1; i < argc; i++) {
    const bool takes_value = strncmp(argv[i], "--", 2) == 0 && i + 1 < argc;
    const char* value = takes_value ? argv[i + 1] : "";
    if (!takes_value)
      add_guest(argv[i]);
    else if (strcmp(argv[i], "--card") == 0)
      card = value;
    else if (strcmp(argv[i], "--socket") == 0)
      path = value;
    else if (strcmp(argv[i], "--out") == 0)
      file = value;
    else if (strcmp(argv[i], "--priority") == 0)
      priority = atoi(value);
    else if (strcmp(argv[i], "--mode") != 0 || sscanf(value, "%ux%u", &width, &height) != 2)
      die(argv[i]);
    i += takes_value;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  const int drm = light(card, width, height);
  welcome_all(drm, path);

  memset(records, 1, sizeof records); /* no page faults later on */
  const struct sched_param parameter = {.sched_priority = priority};
  if (priority > 0 && sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &parameter) < 0)
    fprintf(stderr, "reference: no real-time priority: %s\n", strerror(errno));
  sigset_t blocked, unblocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &unblocked);
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
  printf("ready\n");
  loop(drm, &unblocked);

  FILE* out = file != NULL ? fopen(file, "w") : NULL;
  if (file != NULL &&
      (out == NULL || fwrite(records, sizeof records[0], (size_t)record_count, out) != (size_t)record_count ||
       fclose(out) != 0))
    die(file);
  return 0;
}
