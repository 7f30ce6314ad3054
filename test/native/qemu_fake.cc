#include "qemu_fake.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "check.h"

namespace scanout::test {

Marshal& Marshal::align(size_t to) {
  while (data.size() % to != 0)
    data.push_back(0);
  return *this;
}

Marshal& Marshal::byte(uint8_t value) {
  data.push_back(value);
  return *this;
}

Marshal& Marshal::u32(uint32_t value) {
  align(4);
  const auto* at = reinterpret_cast<const uint8_t*>(&value);
  data.insert(data.end(), at, at + sizeof value);
  return *this;
}

Marshal& Marshal::u64(uint64_t value) {
  align(8);
  const auto* at = reinterpret_cast<const uint8_t*>(&value);
  data.insert(data.end(), at, at + sizeof value);
  return *this;
}

Marshal& Marshal::string(std::string_view text) {
  u32(static_cast<uint32_t>(text.size()));
  data.insert(data.end(), text.begin(), text.end());
  return byte(0);
}

Marshal& Marshal::signature(std::string_view text) {
  byte(static_cast<uint8_t>(text.size()));
  data.insert(data.end(), text.begin(), text.end());
  return byte(0);
}

Marshal& Marshal::array(std::initializer_list<uint32_t> values) {
  u32(static_cast<uint32_t>(values.size() * 4));
  for (const uint32_t value : values)
    u32(value);
  return *this;
}

Marshal& Marshal::bytes(const std::vector<uint8_t>& values) {
  u32(static_cast<uint32_t>(values.size()));
  data.insert(data.end(), values.begin(), values.end());
  return *this;
}

std::vector<uint8_t> FakeMessage::encode(size_t sent_fds) const {
  Marshal whole;
  whole.byte(order).byte(type).byte(flags).byte(version);
  whole.u32(static_cast<uint32_t>(body.data.size())).u32(serial).u32(0);
  const auto field = [&](uint8_t code, std::string_view kind) -> Marshal& {
    return whole.align(8).byte(code).signature(kind);
  };
  if (!path.empty()) field(1, "o").string(path);
  if (!interface.empty()) field(2, "s").string(interface);
  if (!member.empty()) field(3, "s").string(member);
  if (!signature.empty()) field(8, "g").signature(signature);
  const uint32_t count = fds.value_or(static_cast<uint32_t>(sent_fds));
  if (count > 0) field(9, "u").u32(count);
  const auto size = static_cast<uint32_t>(whole.data.size() - 16);
  std::memcpy(&whole.data[12], &size, sizeof size);
  whole.align(8);
  whole.data.insert(whole.data.end(), body.data.begin(), body.data.end());
  return whole.data;
}

namespace qemu {

namespace {

FakeMessage make(std::string_view member, std::string_view signature, Marshal body, bool replied,
                 std::string_view extension = {}) {
  FakeMessage message;
  message.interface += extension;
  message.member = member;
  message.signature = signature;
  message.body = std::move(body);
  message.flags = replied ? 0 : 1;
  return message;
}

constexpr uint32_t xr24 = 0x34325258;

} // namespace

FakeMessage scanout(uint32_t width, uint32_t height, uint32_t stride, uint32_t pixman,
                    const std::vector<uint8_t>& pixels) {
  return make("Scanout", "uuuuay", Marshal().u32(width).u32(height).u32(stride).u32(pixman).bytes(pixels),
              false);
}

FakeMessage update(int32_t x, int32_t y, int32_t w, int32_t h, uint32_t stride, uint32_t pixman,
                   const std::vector<uint8_t>& pixels) {
  return make("Update", "iiiiuuay",
              Marshal().i32(x).i32(y).i32(w).i32(h).u32(stride).u32(pixman).bytes(pixels), false);
}

FakeMessage scanout_dmabuf(uint32_t width, uint32_t height, uint32_t stride, bool y0_top) {
  return make("ScanoutDMABUF", "huuuutb",
              Marshal().u32(0).u32(width).u32(height).u32(stride).u32(xr24).u64(0).u32(y0_top ? 1 : 0),
              false);
}

FakeMessage scanout_dmabuf2(uint32_t x, uint32_t y, uint32_t width, uint32_t height, uint32_t backing_width,
                            uint32_t backing_height, bool y0_top) {
  Marshal body;
  body.array({0}).u32(x).u32(y).u32(width).u32(height).array({0}).array({backing_width * 4});
  body.u32(1).u32(xr24).u32(backing_width).u32(backing_height).u64(0x00ffffffffffffff).u32(y0_top ? 1 : 0);
  return make("ScanoutDMABUF2", "ahuuuuauauuuuutb", std::move(body), false, ".Unix.ScanoutDMABUF2");
}

FakeMessage update_dmabuf(int32_t x, int32_t y, int32_t w, int32_t h) {
  return make("UpdateDMABUF", "iiii", Marshal().i32(x).i32(y).i32(w).i32(h), true);
}

FakeMessage disable() {
  return make("Disable", "", {}, false);
}

FakeMessage mouse_set(int32_t x, int32_t y, int32_t on) {
  return make("MouseSet", "iii", Marshal().i32(x).i32(y).i32(on), false);
}

FakeMessage cursor_define(int32_t w, int32_t h, int32_t hot_x, int32_t hot_y,
                          const std::vector<uint8_t>& argb) {
  return make("CursorDefine", "iiiiay", Marshal().i32(w).i32(h).i32(hot_x).i32(hot_y).bytes(argb), true);
}

FakeMessage scanout_map(uint32_t offset, uint32_t width, uint32_t height, uint32_t stride, uint32_t pixman) {
  return make("ScanoutMap", "huuuuu",
              Marshal().u32(0).u32(offset).u32(width).u32(height).u32(stride).u32(pixman), true, ".Unix.Map");
}

FakeMessage update_map(int32_t x, int32_t y, int32_t w, int32_t h) {
  return make("UpdateMap", "iiii", Marshal().i32(x).i32(y).i32(w).i32(h), false, ".Unix.Map");
}

FakeMessage get_all(std::string_view interface) {
  FakeMessage message = make("GetAll", "s", Marshal().string(interface), true);
  message.interface = "org.freedesktop.DBus.Properties";
  return message;
}

FakeMessage get(std::string_view interface, std::string_view name) {
  FakeMessage message = make("Get", "ss", Marshal().string(interface).string(name), true);
  message.interface = "org.freedesktop.DBus.Properties";
  return message;
}

} // namespace qemu

bool FakeReply::contains(std::string_view text) const {
  return std::search(whole.begin(), whole.end(), text.begin(), text.end()) != whole.end();
}

void FakeQemu::agree() {
  while (!greeting.ends_with("BEGIN\r\n")) {
    char byte = 0;
    pollfd state{.fd = fd(), .events = POLLIN, .revents = 0};
    REQUIRE(poll(&state, 1, 5000) == 1);
    REQUIRE(read(fd(), &byte, 1) == 1);
    greeting += byte;
  }
  constexpr std::string_view lines = "OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n";
  send(std::vector<uint8_t>(lines.begin(), lines.end()));
}

void FakeQemu::send(const std::vector<uint8_t>& bytes, std::initializer_list<int> fds) const {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)]{};
  size_t done = 0;
  while (done < bytes.size()) {
    iovec part{.iov_base = const_cast<uint8_t*>(bytes.data()) + done, .iov_len = bytes.size() - done};
    msghdr header{.msg_iov = &part, .msg_iovlen = 1};
    if (done == 0 && fds.size() > 0) {
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(rights), fds.begin(), sizeof(int) * fds.size());
    }
    const ssize_t size = sendmsg(fd(), &header, MSG_NOSIGNAL);
    if (size <= 0) return; // it was closed: the test looks at that
    done += static_cast<size_t>(size);
  }
}

