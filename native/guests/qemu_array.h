// An array of pixels on its way from a socket to its place.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace scanout::guests {

/// Says where the bytes of an array belong: rows that begin `source_stride` bytes apart go to rows that begin
/// `target_stride` apart, cut off after `row_bytes` and after `rows`; the rest goes nowhere.
class QemuArray {
public:
  struct Target {
    std::byte* memory = nullptr; // null: all of it goes nowhere
    uint32_t stride = 0;         // bytes
    uint32_t row_bytes = 0, rows = 0;
  };

  void begin(uint32_t bytes, uint32_t source_stride, const Target& target) noexcept;
  [[nodiscard]] uint32_t left() const noexcept { return bytes_ - done_; }
  /// Where the next bytes go, at most `budget` of them (and at least 1 when any are left); gives how many
  /// parts there are.
  uint32_t parts(std::span<iovec> out, size_t budget) noexcept;
  void advance(size_t bytes) noexcept { done_ += static_cast<uint32_t>(bytes); }

private:
  uint32_t bytes_ = 0, done_ = 0;
  uint32_t source_stride_ = 1;
  Target target_;
  std::array<std::byte, 4096> nowhere_;
};

} // namespace scanout::guests
