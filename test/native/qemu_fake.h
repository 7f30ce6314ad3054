// The other end of a display listener: what QEMU sends, well or badly made.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::test {

/// Values as D-Bus marshals them, in the order of their addition.
class Marshal {
public:
  Marshal& align(size_t to);
  Marshal& byte(uint8_t value);
  Marshal& u32(uint32_t value);
  Marshal& i32(int32_t value) { return u32(static_cast<uint32_t>(value)); }
  Marshal& u64(uint64_t value);
  Marshal& string(std::string_view text);
  Marshal& signature(std::string_view text);
  Marshal& array(std::initializer_list<uint32_t> values);
  Marshal& bytes(const std::vector<uint8_t>& values);

  std::vector<uint8_t> data;
};

/// A message whose every part can be wrong.
struct FakeMessage {
  std::string interface = "org.qemu.Display1.Listener";
  std::string member;
  std::string signature;
  Marshal body;
  uint8_t type = 1;  // a method call
  uint8_t flags = 0; // 1: no reply expected
  uint8_t order = 'l', version = 1;
  uint32_t serial = 1;
  std::optional<uint32_t> fds; // as the header says; absent: as many as are sent
  std::string path = "/org/qemu/Display1/Listener";

  [[nodiscard]] std::vector<uint8_t> encode(size_t sent_fds = 0) const;
};

namespace qemu {
FakeMessage scanout(uint32_t width, uint32_t height, uint32_t stride, uint32_t pixman,
                    const std::vector<uint8_t>& pixels);
FakeMessage update(int32_t x, int32_t y, int32_t w, int32_t h, uint32_t stride, uint32_t pixman,
                   const std::vector<uint8_t>& pixels);
FakeMessage scanout_dmabuf(uint32_t width, uint32_t height, uint32_t stride, bool y0_top = false);
FakeMessage scanout_dmabuf2(uint32_t x, uint32_t y, uint32_t width, uint32_t height, uint32_t backing_width,
                            uint32_t backing_height, bool y0_top = false);
FakeMessage update_dmabuf(int32_t x, int32_t y, int32_t w, int32_t h);
FakeMessage disable();
FakeMessage mouse_set(int32_t x, int32_t y, int32_t on);
FakeMessage cursor_define(int32_t w, int32_t h, int32_t hot_x, int32_t hot_y,
                          const std::vector<uint8_t>& argb);
FakeMessage scanout_map(uint32_t offset, uint32_t width, uint32_t height, uint32_t stride, uint32_t pixman);
FakeMessage update_map(int32_t x, int32_t y, int32_t w, int32_t h);
FakeMessage get_all(std::string_view interface);
FakeMessage get(std::string_view interface, std::string_view name);
} // namespace qemu

/// What came back.
struct FakeReply {
  uint8_t type = 0; // 2: return, 3: error
  uint32_t reply_to = 0;
  std::vector<uint8_t> whole;
  [[nodiscard]] bool contains(std::string_view text) const;
};

/// QEMU's end of the socket.
class FakeQemu {
public:
  explicit FakeQemu(base::UniqueFd socket) : socket_(std::move(socket)) {}
  /// Reads the greeting and agrees to it.
  void agree();
  void send(const std::vector<uint8_t>& bytes, std::initializer_list<int> fds = {}) const;
  /// Gives the serial.
  uint32_t send(FakeMessage message, std::initializer_list<int> fds = {});
  /// The next answer within `timeout_ms`; none when there is none, or the connection is over.
  std::optional<FakeReply> reply(int timeout_ms = 5000);
  /// True when the other end closes within some seconds; what it sent before is passed over.
  bool closed();
  [[nodiscard]] int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

  std::string greeting;

private:
  base::UniqueFd socket_;
  uint32_t serial_ = 0;
};

} // namespace scanout::test
