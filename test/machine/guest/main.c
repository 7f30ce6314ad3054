/*
 * The guest of most tests: no operating system, starts at once, drives virtio-gpu or a bochs display and says
 * on the serial line what it did. Options are words of the kernel's command line; bytes that it hears are
 * commands. test/machine/README.md describes both.
 */
#include "bochs.h"
#include "gpu.h"

enum { BUFFERS_AT = 16 << 20, PAGE = 4096, CURSOR_RESOURCE = 100, CURSOR_IMAGE_EVERY = 8, MOST_BUFFERS = 8 };

static struct options options;
static struct gpu gpu;
static struct backing buffers[MOST_BUFFERS], cursor_backing;
static struct screen screen;
static uint32_t resource_base; /* of the buffers that are shown */
static uint32_t cursors;

static uint32_t pages(uint32_t bytes) {
  return (bytes + PAGE - 1) & ~(PAGE - 1u);
}

static struct virtio_gpu_rect whole(void) {
  return (struct virtio_gpu_rect){0, 0, screen.width, screen.height};
}

static void gpu_show(struct screen* shown, uint32_t buffer, struct rows rows) {
  uint32_t resource = resource_base + buffer;
  struct virtio_gpu_rect part = {0, rows.first, shown->width, rows.count};
  if (options.mode == MODE_BLOB) {
    gpu_scanout_blob(&gpu, options.output, resource, shown->width, shown->height);
  } else {
    gpu_transfer(&gpu, resource, part, shown->width * 4);
    gpu_scanout(&gpu, options.output, resource, shown->width, shown->height);
  }
  gpu_flush(&gpu, resource, options.buffers == 1 ? part : whole(), options.fence);
  gpu_finish(&gpu);
}

static struct backing place(uint32_t index, uint32_t bytes) {
  uint32_t room = pages(bytes) + PAGE, piece = bytes;
  if (options.pieces > 1) piece = pages((bytes + options.pieces - 1) / options.pieces);
  uint32_t pieces = (bytes + piece - 1) / piece;
  room += pieces * PAGE;
  return (struct backing){BUFFERS_AT + index * pages(room) + options.offset, bytes, pieces, piece};
}

/* New resources of the screen's size; the old ones go. */
static void make_buffers(void) {
  uint32_t old = resource_base;
  uint32_t bytes = screen.width * screen.height * 4;
  resource_base = old == 1 ? 1 + MOST_BUFFERS : 1;
  if (old != 0) gpu_scanout(&gpu, options.output, 0, 0, 0);
  for (uint32_t i = 0; i < options.buffers; i++) {
    if (old != 0) gpu_unref(&gpu, old + i);
    buffers[i] = place(i, bytes);
    screen.drawn[i] = false;
    if (options.mode == MODE_BLOB) {
      gpu_create_blob(&gpu, resource_base + i, &buffers[i]);
    } else {
      gpu_create(&gpu, resource_base + i, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, screen.width, screen.height,
                 &buffers[i]);
    }
  }
  say("@buffers width=%u height=%u count=%u", screen.width, screen.height, options.buffers);
}

/* Reads what is plugged in; true when the screen should have another size. */
static bool read_display(void) {
  struct virtio_gpu_display_one display;
  gpu_display(&gpu, options.output, &display);
  say("@display output=%u enabled=%u width=%u height=%u", options.output, display.enabled, display.r.width,
      display.r.height);
  gpu_say_edid(&gpu, options.output);
  if (options.width != 0 || !display.enabled || display.r.width == 0 || display.r.height == 0) return false;
  bool changed = screen.width != display.r.width || screen.height != display.r.height;
  screen.width = display.r.width;
  screen.height = display.r.height;
  return changed;
}

/* Opaque above one diagonal, nothing below: the same whether alpha is pre-multiplied or not. */
static void draw_cursor(uint32_t image) {
  struct rows rows = {0, CURSOR_SIZE};
  draw(&cursor_backing, CURSOR_SIZE, image, rows);
  uint32_t* pixels = (uint32_t*)cursor_backing.at;
  for (uint32_t y = 0; y < CURSOR_SIZE; y++) {
    for (uint32_t x = 0; x < CURSOR_SIZE; x++) {
      uint32_t* pixel = &pixels[y * CURSOR_SIZE + x];
      *pixel = x + y < CURSOR_SIZE ? *pixel | 0xff000000 : 0;
    }
  }
  struct virtio_gpu_rect part = {0, 0, CURSOR_SIZE, CURSOR_SIZE};
  gpu_transfer(&gpu, CURSOR_RESOURCE, part, CURSOR_SIZE * 4);
  gpu_finish(&gpu);
}

