/* A modern virtio PCI device driven by interrupt, with EVENT_IDX and indirect descriptors where wished. */
#pragma once
#include "machine.h"

#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

enum { QUEUE_SIZE = 64, SLOTS = 16, INDIRECT = 3, REQUEST_BYTES = 128, RESPONSE_BYTES = 1536 };

/* A request under way: its descriptors, what it says, what came back. Slots are taken in turn. */
struct slot {
  struct vring_desc table[INDIRECT] __attribute__((aligned(16)));
  uint8_t request[REQUEST_BYTES];
  uint8_t response[RESPONSE_BYTES];
  volatile bool done;
};

struct queue {
  struct vring_desc descriptors[QUEUE_SIZE] __attribute__((aligned(4096)));
  uint16_t avail[3 + QUEUE_SIZE] __attribute__((aligned(4096))); /* flags, index, ring, used_event */
  struct {
    uint16_t flags, index;
    struct vring_used_elem ring[QUEUE_SIZE];
    uint16_t avail_event;
  } used __attribute__((aligned(4096)));
  struct slot slots[SLOTS];
  volatile uint16_t* doorbell;
  uint16_t number, size, slot_count, next_slot;
  bool event_index, indirect, answered; /* answered: requests have room for an answer */
  uint16_t added, kicked, seen;         /* counts that wrap as the ring's indices do */
};

struct virtio {
  struct pci_device pci;
  volatile struct virtio_pci_common_cfg* common;
  volatile uint8_t* isr;
  volatile uint32_t* config;
  uint8_t* notify;
  uint32_t notify_multiplier;
  uint32_t features; /* negotiated, the first 32 */
  volatile bool config_changed;
};

/* Resets the device and negotiates; what is in `wanted` and not offered is left out. */
void virtio_start(struct virtio* device, uint32_t wanted);
void virtio_add_queue(struct virtio* device, struct queue* queue, uint16_t number, bool answered);
void virtio_run(struct virtio* device);
void virtio_reset(struct virtio* device);

/*
 * Adds a request to the ring without a kick: `request` is copied, `more` (may be null) must stay as it is.
 * The slot stays this request's until SLOTS more were added; waits for a free one.
 */
struct slot* queue_add(struct queue* queue, const void* request, uint32_t size, const void* more,
                       uint32_t more_size);
/* Tells the device of what was added, unless it said that it need not be told. */
void queue_kick(struct queue* queue);
/* Waits until the slot's request was answered. */
void queue_wait(struct queue* queue, struct slot* slot);
/* Notes what was answered, without waiting. */
void queue_collect(struct queue* queue);
