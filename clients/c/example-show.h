/* One plane of the example: its buffers, what came of its frames, and the proof that none was released early.
 */
#ifndef EXAMPLE_SHOW_H
#define EXAMPLE_SHOW_H

#include "example-card.h"

enum { CARDS = 3, ANSWER_MS = 5000, SETTLE_MS = 50 };

struct show {
  uint32_t plane, kind, fourcc;
  uint32_t width, height;
  int32_t x, y;
  bool check;

  struct card cards[CARDS];
  uint32_t count;    /* of them in use */
  uint32_t first_id; /* buffer id of cards[0] */
  uint32_t line;     /* of the former frame */
  bool fresh;        /* buffers are new: all of the next frame is */

  uint64_t held[CARDS]; /* sequence of the frame that the daemon may need, 0: none */
  uint64_t hash[CARDS];
  uint64_t newest; /* sequence */

  struct scanoutd_flip_feedback feedback, earlier; /* of this connection; sums of the former ones */
  uint64_t submitted, reclaimed, early, changed;
};

static uint64_t show_mask(const struct show* show) {
  return ((1ull << show->count) - 1) << show->first_id;
}

static void complain(struct scanoutd_client* client, const char* what, int error) {
  const struct scanoutd_error* refusal = scanoutd_client_error(client);
  const bool told = error == -EREMOTEIO;
  fprintf(stderr, "example: %s: %s%s%s\n", what, strerror(-error), told ? ": " : "",
          told ? refusal->text : "");
}

/*
 * Makes buffers of the show's size under ids that its former ones do not use, so that the last old frame
 * stays on the screen until the first new one replaces it.
 */
static int open_show(struct scanoutd_client* client, struct show* show) {
  const struct scanoutd_layout layout = linear_layout(show->width, show->height, show->fourcc);
  const char* stage = "";
  uint32_t serials[CARDS];
  show->count = show->kind == SCANOUTD_PLANE_CURSOR ? 1 : CARDS;
  show->first_id = show->plane * 16 + (show->first_id % 16 == 0 ? 8 : 0);
  show->fresh = true;
  for (uint32_t i = 0; i < show->count; i++) {
    show->cards[i] = (struct card){.buffer = {.dmabuf = -1}};
    show->held[i] = 0;
    int result = create_buffer(&show->cards[i].buffer, layout, &stage);
    if (result < 0) {
      complain(client, stage, result);
      if (result == -ENOENT)
        fprintf(stderr, "example: this machine cannot make dma-bufs of ordinary memory\n");
      return result;
    }
    /* The client duplicates the dma-buf: over a reconnect it registers it again by itself. */
    result = scanoutd_client_add_buffer(client, show->first_id + i, &layout, &show->cards[i].buffer.dmabuf, 1,
                                        &serials[i]);
    if (result < 0) return result;
  }
  for (uint32_t i = 0; i < show->count; i++) {
    const int result = scanoutd_client_wait_answer(client, serials[i], ANSWER_MS);
    if (result < 0) complain(client, "add buffer", result);
    if (result < 0) return result;
  }
  return 0;
}

/* Gives up `old`'s buffers. Each answer comes when nothing shows the buffer any more. */
static void close_show(struct scanoutd_client* client, struct show* old) {
  for (uint32_t i = 0; i < old->count; i++) {
    uint32_t serial = 0;
    if (scanoutd_client_remove_buffer(client, old->first_id + i, &serial) == 0 && serial != 0)
      scanoutd_client_wait_answer(client, serial, ANSWER_MS);
    destroy_buffer(&old->cards[i].buffer);
  }
  old->count = 0;
}

static bool shown_directly(struct scanoutd_client* client, const struct show* show) {
  const struct scanoutd_configure* area = scanoutd_client_configuration(client);
  const struct scanoutd_state* state = scanoutd_client_state(client, show->plane);
  return area != NULL && area->lit && state != NULL && state->state == SCANOUTD_STATE_DIRECT;
}

/*
 * A released frame that is still the newest one presented is being scanned out, unless the plane was switched
 * off: that is told over the socket, so the socket is given time to tell.
 */
