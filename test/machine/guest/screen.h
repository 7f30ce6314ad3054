/*
 * What both devices show: a picture that is a function of the frame's number and the place, in every pixel,
 * so that a test computes it anew (test/machine/inside/pattern.ts).
 */
#pragma once
#include "options.h"

/* Memory of a buffer: `pieces` of `piece` bytes (the last may be shorter), laid out last first. */
struct backing {
  uint32_t at, bytes, pieces, piece;
};

/* Rows of a frame. */
struct rows {
  uint32_t first, count;
};

struct screen {
  const struct options* options;
  uint32_t width, height;
  /* The rows of the buffer were drawn; show them as the device does that, and return when it has. */
  void (*show)(struct screen* screen, uint32_t buffer, struct rows rows);
  struct backing* buffers;
  bool drawn[8]; /* whole, once */
};

/* XRGB8888, with the frame's number in what XRGB leaves unused. */
void draw(const struct backing* backing, uint32_t width, uint32_t frame, struct rows rows);

/* Draws a frame, all of it or its band, shows it, and says so. */
void flip(struct screen* screen, uint32_t frame);
