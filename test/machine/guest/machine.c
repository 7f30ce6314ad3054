#include "machine.h"

#include <stdarg.h>

enum {
  SERIAL = 0x3f8,
  PM_TIMER = 0x608, /* ACPI's, where SeaBIOS puts it: 3.579545 MHz, 24 bits */
  PM_CONTROL = 0x604,
  RESET_CONTROL = 0xcf9,
  PCI_ADDRESS = 0xcf8,
  PCI_DATA = 0xcfc,
  PIC_MASTER = 0x20,
  PIC_SLAVE = 0xa0,
  PIT = 0x40,
  PIT_HZ = 1193182,
  TICKS_PER_SECOND = 100,
  FIRST_IRQ_VECTOR = 32,
  CODE_SELECTOR = 8,
  HIGH_BARS_AT = 0xe8, /* top byte of where BARs from above 4 GiB go: below all that the firmware places */
};

__asm__(".section .multiboot, \"a\"\n"
        ".align 4\n"
        ".long 0x1badb002, 0, -0x1badb002\n"
        ".text\n"
        ".globl start\n"
        "start:\n"
        "  movl $stack + 16384, %esp\n"
        "  pushl %ebx\n"
        "  call guest_main\n");
__attribute__((used)) static uint8_t stack[16384] __attribute__((aligned(16)));

