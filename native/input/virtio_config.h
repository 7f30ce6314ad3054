// The configuration space of a virtio-input device (Virtio 1.2, section 5.8.4).
#pragma once

#include <cstdint>
#include <span>

#include "input/types.h"

namespace scanout::input {

/// What a driver reads of a device's description, part after part, as it selects them. One thread.
class VirtioConfig {
public:
  static constexpr uint32_t size = 136;

  explicit VirtioConfig(const Description& description) : description_(description) {}

  /// What is selected, from `offset` on; zeroes behind the end. False: there is no such part.
  [[nodiscard]] bool get(uint32_t offset, std::span<uint8_t> target) const noexcept;
  /// Selects. Whatever else a front end writes along with it means nothing. False: there is no such part.
  bool set(uint32_t offset, std::span<const uint8_t> source) noexcept;

private:
  Description description_;
  uint8_t select_ = 0, subsel_ = 0;
};

} // namespace scanout::input
