/*
 * A complete guest of scanoutd: shows a moving test card on one plane or several, follows resizes and the
 * death of the daemon, and leaves with a word. example-buffer.h makes the dma-bufs, example-card.h draws,
 * example-show.h is the life of one plane's buffers; example-input.h writes down what keyboards and others
 * send; example-options.h reads the command line; here are the connection and the loop.
 */
#include <signal.h>
#include <time.h>

#include "example-input.h"
#include "example-options.h"
#include "example-show.h"

enum {
  FIRST_CONFIGURE_MS = 2000,
  LONGEST_PACE_MS = 100,
  LAST_FRAME_MS = 1000,
  FIFO_MS = 1000,
  CURSOR_SIZE = 64
};

struct example {
  struct options set;
  struct scanoutd_client* client;
  struct show shows[SCANOUTD_MAX_PLANES];
  FILE* input; /* NULL: it asks for none */
  uint64_t connections, drawn;
};

static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static const char* const state_names[] = {"off", "direct", "copied", "unseen"};

/* ---- Connection */

static int connect_client(struct example* ex, int timeout_ms) {
  const int result = scanoutd_client_connect(ex->client, timeout_ms);
  if (result == 0)
    ex->connections++;
  else if (result != -EINTR)
    complain(ex->client, "connect", result);
  return result;
}

/* Without --size the first plane follows the area; where there is none it stays as it is. */
static void place_show(const struct example* ex, struct show* show) {
  const struct scanoutd_configure* area = scanoutd_client_configuration(ex->client);
  const bool placed = area != NULL && area->width > 0 && area->height > 0;
  if (!placed && show->count > 0) return;
  const uint32_t width = placed ? area->width : 640;
  const uint32_t height = placed ? area->height : 480;
  const bool first = show == &ex->shows[0];
  show->width = ex->set.width != 0 ? ex->set.width : width;
  show->height = ex->set.height != 0 ? ex->set.height : height;
  show->x = ex->set.x;
  show->y = ex->set.y;
  if (show->kind == SCANOUTD_PLANE_CURSOR && !(first && ex->set.width != 0)) {
    show->width = show->height = CURSOR_SIZE;
  } else if (!first) { /* further planes: a quarter of the first, in its middle */
    show->x += (int32_t)show->width / 4;
    show->y += (int32_t)show->height / 4;
    show->width = (show->width / 2 + 1) & ~1u;
    show->height = (show->height / 2 + 1) & ~1u;
  }
}

static int open_shows(struct example* ex) {
  for (uint32_t i = 0; i < ex->set.kind_count; i++) {
    struct show* show = &ex->shows[i];
    const bool cursor = ex->set.kinds[i] == SCANOUTD_PLANE_CURSOR;
    *show = (struct show){.plane = i, .kind = ex->set.kinds[i], .check = ex->set.check};
    show->fourcc = ex->set.fourcc != 0 && !cursor ? ex->set.fourcc : cursor ? FOURCC_AR24 : FOURCC_XR24;
    place_show(ex, show);
    int result = open_show(ex->client, show);
    if (result == 0 && ex->set.fifo && !cursor)
      result = scanoutd_client_set_present(ex->client, i, SCANOUTD_PRESENT_FIFO, NULL);
    if (result < 0) return result;
  }
  return 0;
}

/* The area has another size: new buffers, a frame in them, and only then the old ones go. */
static int resize(struct example* ex) {
  for (uint32_t i = 0; i < ex->set.kind_count; i++) {
    struct show* show = &ex->shows[i];
    struct show old = *show;
    if (show->count == 0) continue; /* not made yet */
    place_show(ex, show);
    if (show->width == old.width && show->height == old.height) continue;
    int result = open_show(ex->client, show);
    if (result == 0) result = show_frame(ex->client, show, ex->drawn, ex->set.fifo ? FIFO_MS : 0);
    close_show(ex->client, &old);
    if (result < 0 && result != -ENOTCONN && result != -ETIMEDOUT) return result;
  }
  return 0;
}

static int come_back(struct example* ex, int reason) {
  fprintf(stderr, "example: the connection closed: %s\n", strerror(-reason));
  for (uint32_t i = 0; i < ex->set.kind_count; i++)
    end_connection(&ex->shows[i]);
  return ex->set.reconnect ? connect_client(ex, -1) : reason;
}