static void move_cursor(void) {
  uint32_t x = cursors * 7 % screen.width, y = cursors * 5 % screen.height;
  uint32_t image = cursors / CURSOR_IMAGE_EVERY;
  if (cursors % CURSOR_IMAGE_EVERY == 0) {
    draw_cursor(image);
    gpu_cursor_image(&gpu, options.output, CURSOR_RESOURCE, x, y);
  } else {
    gpu_cursor_move(&gpu, options.output, CURSOR_RESOURCE, x, y);
  }
  say("@cursor move=%u x=%u y=%u image=%u at_us=%u", cursors++, x, y, image, now_us());
}

static void start_gpu(void) {
  gpu_start(&gpu, options.event_index, options.indirect);
  say("@hello device=virtio event_idx=%u indirect=%u edid=%u blob=%u at_us=%u",
      gpu_has(&gpu, VIRTIO_RING_F_EVENT_IDX), gpu_has(&gpu, VIRTIO_RING_F_INDIRECT_DESC),
      gpu_has(&gpu, VIRTIO_GPU_F_EDID), gpu_has(&gpu, VIRTIO_GPU_F_RESOURCE_BLOB), now_us());
  if (options.mode == MODE_BLOB && !gpu_has(&gpu, VIRTIO_GPU_F_RESOURCE_BLOB)) fail("no-blob");
  resource_base = 0;
  screen.buffers = buffers;
  screen.show = gpu_show;
  read_display();
  if (screen.width == 0 || screen.height == 0) screen.width = 640, screen.height = 480;
  make_buffers();
  cursor_backing = (struct backing){BUFFERS_AT - (1 << 20), CURSOR_SIZE * CURSOR_SIZE * 4, 1,
                                    CURSOR_SIZE * CURSOR_SIZE * 4};
  if (options.mode != MODE_CURSOR) return;
  gpu_create(&gpu, CURSOR_RESOURCE, VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, CURSOR_SIZE, CURSOR_SIZE,
             &cursor_backing);
  flip(&screen, 0);
}

static void start_device(void) {
  screen = (struct screen){.options = &options, .width = options.width, .height = options.height};
  if (!options.bochs) {
    if (!gpu_find(&gpu)) fail("no-virtio-gpu");
    start_gpu();
    return;
  }
  bochs_start(&screen);
  say("@hello device=bochs at_us=%u", now_us());
  say("@buffers width=%u height=%u count=%u", screen.width, screen.height, options.buffers);
}

static void advance(uint32_t* frame) {
  if (options.mode == MODE_CURSOR) {
    move_cursor();
    ++*frame;
  } else {
    flip(&screen, (*frame)++);
  }
}

/* A flip that nobody waits for, and a reset in the middle of it. */
static void reset_in_flip(uint32_t frame) {
  uint32_t resource = resource_base + frame % options.buffers;
  gpu_scanout(&gpu, options.output, resource, screen.width, screen.height);
  gpu_flush(&gpu, resource, whole(), true);
  gpu_abandon(&gpu);
  virtio_reset(&gpu.virtio);
  say("@reset frame=%u", frame);
}

/* Obeys a byte; false when it is no command. */
static bool obey(int command, uint32_t* frame) {
  if (command == 'r') reboot();
  if (command == 'o') power_off();
  if (command == 'f') {
    advance(frame);
    return true;
  }
  if (options.bochs) return false;
  if (command == 'R') {
    virtio_reset(&gpu.virtio);
    say("@reset frame=%u", *frame);
    start_gpu();
  } else if (command == 'X') {
    reset_in_flip(*frame);
    start_gpu();
  } else if (command == 'd') {
    gpu_scanout(&gpu, options.output, 0, 0, 0);
    gpu_finish(&gpu);
    say("@disabled frame=%u", *frame);
  } else if (command == 'u') {
    /* While it is on the screen */
    gpu_unref(&gpu, resource_base + (*frame + options.buffers - 1) % options.buffers);
    say("@unref frame=%u", *frame);
  } else if (command == 'm') {
    move_cursor();
  } else {
    return false;
  }
  return true;
}

static void notice_events(void) {
  uint32_t events = options.bochs ? 0 : gpu_events(&gpu);
  if (events == 0) return;
  say("@config events=%u", events);
  if (read_display()) make_buffers();
}

static void finish(uint32_t frame) {
  say("@done frames=%u at_us=%u", frame, now_us());
  if (options.end == END_OFF) power_off();
  if (options.end == END_REBOOT) reboot();
}

__attribute__((used)) void guest_main(uint32_t multiboot_information) {
  parse_options(machine_start(multiboot_information), &options);
  start_device();
  uint32_t frame = 0;
  bool done = false;
  for (;;) {
    int command = heard();
    if (command >= 0) {
      if (!obey(command, &frame)) say("@error what=command byte=%u", (uint32_t)command);
      continue;
    }
    notice_events();
    if (options.frames != 0 && frame >= options.frames && !done) {
      finish(frame);
      done = true;
    }
    if (done || options.step) {
      rest();
      continue;
    }
    advance(&frame);
    if (options.gap_ms > 0) sleep_until(now_us() + options.gap_ms * 1000);
  }
}