static bool released_early(struct scanoutd_client* client, const struct show* show, uint64_t sequence) {
  struct scanoutd_flip_feedback feedback;
  if (scanoutd_client_feedback(client, show->plane, &feedback) < 0) return false;
  if (feedback.presented != sequence || (feedback.flags & SCANOUTD_PRESENTED_DIRECT) == 0) return false;
  const struct timespec pause = {.tv_nsec = SETTLE_MS * 1000000};
  nanosleep(&pause, NULL);
  scanoutd_client_wait(client, 0);
  return shown_directly(client, show);
}

/* Looks for buffers that came back: they must be as they were left, and nobody may need them now. */
static void check_released(struct scanoutd_client* client, struct show* show) {
  for (uint32_t i = 0; i < show->count; i++) {
    const uint64_t sequence = show->held[i];
    if (sequence == 0 || !scanoutd_client_buffer_free(client, show->first_id + i)) continue;
    show->held[i] = 0;
    if (!show->check || show->kind == SCANOUTD_PLANE_CURSOR) continue;
    if (released_early(client, show, sequence)) show->early++;
    sync_buffer(&show->cards[i].buffer, DMA_BUF_SYNC_START);
    if (hash_card(&show->cards[i]) != show->hash[i]) show->changed++;
    poison_card(&show->cards[i]);
    sync_buffer(&show->cards[i].buffer, DMA_BUF_SYNC_END);
  }
}

/* Draws frame `number` into the free buffer that was shown longest ago, or moves the cursor. */
static int draw(struct scanoutd_client* client, struct show* show, uint64_t number, uint32_t* index) {
  if (show->kind == SCANOUTD_PLANE_CURSOR) {
    struct card* card = &show->cards[*index = 0];
    if (card->drawn) return 0;
    draw_cursor(card);
    card->drawn = true;
    return 0;
  }
  const int id = scanoutd_client_acquire(client, show_mask(show), 100);
  if (id < 0) return id;
  *index = (uint32_t)id - show->first_id;
  check_released(client, show); /* before the buffer is drawn into */
  struct card* card = &show->cards[*index];
  sync_buffer(&card->buffer, DMA_BUF_SYNC_START);
  draw_card(card, number);
  sync_buffer(&card->buffer, DMA_BUF_SYNC_END);
  if (show->check) show->hash[*index] = hash_card(card);
  return 0;
}

/* Draws and submits one frame. Negative errno; -ETIMEDOUT when no buffer came free. */
static int show_frame(struct scanoutd_client* client, struct show* show, uint64_t number, int wait_taken_ms) {
  struct scanoutd_rect damage[SCANOUTD_MAX_DAMAGE];
  struct scanoutd_submission told;
  uint32_t index = 0;
  int result = draw(client, show, number, &index);
  if (result == 0 && wait_taken_ms > 0)
    result = scanoutd_client_wait_taken(client, show->plane, wait_taken_ms);
  if (result < 0) return result;
  struct scanoutd_frame frame = {
      .buffer = show->first_id + index, .dst_x = show->x, .dst_y = show->y, .damage = damage};
  if (show->kind == SCANOUTD_PLANE_CURSOR) {
    frame.hot_x = (int32_t)show->width / 2;
    frame.hot_y = (int32_t)show->height / 2;
  } else if (!show->fresh) {
    frame.damage_count = card_damage(&show->cards[index], show->line, damage);
  }
  result = scanoutd_client_submit(client, show->plane, &frame, &told);
  if (result < 0) return result;
  show->submitted++;
  show->fresh = false;
  show->line = show->cards[index].line;
  show->newest = show->held[index] = told.sequence;
  if (told.reclaimed != 0) show->reclaimed++;
  return 0;
}

/* Keeps the newest feedback: the page goes with the connection. */
static void note_feedback(struct scanoutd_client* client, struct show* show) {
  struct scanoutd_flip_feedback now;
  if (scanoutd_client_feedback(client, show->plane, &now) == 0) show->feedback = now;
}

static void end_connection(struct show* show) {
  show->earlier.flips += show->feedback.flips;
  show->earlier.superseded += show->feedback.superseded;
  show->earlier.missed += show->feedback.missed;
  show->feedback = (struct scanoutd_flip_feedback){0};
  for (uint32_t i = 0; i < CARDS; i++)
    show->held[i] = 0; /* nobody will release them */
  show->fresh = true;
}

#endif
