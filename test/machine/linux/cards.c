/*
 * A program for a Linux guest: flips test cards by KMS as the bare guest does by hand (../guest), and says on
 * standard output what it did. The cards' pixels are the bare guest's.
 *
 *   cards [card=N] [frames=N] [size=WxH] [gap=MS] [step=1]
 *
 * Bytes on standard input, with or without step=1: `f` flips the next card, `m` moves the cursor, `h` looks
 * at the connector again, `q` ends the program.
 */
#include <drm_fourcc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

enum {
  BUFFERS = 2,
  CURSOR_SIZE = 64,
  CURSOR_HOT_X = 3,
  CURSOR_HOT_Y = 5,
  CURSOR_IMAGE_EVERY = 8,
  FLIP_MS = 10000
};

struct buffer {
  uint32_t handle, pitch, framebuffer;
  uint8_t* pixels;
};

static struct {
  uint32_t card, frames, width, height, gap_ms;
  bool step;
} options;

static int card;
static uint32_t connector_id, crtc_id;
static drmModeModeInfo mode;
static struct buffer buffers[BUFFERS], cursor;
static uint32_t frame, moves;
static bool flipped;
static uint32_t flip_sequence;

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

_Noreturn static void fail(const char* what) {
  printf("@error what=%s errno=%d\n", what, errno);
  exit(1);
}

static struct buffer make_buffer(uint32_t width, uint32_t height, bool shown) {
  struct buffer buffer = {0};
  uint64_t size = 0, offset = 0;
  if (drmModeCreateDumbBuffer(card, width, height, 32, 0, &buffer.handle, &buffer.pitch, &size) != 0)
    fail("dumb");
  if (drmModeMapDumbBuffer(card, buffer.handle, &offset) != 0) fail("map");
  buffer.pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)offset);
  if (buffer.pixels == MAP_FAILED) fail("mmap");
  if (!shown) return buffer;
  uint32_t handles[4] = {buffer.handle}, pitches[4] = {buffer.pitch}, offsets[4] = {0};
  if (drmModeAddFB2(card, width, height, DRM_FORMAT_XRGB8888, handles, pitches, offsets, &buffer.framebuffer,
                    0) != 0) {
    fail("framebuffer");
  }
  return buffer;
}

/* As in ../guest/screen.c. */
static void draw(const struct buffer* buffer, uint32_t width, uint32_t height, uint32_t number) {
  for (uint32_t y = 0; y < height; y++) {
    uint32_t* row = (uint32_t*)(buffer->pixels + (size_t)y * buffer->pitch);
    uint32_t value = (number + 1) * 0x9e3779b1 + y * 0x0010dcd9;
    for (uint32_t x = 0; x < width; x++, value += 0x00c2b2ae)
      row[x] = value;
  }
}

/* As in ../guest/main.c. */
static void draw_cursor(uint32_t image) {
  draw(&cursor, CURSOR_SIZE, CURSOR_SIZE, image);
  for (uint32_t y = 0; y < CURSOR_SIZE; y++) {
    uint32_t* row = (uint32_t*)(cursor.pixels + (size_t)y * cursor.pitch);
    for (uint32_t x = 0; x < CURSOR_SIZE; x++)
      row[x] = x + y < CURSOR_SIZE ? row[x] | 0xff000000 : 0;
  }
}

static void say_edid(const drmModeConnector* connector) {
  for (int i = 0; i < connector->count_props; i++) {
    drmModePropertyRes* property = drmModeGetProperty(card, connector->props[i]);
    bool is_edid = property != NULL && strcmp(property->name, "EDID") == 0;
    drmModeFreeProperty(property);
    if (!is_edid || connector->prop_values[i] == 0) continue;
    drmModePropertyBlobRes* blob = drmModeGetPropertyBlob(card, (uint32_t)connector->prop_values[i]);
    if (blob == NULL) fail("edid");
    printf("@edid size=%u bytes=", blob->length);
    for (uint32_t byte = 0; byte < blob->length; byte++)
      printf("%02x", ((const uint8_t*)blob->data)[byte]);
    printf("\n");
    drmModeFreePropertyBlob(blob);
  }
}

/* Says what the first connector is, and finds the mode that was asked for, or else the first, which is
 * preferred. */
static void look(void) {
  drmModeRes* resources = drmModeGetResources(card);
  if (resources == NULL || resources->count_connectors == 0) fail("resources");
  connector_id = resources->connectors[0];
  crtc_id = resources->crtcs[0];
  drmModeFreeResources(resources);
  drmModeConnector* connector = drmModeGetConnector(card, connector_id);
  if (connector == NULL) fail("connector");
  bool connected = connector->connection == DRM_MODE_CONNECTED && connector->count_modes > 0;
  printf("@display enabled=%d modes=%d width=%d height=%d refresh=%d\n", connected, connector->count_modes,
         connected ? connector->modes[0].hdisplay : 0, connected ? connector->modes[0].vdisplay : 0,
         connected ? connector->modes[0].vrefresh : 0);
  say_edid(connector);
  bool found = false;
  for (int i = 0; i < connector->count_modes && !found; i++) {
    const drmModeModeInfo* candidate = &connector->modes[i];
    found =
        options.width == 0 || (candidate->hdisplay == options.width && candidate->vdisplay == options.height);
    if (found) mode = *candidate;
  }
  drmModeFreeConnector(connector);
  if (!found) {
    errno = ENOENT;
    fail("mode");
  }
}