static int handle_event(struct example* ex, const struct scanoutd_event* event) {
  switch (event->type) {
  case SCANOUTD_EVENT_CONFIGURE:
    return resize(ex);
  case SCANOUTD_EVENT_STATE: {
    const struct scanoutd_state* state = scanoutd_client_state(ex->client, event->plane);
    fprintf(stderr, "example: plane %" PRIu32 " is %s%s%s\n", event->plane, state_names[state->state],
            state->text[0] != '\0' ? ": " : "", state->text);
    return 0;
  }
  case SCANOUTD_EVENT_ERROR:
    fprintf(stderr, "example: the daemon refuses: %s\n", event->error->text);
    return 0;
  case SCANOUTD_EVENT_INPUT:
    if (ex->input != NULL) read_input(ex->client, ex->input);
    return 0;
  case SCANOUTD_EVENT_CLOSED:
    return come_back(ex, event->reason);
  default:
    return 0;
  }
}

static int handle_events(struct example* ex) {
  struct scanoutd_event event;
  int result = 0;
  while (result == 0 && scanoutd_client_dispatch(ex->client, &event) == 1)
    result = handle_event(ex, &event);
  for (uint32_t i = 0; i < ex->set.kind_count; i++) {
    note_feedback(ex->client, &ex->shows[i]);
    check_released(ex->client, &ex->shows[i]);
  }
  return result;
}

/* ---- The loop */

/* Back and forth between 0 and `range`. */
static int32_t swing(uint64_t number, uint32_t range, uint32_t step) {
  const uint64_t at = range == 0 ? 0 : number * step % (2ull * range);
  return (int32_t)(at < range ? at : 2ull * range - at);
}

static int draw_all(struct example* ex) {
  const struct show* first = &ex->shows[0];
  ex->drawn++;
  for (uint32_t i = 0; i < ex->set.kind_count; i++) {
    struct show* show = &ex->shows[i];
    const bool cursor = show->kind == SCANOUTD_PLANE_CURSOR;
    if (cursor && show != first) {
      show->x = first->x + swing(ex->drawn, first->width - show->width, 7);
      show->y = first->y + swing(ex->drawn, first->height - show->height, 5);
    }
    const int result = show_frame(ex->client, show, ex->drawn, ex->set.fifo && !cursor ? FIFO_MS : 0);
    /* A lost connection is an event of its own; a frame without a buffer is a frame less. */
    if (result < 0 && result != -ETIMEDOUT && result != -EAGAIN && result != -ENOTCONN) return result;
  }
  return 0;
}

/* Sleeps until `deadline`, or until the newest frame of `show` is presented when there is one. Events are
 * handled meanwhile. */
static int wait_for(struct example* ex, double deadline, const struct show* show) {
  for (;;) {
    const int result = handle_events(ex);
    const double left = deadline - seconds_now();
    if (result < 0 || stopped || left <= 0) return result;
    if (show != NULL && show->newest != 0 && show->feedback.presented >= show->newest) return 0;
    if (left >= 0.001) {
      scanoutd_client_wait(ex->client, (int)(left * 1000));
    } else {
      const struct timespec rest = {.tv_nsec = (long)(left * 1e9)};
      nanosleep(&rest, NULL);
    }
  }
}

static int run(struct example* ex) {
  const double start = seconds_now();
  int result = 0;
  while (result == 0 && !stopped) {
    if (ex->set.frames != 0 && ex->drawn >= ex->set.frames) break;
    if (ex->set.seconds != 0 && seconds_now() - start >= ex->set.seconds) break;
    result = draw_all(ex);
    if (result < 0) break;
    /* At the display's pace the next frame is drawn when this one is shown. */
    const bool timed = ex->set.rate != 0;
    result =
        wait_for(ex, timed ? start + (double)ex->drawn / ex->set.rate : seconds_now() + LONGEST_PACE_MS / 1e3,
                 timed ? NULL : &ex->shows[0]);
  }
  const double end = seconds_now() + LAST_FRAME_MS / 1e3;
  for (uint32_t i = 0; i < ex->set.kind_count && result == 0 && !stopped; i++)
    if (ex->shows[i].newest != 0) result = wait_for(ex, end, &ex->shows[i]);
  return stopped ? 0 : result;
}

