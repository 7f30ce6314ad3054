// Sizes, formats and rectangles of what QEMU sends; arrays on their way; answers.
#include <drm_fourcc.h>
#include <sys/eventfd.h>

#include <cstring>
#include <numeric>

#include "check.h"
#include "guests/qemu_answer.h"
#include "guests/qemu_array.h"
#include "guests/qemu_reader.h"
#include "qemu_fake.h"
#include "qemu_rig.h"

using namespace scanout;
using guests::QemuFault;
using test::FakeMessage;
using test::x8r8g8b8;

namespace {

/// Of the arguments alone; the array need not be there.
QemuFault fault_of(const FakeMessage& message, uint32_t body_bytes, uint32_t fds = 0) {
  const guests::QemuShape* shape = guests::find_qemu_shape(message.interface, message.member);
  REQUIRE(shape != nullptr);
  const size_t size = shape->fixed_bytes > 0 ? shape->fixed_bytes : message.body.data.size();
  guests::QemuCall call;
  return guests::read_qemu_arguments(*shape, std::span(message.body.data).first(size), body_bytes, fds, call);
}

QemuFault whole(uint32_t width, uint32_t height, uint32_t stride, uint32_t format, uint32_t bytes) {
  FakeMessage message = test::qemu::scanout(width, height, stride, format, {});
  std::memcpy(&message.body.data[16], &bytes, sizeof bytes);
  return fault_of(message, 20 + bytes);
}

QemuFault part_of(int32_t x, int32_t y, int32_t w, int32_t h, uint32_t stride, uint32_t bytes) {
  FakeMessage message = test::qemu::update(x, y, w, h, stride, x8r8g8b8, {});
  std::memcpy(&message.body.data[24], &bytes, sizeof bytes);
  return fault_of(message, 28 + bytes);
}

QemuFault cursor(int32_t w, int32_t h, uint32_t bytes) {
  FakeMessage message = test::qemu::cursor_define(w, h, 0, 0, {});
  std::memcpy(&message.body.data[16], &bytes, sizeof bytes);
  return fault_of(message, 20 + bytes);
}

} // namespace

TEST(qemu_scanout_of_pixels_that_cannot_be) {
  CHECK_EQ(whole(640, 480, 2560, x8r8g8b8, 640 * 480 * 4), QemuFault::none);
  CHECK_EQ(whole(640, 480, 2564, x8r8g8b8, 2564 * 479 + 2560), QemuFault::none); // without the last padding
  CHECK_EQ(whole(0, 480, 2560, x8r8g8b8, 640 * 480 * 4), QemuFault::bad_size);
  CHECK_EQ(whole(640, 0, 2560, x8r8g8b8, 0), QemuFault::bad_size);
  CHECK_EQ(whole(16385, 1, 65540, x8r8g8b8, 65540), QemuFault::bad_size);
  CHECK_EQ(whole(640, UINT32_MAX, 2560, x8r8g8b8, 2560), QemuFault::bad_size);
  CHECK_EQ(whole(640, 480, 2556, x8r8g8b8, 2556 * 480), QemuFault::bad_size);
  CHECK_EQ(whole(640, 480, UINT32_MAX, x8r8g8b8, 2560), QemuFault::bad_size);
  CHECK_EQ(whole(640, 480, 2560, 0, 640 * 480 * 4), QemuFault::bad_format);
  CHECK_EQ(whole(640, 480, 2560, 0xffffffff, 640 * 480 * 4), QemuFault::bad_format);
  CHECK_EQ(whole(640, 480, 2560, x8r8g8b8, 640 * 480 * 4 - 1), QemuFault::bad_data);
  CHECK_EQ(whole(640, 480, 2560, x8r8g8b8, 640 * 480 * 4 + 1), QemuFault::bad_data);
  CHECK_EQ(whole(640, 480, 2560, x8r8g8b8, UINT32_MAX), QemuFault::bad_data);
  CHECK_EQ(whole(16384, 16384, 65536, x8r8g8b8, 0), QemuFault::bad_data); // 2^30 bytes of pixels, no data
  const FakeMessage good = test::qemu::scanout(1, 1, 4, x8r8g8b8, {1, 2, 3, 4});
  CHECK_EQ(fault_of(good, 24), QemuFault::none);
  CHECK_EQ(fault_of(good, 28), QemuFault::bad_arguments); // the body goes on behind the array
  CHECK_EQ(fault_of(good, 20), QemuFault::bad_arguments);
}

