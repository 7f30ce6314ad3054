// A relay between two sockets, with QEMU's end and the daemon's in the hands of a test.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/epoll.h"
#include "base/unique_fd.h"
#include "check.h"
#include "input/qemu_relay.h"

namespace scanout::test {

using Bytes = std::vector<uint8_t>;

Bytes bytes_of(std::string_view text);
/// A call of `member` with a text of so many bytes as its argument.
Bytes call_of(std::string_view member, size_t text = 0, uint32_t fds = 0);
/// The whole of what the client says before its first message.
const Bytes& client_greeting();

/// What came on a socket: bytes, and descriptors with the offset of the first byte of those they came with.
struct Heard {
  Bytes bytes;
  std::vector<std::pair<size_t, base::UniqueFd>> fds;
  bool ended = false;
  /// Reads what is there.
  void read(int socket, size_t most = SIZE_MAX);
};

/// Sends all of it, with descriptors at its first byte. False when the socket is full or the connection over.
bool say(int socket, const Bytes& bytes, std::initializer_list<int> fds = {});

/// A message as it was called.
struct Called {
  std::string path, interface, member, destination;
  std::string signature;
  uint32_t serial = 0;
  uint8_t flags = 0;
  Bytes body;
};
/// Messages of a stream, whose end may be missing: fails the test for what is none.
std::vector<Called> calls_in(std::span<const uint8_t> stream);

class RelayRig {
public:
  RelayRig();
  ~RelayRig();
  /// Lets the relay work until it rests.
  void spin();
  /// Both sides greet each other, and forget it.
  void greet();
  /// What QEMU has been called since the last time.
  std::vector<Called> called();

  base::Epoll epoll;
  base::UniqueFd qemu, daemon;
  std::shared_ptr<input::QemuRelay> relay;
  Heard at_qemu, at_daemon;
};

struct TestUser final : input::QemuRelay::User {
  void room() noexcept override { ++rooms; }
  void closed(int with, const char* text) noexcept override {
    ++ends;
    error = with;
    why = text;
  }
  int rooms = 0, ends = 0, error = 0;
  std::string why;
};

} // namespace scanout::test
