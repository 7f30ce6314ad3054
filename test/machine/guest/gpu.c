#include "gpu.h"

enum { VIRTIO_VENDOR = 0x1af4, GPU_DEVICE = 0x1050, MOST_PIECES = 4096 };

static uint64_t fences;

bool gpu_find(struct gpu* gpu) {
  return pci_find(VIRTIO_VENDOR, GPU_DEVICE, &gpu->virtio.pci);
}

void gpu_start(struct gpu* gpu, bool event_index, bool indirect) {
  uint32_t wanted = 1u << VIRTIO_GPU_F_EDID | 1u << VIRTIO_GPU_F_RESOURCE_BLOB;
  if (event_index) wanted |= 1u << VIRTIO_RING_F_EVENT_IDX;
  if (indirect) wanted |= 1u << VIRTIO_RING_F_INDIRECT_DESC;
  virtio_start(&gpu->virtio, wanted);
  virtio_add_queue(&gpu->virtio, &gpu->control, GPU_CONTROL, true);
  virtio_add_queue(&gpu->virtio, &gpu->cursor, GPU_CURSOR, false);
  virtio_run(&gpu->virtio);
}

bool gpu_has(const struct gpu* gpu, unsigned feature) {
  return gpu->virtio.features >> feature & 1;
}

/* Commands under way whose answers nobody has looked at. */
static struct {
  struct slot* slot;
  const char* what;
} unchecked[SLOTS];
static uint32_t unchecked_count;

static struct slot* add_more(struct gpu* gpu, const char* what, const void* request, uint32_t size,
                             const void* more, uint32_t more_size) {
  struct slot* slot = queue_add(&gpu->control, request, size, more, more_size);
  if (unchecked_count == SLOTS) fail("too-many-commands");
  unchecked[unchecked_count].slot = slot;
  unchecked[unchecked_count++].what = what;
  return slot;
}

static struct slot* add(struct gpu* gpu, const char* what, const void* request, uint32_t size) {
  return add_more(gpu, what, request, size, NULL, 0);
}

/* An answer must be good, and carry its request's fence. */
static void check(const struct slot* slot, const char* what) {
  const struct virtio_gpu_ctrl_hdr *request = (const void*)slot->request,
                                   *answer = (const void*)slot->response;
  if (answer->type < VIRTIO_GPU_RESP_OK_NODATA || answer->type >= VIRTIO_GPU_RESP_ERR_UNSPEC) {
    say("@error what=%s answer=%x", what, answer->type);
  }
  bool fenced = request->flags & VIRTIO_GPU_FLAG_FENCE;
  if (fenced && (!(answer->flags & VIRTIO_GPU_FLAG_FENCE) || answer->fence_id != request->fence_id)) {
    say("@error what=%s fence=%u answer=%u", what, (uint32_t)request->fence_id, (uint32_t)answer->fence_id);
  }
}

void gpu_finish(struct gpu* gpu) {
  queue_kick(&gpu->control);
  for (uint32_t i = 0; i < unchecked_count; i++) {
    queue_wait(&gpu->control, unchecked[i].slot);
    check(unchecked[i].slot, unchecked[i].what);
  }
  unchecked_count = 0;
}

void gpu_abandon(struct gpu* gpu) {
  queue_kick(&gpu->control);
  unchecked_count = 0;
}

void gpu_display(struct gpu* gpu, uint32_t output, struct virtio_gpu_display_one* display) {
  struct virtio_gpu_ctrl_hdr request = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
  struct slot* slot = add(gpu, "display-info", &request, sizeof request);
  gpu_finish(gpu);
  const struct virtio_gpu_resp_display_info* info = (const void*)slot->response;
  *display = info->pmodes[output];
}

void gpu_say_edid(struct gpu* gpu, uint32_t output) {
  if (!gpu_has(gpu, VIRTIO_GPU_F_EDID)) return;
  struct virtio_gpu_cmd_get_edid request = {.hdr.type = VIRTIO_GPU_CMD_GET_EDID, .scanout = output};
  struct slot* slot = add(gpu, "edid", &request, sizeof request);
  gpu_finish(gpu);
  const struct virtio_gpu_resp_edid* answer = (const void*)slot->response;
  static char text[2 * sizeof answer->edid + 1];
  uint32_t size = (1u + answer->edid[126]) * 128; /* without the zeros that QEMU fills up with */
  if (size > answer->size) size = answer->size;
  if (size > sizeof answer->edid) size = sizeof answer->edid;
  for (uint32_t i = 0; i < size; i++) {
    text[2 * i] = "0123456789abcdef"[answer->edid[i] >> 4];
    text[2 * i + 1] = "0123456789abcdef"[answer->edid[i] & 15];
  }
  text[2 * size] = '\0';
  say("@edid output=%u size=%u bytes=%s", output, size, text);
}