TEST(qemu_update_of_pixels_that_cannot_be) {
  CHECK_EQ(part_of(0, 0, 8, 8, 32, 256), QemuFault::none);
  CHECK_EQ(part_of(-1, 0, 8, 8, 32, 256), QemuFault::bad_rectangle);
  CHECK_EQ(part_of(0, INT32_MIN, 8, 8, 32, 256), QemuFault::bad_rectangle);
  CHECK_EQ(part_of(INT32_MAX, 0, INT32_MAX, 8, 32, 256), QemuFault::bad_rectangle);
  CHECK_EQ(part_of(16380, 0, 8, 8, 32, 256), QemuFault::bad_rectangle);
  CHECK_EQ(part_of(0, 0, 0, 8, 32, 256), QemuFault::bad_rectangle);
  CHECK_EQ(part_of(0, 0, 8, -8, 32, 256), QemuFault::bad_rectangle);
  CHECK_EQ(part_of(0, 0, 8, 8, 28, 224), QemuFault::bad_size);
  CHECK_EQ(part_of(0, 0, 8, 8, 32, 100), QemuFault::bad_data);
}

TEST(qemu_cursor_that_cannot_be) {
  CHECK_EQ(cursor(64, 64, 16384), QemuFault::none);
  CHECK_EQ(cursor(512, 512, 1048576), QemuFault::none);
  CHECK_EQ(cursor(513, 64, 513 * 64 * 4), QemuFault::bad_size);
  CHECK_EQ(cursor(0, 64, 0), QemuFault::bad_size);
  CHECK_EQ(cursor(64, -64, 16384), QemuFault::bad_size);
  CHECK_EQ(cursor(64, 64, 16383), QemuFault::bad_data);
  CHECK_EQ(cursor(64, 64, 16388), QemuFault::bad_data);
}

TEST(qemu_picture_in_a_buffer_that_cannot_be) {
  const auto dmabuf = [](uint32_t width, uint32_t height) {
    const FakeMessage message = test::qemu::scanout_dmabuf(width, height, width * 4);
    return fault_of(message, static_cast<uint32_t>(message.body.data.size()), 1);
  };
  CHECK_EQ(dmabuf(64, 64), QemuFault::none);
  CHECK_EQ(dmabuf(0, 64), QemuFault::bad_size);
  CHECK_EQ(dmabuf(64, 16385), QemuFault::bad_size);
  const auto part = [](uint32_t x, uint32_t y, uint32_t w, uint32_t h, uint32_t bw, uint32_t bh) {
    const FakeMessage message = test::qemu::scanout_dmabuf2(x, y, w, h, bw, bh);
    return fault_of(message, static_cast<uint32_t>(message.body.data.size()), 1);
  };
  CHECK_EQ(part(10, 20, 30, 40, 40, 60), QemuFault::none);
  CHECK_EQ(part(11, 20, 30, 40, 40, 60), QemuFault::bad_rectangle);
  CHECK_EQ(part(10, 21, 30, 40, 40, 60), QemuFault::bad_rectangle);
  CHECK_EQ(part(UINT32_MAX, 0, 2, 2, 40, 60), QemuFault::bad_rectangle);
  CHECK_EQ(part(0, 0, 0, 2, 40, 60), QemuFault::bad_size);
  CHECK_EQ(part(0, 0, 2, 2, 0, 60), QemuFault::bad_size);
  const auto map = [](uint32_t offset, uint32_t w, uint32_t h, uint32_t stride, uint32_t format) {
    const FakeMessage message = test::qemu::scanout_map(offset, w, h, stride, format);
    return fault_of(message, static_cast<uint32_t>(message.body.data.size()), 1);
  };
  CHECK_EQ(map(4096, 64, 64, 256, x8r8g8b8), QemuFault::none);
  CHECK_EQ(map(0, 64, 64, 255, x8r8g8b8), QemuFault::bad_size);
  CHECK_EQ(map(0, 64, 64, 256, 1), QemuFault::bad_format);
  CHECK_EQ(map(0, 16384, 16384, 65536, x8r8g8b8), QemuFault::bad_size); // more than 256 MiB
}

