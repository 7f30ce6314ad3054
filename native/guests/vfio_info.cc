#include "guests/vfio_info.h"

#include <linux/vfio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kms/ioctl.h"

namespace scanout::guests {

namespace {

constexpr uint32_t most_steps = 64; // of a chain
constexpr uint32_t most_irqs = 64;
constexpr size_t largest_info = 4096;

// Of the proposal; no header of Linux has them.
constexpr uint32_t irq_info_flag_caps = 1U << 4;
constexpr uint16_t irq_info_cap_type = 3;
constexpr VfioType display_irq{.type = 1, .subtype = 1}; // VFIO_IRQ_TYPE_GFX, GFX_DISPLAY_IRQ

struct IrqInfo {
  vfio_irq_info info;
  uint32_t cap_offset;
};

/// What both structures begin with.
struct Head {
  uint32_t argsz, flags, index;
};

} // namespace

std::vector<std::byte> read_vfio_info(int device, unsigned long request, uint32_t index, size_t room,
                                      const char* op, const std::string& subject) {
  std::vector<std::byte> bytes;
  for (size_t size = room; size > bytes.size() && size <= largest_info;) {
    bytes.assign(size, std::byte{0});
    Head head{.argsz = static_cast<uint32_t>(size), .flags = 0, .index = index};
    std::memcpy(bytes.data(), &head, sizeof head);
    kms::checked_ioctl(device, request, bytes.data(), op, subject);
    std::memcpy(&head, bytes.data(), sizeof head);
    size = head.argsz;
  }
  return bytes;
}

std::optional<VfioType> find_vfio_type(std::span<const std::byte> info, uint32_t first,
                                       uint16_t id) noexcept {
  uint32_t at = first;
  for (uint32_t step = 0; at != 0 && step < most_steps; ++step) {
    vfio_region_info_cap_type said{}; // of irqs it is the same
    if (at + sizeof said.header > info.size()) return std::nullopt;
    std::memcpy(&said.header, info.data() + at, sizeof said.header);
    if (said.header.id == id && at + sizeof said <= info.size()) {
      std::memcpy(&said, info.data() + at, sizeof said);
      return VfioType{.type = said.type, .subtype = said.subtype};
    }
    at = said.header.next;
  }
  return std::nullopt;
}

std::optional<uint32_t> find_vfio_display_irq(int device, uint32_t irq_count) {
  // Those of PCI have numbers of their own and no type.
  for (uint32_t index = VFIO_PCI_NUM_IRQS; index < std::min(irq_count, most_irqs); ++index) {
    const std::vector<std::byte> bytes =
        read_vfio_info(device, VFIO_DEVICE_GET_IRQ_INFO, index, sizeof(IrqInfo), "VFIO_DEVICE_GET_IRQ_INFO",
                       kms::named("irq", index));
    IrqInfo irq{};
    std::memcpy(&irq, bytes.data(), sizeof irq);
    const bool usable = (irq.info.flags & VFIO_IRQ_INFO_EVENTFD) != 0 && irq.info.count > 0;
    if (!usable || (irq.info.flags & irq_info_flag_caps) == 0) continue;
    if (find_vfio_type(bytes, irq.cap_offset, irq_info_cap_type) == display_irq) return index;
  }
  return std::nullopt;
}

int set_vfio_irq(int device, uint32_t index, int event) noexcept {
  // The structure, and behind it the eventfd.
  std::array<uint32_t, sizeof(vfio_irq_set) / sizeof(uint32_t) + 1> words{};
  vfio_irq_set set{};
  set.argsz = event < 0 ? sizeof set : sizeof words;
  set.flags = VFIO_IRQ_SET_ACTION_TRIGGER;
  set.flags |= event < 0 ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD;
  set.index = index;
  set.count = event < 0 ? 0 : 1;
  std::memcpy(words.data(), &set, sizeof set);
  std::memcpy(&words.back(), &event, sizeof event);
  return -kms::try_ioctl(device, VFIO_DEVICE_SET_IRQS, words.data());
}

} // namespace scanout::guests
