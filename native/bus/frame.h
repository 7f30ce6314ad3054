// The header of a D-Bus message, checked before anything believes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace scanout::bus {

/// What the fixed part of a message's header says.
struct Frame {
  static constexpr size_t fixed_size = 16;

  size_t size = 0;   ///< of the whole message in bytes
  size_t fields = 0; ///< bytes of header fields after the fixed part
  uint8_t type = 0;
  bool swapped = false; ///< of the other byte order
};

/// Reads the first 16 bytes of a message. 0, -EBADMSG, or -EMSGSIZE when it is longer than `max_size`.
int read_frame(std::span<const uint8_t, Frame::fixed_size> fixed, size_t max_size, Frame& frame) noexcept;

/// What the header fields say; texts lie in the message. Absent texts are empty, absent numbers 0.
struct HeaderFields {
  std::string_view path, interface, member, signature;
  uint32_t reply_serial = 0;
  uint32_t fds = 0; ///< descriptors that come along
};

/// Reads the header fields of `message` (16 + `frame.fields` bytes at least). False when they are not as the
/// D-Bus specification wants them. Allocates nothing.
bool read_fields(const Frame& frame, std::span<const uint8_t> message, HeaderFields& fields) noexcept;

/// True when the header fields of `message` (whole, of `frame.size` bytes) are as the D-Bus specification
/// wants them and say that `fds` descriptors come along.
bool has_valid_fields(const Frame& frame, std::span<const uint8_t> message, size_t fds) noexcept;

} // namespace scanout::bus
