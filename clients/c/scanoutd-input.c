#include "scanoutd-input.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { DEVICES_TRIES = 1000 };
enum { SLOTS = 64 }; /* that are kept track of */

static uint64_t load_word(const uint64_t* word, memory_order order) {
  return atomic_load_explicit((const _Atomic uint64_t*)word, order);
}

static uint32_t load_half(const uint32_t* word, memory_order order) {
  return atomic_load_explicit((const _Atomic uint32_t*)word, order);
}

/* Copies what the daemon may be writing, each word once. */
static void copy_words(void* to, const void* from, size_t size) {
  uint64_t* words = to;
  for (size_t i = 0; i < size / sizeof *words; i++)
    words[i] = load_word((const uint64_t*)from + i, memory_order_relaxed);
}

/* ---- Open and close */

/* Without the seal the daemon could shorten the file, and the next access would be a SIGBUS. */
static void* map_sealed(int memfd, size_t size, int protection, int* error) {
  struct stat status;
  const int seals = fcntl(memfd, F_GET_SEALS);
  *error = -EPROTO;
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return NULL;
  if (fstat(memfd, &status) < 0 || status.st_size < (off_t)size) return NULL;
  void* mapped = mmap(NULL, size, protection, MAP_SHARED, memfd, 0);
  if (mapped != MAP_FAILED) return mapped;
  *error = -errno;
  return NULL;
}

static void unmap(struct scanoutd_ring* ring) {
  if (ring->ring != NULL) munmap((void*)ring->ring, SCANOUTD_INPUT_RING_SIZE);
  if (ring->reply != NULL) munmap(ring->reply, SCANOUTD_INPUT_REPLY_SIZE);
  ring->ring = NULL;
  ring->reply = NULL;
  for (uint32_t i = 0; i < SCANOUTD_INPUT_DEVICES; i++)
    ring->devices[i] = (struct scanoutd_input_device){.present = 0};
  ring->epoch = 0;
}

int scanoutd_ring_open(struct scanoutd_ring* ring, int ring_fd, int reply_fd) {
  int error = 0;
  unmap(ring);
  ring->released = true;
  ring->ended = false;
  ring->read = 0;
  ring->ring = map_sealed(ring_fd, SCANOUTD_INPUT_RING_SIZE, PROT_READ, &error);
  if (ring->ring != NULL)
    ring->reply = map_sealed(reply_fd, SCANOUTD_INPUT_REPLY_SIZE, PROT_READ | PROT_WRITE, &error);
  const struct scanoutd_input_ring* mapped = ring->ring;
  const bool ours = mapped != NULL && ring->reply != NULL && mapped->magic == SCANOUTD_INPUT_MAGIC &&
                    mapped->version_major == SCANOUTD_VERSION_MAJOR &&
                    mapped->capacity == SCANOUTD_INPUT_EVENTS &&
                    mapped->event_size == sizeof(struct scanoutd_input_event) &&
                    mapped->device_size == sizeof(struct scanoutd_input_device);
  if (ours) return 0;
  const int result = ring->reply != NULL ? -EPROTO : error;
  unmap(ring);
  return result;
}

void scanoutd_ring_close(struct scanoutd_ring* ring) {
  unmap(ring);
}

/* ---- What is pressed */

static void note_contact(struct scanoutd_ring* ring, uint32_t device, uint16_t code, int32_t value) {
  if (code == ABS_MT_SLOT) ring->held[device].slot = (uint32_t)value;
  const uint32_t slot = ring->held[device].slot;
  if (code != ABS_MT_TRACKING_ID || slot >= SLOTS) return;
  if (value >= 0)
    ring->held[device].contacts |= 1ull << slot;
  else
    ring->held[device].contacts &= ~(1ull << slot);
}

static void note_held(struct scanoutd_ring* ring, const struct scanoutd_input_frame* frame) {
  for (uint32_t i = 0; i < frame->count; i++) {
    const struct scanoutd_input_value* event = &frame->events[i];
    if (event->type == EV_ABS) note_contact(ring, frame->device, event->code, event->value);
    if (event->type != EV_KEY || event->code > KEY_MAX) continue;
    uint64_t* word = &ring->held[frame->device].keys[event->code / 64];
    const uint64_t bit = 1ull << event->code % 64;
    *word = event->value != 0 ? *word | bit : *word & ~bit;
  }
}

static void add_event(struct scanoutd_input_frame* frame, uint16_t type, uint16_t code, int32_t value) {
  frame->events[frame->count++] = (struct scanoutd_input_value){.type = type, .code = code, .value = value};
}

/* Releases of what one device holds, as many as a frame has room for. */
static void release_device(const struct scanoutd_ring* ring, uint32_t device,
                           struct scanoutd_input_frame* frame) {
  enum { ROOM = SCANOUTD_INPUT_MAX_FRAME - 3 };
  for (uint16_t slot = 0; slot < SLOTS && frame->count < ROOM; slot++) {
    if ((ring->held[device].contacts >> slot & 1) == 0) continue;
    add_event(frame, EV_ABS, ABS_MT_SLOT, slot);
    add_event(frame, EV_ABS, ABS_MT_TRACKING_ID, -1);
  }
  for (uint16_t key = 0; key <= KEY_MAX && frame->count < ROOM; key++)
    if ((ring->held[device].keys[key / 64] >> key % 64 & 1) != 0) add_event(frame, EV_KEY, key, 0);
}

