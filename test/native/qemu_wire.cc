// What comes on a display listener's connection, byte by byte: good calls, and everything that can be wrong.
#include <drm_fourcc.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "check.h"
#include "guests/qemu_answer.h"
#include "guests/qemu_array.h"
#include "guests/qemu_reader.h"
#include "qemu_fake.h"
#include "qemu_rig.h"

using namespace scanout;
using guests::QemuFault;
using guests::QemuMethod;
using guests::QemuReader;
using test::FakeMessage;
using test::Marshal;

namespace {

constexpr std::string_view agreed = "OK 0123456789abcdef\r\nAGREE_UNIX_FD\r\n";

/// Feeds bytes, at most `chunk` at a time, until a call is there, they are all used up, or something is
/// wrong.
QemuReader::Step feed(QemuReader& reader, std::span<const uint8_t> bytes, size_t chunk = 4096) {
  QemuReader::Step step = QemuReader::Step::more;
  while (!bytes.empty() && step == QemuReader::Step::more) {
    const std::span<uint8_t> room = reader.want();
    const size_t count = std::min({room.size(), bytes.size(), chunk});
    std::memcpy(room.data(), bytes.data(), count);
    bytes = bytes.subspan(count);
    step = reader.filled(count);
  }
  return step;
}

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// A reader that has agreed with QEMU.
struct Ready {
  Ready() { CHECK_EQ(feed(reader, bytes_of(agreed)), QemuReader::Step::more); }
  QemuReader reader;
};

QemuFault fault_of(const FakeMessage& message, size_t fds = 0) {
  Ready ready;
  for (size_t i = 0; i < fds; ++i)
    ready.reader.fds().add(eventfd(0, EFD_CLOEXEC));
  const QemuReader::Step step = feed(ready.reader, message.encode(fds), 7);
  return step == QemuReader::Step::fault ? ready.reader.fault() : QemuFault::none;
}

const std::vector<uint8_t> row(size_t bytes) {
  return std::vector<uint8_t>(bytes, 0x55);
}

FakeMessage with_body(FakeMessage message, Marshal body) {
  message.body = std::move(body);
  return message;
}

} // namespace

TEST(qemu_greeting_is_that_of_the_specification) {
  std::array<char, 96> out{};
  const size_t size = guests::qemu_greeting(1000, out);
  const std::string_view text(out.data(), size);
  CHECK(text == std::string_view("\0AUTH EXTERNAL 31303030\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", 51));
  CHECK(guests::qemu_greeting(UINT32_MAX, out) <= out.size());
}

TEST(qemu_handshake_that_goes_wrong) {
  const auto fault = [](std::string_view lines) {
    QemuReader reader;
    return feed(reader, bytes_of(lines), 3) == QemuReader::Step::fault ? reader.fault() : QemuFault::none;
  };
  CHECK_EQ(fault(agreed), QemuFault::none);
  CHECK_EQ(fault("REJECTED EXTERNAL\r\n"), QemuFault::not_allowed);
  CHECK_EQ(fault("OK 00\r\nERROR\r\n"), QemuFault::bad_handshake);
  CHECK_EQ(fault("HTTP/1.1 200 OK\r\n"), QemuFault::bad_handshake);
  CHECK_EQ(fault("OK\r\n"), QemuFault::bad_handshake);
  CHECK_EQ(fault(std::string(1000, 'x')), QemuFault::bad_handshake);
  CHECK_EQ(fault("\n\n\n\n"), QemuFault::none); // no line has ended
}

TEST(qemu_calls_are_read_however_they_are_cut) {
  for (const size_t chunk : {1, 3, 16, 4096}) {
    Ready ready;
    FakeMessage message = test::qemu::scanout_dmabuf2(8, 16, 640, 480, 1024, 768, true);
    message.serial = 77;
    ready.reader.fds().add(eventfd(0, EFD_CLOEXEC));
    REQUIRE(feed(ready.reader, message.encode(1), chunk) == QemuReader::Step::call);
    const guests::QemuCall& call = ready.reader.call();
    CHECK_EQ(call.method, QemuMethod::scanout_dmabuf2);
    CHECK_EQ(call.serial, 77u);
    CHECK(!call.wants_reply);
    CHECK_EQ(call.layout.x, 8u);
    CHECK_EQ(call.layout.y, 16u);
    CHECK_EQ(call.layout.width, 640u);
    CHECK_EQ(call.layout.height, 480u);
    CHECK_EQ(call.layout.backing_width, 1024u);
    CHECK_EQ(call.layout.backing_height, 768u);
    CHECK_EQ(call.layout.strides[0], 4096u);
    CHECK_EQ(call.layout.modifier, DRM_FORMAT_MOD_INVALID);
    CHECK_EQ(call.layout.y0_top, 1u);
    ready.reader.next();
    REQUIRE(feed(ready.reader, test::qemu::update_dmabuf(-1, 2, 3, 4).encode(), chunk) ==
            QemuReader::Step::call);
    CHECK(ready.reader.call().wants_reply);
    CHECK_EQ(ready.reader.call().x, -1);
    CHECK_EQ(ready.reader.call().h, 4);
  }
}

