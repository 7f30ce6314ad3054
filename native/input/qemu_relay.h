// The connection to a display of QEMU that JavaScript and the input thread share.
//
//   sd-bus <-- socketpair --> QemuRelay <-- socket --> QEMU
//                                ^
//                              sinks
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/epoll.h"
#include "base/unique_fd.h"
#include "input/bus_units.h"

namespace scanout::input {

/// QEMU's display has one connection to a peer, and input must not wait for the JS thread. So the input
/// thread has the socket, hands on what JavaScript and QEMU say to each other, descriptors included, and puts
/// calls of its own between JavaScript's messages. It reads nothing of what is said but where messages end.
///
/// Either direction holds one piece at a time and reads the next when that is gone: whoever does not read
/// makes the other wait, and nobody else. QEMU is as hostile as its guest: what is no D-Bus, or longer than
/// sd-bus is to be given, ends the connection.
///
/// Made and destroyed on the JS thread, else of the input thread. Allocates nothing after it was made.
class QemuRelay {
public:
  /// A sink. Told from within calls of the relay's, and from entries of the loop.
  class User {
  public:
    /// `idle` has become true, or was.
    virtual void room() noexcept = 0;
    /// The connection is over, for `room` and for everything else. `error`: a positive errno or 0; `why` is a
    /// literal.
    virtual void closed(int error, const char* why) noexcept = 0;

  protected:
    ~User() = default;

  private:
    friend class QemuRelay;
    User* next_ = nullptr;
    bool joined_ = false;
  };

  /// Calls of one frame at most, in bytes.
  static constexpr size_t most_calls = 256u << 10;
  /// The longest message of JavaScript's, and of QEMU's.
  static constexpr size_t longest_up = 64u << 10, longest_down = 4u << 20;
  static constexpr size_t most_fds = 16; // of one message

  /// `qemu`: connected, nothing said on it yet. Throws SystemError.
  explicit QemuRelay(base::UniqueFd qemu);
  QemuRelay(const QemuRelay&) = delete;
  QemuRelay& operator=(const QemuRelay&) = delete;
  ~QemuRelay() = default;

  /// JavaScript's end. To be taken once.
  base::UniqueFd take_inner() noexcept { return std::move(inner_); }

  /// The loop outlives its stay. 0 or a positive errno.
  int enter(base::Epoll& epoll) noexcept;
  /// Closes both ends. Not from within its own entries.
  void leave() noexcept { end(0, "the connection to QEMU was closed"); }

  /// 0, or ENOTCONN when it is over.
  int join(User& user) noexcept;
  void part(User& user) noexcept;

  /// Whether `put` and `send` may be used: authenticated, and nothing of before waits for QEMU.
  [[nodiscard]] bool idle() const noexcept {
    return !ended_ && up_units_.has_begun() && calls_size_ == 0 && !up_whole_;
  }
  /// A whole message, to be sent with those before it by `send`. Without room it is left out: `most_calls`.
  void put(std::span<const uint8_t> message) noexcept;
  /// True when QEMU's socket has all of them; otherwise `room` will tell.
  bool send() noexcept;
  /// Of a message of the input thread's. JavaScript's are never that high.
  uint32_t next_serial() noexcept;

private:
  struct Fds {
    std::array<int, most_fds> all{};
    size_t count = 0;
    void close() noexcept; // which may hang, on a thread of its own
  };
  struct Entry final : base::Pollable {
    QemuRelay* relay = nullptr;
    void on_ready(uint32_t) noexcept override { relay->pump(); }
  };
  enum class Sent : uint8_t { all, part, failed };

  void pump() noexcept;
  bool read_up() noexcept;
  bool read_down() noexcept;
  bool write_up() noexcept;
  bool write_down() noexcept;
  ssize_t receive(int socket, std::span<uint8_t> room, Fds& fds) noexcept;
  Sent transmit(int socket, std::span<const uint8_t> bytes, size_t& sent, Fds* fds) noexcept;
  void tell_room() noexcept;
  void watch() noexcept;
  void end(int error, const char* why) noexcept;

  base::UniqueFd qemu_, outer_, inner_; // the pair's are outer and inner
  base::Epoll* epoll_ = nullptr;
  Entry qemu_entry_, outer_entry_;
  bool ended_ = false;
  User* users_ = nullptr;
  uint32_t serial_ = 0;

  // Up: to QEMU. Messages of JavaScript's go whole, so that calls can go in between whatever JavaScript does.
  BusUnits up_units_{BusUnits::Side::client, longest_up};
  std::array<uint8_t, longest_up> up_;
  size_t up_size_ = 0, up_sent_ = 0;
  bool up_whole_ = false;
  Fds up_fds_;
  std::array<uint8_t, most_calls> calls_;
  size_t calls_size_ = 0, calls_sent_ = 0;

  // Down: to JavaScript, in pieces.
  BusUnits down_units_{BusUnits::Side::server, longest_down};
  std::array<uint8_t, 16u << 10> down_;
  size_t down_size_ = 0, down_sent_ = 0;
  Fds down_fds_;
};

} // namespace scanout::input