uint32_t FakeQemu::send(FakeMessage message, std::initializer_list<int> fds) {
  message.serial = ++serial_;
  send(message.encode(fds.size()), fds);
  return serial_;
}

std::optional<FakeReply> FakeQemu::reply(int timeout_ms) {
  FakeReply reply;
  const auto read_to = [&](size_t size) {
    while (reply.whole.size() < size) {
      uint8_t byte = 0;
      pollfd state{.fd = fd(), .events = POLLIN, .revents = 0};
      if (poll(&state, 1, timeout_ms) != 1 || read(fd(), &byte, 1) != 1) return false;
      reply.whole.push_back(byte);
    }
    return true;
  };
  const auto word = [&](size_t at) {
    uint32_t value = 0;
    std::memcpy(&value, &reply.whole[at], sizeof value);
    return value;
  };
  if (!read_to(16)) return std::nullopt;
  if (!read_to((16 + word(12) + 7) / 8 * 8 + word(4))) return std::nullopt;
  reply.type = reply.whole[1];
  reply.reply_to = word(20); // REPLY_SERIAL is the first field: code, "u", the number
  return reply;
}

bool FakeQemu::closed() {
  for (;;) {
    pollfd state{.fd = fd(), .events = POLLIN, .revents = 0};
    if (poll(&state, 1, 5000) != 1) return false;
    char bytes[256];
    const ssize_t size = read(fd(), bytes, sizeof bytes);
    if (size <= 0) return true;
  }
}

} // namespace scanout::test
