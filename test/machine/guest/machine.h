/*
 * The bare PC under the guest: ports, the serial line, PCI, interrupts and time. No memory management:
 * addresses are physical, and all memory is the guest's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pci_device {
  uint8_t slot; /* on bus 0 */
  uint16_t vendor, device;
};

/* From the multiboot information: the words after the program's name. */
const char* machine_start(uint32_t multiboot_information);

/* Writes a line of text to the serial port: %u (decimal), %x (hexadecimal), %s; nothing else. */
void say(const char* format, ...);
/* The next byte from the serial port; -1 when there is none. */
int heard(void);

/* Microseconds since the start; wraps after 71 minutes. */
uint32_t now_us(void);
/*
 * Switches interrupts on and sleeps until the next, at most 10 ms. To wait for something: switch them off,
 * look, then rest; one that came meanwhile ends the rest at once.
 */
void rest(void);
void sleep_until(uint32_t us);

_Noreturn void power_off(void);
_Noreturn void reboot(void);
_Noreturn void fail(const char* what);

bool pci_find(uint16_t vendor, uint16_t device, struct pci_device* found);
uint32_t pci_read(const struct pci_device* device, uint8_t offset);
void pci_write(const struct pci_device* device, uint8_t offset, uint32_t value);
/* Switches memory access and bus mastering on. */
void pci_enable(const struct pci_device* device);
/* The address of a memory BAR; one that the firmware put above 4 GiB is moved to where the guest can reach
 * it. */
void* pci_bar(const struct pci_device* device, unsigned index);
/* Calls `handler` from the interrupt of the device's pin. */
void pci_on_interrupt(const struct pci_device* device, void (*handler)(void));

void* memset(void* to, int value, size_t size);
void* memcpy(void* restrict to, const void* restrict from, size_t size);

static inline void memory_barrier(void) {
  __asm__ volatile("lock; addl $0, (%%esp)" ::: "memory", "cc");
}
static inline void interrupts_off(void) {
  __asm__ volatile("cli" ::: "memory");
}
static inline void interrupts_on(void) {
  __asm__ volatile("sti" ::: "memory");
}
