// What a driver of VFIO tells of its regions and irqs: a structure, and behind it a chain of capabilities.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::guests {

/// Type and subtype, as regions and irqs that are not the bus's have them.
struct VfioType {
  uint32_t type = 0, subtype = 0;
  bool operator==(const VfioType&) const = default;
};

/// Asks by VFIO_DEVICE_GET_REGION_INFO or VFIO_DEVICE_GET_IRQ_INFO; again with more room where the answer
/// needs it. At least `room` bytes. Throws SystemError.
std::vector<std::byte> read_vfio_info(int device, unsigned long request, uint32_t index, size_t room,
                                      const char* op, const std::string& subject);

/// The type in a chain of capabilities that begins at `first`; `id` is that of the capability which says it.
/// Nothing in the chain is believed: it may point anywhere, and loop.
std::optional<VfioType> find_vfio_type(std::span<const std::byte> info, uint32_t first, uint16_t id) noexcept;

/// The index of the irq that tells of each flip of a display, as the page-flip series for GVT-g proposed it
/// (VFIO_IRQ_TYPE_GFX, GFX_DISPLAY_IRQ); none where the driver has none, which is so for all of Linux. Throws
/// SystemError.
std::optional<uint32_t> find_vfio_display_irq(int device, uint32_t irq_count);

/// Has the irq signal `event`; -1: nothing any more. 0 or a positive errno.
int set_vfio_irq(int device, uint32_t index, int event) noexcept;

} // namespace scanout::guests
