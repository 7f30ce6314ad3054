#include "screen.h"

/* The same constants as in test/machine/inside/pattern.ts; sums wrap at 2^32. */
enum { PER_COLUMN = 0x00c2b2ae, PER_ROW = 0x0010dcd9 };
static const uint32_t PER_FRAME = 0x9e3779b1;

static uint32_t* pixel_at(const struct backing* backing, uint32_t byte) {
  uint32_t piece = byte / backing->piece;
  return (uint32_t*)(backing->at + (backing->pieces - 1 - piece) * backing->piece + byte % backing->piece);
}

void draw(const struct backing* backing, uint32_t width, uint32_t frame, struct rows rows) {
  for (uint32_t y = rows.first; y < rows.first + rows.count; y++) {
    uint32_t value = (frame + 1) * PER_FRAME + y * PER_ROW, byte = y * width * 4;
    for (uint32_t x = 0; x < width;) {
      uint32_t left = (backing->piece - byte % backing->piece) / 4;
      uint32_t run = left < width - x ? left : width - x;
      uint32_t* pixel = pixel_at(backing, byte);
      for (uint32_t i = 0; i < run; i++, value += PER_COLUMN)
        pixel[i] = value;
      x += run;
      byte += run * 4;
    }
  }
}

void flip(struct screen* screen, uint32_t frame) {
  const struct options* options = screen->options;
  uint32_t buffer = frame % options->buffers, begun = now_us();
  struct rows rows = {0, screen->height};
  if (options->band > 0 && screen->drawn[buffer]) {
    rows.count = options->band < screen->height ? options->band : screen->height;
    rows.first = frame * rows.count % (screen->height - rows.count + 1);
  }
  draw(&screen->buffers[buffer], screen->width, frame, rows);
  screen->drawn[buffer] = true;
  uint32_t submitted = now_us();
  screen->show(screen, buffer, rows);
  uint32_t shown = now_us();
  say("@flip frame=%u buffer=%u row=%u rows=%u drawn_us=%u flip_us=%u at_us=%u", frame, buffer, rows.first,
      rows.count, submitted - begun, shown - submitted, shown);
}