/* A frame of releases that the daemon did not come to send: 1, or 0 when nothing is held. */
static int release_held(struct scanoutd_ring* ring, struct scanoutd_input_frame* frame) {
  struct timespec now;
  for (uint32_t device = 0; device < SCANOUTD_INPUT_DEVICES; device++) {
    frame->device = device;
    frame->count = 0;
    release_device(ring, device, frame);
    if (frame->count == 0) continue;
    add_event(frame, EV_SYN, SYN_REPORT, 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    frame->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    note_held(ring, frame);
    return 1;
  }
  ring->released = false;
  return 0;
}

/* ---- Reading */

static bool good_device(const struct scanoutd_input_device* device) {
  bool named = false;
  for (size_t i = 0; i < sizeof device->name; i++)
    named = named || device->name[i] == '\0';
  if (!named || device->present > 1) return false;
  for (uint32_t axis = 0; axis < 64; axis++) {
    const bool has = device->present == 1 && (device->absolute >> axis & 1) != 0;
    if (has && device->axes[axis].minimum >= device->axes[axis].maximum) return false;
  }
  return true;
}

/* Takes over other devices than before: 2, 0 when there are none, -EPROTO. */
static int take_devices(struct scanoutd_ring* ring) {
  const struct scanoutd_input_ring* shared = ring->ring;
  for (int tries = 0; tries < DEVICES_TRIES; tries++) {
    const uint32_t before = load_half(&shared->epoch, memory_order_acquire);
    if (before == ring->epoch) return 0;
    if (before & 1) continue;
    copy_words(ring->incoming, shared->devices, sizeof ring->incoming);
    atomic_thread_fence(memory_order_acquire);
    if (load_half(&shared->epoch, memory_order_relaxed) != before) continue;
    for (uint32_t i = 0; i < SCANOUTD_INPUT_DEVICES; i++)
      if (!good_device(&ring->incoming[i])) return -EPROTO;
    for (uint32_t i = 0; i < SCANOUTD_INPUT_DEVICES; i++)
      ring->devices[i] = ring->incoming[i];
    ring->epoch = before;
    return 2;
  }
  return 0; /* it was written all the time: later */
}

static void read_event(const struct scanoutd_ring* ring, uint64_t at, struct scanoutd_input_event* event) {
  copy_words(event, &ring->ring->events[at % SCANOUTD_INPUT_EVENTS], sizeof *event);
}

/* One whole frame of those before `written`: its events, or -EPROTO. */
static int copy_frame(const struct scanoutd_ring* ring, uint64_t written,
                      struct scanoutd_input_frame* frame) {
  struct scanoutd_input_event event;
  read_event(ring, ring->read, &event);
  if (event.device >= SCANOUTD_INPUT_DEVICES) return -EPROTO;
  frame->device = event.device;
  frame->time_ns = event.time_ns;
  frame->count = 0;
  while (frame->count < SCANOUTD_INPUT_MAX_FRAME && ring->read + frame->count < written) {
    read_event(ring, ring->read + frame->count, &event);
    if (event.device != frame->device || event.time_ns != frame->time_ns) return -EPROTO;
    add_event(frame, event.type, event.code, event.value);
    if (event.type == EV_SYN && event.code == SYN_REPORT) return (int)frame->count;
  }
  return -EPROTO;
}

/* Gives the room of what was read back: whether the daemon waits for it. */
static bool give_back(struct scanoutd_ring* ring, uint64_t written) {
  atomic_store_explicit((_Atomic uint64_t*)&ring->reply->read, ring->read, memory_order_release);
  /* The daemon says that it waits, then looks at `read`; here it is the other way round. */
  atomic_thread_fence(memory_order_seq_cst);
  return load_half(&ring->ring->waiting, memory_order_relaxed) != 0 &&
         written - ring->read <= SCANOUTD_INPUT_EVENTS / 2;
}

int scanoutd_ring_read(struct scanoutd_ring* ring, struct scanoutd_input_frame* frame, bool* signal) {
  *signal = false;
  if (ring->released && release_held(ring, frame) == 1) return 1;
  if (ring->ring == NULL) return 0;
  const uint64_t written = load_word(&ring->ring->written, memory_order_acquire);
  if (written < ring->read || written - ring->read > SCANOUTD_INPUT_EVENTS) return -EPROTO;
  /* Devices change between frames, where the daemon changed them. */
  struct scanoutd_input_event next = {.epoch = 0};
  if (written != ring->read) read_event(ring, ring->read, &next);
  if (written == ring->read || next.epoch != ring->epoch) {
    const int changed = take_devices(ring);
    if (changed != 0) return changed;
  }
  if (written == ring->read) {
    if (!ring->ended) return 0;
    unmap(ring);
    ring->released = true;
    return release_held(ring, frame);
  }
  const int count = copy_frame(ring, written, frame);
  if (count < 0) return count;
  ring->read += (uint64_t)count;
  *signal = give_back(ring, written);
  note_held(ring, frame);
  return 1;
}

void scanoutd_ring_set_leds(struct scanoutd_ring* ring, uint32_t leds) {
  const uint32_t word = (leds & ~SCANOUTD_INPUT_LEDS_SET) | SCANOUTD_INPUT_LEDS_SET;
  atomic_store_explicit((_Atomic uint32_t*)&ring->reply->leds, word, memory_order_release);
}