static void on_flip(int fd, unsigned sequence, unsigned seconds, unsigned microseconds, void* data) {
  (void)fd, (void)seconds, (void)microseconds, (void)data;
  flip_sequence = sequence;
  flipped = true;
}

static void wait_flip(void) {
  drmEventContext context = {.version = 2, .page_flip_handler = on_flip};
  uint64_t deadline = now_us() + (uint64_t)FLIP_MS * 1000;
  while (!flipped) {
    struct pollfd event = {.fd = card, .events = POLLIN};
    if (now_us() > deadline) fail("flip-event");
    if (poll(&event, 1, FLIP_MS) > 0) drmHandleEvent(card, &context);
  }
}

static void flip(void) {
  struct buffer* buffer = &buffers[frame % BUFFERS];
  draw(buffer, mode.hdisplay, mode.vdisplay, frame);
  uint64_t begun = now_us();
  flipped = false;
  if (frame == 0) {
    if (drmModeSetCrtc(card, crtc_id, buffer->framebuffer, 0, 0, &connector_id, 1, &mode) != 0)
      fail("mode-set");
  } else {
    if (drmModePageFlip(card, crtc_id, buffer->framebuffer, DRM_MODE_PAGE_FLIP_EVENT, NULL) != 0)
      fail("flip");
    wait_flip();
  }
  uint64_t done = now_us();
  printf("@flip frame=%u buffer=%u flip_us=%u at_us=%u sequence=%u\n", frame, frame % BUFFERS,
         (uint32_t)(done - begun), (uint32_t)done, flip_sequence);
  frame++;
}

static void move_cursor(void) {
  int x = (int)(moves * 7 % mode.hdisplay), y = (int)(moves * 5 % mode.vdisplay);
  uint32_t image = moves / CURSOR_IMAGE_EVERY;
  if (cursor.pixels == NULL) cursor = make_buffer(CURSOR_SIZE, CURSOR_SIZE, false);
  if (moves % CURSOR_IMAGE_EVERY == 0) {
    draw_cursor(image);
    if (drmModeSetCursor2(card, crtc_id, cursor.handle, CURSOR_SIZE, CURSOR_SIZE, CURSOR_HOT_X,
                          CURSOR_HOT_Y) != 0) {
      fail("cursor");
    }
  }
  if (drmModeMoveCursor(card, crtc_id, x, y) != 0) fail("cursor-move");
  printf("@cursor move=%u x=%d y=%d image=%u at_us=%u\n", moves++, x, y, image, (uint32_t)now_us());
}

/* Waits so long, or for ever with -1, for a byte; false when none came. */
static bool obey(int wait_ms) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  char byte;
  if (poll(&input, 1, wait_ms) <= 0 || read(STDIN_FILENO, &byte, 1) != 1) return false;
  if (byte == 'f') flip();
  if (byte == 'm') move_cursor();
  if (byte == 'h') look();
  if (byte == 'q') exit(0);
  return true;
}

static void parse(int count, char** words) {
  for (int i = 1; i < count; i++) {
    if (sscanf(words[i], "size=%ux%u", &options.width, &options.height) == 2) continue;
    if (sscanf(words[i], "card=%u", &options.card) == 1) continue;
    if (sscanf(words[i], "frames=%u", &options.frames) == 1) continue;
    if (sscanf(words[i], "gap=%u", &options.gap_ms) == 1) continue;
    options.step |= strcmp(words[i], "step=1") == 0;
  }
}

int main(int count, char** words) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  parse(count, words);
  struct termios terminal;
  if (tcgetattr(STDIN_FILENO, &terminal) == 0) {
    cfmakeraw(&terminal);
    terminal.c_oflag |= OPOST | ONLCR;
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
  }
  char path[32];
  snprintf(path, sizeof path, "/dev/dri/card%u", options.card);
  card = open(path, O_RDWR | O_CLOEXEC);
  if (card < 0) fail("card");
  look();
  drmVersion* version = drmGetVersion(card);
  printf("@hello device=linux driver=%s card=%u\n", version->name, options.card);
  drmFreeVersion(version);
  for (int i = 0; i < BUFFERS; i++)
    buffers[i] = make_buffer(mode.hdisplay, mode.vdisplay, true);
  printf("@buffers width=%d height=%d count=%d\n", mode.hdisplay, mode.vdisplay, BUFFERS);
  while (options.frames == 0 || frame < options.frames) {
    if (options.step) {
      obey(-1);
      continue;
    }
    while (obey((int)options.gap_ms)) {
    }
    flip();
  }
  printf("@done frames=%u at_us=%u\n", frame, (uint32_t)now_us());
  while (obey(-1)) {
  }
}
