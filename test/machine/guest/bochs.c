#include "bochs.h"

enum {
  BOCHS_VENDOR = 0x1234,
  BOCHS_DEVICE = 0x1111,
  REGISTERS = 0x500,
  X_SIZE = 1,
  Y_SIZE,
  BITS,
  ENABLE,
  VIRTUAL_WIDTH = 6,
  VIRTUAL_HEIGHT,
  X_OFFSET,
  Y_OFFSET,
  ENABLED = 0x41, /* with a linear framebuffer */
  PAGE = 4096,
};

static volatile uint16_t* registers;
static struct backing buffers[8];

/* Buffers lie one below the other in video memory; what is shown is chosen by the row it begins in. */
static void show(struct screen* screen, uint32_t buffer, struct rows rows) {
  (void)rows;
  registers[Y_OFFSET] = (uint16_t)(buffer * screen->height);
}

void bochs_start(struct screen* screen) {
  struct pci_device pci;
  if (!pci_find(BOCHS_VENDOR, BOCHS_DEVICE, &pci)) fail("no-bochs");
  if (screen->options->mode != MODE_FLIP && screen->options->mode != MODE_SINGLE) fail("bochs-mode");
  if (screen->width == 0 || screen->height == 0) screen->width = 640, screen->height = 480;
  pci_enable(&pci);
  uint32_t memory = (uint32_t)pci_bar(&pci, 0), bytes = screen->width * screen->height * 4;
  registers = (void*)((uint8_t*)pci_bar(&pci, 2) + REGISTERS);
  if (bytes % PAGE != 0) fail("bochs-size"); /* mbochs makes dma-bufs of whole pages only */
  for (uint32_t i = 0; i < screen->options->buffers; i++) {
    buffers[i] = (struct backing){memory + i * bytes, bytes, 1, bytes};
  }
  registers[ENABLE] = 0;
  registers[X_SIZE] = (uint16_t)screen->width;
  registers[Y_SIZE] = (uint16_t)screen->height;
  registers[BITS] = 32;
  registers[VIRTUAL_WIDTH] = (uint16_t)screen->width;
  registers[VIRTUAL_HEIGHT] = (uint16_t)(screen->height * screen->options->buffers);
  registers[X_OFFSET] = 0;
  registers[Y_OFFSET] = 0;
  registers[ENABLE] = ENABLED;
  screen->buffers = buffers;
  screen->show = show;
}
