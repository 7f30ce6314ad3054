// One direction of a D-Bus connection, as far as it takes to know where a message ends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bus/frame.h"

namespace scanout::input {

/// Tells the lines of the authentication and the messages after it apart (D-Bus specification,
/// "Authentication Protocol" and "Message Format"), whatever pieces they come in. Whoever reads no more than
/// `want` at a time knows which of them descriptors came with. Allocates nothing.
class BusUnits {
public:
  enum class Side : uint8_t { client, server };
  enum class Step : uint8_t {
    more,  ///< the line or message goes on
    whole, ///< it has ended
    wrong, ///< see `error`
  };

  /// What this side says. `longest`: of a message, in bytes.
  BusUnits(Side side, size_t longest) noexcept : side_(side), longest_(longest) {}

  /// Bytes that can be read without going beyond the line or message; at least 1.
  [[nodiscard]] size_t want() const noexcept;
  /// `bytes`: what came, `want` at most, at least 1.
  Step take(std::span<const uint8_t> bytes) noexcept;
  /// The authentication is over on this side.
  [[nodiscard]] bool has_begun() const noexcept { return begun_; }
  /// Bytes of the line or message so far; 0 after its end.
  [[nodiscard]] size_t size() const noexcept { return size_; }
  /// EBADMSG, EMSGSIZE or EPROTO.
  [[nodiscard]] int error() const noexcept { return error_; }

private:
  static constexpr size_t longest_line = 512;
  static constexpr uint32_t most_lines = 16;

  Step fail(int error) noexcept;
  Step take_line(uint8_t byte) noexcept;
  Step take_message(std::span<const uint8_t> bytes) noexcept;

  const Side side_;
  const size_t longest_;
  bool begun_ = false;
  uint32_t lines_ = 0;
  size_t size_ = 0;
  std::array<uint8_t, bus::Frame::fixed_size> head_{}; // of the line or message
  uint8_t last_ = 0;                                   // byte of a line
  bus::Frame frame_;
  int error_ = 0;
};

} // namespace scanout::input
