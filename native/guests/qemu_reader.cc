#include "guests/qemu_reader.h"

#include <systemd/sd-bus.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/fd_kind.h"

namespace scanout::guests {

namespace {

constexpr size_t longest_line = 256;
constexpr uint8_t no_reply_expected = 1; // header flag, D-Bus specification

} // namespace

[[gnu::hot]] bool QemuFds::add(int fd) noexcept {
  if (count_ == most) {
    base::close_untrusted(fd);
    return false;
  }
  fds_[count_++] = fd;
  return true;
}

int QemuFds::take(uint32_t index) noexcept {
  return std::exchange(fds_[index], -1);
}

[[gnu::hot]] void QemuFds::clear() noexcept {
  for (uint32_t i = 0; i < count_; ++i)
    base::close_untrusted(fds_[i]);
  count_ = 0;
}

void QemuFds::take_all(QemuFds& other) noexcept {
  clear();
  fds_ = other.fds_;
  count_ = std::exchange(other.count_, 0);
}

size_t qemu_greeting(uint32_t uid, std::span<char, 96> out) noexcept {
  // The identity is the number as text, in hexadecimal. All of it in one go: QEMU waits for it.
  char number[12];
  const int digits = std::snprintf(number, sizeof number, "%u", uid);
  char hex[2 * sizeof number + 1];
  for (int i = 0; i < digits; ++i)
    std::snprintf(hex + size_t{2} * static_cast<size_t>(i), 3, "%02x", static_cast<unsigned>(number[i]));
  const int size = std::snprintf(out.data() + 1, out.size() - 1,
                                 "AUTH EXTERNAL %s\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", hex);
  out[0] = '\0';
  return static_cast<size_t>(size) + 1;
}

QemuReader::Step QemuReader::fail(QemuFault fault) noexcept {
  fault_ = fault;
  return Step::fault;
}

[[gnu::hot]] QemuReader::Step QemuReader::filled(size_t count) noexcept {
  filled_ += count;
  if (filled_ < wanted_) return Step::more;
  switch (state_) {
  case State::ok:
  case State::agree:
    return read_line();
  case State::fixed:
    return read_fixed();
  case State::fields:
    return read_header();
  case State::arguments:
    return read_arguments();
  case State::done:
    break;
  }
  return Step::call;
}

// A byte at a time: what follows the last line is a message.
QemuReader::Step QemuReader::read_line() noexcept {
  if (fds_.count() > 0) return fail(QemuFault::bad_fds);
  const std::string_view line(reinterpret_cast<const char*>(buffer_.data()), filled_);
  if (!line.ends_with("\r\n")) {
    if (filled_ == longest_line) return fail(QemuFault::bad_handshake);
    ++wanted_;
    return Step::more;
  }
  const bool agreed = state_ == State::agree;
  if (line.starts_with("REJECTED")) return fail(QemuFault::not_allowed);
  if (agreed ? line != "AGREE_UNIX_FD\r\n" : !line.starts_with("OK ")) return fail(QemuFault::bad_handshake);
  state_ = agreed ? State::done : State::agree;
  filled_ = 0;
  wanted_ = 1;
  if (agreed) next();
  return Step::more;
}

[[gnu::hot]] void QemuReader::next() noexcept {
  if (fds_.count() > 0) spent_.take_all(fds_);
  state_ = State::fixed;
  filled_ = 0;
  wanted_ = bus::Frame::fixed_size;
}

[[gnu::hot]] QemuReader::Step QemuReader::read_fixed() noexcept {
  const std::span<const uint8_t, bus::Frame::fixed_size> fixed(buffer_.data(), bus::Frame::fixed_size);
  const int error = bus::read_frame(fixed, max_qemu_array + sizeof buffer_, frame_);
  if (error == -EMSGSIZE) return fail(QemuFault::too_long);
  if (error != 0) return fail(QemuFault::bad_header);
  // The peer is on this machine. Pixels are in its byte order too.
  if (frame_.swapped) return fail(QemuFault::byte_order);
  if (frame_.fields > most_fields) return fail(QemuFault::too_long);
  body_at_ = (bus::Frame::fixed_size + frame_.fields + 7) / 8 * 8;
  body_bytes_ = frame_.size - body_at_;
  call_ = {};
  call_.wants_reply = (buffer_[2] & no_reply_expected) == 0;
  std::memcpy(&call_.serial, &buffer_[8], sizeof call_.serial);
  state_ = State::fields;
  // Most bodies are short: all of the call in one go. What of that is pixels is `early`.
  wanted_ = body_at_ + (body_bytes_ <= most_arguments ? body_bytes_ : 0);
  return wanted_ == filled_ ? read_header() : Step::more;
}

[[gnu::hot]] QemuReader::Step QemuReader::read_header() noexcept {
  bus::HeaderFields said;
  if (!bus::read_fields(frame_, {buffer_.data(), filled_}, said)) return fail(QemuFault::bad_header);
  for (size_t i = bus::Frame::fixed_size + frame_.fields; i < body_at_; ++i)
    if (buffer_[i] != 0) return fail(QemuFault::bad_header);
  if (said.fds != fds_.count()) return fail(QemuFault::bad_fds);
  return want_arguments(said);
}

[[gnu::hot]] QemuReader::Step QemuReader::want_arguments(const bus::HeaderFields& said) noexcept {
  const bool is_call = frame_.type == SD_BUS_MESSAGE_METHOD_CALL;
  if (!is_call && frame_.type != SD_BUS_MESSAGE_SIGNAL) return fail(QemuFault::unexpected);
  shape_ = is_call ? find_qemu_shape(said.interface, said.member) : nullptr;
  if (shape_ != nullptr && shape_->signature != said.signature) return fail(QemuFault::bad_signature);
  if (shape_ == nullptr && fds_.count() > 0) return fail(QemuFault::bad_fds);
  call_.method = shape_ != nullptr ? shape_->method : is_call ? QemuMethod::unknown : QemuMethod::ignored;
  call_.wants_reply = call_.wants_reply && is_call;
  const bool has_data = shape_ != nullptr && shape_->fixed_bytes > 0;
  if (has_data && body_bytes_ < shape_->fixed_bytes) return fail(QemuFault::bad_arguments);
  const size_t arguments = has_data ? shape_->fixed_bytes : body_bytes_;
  if (arguments > most_arguments) return fail(QemuFault::too_long);
  state_ = State::arguments;
  wanted_ = body_at_ + arguments;
  return wanted_ <= filled_ ? read_arguments() : Step::more;
}

[[gnu::hot]] QemuReader::Step QemuReader::read_arguments() noexcept {
  // Descriptors come with the first byte of a message.
  state_ = State::done;
  if (shape_ == nullptr) return Step::call;
  const QemuFault fault = read_qemu_arguments(*shape_, {buffer_.data() + body_at_, wanted_ - body_at_},
                                              static_cast<uint32_t>(body_bytes_), fds_.count(), call_);
  return fault == QemuFault::none ? Step::call : fail(fault);
}

} // namespace scanout::guests
