// The connection on which QEMU calls a display listener: what comes on it, byte by byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"
#include "bus/frame.h"
#include "guests/qemu_call.h"

namespace scanout::guests {

/// Descriptors that came with a message. Those that nobody takes are closed where closing may hang.
class QemuFds {
public:
  static constexpr uint32_t most = 8; // a call has 4; what is beyond is never let in by the kernel

  QemuFds() = default;
  QemuFds(const QemuFds&) = delete;
  QemuFds& operator=(const QemuFds&) = delete;
  ~QemuFds() { clear(); }

  /// Takes `fd` over. False when there is no room: it is closed then.
  bool add(int fd) noexcept;
  [[nodiscard]] uint32_t count() const noexcept { return count_; }
  [[nodiscard]] int at(uint32_t index) const noexcept { return fds_[index]; }
  /// Moves it out; the others keep their places.
  int take(uint32_t index) noexcept;
  void clear() noexcept;
  /// Takes all of them over; its own are closed.
  void take_all(QemuFds& other) noexcept;

private:
  std::array<int, most> fds_{};
  uint32_t count_ = 0;
};

/// Puts a connection together out of bytes: the lines that QEMU answers to our part of the authentication
/// (D-Bus specification, "Authentication Protocol"; QEMU is the server in it), then calls. Never reads beyond
/// a call, nor into an array that is long, so that pixels can be received where they belong, and so that
/// descriptors are known to be that call's. Allocates nothing.
///
///   want() -> bytes are received there -> filled() -> call() -> [data_bytes of pixels] -> next() -> want()
///   ...
class QemuReader {
public:
  enum class Step {
    more,  ///< go on with `want`
    call,  ///< `call` is complete but for its array
    fault, ///< see `fault`; the connection is over
  };

  /// Where the next bytes go; empty only while a call is complete.
  [[nodiscard]] std::span<uint8_t> want() noexcept {
    return {buffer_.data() + filled_, wanted_ > filled_ ? wanted_ - filled_ : 0};
  }
  /// `count` bytes of `want` are there, and `fds` came with them.
  Step filled(size_t count) noexcept;
  QemuFds& fds() noexcept { return fds_; }

  [[nodiscard]] const QemuCall& call() const noexcept { return call_; }
  /// What has been received of the call's array already; valid until `next`.
  [[nodiscard]] std::span<const uint8_t> early() const noexcept {
    return {buffer_.data() + wanted_, filled_ - wanted_};
  }
  /// Done with the call, its array and its descriptors, which are kept until `close_spent` or the next ones:
  /// to close them takes a system call that a flip need not wait for.
  void next() noexcept;
  void close_spent() noexcept { spent_.clear(); }

  [[nodiscard]] QemuFault fault() const noexcept { return fault_; }
  [[nodiscard]] bool authenticated() const noexcept { return state_ > State::agree; }

private:
  enum class State : uint8_t { ok, agree, fixed, fields, arguments, done };

  Step fail(QemuFault fault) noexcept;
  Step read_line() noexcept;
  Step read_fixed() noexcept;
  Step read_header() noexcept;
  Step read_arguments() noexcept;
  Step want_arguments(const bus::HeaderFields& said) noexcept;

  static constexpr size_t most_fields = 1024;
  static constexpr size_t most_arguments = 512;

  alignas(8) std::array<uint8_t, bus::Frame::fixed_size + most_fields + most_arguments> buffer_{};
  size_t filled_ = 0, wanted_ = 1;
  State state_ = State::ok;
  QemuFault fault_ = QemuFault::none;
  bus::Frame frame_;
  const QemuShape* shape_ = nullptr;
  size_t body_at_ = 0, body_bytes_ = 0;
  QemuCall call_;
  QemuFds fds_, spent_;
};

/// Our part of the authentication, to be sent before anything is read. Gives its length, at most 96 bytes.
size_t qemu_greeting(uint32_t uid, std::span<char, 96> out) noexcept;

} // namespace scanout::guests
