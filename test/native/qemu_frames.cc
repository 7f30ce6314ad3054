// What QEMU sends becomes frames: pixels, maps, dma-bufs, the cursor.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "allocations.h"
#include "base/error.h"
#include "check.h"
#include "qemu_rig.h"

using namespace scanout;
using guests::QemuEvent;
using test::QemuRig;
using test::Rig;
using test::x8r8g8b8;

namespace {

struct One {
  Rig rig;
  int crtc = rig.add_crtc(1);
  QemuRig guest{rig};
};

/// Stands for a dma-buf: it has an inode of its own.
base::UniqueFd memory(size_t size) {
  base::UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  REQUIRE(ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  return fd;
}

std::vector<uint8_t> solid(uint32_t pixels, uint32_t color) {
  std::vector<uint8_t> bytes(size_t{pixels} * 4);
  for (size_t i = 0; i < pixels; ++i)
    std::memcpy(&bytes[i * 4], &color, 4);
  return bytes;
}

uint32_t pixel(const guests::QemuMirror& mirror, uint32_t x, uint32_t y) {
  uint32_t value = 0;
  std::memcpy(&value, mirror.memory() + size_t{y} * mirror.stride() + size_t{x} * 4, sizeof value);
  return value;
}

} // namespace

TEST(qemu_asks_for_the_interfaces) {
  One o;
  CHECK(o.guest.qemu.greeting.starts_with(std::string("\0AUTH EXTERNAL 31303030", 23)));
  const uint32_t call = o.guest.qemu.send(test::qemu::get_all("org.qemu.Display1.Listener"));
  const auto reply = o.guest.qemu.reply();
  REQUIRE(reply.has_value());
  CHECK_EQ(reply->type, 2);
  CHECK_EQ(reply->reply_to, call);
  CHECK(reply->contains("Unix.ScanoutDMABUF2"));
  auto unknown = test::qemu::disable();
  unknown.member = "Dance";
  unknown.flags = 0;
  o.guest.qemu.send(unknown);
  const auto refused = o.guest.qemu.reply();
  REQUIRE(refused.has_value());
  CHECK_EQ(refused->type, 3);
  CHECK(refused->contains("UnknownMethod"));
}

TEST(qemu_pixels_come_into_memory_and_are_flipped) {
  One o;
  o.guest.qemu.send(test::qemu::scanout(32, 16, 128, x8r8g8b8, solid(32 * 16, 0x112233)));
  const uint32_t slot = o.guest.import_next();
  CHECK(o.guest.shows(101, 1000 + slot));
  const guests::QemuMirror& mirror = *o.guest.mirrors[slot];
  CHECK_EQ(pixel(mirror, 31, 15), 0x112233u);
  // A part of it, in rows that are longer than it is wide.
  std::vector<uint8_t> part = solid(8 * 4, 0xaabbcc);
  o.guest.qemu.send(test::qemu::update(10, 5, 6, 4, 32, x8r8g8b8, part));
  CHECK(test::eventually([&] { return o.guest.listener->plane_stats(0).flips == 2; }));
  for (uint32_t y = 0; y < 16; ++y)
    for (uint32_t x = 0; x < 32; ++x) {
      const bool inside = x >= 10 && x < 16 && y >= 5 && y < 9;
      CHECK_EQ(pixel(mirror, x, y), inside ? 0xaabbccu : 0x112233u);
    }
  // The same size again needs no other memory, another size does.
  o.guest.qemu.send(test::qemu::scanout(32, 16, 128, x8r8g8b8, solid(32 * 16, 0x445566)));
  CHECK(test::eventually([&] { return o.guest.listener->plane_stats(0).flips == 3; }));
  CHECK(o.guest.quiet());
  CHECK_EQ(pixel(mirror, 12, 6), 0x445566u);
  o.guest.qemu.send(test::qemu::scanout(64, 48, 256, x8r8g8b8, solid(64 * 48, 1)));
  const uint32_t other = o.guest.import_next();
  CHECK(other != slot);
  CHECK(o.guest.shows(101, 1000 + other));
  const QemuEvent idle = o.guest.next();
  CHECK_EQ(idle.type, QemuEvent::Type::idle);
  CHECK_EQ(idle.slot, slot);
}

TEST(qemu_pixels_of_a_picture_that_is_gone_are_passed_over) {
  One o;
  o.guest.qemu.send(test::qemu::update(0, 0, 4, 4, 16, x8r8g8b8, solid(16, 1)));
  o.guest.qemu.send(test::qemu::scanout(8, 8, 32, x8r8g8b8, solid(64, 2)));
  const uint32_t slot = o.guest.import_next();
  o.guest.qemu.send(test::qemu::update(6, 6, 4, 4, 16, x8r8g8b8, solid(16, 3)));
  o.guest.qemu.send(test::qemu::update(0, 0, 1, 1, 4, x8r8g8b8, solid(1, 4)));
  CHECK(test::eventually([&] { return pixel(*o.guest.mirrors[slot], 0, 0) == 4; }));
  CHECK_EQ(pixel(*o.guest.mirrors[slot], 7, 7), 2u);
  CHECK_EQ(o.guest.listener->stats().untimely, 2u);
}

TEST(qemu_dmabuf_is_imported_once_and_flipped_on_updates) {
  One o;
  const base::UniqueFd first = memory(4096);
  const base::UniqueFd second = memory(4096);
  std::array<uint32_t, 2> slots{};
  for (uint32_t i = 0; i < 2; ++i) {
    o.guest.qemu.send(test::qemu::scanout_dmabuf2(0, 0, 32, 32, 32, 32), {(i == 0 ? first : second).get()});
    slots[i] = o.guest.import_next();
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 32, 32));
    CHECK(o.guest.qemu.reply().has_value());
    CHECK(o.guest.shows(101, 1000 + slots[i]));
  }
  for (uint32_t i = 0; i < 20; ++i) {
    o.guest.qemu.send(test::qemu::scanout_dmabuf2(0, 0, 32, 32, 32, 32),
                      {(i % 2 == 0 ? first : second).get()});
    // QEMU says this after nearly every flip: nothing goes dark.
    o.guest.qemu.send(test::qemu::disable());
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 32, 32));
    CHECK(o.guest.qemu.reply().has_value());
    CHECK(o.guest.shows(101, 1000 + slots[i % 2]));
  }
  CHECK(o.guest.quiet());
  CHECK_EQ(o.guest.listener->stats().imports, 2u);
  CHECK_EQ(o.guest.listener->stats().disables, 20u);
  // The same memory as another picture is another buffer.
  o.guest.qemu.send(test::qemu::scanout_dmabuf2(0, 0, 16, 32, 32, 32), {first.get()});
  CHECK_EQ(o.guest.next().type, QemuEvent::Type::wanted);
}