TEST(qemu_reader_stops_where_many_pixels_begin) {
  Ready ready;
  const FakeMessage message = test::qemu::update(4, 5, 16, 16, 64, test::x8r8g8b8, row(1024));
  const std::vector<uint8_t> bytes = message.encode();
  REQUIRE(feed(ready.reader, bytes) == QemuReader::Step::call);
  CHECK_EQ(ready.reader.call().data_bytes, 1024u);
  CHECK(ready.reader.early().empty());
  CHECK_EQ(ready.reader.call().layout.fourcc, uint32_t{DRM_FORMAT_XRGB8888});
  CHECK(ready.reader.want().empty());
  const size_t before_pixels = bytes.size() - 1024;
  Ready again;
  CHECK_EQ(feed(again.reader, std::span(bytes).first(before_pixels - 1)), QemuReader::Step::more);
  CHECK_EQ(again.reader.want().size(), 1u);
}

TEST(qemu_reader_takes_few_pixels_with_their_call) {
  for (const size_t chunk : {1, 7, 4096}) {
    Ready ready;
    const FakeMessage message = test::qemu::update(4, 5, 2, 2, 8, test::x8r8g8b8, row(16));
    REQUIRE(feed(ready.reader, message.encode(), chunk) == QemuReader::Step::call);
    CHECK_EQ(ready.reader.call().data_bytes, 16u);
    REQUIRE(ready.reader.early().size() == 16);
    CHECK_EQ(ready.reader.early()[15], 0x55);
    CHECK(ready.reader.want().empty());
    ready.reader.next();
    REQUIRE(feed(ready.reader, test::qemu::update_dmabuf(1, 2, 3, 4).encode(), chunk) ==
            QemuReader::Step::call);
    CHECK(ready.reader.early().empty());
    CHECK_EQ(ready.reader.call().h, 4);
  }
}

TEST(qemu_header_that_is_wrong) {
  const FakeMessage good = test::qemu::update_dmabuf(0, 0, 1, 1);
  CHECK_EQ(fault_of(good), QemuFault::none);
  const auto changed = [&](const std::function<void(FakeMessage&)>& change) {
    FakeMessage message = good;
    change(message);
    return fault_of(message);
  };
  CHECK_EQ(changed([](auto& m) { m.version = 2; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.serial = 0; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.order = 'x'; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.type = 0; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.type = 9; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.path = ""; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.path = "no/path"; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.member = "No.Member"; }), QemuFault::bad_header);
  CHECK_EQ(changed([](auto& m) { m.path = "/" + std::string(2000, 'a'); }), QemuFault::too_long);
  CHECK_EQ(changed([](auto& m) { m.fds = 1; }), QemuFault::bad_fds);
  std::vector<uint8_t> other = good.encode();
  other[0] = 'B';
  for (const size_t at : {4, 8, 12})
    std::reverse(other.begin() + static_cast<long>(at), other.begin() + static_cast<long>(at) + 4);
  Ready ready;
  CHECK_EQ(feed(ready.reader, other), QemuReader::Step::fault);
  CHECK_EQ(ready.reader.fault(), QemuFault::byte_order);
}

TEST(qemu_message_of_another_kind) {
  FakeMessage answer = test::qemu::disable();
  std::vector<uint8_t> bytes = answer.encode();
  Marshal returned; // a method return, to a call that nobody made
  returned.byte('l').byte(2).byte(1).byte(1).u32(0).u32(5).u32(8).byte(5).signature("u").u32(1);
  Ready ready;
  CHECK_EQ(feed(ready.reader, returned.data), QemuReader::Step::fault);
  CHECK_EQ(ready.reader.fault(), QemuFault::unexpected);

  FakeMessage signal = test::qemu::disable();
  signal.type = 4;
  signal.member = "Whatever";
  Ready other;
  REQUIRE(feed(other.reader, signal.encode()) == QemuReader::Step::call);
  CHECK_EQ(other.reader.call().method, QemuMethod::ignored);
  CHECK(!other.reader.call().wants_reply);

  FakeMessage unknown = test::qemu::disable();
  unknown.member = "Enable";
  unknown.flags = 0;
  Ready third;
  REQUIRE(feed(third.reader, unknown.encode()) == QemuReader::Step::call);
  CHECK_EQ(third.reader.call().method, QemuMethod::unknown);
  CHECK(third.reader.call().wants_reply);
  unknown.body.bytes(row(600));
  unknown.signature = "ay";
  CHECK_EQ(fault_of(unknown), QemuFault::too_long);
}