/* ---- The end */

static uint64_t violations(const struct example* ex) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < ex->set.kind_count; i++)
    sum += ex->shows[i].early + ex->shows[i].changed;
  return sum;
}

static void write_stats(const struct example* ex) {
  FILE* file = fopen(ex->set.stats, "we");
  if (file == NULL) {
    fprintf(stderr, "example: %s: %s\n", ex->set.stats, strerror(errno));
    return;
  }
  fprintf(file,
          "{\"connections\": %" PRIu64 ", \"frames\": %" PRIu64 ", \"violations\": %" PRIu64
          ",\n \"planes\": [",
          ex->connections, ex->drawn, violations(ex));
  for (uint32_t i = 0; i < ex->set.kind_count; i++) {
    const struct show* show = &ex->shows[i];
    const struct scanoutd_state* state = scanoutd_client_state(ex->client, i);
    const struct scanoutd_flip_feedback *now = &show->feedback, *past = &show->earlier;
    fprintf(file, "%s\n  {\"kind\": \"%s\", \"state\": \"%s\", \"width\": %" PRIu32 ", \"height\": %" PRIu32,
            i > 0 ? "," : "", kind_names[show->kind], state_names[state != NULL ? state->state : 0],
            show->width, show->height);
    fprintf(file, ", \"submitted\": %" PRIu64 ", \"reclaimed\": %" PRIu64 ", \"presented\": %" PRIu64,
            show->submitted, show->reclaimed, past->flips + now->flips);
    fprintf(file, ", \"superseded\": %" PRIu64 ", \"missed\": %" PRIu64 ", \"refused\": %" PRIu32,
            past->superseded + now->superseded, past->missed + now->missed, now->refused_code);
    fprintf(file, ", \"early_releases\": %" PRIu64 ", \"changed\": %" PRIu64 "}", show->early, show->changed);
  }
  fputs("\n ]}\n", file);
  fclose(file);
}

static int start(struct example* ex) {
  const struct scanoutd_client_options options = {
      .name = ex->set.name,
      .plane_count = ex->set.kind_count,
      .plane_kinds = {ex->set.kinds[0], ex->set.kinds[1], ex->set.kinds[2], ex->set.kinds[3]},
  };
  int result = scanoutd_client_create(ex->set.socket, &options, &ex->client);
  if (result < 0) {
    fprintf(stderr, "example: %s\n", strerror(-result));
    return result;
  }
  if (ex->set.input != NULL && (ex->input = open_input(ex->client, ex->set.input)) == NULL) {
    result = -errno;
    fprintf(stderr, "example: %s: %s\n", ex->set.input, strerror(errno));
    return result;
  }
  result = connect_client(ex, ex->set.reconnect ? -1 : 5000);
  const double deadline = seconds_now() + FIRST_CONFIGURE_MS / 1e3;
  while (result == 0 && scanoutd_client_configuration(ex->client) == NULL && seconds_now() < deadline)
    result = wait_for(ex, seconds_now() + 0.01, 0);
  return result == 0 ? open_shows(ex) : result;
}

int main(int argc, char** argv) {
  struct example ex = {.set.name = "example"};
  if (!read_options(&ex.set, argc, argv)) {
    fputs("Try --help.\n", stderr);
    return 64;
  }
  const struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: it ends every sleep */
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  int result = start(&ex);
  if (result == 0) result = run(&ex);
  if (ex.client != NULL && scanoutd_client_connected(ex.client)) scanoutd_client_bye(ex.client, 2000);
  if (ex.set.stats != NULL) write_stats(&ex);
  for (uint32_t i = 0; i < ex.set.kind_count; i++)
    for (uint32_t card = 0; card < ex.shows[i].count; card++)
      destroy_buffer(&ex.shows[i].cards[card].buffer);
  scanoutd_client_close(ex.client);
  if (ex.input != NULL) fclose(ex.input);
  if (violations(&ex) > 0)
    fprintf(stderr, "example: %" PRIu64 " violations of the release rules\n", violations(&ex));
  return violations(&ex) > 0 ? 2 : result < 0 && !stopped ? 1 : 0;
}