TEST(qemu_scanout_alone_flips_when_nothing_follows) {
  One o;
  const base::UniqueFd buffer = memory(4096);
  o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {buffer.get()});
  const uint32_t slot = o.guest.import_next();
  CHECK_EQ(o.guest.listener->plane_stats(0).taken, 0u);
  CHECK(o.guest.shows(101, 1000 + slot));
}

TEST(qemu_buffers_that_were_not_shown_for_long_are_let_go) {
  One o;
  std::vector<base::UniqueFd> buffers;
  uint32_t idle = 0;
  for (uint32_t i = 0; i < 12; ++i) {
    buffers.push_back(memory(4096));
    o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {buffers.back().get()});
    for (;;) {
      const QemuEvent event = o.guest.next();
      if (event.type == QemuEvent::Type::idle) {
        ++idle;
        CHECK_EQ(o.guest.freed(event.slot), 0);
        continue;
      }
      close(event.fds[0]);
      CHECK_EQ(o.guest.ready(event.slot, 1000 + i), 0);
      break;
    }
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 32, 32));
    CHECK(o.guest.qemu.reply().has_value());
    CHECK(o.guest.shows(101, 1000 + i));
  }
  CHECK(test::eventually([&] {
    while (const auto event = o.guest.listener->event())
      idle += event->type == QemuEvent::Type::idle ? 1 : 0;
    return idle == 6;
  }));
}