TEST(qemu_descriptors_where_none_belong_and_the_other_way_round) {
  CHECK_EQ(fault_of(test::qemu::update_dmabuf(0, 0, 1, 1), 1), QemuFault::bad_fds);
  CHECK_EQ(fault_of(test::qemu::scanout(1, 1, 4, test::x8r8g8b8, row(4)), 1), QemuFault::bad_fds);
  CHECK_EQ(fault_of(test::qemu::scanout_dmabuf(64, 64, 256)), QemuFault::bad_fds);
  CHECK_EQ(fault_of(test::qemu::scanout_dmabuf(64, 64, 256), 1), QemuFault::none);
  CHECK_EQ(fault_of(test::qemu::scanout_dmabuf(64, 64, 256), 2), QemuFault::bad_fds);
  CHECK_EQ(fault_of(test::qemu::scanout_dmabuf2(0, 0, 1, 1, 1, 1), 3), QemuFault::bad_fds);
  FakeMessage unknown = test::qemu::disable();
  unknown.member = "Take";
  CHECK_EQ(fault_of(unknown, 1), QemuFault::bad_fds);
  QemuReader early;
  early.fds().add(eventfd(0, EFD_CLOEXEC));
  CHECK_EQ(feed(early, bytes_of(agreed)), QemuReader::Step::fault);
  CHECK_EQ(early.fault(), QemuFault::bad_fds);
}

TEST(qemu_arguments_that_are_wrong) {
  FakeMessage wrong = test::qemu::disable();
  wrong.signature = "i";
  wrong.body.i32(1);
  CHECK_EQ(fault_of(wrong), QemuFault::bad_signature);
  const FakeMessage update = test::qemu::update_dmabuf(0, 0, 1, 1);
  CHECK_EQ(fault_of(with_body(update, Marshal().i32(0).i32(0).i32(1))), QemuFault::bad_arguments);
  CHECK_EQ(fault_of(with_body(update, Marshal().i32(0).i32(0).i32(1).i32(1).i32(1))),
           QemuFault::bad_arguments);
  const FakeMessage dmabuf = test::qemu::scanout_dmabuf(64, 64, 256);
  const auto body = [](uint32_t handle, uint32_t y0_top, uint32_t padding) {
    return Marshal().u32(handle).u32(64).u32(64).u32(256).u32(1).u32(padding).u64(0).u32(y0_top);
  };
  CHECK_EQ(fault_of(with_body(dmabuf, body(0, 1, 0)), 1), QemuFault::none);
  CHECK_EQ(fault_of(with_body(dmabuf, body(1, 1, 0)), 1), QemuFault::bad_arguments); // no such descriptor
  CHECK_EQ(fault_of(with_body(dmabuf, body(0, 2, 0)), 1), QemuFault::bad_arguments); // no boolean
  CHECK_EQ(fault_of(with_body(dmabuf, body(0, 1, 9)), 1), QemuFault::bad_arguments); // padding that is not 0
  FakeMessage get = test::qemu::get_all("org.qemu.Display1.Listener");
  get.body.data[get.body.data.size() - 1] = 'x';
  CHECK_EQ(fault_of(get), QemuFault::bad_arguments);
}

TEST(qemu_arrays_of_planes_that_are_wrong) {
  const FakeMessage good = test::qemu::scanout_dmabuf2(0, 0, 64, 64, 64, 64);
  const auto fault = [&](std::initializer_list<uint32_t> fds, std::initializer_list<uint32_t> offsets,
                         std::initializer_list<uint32_t> strides, uint32_t planes, size_t sent) {
    Marshal body;
    body.array(fds).u32(0).u32(0).u32(64).u32(64).array(offsets).array(strides);
    body.u32(planes).u32(1).u32(64).u32(64).u64(0).u32(0);
    return fault_of(with_body(good, std::move(body)), sent);
  };
  CHECK_EQ(fault({0}, {0}, {256}, 1, 1), QemuFault::none);
  CHECK_EQ(fault({0, 1}, {0, 0}, {256, 256}, 2, 2), QemuFault::none);
  CHECK_EQ(fault({0}, {0, 0}, {256, 256}, 2, 1), QemuFault::none);
  CHECK_EQ(fault({0, 0}, {0, 0}, {256, 256}, 2, 2), QemuFault::bad_arguments);
  CHECK_EQ(fault({0}, {0}, {256}, 0, 1), QemuFault::bad_arguments);
  CHECK_EQ(fault({0}, {0}, {256}, 5, 1), QemuFault::bad_arguments);
  CHECK_EQ(fault({0}, {0, 0}, {256}, 1, 1), QemuFault::bad_arguments);
  CHECK_EQ(fault({0}, {0}, {}, 1, 1), QemuFault::bad_arguments);
  CHECK_EQ(fault({0}, {0, 0, 0, 0, 0}, {256}, 1, 1), QemuFault::bad_arguments);
  CHECK_EQ(fault({}, {0}, {256}, 1, 1), QemuFault::bad_fds);
}
