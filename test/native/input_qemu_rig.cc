#include "input_qemu_rig.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

#include "base/error.h"
#include "bus/frame.h"
#include "qemu_fake.h"

namespace scanout::test {

Bytes bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

Bytes call_of(std::string_view member, size_t text, uint32_t fds) {
  FakeMessage message;
  message.member = member;
  if (text > 0) {
    message.signature = "s";
    message.body.string(std::string(text, 'x'));
  }
  return message.encode(fds);
}

const Bytes& client_greeting() {
  static const Bytes greeting =
      bytes_of(std::string_view("\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", 48));
  return greeting;
}

void Heard::read(int socket, size_t most) {
  while (most > 0) {
    Bytes piece(std::min<size_t>(most, 4096));
    iovec part{.iov_base = piece.data(), .iov_len = piece.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 64)];
    msghdr header{
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const ssize_t size = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size <= 0) {
      ended = ended || size == 0 || errno != EAGAIN;
      return;
    }
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
      for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        fds.emplace_back(bytes.size(), base::UniqueFd(fd));
      }
    }
    bytes.insert(bytes.end(), piece.begin(), piece.begin() + size);
    most -= static_cast<size_t>(size);
  }
}

bool say(int socket, const Bytes& bytes, std::initializer_list<int> fds) {
  iovec part{.iov_base = const_cast<uint8_t*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 64)] = {};
  msghdr header{.msg_iov = &part, .msg_iovlen = 1};
  if (fds.size() > 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(c), fds.begin(), sizeof(int) * fds.size());
  }
  return sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

std::vector<Called> calls_in(std::span<const uint8_t> stream) {
  std::vector<Called> calls;
  while (!stream.empty()) {
    REQUIRE(stream.size() >= bus::Frame::fixed_size);
    bus::Frame frame;
    REQUIRE(bus::read_frame(stream.first<bus::Frame::fixed_size>(), 1u << 20, frame) == 0);
    REQUIRE(frame.size <= stream.size());
    bus::HeaderFields fields;
    REQUIRE(bus::read_fields(frame, stream, fields));
    Called call{.path = std::string(fields.path),
                .interface = std::string(fields.interface),
                .member = std::string(fields.member),
                .signature = std::string(fields.signature),
                .flags = stream[2]};
    std::memcpy(&call.serial, &stream[8], sizeof call.serial);
    // The only field that the reader passes over; type and length as the specification has them.
    const std::string_view text(reinterpret_cast<const char*>(stream.data()), frame.size);
    const size_t at = text.find(std::string_view("\x06\x01s\0", 4));
    if (at != std::string_view::npos) call.destination = text.data() + at + 8;
    const size_t body = (bus::Frame::fixed_size + frame.fields + 7) / 8 * 8;
    call.body.assign(stream.begin() + static_cast<long>(body),
                     stream.begin() + static_cast<long>(frame.size));
    calls.push_back(std::move(call));
    stream = stream.subspan(frame.size);
  }
  return calls;
}

RelayRig::RelayRig() {
  int ends[2];
  base::check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), "socketpair");
  qemu.reset(ends[0]);
  relay = std::make_shared<input::QemuRelay>(base::UniqueFd(ends[1]));
  daemon = relay->take_inner();
  CHECK_EQ(relay->enter(epoll), 0);
}

RelayRig::~RelayRig() {
  relay->leave();
}

void RelayRig::spin() {
  while (epoll.wait(0) > 0) {
  }
}

void RelayRig::greet() {
  CHECK(say(daemon.get(), client_greeting()));
  spin();
  CHECK(say(qemu.get(), bytes_of("DATA\r\nOK 0123456789abcdef\r\nAGREE_UNIX_FD\r\n")));
  spin();
  at_qemu.read(qemu.get());
  at_daemon.read(daemon.get());
  at_qemu.bytes.clear();
  at_daemon.bytes.clear();
}

std::vector<Called> RelayRig::called() {
  at_qemu.read(qemu.get());
  std::vector<Called> calls = calls_in(at_qemu.bytes);
  at_qemu.bytes.clear();
  return calls;
}

} // namespace scanout::test