TEST(qemu_map_is_read_when_it_is_drawn) {
  One o;
  const base::UniqueFd map = memory(4096 + 64 * 64 * 4);
  o.guest.qemu.send(test::qemu::scanout_map(4096, 64, 64, 256, x8r8g8b8), {map.get()});
  const auto reply = o.guest.qemu.reply();
  REQUIRE(reply.has_value());
  CHECK_EQ(reply->type, 2);
  const uint32_t slot = o.guest.import_next();
  o.guest.qemu.send(test::qemu::update_map(0, 0, 64, 64));
  CHECK(o.guest.shows(101, 1000 + slot));
  guests::QemuMirror& mirror = *o.guest.mirrors[slot];
  const uint32_t red = 0xff0000;
  CHECK_EQ(pwrite(map.get(), &red, 4, 4096 + 10 * 256 + 20 * 4), 4);
  mirror.refresh({0, 0, 8, 64});
  CHECK_EQ(pixel(mirror, 20, 10), 0u);
  mirror.refresh({20, 10, 21, 11});
  CHECK_EQ(pixel(mirror, 20, 10), red);
  CHECK_EQ(pwrite(map.get(), &red, 4, 4096 + 63 * 256 + 63 * 4), 4);
  mirror.refresh({-5, -5, 1000, 1000});
  CHECK_EQ(pixel(mirror, 63, 63), red);
  // Cut off under the reader: an error, no signal.
  CHECK_EQ(ftruncate(map.get(), 4096), 0);
  try {
    mirror.refresh({0, 0, 64, 64});
    CHECK(false);
  } catch (const base::SystemError& error) {
    CHECK_EQ(error.error(), ENODATA);
  }
}

TEST(qemu_map_of_something_else_is_refused_and_pixels_go_on) {
  One o;
  const base::UniqueFd small = memory(100);
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const base::UniqueFd reader(ends[0]);
  const base::UniqueFd writer(ends[1]);
  const base::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const base::UniqueFd directory(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const int fd : {small.get(), reader.get(), null.get(), directory.get(), o.guest.qemu.fd()}) {
    o.guest.qemu.send(test::qemu::scanout_map(0, 64, 64, 256, x8r8g8b8), {fd});
    const auto reply = o.guest.qemu.reply();
    REQUIRE(reply.has_value());
    CHECK_EQ(reply->type, 3);
    CHECK(reply->contains("org.qemu.Display1.Error.Invalid"));
  }
  o.guest.qemu.send(test::qemu::scanout(8, 8, 32, x8r8g8b8, solid(64, 2)));
  CHECK(o.guest.shows(101, 1000 + o.guest.import_next()));
}

TEST(qemu_cursor_is_received_into_its_plane) {
  One o;
  o.guest.qemu.send(test::qemu::cursor_define(32, 16, 3, 4, solid(32 * 16, 0xff00ff00)));
  CHECK(o.guest.qemu.reply().has_value());
  CHECK_EQ(o.guest.listener->plane_stats(1).taken, 0u); // it is not on
  o.guest.qemu.send(test::qemu::mouse_set(20, 30, 1));
  REQUIRE(test::eventually([&] { return o.rig.card.framebuffer(102) >= 2000; }));
  const std::vector<uint32_t>& shown = o.guest.cursors[o.rig.card.framebuffer(102) - 2000];
  CHECK_EQ(shown[31], 0xff00ff00u);
  CHECK_EQ(shown[32], 0u);
  CHECK_EQ(shown[15 * 64], 0xff00ff00u);
  CHECK_EQ(shown[16 * 64], 0u);
  // Larger than the display's cursors: cut, not written beyond.
  o.guest.qemu.send(test::qemu::cursor_define(128, 128, 0, 0, solid(128 * 128, 7)));
  CHECK(o.guest.qemu.reply().has_value());
  for (int i = 0; i < 50; ++i)
    o.guest.qemu.send(test::qemu::mouse_set(i, i * 1000000, 1));
  o.guest.qemu.send(test::qemu::mouse_set(0, 0, 0));
  CHECK(o.guest.shows(102, 0));
}

TEST(qemu_flips_allocate_nothing) {
  One o;
  const base::UniqueFd first = memory(4096);
  const base::UniqueFd second = memory(4096);
  uint32_t round = 0;
  const auto flip = [&] {
    const int fd = (round++ % 2 == 0 ? first : second).get();
    o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {fd});
    if (round <= 2) o.guest.import_next();
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 32, 32));
    CHECK(o.guest.qemu.reply().has_value());
  };
  const auto allocations = [&] {
    size_t count = 0;
    o.rig.call([&](flip::Engine&) { return count = test::allocations(), 0; });
    return count;
  };
  // The fake card keeps a list of its commits, which grows when their number passes a power of two.
  while (o.rig.card.commits() < 600)
    flip();
  const size_t before = allocations();
  for (int i = 0; i < 100; ++i)
    flip();
  CHECK(o.rig.card.commits() < 1024);
  CHECK_EQ(allocations() - before, 0u);
}