static inline void outb(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
static inline void outw(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t value) {
  __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
static inline uint8_t inb(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static inline uint32_t inl(uint16_t port) {
  uint32_t value;
  __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

/* The compiler calls these. */
void* memset(void* to, int value, size_t size) {
  for (size_t i = 0; i < size; i++)
    ((volatile uint8_t*)to)[i] = (uint8_t)value;
  return to;
}
void* memcpy(void* restrict to, const void* restrict from, size_t size) {
  for (size_t i = 0; i < size; i++)
    ((volatile uint8_t*)to)[i] = ((const uint8_t*)from)[i];
  return to;
}

static void put(char byte) {
  while (!(inb(SERIAL + 5) & 0x20)) {
  }
  outb(SERIAL, (uint8_t)byte);
}

static void put_number(uint32_t value, uint32_t base) {
  char digits[10];
  int count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value > 0);
  while (count > 0)
    put(digits[--count]);
}

void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  for (; *format != '\0'; format++) {
    if (*format != '%') {
      put(*format);
      continue;
    }
    format++;
    if (*format == 's') {
      for (const char* text = va_arg(arguments, const char*); *text != '\0'; text++)
        put(*text);
    } else {
      put_number(va_arg(arguments, uint32_t), *format == 'x' ? 16 : 10);
    }
  }
  va_end(arguments);
  put('\n');
}

int heard(void) {
  return inb(SERIAL + 5) & 1 ? inb(SERIAL) : -1;
}

uint32_t now_us(void) {
  static uint32_t last;
  static uint64_t ticks;
  uint32_t read = inl(PM_TIMER) & 0xffffff;
  ticks += (read - last) & 0xffffff;
  last = read;
  return (uint32_t)((ticks * 73233) >> 18); /* 1 / 3.579545 */
}

void rest(void) {
  /* sti takes effect after the next instruction, so that no interrupt is lost between the two. */
  __asm__ volatile("sti; hlt" ::: "memory");
  now_us(); /* often enough for the timer's 4.6 s */
}

void sleep_until(uint32_t us) {
  while ((int32_t)(us - now_us()) > 0)
    rest();
}

_Noreturn static void halt(void) {
  for (;;)
    __asm__ volatile("cli; hlt");
}

void power_off(void) {
  outw(PM_CONTROL, 0x2000);
  halt();
}

void reboot(void) {
  outb(RESET_CONTROL, 0x02);
  outb(RESET_CONTROL, 0x06);
  halt();
}

void fail(const char* what) {
  say("@error what=%s", what);
  halt();
}

/* Interrupts: a flat GDT, an IDT, the two PICs with the timer and the device's line. */

struct gate {
  uint16_t low, selector, flags, high;
};
static struct gate gates[FIRST_IRQ_VECTOR + 16];
static void (*device_handler)(void);
struct frame;

__attribute__((interrupt)) static void on_tick(struct frame* frame) {
  (void)frame;
  outb(PIC_MASTER, 0x20);
}

__attribute__((interrupt)) static void on_device(struct frame* frame) {
  (void)frame;
  device_handler();
  outb(PIC_SLAVE, 0x20);
  outb(PIC_MASTER, 0x20);
}

__attribute__((interrupt)) static void on_exception(struct frame* frame) {
  const uint32_t* words = (const uint32_t*)frame;
  say("@error what=exception stack=%x,%x,%x", words[0], words[1], words[2]);
  halt();
}

static void set_gate(unsigned vector, void (*handler)(struct frame*)) {
  uint32_t address = (uint32_t)handler;
  gates[vector] = (struct gate){(uint16_t)address, CODE_SELECTOR, 0x8e00, (uint16_t)(address >> 16)};
}

static void start_interrupts(void) {
  static const uint64_t descriptors[] = {0, 0x00cf9a000000ffff, 0x00cf92000000ffff};
  struct {
    uint16_t limit;
    uint32_t base;
  } __attribute__((packed)) gdt = {sizeof descriptors - 1, (uint32_t)descriptors},
                            idt = {sizeof gates - 1, (uint32_t)gates};
  for (unsigned vector = 0; vector < FIRST_IRQ_VECTOR; vector++)
    set_gate(vector, on_exception);
  set_gate(FIRST_IRQ_VECTOR, on_tick);
  __asm__ volatile("lgdt %0\n"
                   "ljmp %2, $1f\n"
                   "1: movw %w3, %%ds\n movw %w3, %%es\n movw %w3, %%ss\n"
                   "lidt %1" ::"m"(gdt),
                   "m"(idt), "i"(CODE_SELECTOR), "r"(16)
                   : "memory");
  static const uint8_t words[][2] = {{FIRST_IRQ_VECTOR, 4}, {FIRST_IRQ_VECTOR + 8, 2}};
  for (int i = 0; i < 2; i++) {
    uint16_t pic = i == 0 ? PIC_MASTER : PIC_SLAVE;
    outb(pic, 0x11);
    outb(pic + 1, words[i][0]);
    outb(pic + 1, words[i][1]);
    outb(pic + 1, 1);
    outb(pic + 1, i == 0 ? 0xfa : 0xff); /* the timer and the slave */
  }
  outb(PIT + 3, 0x34);
  outb(PIT, (PIT_HZ / TICKS_PER_SECOND) & 255);
  outb(PIT, (PIT_HZ / TICKS_PER_SECOND) >> 8);
  __asm__ volatile("sti");
}

const char* machine_start(uint32_t multiboot_information) {
  outb(SERIAL + 1, 0);
  outb(SERIAL + 2, 7);
  start_interrupts();
  const uint32_t* information = (const uint32_t*)multiboot_information;
  const char* words = information[0] & 4 ? (const char*)information[4] : "";
  while (*words != '\0' && *words != ' ')
    words++;
  return words;
}

static void pci_select(const struct pci_device* device, uint8_t offset) {
  outl(PCI_ADDRESS, 0x80000000u | (uint32_t)device->slot << 11 | (offset & 0xfcu));
}

uint32_t pci_read(const struct pci_device* device, uint8_t offset) {
  pci_select(device, offset);
  return inl(PCI_DATA);
}

void pci_write(const struct pci_device* device, uint8_t offset, uint32_t value) {
  pci_select(device, offset);
  outl(PCI_DATA, value);
}

bool pci_find(uint16_t vendor, uint16_t device, struct pci_device* found) {
  for (uint8_t slot = 0; slot < 32; slot++) {
    *found = (struct pci_device){slot, vendor, device};
    if (pci_read(found, 0) == ((uint32_t)device << 16 | vendor)) return true;
  }
  return false;
}

void pci_enable(const struct pci_device* device) {
  pci_write(device, 4, pci_read(device, 4) | 6);
}

void* pci_bar(const struct pci_device* device, unsigned index) {
  static uint32_t next = (uint32_t)HIGH_BARS_AT << 24;
  uint8_t at = (uint8_t)(0x10 + 4 * index);
  uint32_t low = pci_read(device, at);
  if ((low & 6) == 4 && pci_read(device, (uint8_t)(at + 4)) != 0) {
    pci_write(device, at, next);
    pci_write(device, (uint8_t)(at + 4), 0);
    low = next;
    next += 16 << 20;
  }
  return (void*)(low & ~15u);
}

void pci_on_interrupt(const struct pci_device* device, void (*handler)(void)) {
  uint32_t line = pci_read(device, 0x3c) & 255;
  if (line < 8 || line > 15) fail("interrupt-line");
  device_handler = handler;
  set_gate(FIRST_IRQ_VECTOR + line, on_device);
  outb(PIC_SLAVE + 1, inb(PIC_SLAVE + 1) & (uint8_t)~(1u << (line - 8)));
}
