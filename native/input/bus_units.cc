#include "input/bus_units.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace scanout::input {

size_t BusUnits::want() const noexcept {
  if (!begun_) return 1; // what follows the last line is a message
  if (size_ < bus::Frame::fixed_size) return bus::Frame::fixed_size - size_;
  return frame_.size - size_;
}

BusUnits::Step BusUnits::fail(int error) noexcept {
  error_ = error;
  return Step::wrong;
}

BusUnits::Step BusUnits::take(std::span<const uint8_t> bytes) noexcept {
  // No line of a server begins like a message: "OK", "DATA", "REJECTED", "ERROR", "AGREE_UNIX_FD".
  if (!begun_ && side_ == Side::server && size_ == 0) begun_ = bytes[0] == 'l' || bytes[0] == 'B';
  return begun_ ? take_message(bytes) : take_line(bytes[0]);
}

BusUnits::Step BusUnits::take_line(uint8_t byte) noexcept {
  if (size_ < head_.size()) head_[size_] = byte;
  if (++size_ > longest_line) return fail(EPROTO);
  const bool ended = byte == '\n' && last_ == '\r';
  last_ = byte;
  if (!ended) return Step::more;
  if (++lines_ > most_lines) return fail(EPROTO);
  const std::string_view line(reinterpret_cast<const char*>(head_.data()), std::min(size_, head_.size()));
  begun_ = side_ == Side::client && line == "BEGIN\r\n";
  size_ = 0;
  return Step::whole;
}

BusUnits::Step BusUnits::take_message(std::span<const uint8_t> bytes) noexcept {
  if (size_ < head_.size()) {
    std::memcpy(&head_[size_], bytes.data(), bytes.size());
    size_ += bytes.size();
    if (size_ < head_.size()) return Step::more;
    const int error = bus::read_frame(head_, longest_, frame_);
    if (error != 0) return fail(-error);
  } else {
    size_ += bytes.size();
  }
  if (size_ < frame_.size) return Step::more;
  size_ = 0;
  return Step::whole;
}

} // namespace scanout::input
