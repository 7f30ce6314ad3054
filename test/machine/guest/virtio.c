#include "virtio.h"

#include <linux/virtio_config.h>

static struct virtio* interrupted;

static void on_interrupt(void) {
  uint8_t causes = *interrupted->isr; /* reading lowers the line */
  if (causes & VIRTIO_PCI_ISR_CONFIG) interrupted->config_changed = true;
}

static void find_capabilities(struct virtio* device) {
  const struct pci_device* pci = &device->pci;
  for (uint8_t at = pci_read(pci, 0x34) & 0xfc; at != 0; at = (uint8_t)(pci_read(pci, at) >> 8) & 0xfc) {
    uint32_t head = pci_read(pci, at);
    if ((head & 255) != 9) continue; /* vendor-specific */
    uint8_t type = head >> 24;
    if (type == 0 || type > VIRTIO_PCI_CAP_DEVICE_CFG) continue;
    uint8_t* base = (uint8_t*)pci_bar(pci, pci_read(pci, at + 4) & 255) + pci_read(pci, at + 8);
    if (type == VIRTIO_PCI_CAP_COMMON_CFG) device->common = (void*)base;
    if (type == VIRTIO_PCI_CAP_ISR_CFG) device->isr = base;
    if (type == VIRTIO_PCI_CAP_DEVICE_CFG) device->config = (void*)base;
    if (type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
      device->notify = base;
      device->notify_multiplier = pci_read(pci, at + 16);
    }
  }
  if (!device->common || !device->isr || !device->config || !device->notify) fail("virtio-capabilities");
}

void virtio_reset(struct virtio* device) {
  device->common->device_status = 0;
  while (device->common->device_status != 0) {
  }
}

void virtio_start(struct virtio* device, uint32_t wanted) {
  pci_enable(&device->pci);
  find_capabilities(device);
  virtio_reset(device);
  device->config_changed = false;
  interrupted = device;
  pci_on_interrupt(&device->pci, on_interrupt);
  volatile struct virtio_pci_common_cfg* common = device->common;
  common->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
  common->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
  common->device_feature_select = 0;
  device->features = common->device_feature & wanted;
  common->guest_feature_select = 0;
  common->guest_feature = device->features;
  common->guest_feature_select = 1;
  common->guest_feature = 1; /* VIRTIO_F_VERSION_1 */
  common->device_status |= VIRTIO_CONFIG_S_FEATURES_OK;
  if (!(common->device_status & VIRTIO_CONFIG_S_FEATURES_OK)) fail("virtio-features");
}

void virtio_add_queue(struct virtio* device, struct queue* queue, uint16_t number, bool answered) {
  volatile struct virtio_pci_common_cfg* common = device->common;
  memset(queue, 0, sizeof *queue);
  common->queue_select = number;
  uint16_t size = common->queue_size;
  if (size == 0) fail("virtio-queue");
  queue->number = number;
  queue->answered = answered;
  queue->size = size < QUEUE_SIZE ? size : QUEUE_SIZE;
  uint16_t slots = queue->size / INDIRECT;
  queue->slot_count = slots < SLOTS ? slots : SLOTS;
  for (int i = 0; i < queue->slot_count; i++)
    queue->slots[i].done = true;
  common->queue_size = queue->size;
  common->queue_desc_lo = (uint32_t)queue->descriptors;
  common->queue_desc_hi = 0;
  common->queue_avail_lo = (uint32_t)queue->avail;
  common->queue_avail_hi = 0;
  common->queue_used_lo = (uint32_t)&queue->used;
  common->queue_used_hi = 0;
  queue->doorbell = (void*)(device->notify + common->queue_notify_off * device->notify_multiplier);
  queue->event_index = device->features & (1u << VIRTIO_RING_F_EVENT_IDX);
  queue->indirect = device->features & (1u << VIRTIO_RING_F_INDIRECT_DESC);
  common->queue_enable = 1;
}

void virtio_run(struct virtio* device) {
  device->common->device_status |= VIRTIO_CONFIG_S_DRIVER_OK;
}

/* The device's words after the rings, whose place depends on the negotiated size. */
static volatile uint16_t* used_event(struct queue* queue) {
  return &queue->avail[2 + queue->size];
}
static volatile uint16_t* avail_event(struct queue* queue) {
  return (volatile uint16_t*)&queue->used.ring[queue->size];
}

struct slot* queue_add(struct queue* queue, const void* request, uint32_t size, const void* more,
                       uint32_t more_size) {
  uint16_t index = queue->next_slot;
  queue->next_slot = (uint16_t)((index + 1) % queue->slot_count);
  struct slot* slot = &queue->slots[index];
  if (!slot->done) {
    queue_kick(queue);
    queue_wait(queue, slot);
  }
  if (size > REQUEST_BYTES) fail("request-size");
  memcpy(slot->request, request, size);
  memset(slot->response, 0, RESPONSE_BYTES);
  slot->done = false;

  uint16_t head = (uint16_t)(queue->indirect ? index : index * INDIRECT);
  struct vring_desc* table = queue->indirect ? slot->table : &queue->descriptors[head];
  uint16_t first = queue->indirect ? 0 : head, count = 0;
  struct vring_desc parts[INDIRECT];
  parts[count++] = (struct vring_desc){(uint32_t)slot->request, size, VRING_DESC_F_NEXT, 0};
  if (more) parts[count++] = (struct vring_desc){(uint32_t)more, more_size, VRING_DESC_F_NEXT, 0};
  if (queue->answered) {
    parts[count++] = (struct vring_desc){(uint32_t)slot->response, RESPONSE_BYTES, VRING_DESC_F_WRITE, 0};
  } else {
    parts[count - 1].flags = 0;
  }
  for (uint16_t i = 0; i < count; i++) {
    parts[i].next = (uint16_t)(first + i + 1);
    table[i] = parts[i];
  }
  if (queue->indirect) {
    uint32_t bytes = count * sizeof(struct vring_desc);
    queue->descriptors[head] = (struct vring_desc){(uint32_t)table, bytes, VRING_DESC_F_INDIRECT, 0};
  }
  queue->avail[2 + queue->added % queue->size] = head;
  memory_barrier();
  ((volatile uint16_t*)queue->avail)[1] = ++queue->added;
  return slot;
}

void queue_kick(struct queue* queue) {
  memory_barrier();
  bool wanted = queue->event_index ? vring_need_event(*avail_event(queue), queue->added, queue->kicked)
                                   : !(*(volatile uint16_t*)&queue->used.flags & VRING_USED_F_NO_NOTIFY);
  queue->kicked = queue->added;
  if (wanted) *queue->doorbell = queue->number;
}

void queue_collect(struct queue* queue) {
  while (queue->seen != *(volatile uint16_t*)&queue->used.index) {
    memory_barrier();
    uint32_t head = queue->used.ring[queue->seen++ % queue->size].id;
    uint32_t index = queue->indirect ? head : head / INDIRECT;
    if (index >= queue->slot_count || queue->slots[index].done) fail("used-ring");
    queue->slots[index].done = true;
  }
}

void queue_wait(struct queue* queue, struct slot* slot) {
  for (;;) {
    interrupts_off();
    *used_event(queue) = queue->seen; /* an interrupt for the next one */
    memory_barrier();
    queue_collect(queue);
    if (slot->done) break;
    rest();
  }
  interrupts_on();
}