TEST(qemu_formats_have_their_fourcc) {
  CHECK_EQ(guests::fourcc_of_pixman(0x20020888), uint32_t{DRM_FORMAT_XRGB8888});
  CHECK_EQ(guests::fourcc_of_pixman(0x20028888), uint32_t{DRM_FORMAT_ARGB8888});
  CHECK_EQ(guests::fourcc_of_pixman(0x20080888), uint32_t{DRM_FORMAT_BGRX8888});
  CHECK_EQ(guests::fourcc_of_pixman(0x10020565), uint32_t{DRM_FORMAT_RGB565});
  CHECK_EQ(guests::fourcc_of_pixman(0x08018000), 0u); // a8 has none
}

TEST(qemu_array_goes_where_it_belongs_however_it_is_cut) {
  for (const size_t budget : {1, 5, 13, 4096}) {
    // 5 rows of 12 bytes come, 8 of each belong into 4 rows that are 10 bytes apart.
    std::vector<std::byte> target(40, std::byte{0});
    auto array = std::make_unique<guests::QemuArray>();
    array->begin(60, 12, {target.data(), 10, 8, 4});
    uint8_t next = 0;
    while (array->left() > 0) {
      std::array<iovec, 3> parts{};
      const uint32_t count = array->parts(parts, budget);
      REQUIRE(count > 0);
      size_t bytes = 0;
      for (uint32_t i = 0; i < count; ++i) {
        for (size_t k = 0; k < parts[i].iov_len; ++k)
          static_cast<uint8_t*>(parts[i].iov_base)[k] = next++;
        bytes += parts[i].iov_len;
      }
      REQUIRE(bytes <= budget);
      array->advance(bytes);
    }
    for (size_t y = 0; y < 4; ++y)
      for (size_t x = 0; x < 10; ++x)
        CHECK_EQ(target[y * 10 + x], static_cast<std::byte>(x < 8 ? y * 12 + x : 0));
  }
}

TEST(qemu_answers_are_messages) {
  guests::QemuAnswer answer;
  const auto text = [](std::span<const uint8_t> bytes) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const auto valid = [](std::span<const uint8_t> bytes, bus::HeaderFields& said) {
    bus::Frame frame;
    return bus::read_frame(bytes.first<16>(), 4096, frame) == 0 && frame.size == bytes.size() &&
           bus::read_fields(frame, bytes, said);
  };
  bus::HeaderFields said;
  CHECK(valid(answer.empty(5), said));
  CHECK_EQ(said.reply_serial, 5u);
  CHECK(valid(answer.error(6, "org.qemu.Display1.Error.Invalid", std::string(500, 'x')), said));
  CHECK_EQ(said.reply_serial, 6u);
  CHECK(said.signature == "s");
  guests::QemuCall call;
  call.serial = 7;
  call.method = guests::QemuMethod::get_all_properties;
  call.interface = "org.qemu.Display1.Listener";
  CHECK(valid(answer.property(call), said));
  CHECK(said.signature == "a{sv}");
  CHECK(text(answer.property(call)).find("org.qemu.Display1.Listener.Unix.Map") != std::string_view::npos);
  CHECK(text(answer.property(call)).find("org.qemu.Display1.Listener.Unix.ScanoutDMABUF2") !=
        std::string_view::npos);
  call.interface = "org.qemu.Display1.Listener.Unix.Map";
  CHECK(text(answer.property(call)).find("Interfaces") == std::string_view::npos);
  call.method = guests::QemuMethod::get_property;
  CHECK(text(answer.property(call)).find("UnknownProperty") != std::string_view::npos);
  call.interface = "org.qemu.Display1.Listener";
  call.name = "Interfaces";
  CHECK(valid(answer.property(call), said));
  CHECK(said.signature == "v");
}
