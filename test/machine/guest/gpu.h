/* Virtio-gpu, its 2D and blob commands (Virtio 1.2, section 5.7). What a flip consists of is queued until
 * gpu_finish(). */
#pragma once
#include "screen.h"
#include "virtio.h"

#include <linux/virtio_gpu.h>

enum { GPU_CONTROL, GPU_CURSOR };

struct gpu {
  struct virtio virtio;
  struct queue control, cursor;
};

bool gpu_find(struct gpu* gpu);
void gpu_start(struct gpu* gpu, bool event_index, bool indirect);
/* Negotiated. */
bool gpu_has(const struct gpu* gpu, unsigned feature);

/* Says an error line for each command that the device did not answer well. */
void gpu_display(struct gpu* gpu, uint32_t output, struct virtio_gpu_display_one* display);
/* Says the EDID of the output, if the device has one. */
void gpu_say_edid(struct gpu* gpu, uint32_t output);
/* Acknowledges and returns VIRTIO_GPU_EVENT bits. */
uint32_t gpu_events(struct gpu* gpu);

void gpu_create(struct gpu* gpu, uint32_t resource, uint32_t format, uint32_t width, uint32_t height,
                const struct backing* backing);
void gpu_create_blob(struct gpu* gpu, uint32_t resource, const struct backing* backing);
void gpu_unref(struct gpu* gpu, uint32_t resource);

/* The parts of a flip. */
void gpu_transfer(struct gpu* gpu, uint32_t resource, struct virtio_gpu_rect part, uint32_t stride);
void gpu_scanout(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t width, uint32_t height);
void gpu_scanout_blob(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t width, uint32_t height);
void gpu_flush(struct gpu* gpu, uint32_t resource, struct virtio_gpu_rect part, bool fence);
/* Tells the device of what is queued, and waits for all answers. */
void gpu_finish(struct gpu* gpu);
/* Tells the device of what is queued, and never looks at the answers. */
void gpu_abandon(struct gpu* gpu);

void gpu_cursor_image(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t x, uint32_t y);
void gpu_cursor_move(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t x, uint32_t y);
enum { CURSOR_SIZE = 64, CURSOR_HOT_X = 3, CURSOR_HOT_Y = 5 };