uint32_t gpu_events(struct gpu* gpu) {
  if (!gpu->virtio.config_changed) return 0;
  gpu->virtio.config_changed = false;
  uint32_t events = gpu->virtio.config[0];
  gpu->virtio.config[1] = events;
  return events;
}

/* Static, since the device reads it after the call; one resource is made at a time. */
static struct virtio_gpu_mem_entry entries[MOST_PIECES];

static uint32_t list_pieces(const struct backing* backing) {
  if (backing->pieces > MOST_PIECES) fail("pieces");
  for (uint32_t i = 0; i < backing->pieces; i++) {
    uint32_t length = i + 1 < backing->pieces ? backing->piece : backing->bytes - i * backing->piece;
    uint32_t place = (backing->pieces - 1 - i) * backing->piece;
    entries[i] = (struct virtio_gpu_mem_entry){.addr = backing->at + place, .length = length};
  }
  return backing->pieces * (uint32_t)sizeof entries[0];
}

void gpu_create(struct gpu* gpu, uint32_t resource, uint32_t format, uint32_t width, uint32_t height,
                const struct backing* backing) {
  struct virtio_gpu_resource_create_2d create = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
      .resource_id = resource,
      .format = format,
      .width = width,
      .height = height,
  };
  add(gpu, "create", &create, sizeof create);
  gpu_finish(gpu);
  struct virtio_gpu_resource_attach_backing attach = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
      .resource_id = resource,
      .nr_entries = backing->pieces,
  };
  uint32_t size = list_pieces(backing);
  add_more(gpu, "attach", &attach, sizeof attach, entries, size);
  gpu_finish(gpu);
}

void gpu_create_blob(struct gpu* gpu, uint32_t resource, const struct backing* backing) {
  struct virtio_gpu_resource_create_blob create = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,
      .resource_id = resource,
      .blob_mem = VIRTIO_GPU_BLOB_MEM_GUEST,
      .blob_flags = VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE,
      .nr_entries = backing->pieces,
      .size = backing->bytes,
  };
  uint32_t size = list_pieces(backing);
  add_more(gpu, "create-blob", &create, sizeof create, entries, size);
  gpu_finish(gpu);
}

void gpu_unref(struct gpu* gpu, uint32_t resource) {
  struct virtio_gpu_resource_unref request = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_UNREF,
      .resource_id = resource,
  };
  add(gpu, "unref", &request, sizeof request);
  gpu_finish(gpu);
}

void gpu_transfer(struct gpu* gpu, uint32_t resource, struct virtio_gpu_rect part, uint32_t stride) {
  struct virtio_gpu_transfer_to_host_2d request = {
      .hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
      .r = part,
      .offset = part.y * stride + part.x * 4,
      .resource_id = resource,
  };
  add(gpu, "transfer", &request, sizeof request);
}

void gpu_scanout(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t width, uint32_t height) {
  struct virtio_gpu_set_scanout request = {
      .hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT,
      .r = {0, 0, width, height},
      .scanout_id = output,
      .resource_id = resource,
  };
  add(gpu, "scanout", &request, sizeof request);
}

void gpu_scanout_blob(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t width, uint32_t height) {
  struct virtio_gpu_set_scanout_blob request = {
      .hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
      .r = {0, 0, width, height},
      .scanout_id = output,
      .resource_id = resource,
      .width = width,
      .height = height,
      .format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
      .strides = {width * 4},
  };
  add(gpu, "scanout-blob", &request, sizeof request);
}

void gpu_flush(struct gpu* gpu, uint32_t resource, struct virtio_gpu_rect part, bool fence) {
  struct virtio_gpu_resource_flush request = {
      .hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH,
      .hdr.flags = fence ? VIRTIO_GPU_FLAG_FENCE : 0,
      .hdr.fence_id = fence ? ++fences : 0,
      .r = part,
      .resource_id = resource,
  };
  add(gpu, "flush", &request, sizeof request);
}

static void update_cursor(struct gpu* gpu, uint32_t type, uint32_t output, uint32_t resource, uint32_t x,
                          uint32_t y) {
  struct virtio_gpu_update_cursor request = {
      .hdr.type = type,
      .pos = {.scanout_id = output, .x = x, .y = y},
      .resource_id = resource,
      .hot_x = CURSOR_HOT_X,
      .hot_y = CURSOR_HOT_Y,
  };
  queue_add(&gpu->cursor, &request, sizeof request, NULL, 0);
  queue_kick(&gpu->cursor);
}

void gpu_cursor_image(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t x, uint32_t y) {
  update_cursor(gpu, VIRTIO_GPU_CMD_UPDATE_CURSOR, output, resource, x, y);
}

/* With its resource, as Linux does it: QEMU hides a cursor that moves without one. */
void gpu_cursor_move(struct gpu* gpu, uint32_t output, uint32_t resource, uint32_t x, uint32_t y) {
  update_cursor(gpu, VIRTIO_GPU_CMD_MOVE_CURSOR, output, resource, x, y);
}
