/*
 * The test card: colour bars, a moving vertical line, and the frame number, in digits to be read by people
 * and in the first eight pixels to be read by programs (white 1, black 0, most significant bit first, number
 * modulo 256).
 */
#ifndef EXAMPLE_CARD_H
#define EXAMPLE_CARD_H

#include <stdbool.h>

#include "example-buffer.h"

enum { CARD_DIGITS = 6, LINE_WIDTH = 4, BITS = 8, BIT_ROWS = 2 };

/* No colour of the card: a display that shows it was given a buffer that the daemon had released. */
#define POISON 0xffff8000u

/* What a buffer holds already, so that only the rest is drawn. */
struct card {
  struct buffer buffer;
  bool drawn;
  uint32_t line;
};

struct yuv {
  uint8_t y, u, v;
};

/* BT.601, limited range. */
static struct yuv to_yuv(uint32_t argb) {
  const int r = argb >> 16 & 255, g = argb >> 8 & 255, b = argb & 255;
  return (struct yuv){
      .y = (uint8_t)(16 + (66 * r + 129 * g + 25 * b + 128) / 256),
      .u = (uint8_t)(128 + (-38 * r - 74 * g + 112 * b) / 256),
      .v = (uint8_t)(128 + (112 * r - 94 * g - 18 * b) / 256),
  };
}

static void fill_row(const struct scanoutd_layout* layout, uint8_t* row, uint32_t x1, uint32_t x2,
                     uint32_t argb) {
  const uint16_t rgb565 = (uint16_t)((argb >> 8 & 0xf800) | (argb >> 5 & 0x07e0) | (argb >> 3 & 0x001f));
  for (uint32_t x = x1; x < x2; x++) {
    if (layout->fourcc == FOURCC_RG16)
      ((uint16_t*)(void*)row)[x] = rgb565;
    else
      ((uint32_t*)(void*)row)[x] = argb;
  }
}

static void fill_nv12(struct buffer* buffer, const struct scanoutd_rect* rect, uint32_t argb) {
  const struct scanoutd_layout* layout = &buffer->layout;
  const struct yuv colour = to_yuv(argb);
  for (int32_t y = rect->y1; y < rect->y2; y++)
    memset(buffer->pixels + (size_t)y * layout->strides[0] + rect->x1, colour.y,
           (size_t)(rect->x2 - rect->x1));
  for (int32_t y = rect->y1 / 2; y < (rect->y2 + 1) / 2; y++) {
    uint8_t* row = buffer->pixels + layout->offsets[1] + (size_t)y * layout->strides[1];
    for (int32_t x = rect->x1 / 2; x < (rect->x2 + 1) / 2; x++) {
      row[2 * x] = colour.u;
      row[2 * x + 1] = colour.v;
    }
  }
}

/* Fills a rectangle, clipped to the buffer. Even coordinates, for the sake of NV12. */
static void fill(struct buffer* buffer, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                 uint32_t argb) {
  const struct scanoutd_layout* layout = &buffer->layout;
  const uint32_t x2 = x + width < layout->width ? x + width : layout->width;
  const uint32_t y2 = y + height < layout->height ? y + height : layout->height;
  if (x >= x2 || y >= y2) return;
  const struct scanoutd_rect rect = {(int32_t)x, (int32_t)y, (int32_t)x2, (int32_t)y2};
  if (layout->fourcc == FOURCC_NV12) {
    fill_nv12(buffer, &rect, argb);
    return;
  }
  for (uint32_t row = y; row < y2; row++)
    fill_row(layout, buffer->pixels + (size_t)row * layout->strides[0], x, x2, argb);
}

static uint32_t bar_width(const struct buffer* buffer) {
  return ((buffer->layout.width + 7) / 8 + 1) & ~1u;
}

/* The bars between two columns. */
static void draw_bars(struct buffer* buffer, uint32_t x1, uint32_t x2) {
  static const uint32_t bars[8] = {0xffffffff, 0xffffff00, 0xff00ffff, 0xff00ff00,
                                   0xffff00ff, 0xffff0000, 0xff0000ff, 0xff000000};
  const uint32_t width = bar_width(buffer);
  for (uint32_t i = 0; i < 8; i++) {
    const uint32_t from = i * width > x1 ? i * width : x1;
    const uint32_t to = (i + 1) * width < x2 ? (i + 1) * width : x2;
    if (from < to) fill(buffer, from, 0, to - from, buffer->layout.height, bars[i]);
  }
}

static uint32_t digit_scale(const struct buffer* buffer) {
  return (buffer->layout.height / 32 + 2) & ~1u;
}

/* Where the digits lie: three by five cells and a gap, six times. */
static struct scanoutd_rect digits_rect(const struct buffer* buffer) {
  const int32_t scale = (int32_t)digit_scale(buffer);
  const int32_t bottom = (int32_t)(buffer->layout.height & ~1u);
  const int32_t top = bottom > 9 * scale ? bottom - 9 * scale : 0;
  return (struct scanoutd_rect){2 * scale, top, (2 + 4 * CARD_DIGITS + 1) * scale, top + 7 * scale};
}

