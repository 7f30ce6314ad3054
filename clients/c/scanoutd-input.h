/* The reading end of an input ring: part of the client, which has functions for its users. */
#ifndef SCANOUTD_INPUT_H
#define SCANOUTD_INPUT_H

#include <stdbool.h>

#include "scanoutd-client.h"

struct scanoutd_ring {
  const struct scanoutd_input_ring* ring; /* NULL: there is none */
  struct scanoutd_input_reply* reply;
  uint64_t read;
  uint32_t epoch; /* of `devices` */
  bool ended;     /* nothing comes into it any more */
  bool released;  /* what is held is to be released before anything else */
  struct scanoutd_input_device devices[SCANOUTD_INPUT_DEVICES];
  struct scanoutd_input_device incoming[SCANOUTD_INPUT_DEVICES]; /* that may yet be torn */
  /* What the frames that were read have left pressed. */
  struct {
    uint64_t keys[12];
    uint64_t contacts; /* by slot */
    uint32_t slot;
  } held[SCANOUTD_INPUT_DEVICES];
};

/* Maps both; the descriptors stay the caller's. What a former ring left pressed is released first. 0, -EPROTO
 * when they are not what the protocol says, or another negative errno value. */
int scanoutd_ring_open(struct scanoutd_ring* ring, int ring_fd, int reply_fd);
void scanoutd_ring_close(struct scanoutd_ring* ring);

/* As scanoutd_client_read_input. `signal`: the room eventfd is to be signalled. */
int scanoutd_ring_read(struct scanoutd_ring* ring, struct scanoutd_input_frame* frame, bool* signal);

void scanoutd_ring_set_leds(struct scanoutd_ring* ring, uint32_t leds);

#endif
