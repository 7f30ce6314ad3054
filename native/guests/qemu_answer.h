// Answers to calls on a display listener's connection.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "guests/qemu_call.h"

namespace scanout::guests {

/// Writes one D-Bus message at a time into memory of its own; each is valid until the next. Allocates
/// nothing.
class QemuAnswer {
public:
  /// A method return without values.
  std::span<const uint8_t> empty(uint32_t call) noexcept;
  /// `name` as in "org.freedesktop.DBus.Error.UnknownMethod"; `text` of at most 127 bytes.
  std::span<const uint8_t> error(uint32_t call, std::string_view name, std::string_view text) noexcept;
  /// To Properties.Get and GetAll: the property Interfaces (as) of the listener says which optional
  /// interfaces it has; there is no other property.
  std::span<const uint8_t> property(const QemuCall& call) noexcept;

private:
  void begin(uint8_t type, uint32_t reply_to, std::string_view error_name,
             std::string_view signature) noexcept;
  std::span<const uint8_t> end() noexcept;
  void align(size_t to) noexcept;
  void byte(uint8_t value) noexcept;
  void u32(uint32_t value) noexcept;
  void put_u32(size_t at, uint32_t value) noexcept;
  void string(std::string_view text) noexcept;
  void signature(std::string_view text) noexcept;
  void interfaces() noexcept;

  std::array<uint8_t, 512> buffer_{};
  size_t size_ = 0, body_ = 0;
  uint32_t serial_ = 0;
};

} // namespace scanout::guests