static void draw_number(struct buffer* buffer, uint64_t number) {
  static const uint16_t glyphs[10] = {0x7b6f, 0x2c97, 0x73e7, 0x73cf, 0x5bc9,
                                      0x79cf, 0x79ef, 0x7249, 0x7bef, 0x7bcf};
  const uint32_t scale = digit_scale(buffer);
  const struct scanoutd_rect box = digits_rect(buffer);
  const uint32_t left = (uint32_t)box.x1, top = (uint32_t)box.y1;
  fill(buffer, left, top, (uint32_t)(box.x2 - box.x1), (uint32_t)(box.y2 - box.y1), 0xff000000);
  for (uint32_t i = CARD_DIGITS; i-- > 0; number /= 10) {
    for (uint32_t cell = 0; cell < 15; cell++) {
      if ((glyphs[number % 10] >> (14 - cell) & 1) == 0) continue;
      fill(buffer, left + (1 + 4 * i + cell % 3) * scale, top + (1 + cell / 3) * scale, scale, scale,
           0xffffffff);
    }
  }
}

static void draw_bits(struct buffer* buffer, uint64_t number) {
  struct buffer* to = buffer;
  for (uint32_t bit = 0; bit < BITS; bit++) {
    const uint32_t colour = number >> (BITS - 1 - bit) & 1 ? 0xffffffff : 0xff000000;
    if (to->layout.fourcc != FOURCC_NV12)
      fill(to, bit, 0, 1, BIT_ROWS, colour);
    else
      for (uint32_t y = 0; y < BIT_ROWS; y++)
        to->pixels[y * to->layout.strides[0] + bit] = to_yuv(colour).y;
  }
  if (to->layout.fourcc == FOURCC_NV12) memset(to->pixels + to->layout.offsets[1], 128, BITS);
}

/* Draws frame `number`: all of it the first time, afterwards what changes. */
static void draw_card(struct card* card, uint64_t number) {
  struct buffer* buffer = &card->buffer;
  const uint32_t line = (uint32_t)(number * 2 * LINE_WIDTH % buffer->layout.width) & ~1u;
  if (card->drawn)
    draw_bars(buffer, card->line, card->line + LINE_WIDTH);
  else
    draw_bars(buffer, 0, buffer->layout.width);
  fill(buffer, line, 0, LINE_WIDTH / 2, buffer->layout.height, 0xffffffff);
  fill(buffer, line + LINE_WIDTH / 2, 0, LINE_WIDTH / 2, buffer->layout.height, 0xff000000);
  draw_number(buffer, number);
  draw_bits(buffer, number);
  card->line = line;
  card->drawn = true;
}

static struct scanoutd_rect clipped(const struct buffer* buffer, struct scanoutd_rect rect) {
  const int32_t width = (int32_t)buffer->layout.width, height = (int32_t)buffer->layout.height;
  if (rect.x2 > width) rect.x2 = width;
  if (rect.y2 > height) rect.y2 = height;
  return rect;
}

/* What differs from the frame before this one, whichever buffer that was in. */
static uint32_t card_damage(const struct card* card, uint32_t former_line, struct scanoutd_rect* damage) {
  const struct buffer* buffer = &card->buffer;
  const int32_t height = (int32_t)buffer->layout.height;
  const int32_t now = (int32_t)card->line, before = (int32_t)former_line;
  damage[0] = clipped(buffer, (struct scanoutd_rect){before, 0, before + LINE_WIDTH, height});
  damage[1] = clipped(buffer, (struct scanoutd_rect){now, 0, now + LINE_WIDTH, height});
  damage[2] = clipped(buffer, digits_rect(buffer));
  damage[3] = clipped(buffer, (struct scanoutd_rect){0, 0, BITS, BIT_ROWS});
  return 4;
}

/* A cross with a transparent ground; its middle is the hotspot. */
static void draw_cursor(struct card* card) {
  struct buffer* buffer = &card->buffer;
  const uint32_t width = buffer->layout.width, height = buffer->layout.height;
  fill(buffer, 0, 0, width, height, 0x00000000);
  fill(buffer, width / 2 - 4, 0, 8, height, 0xff000000);
  fill(buffer, 0, height / 2 - 4, width, 8, 0xff000000);
  fill(buffer, width / 2 - 2, 2, 4, height - 4, 0xffffffff);
  fill(buffer, 2, height / 2 - 2, width - 4, 4, 0xffffffff);
}

static void poison_card(struct card* card) {
  fill(&card->buffer, 0, 0, card->buffer.layout.width, card->buffer.layout.height, POISON);
  card->drawn = false;
}

/* FNV-1a over all pixels. */
static uint64_t hash_card(const struct card* card) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < card->buffer.size; i += sizeof(uint64_t))
    hash = (hash ^ *(const uint64_t*)(const void*)(card->buffer.pixels + i)) * 0x100000001b3u;
  return hash;
}

#endif
