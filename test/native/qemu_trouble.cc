// Answers that wait for flips, QEMU that breaks the rules, and the end.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/clock.h"
#include "check.h"
#include "qemu_rig.h"

using namespace scanout;
using guests::QemuEvent;
using guests::QemuFault;
using test::QemuRig;
using test::Rig;
using test::x8r8g8b8;

namespace {

struct One {
  Rig rig;
  int crtc = rig.add_crtc(1);
  QemuRig guest{rig};

  uint32_t show_dmabuf() {
    guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {buffer.get()});
    const uint32_t slot = guest.import_next();
    guest.qemu.send(test::qemu::update_dmabuf(0, 0, 32, 32));
    CHECK(guest.qemu.reply().has_value());
    return slot;
  }
  base::UniqueFd buffer{memfd_create("test", MFD_CLOEXEC)};
};

// The stream was told to need planning since the last time.
bool told(Rig& rig, uint32_t stream) {
  bool found = false;
  for (const flip::Notice& notice : rig.notices())
    found = found || (notice.type == flip::Notice::Type::unrouted && notice.stream == stream);
  return found;
}

} // namespace

TEST(qemu_is_answered_at_the_flip_event) {
  One o;
  o.show_dmabuf();
  o.rig.card.hold(true);
  const int64_t began = base::now_ns();
  const uint32_t call = o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  CHECK(!o.guest.qemu.reply(10).has_value());
  o.rig.card.land();
  const auto reply = o.guest.qemu.reply();
  REQUIRE(reply.has_value());
  CHECK_EQ(reply->reply_to, call);
  const bool in_time = base::now_ns() - began < 40'000'000;
  if (in_time) CHECK_EQ(o.guest.listener->stats().late_replies, 0u);
  o.rig.card.hold(false);
}

TEST(qemu_is_answered_within_50_ms_whatever_the_display_does) {
  One o;
  o.show_dmabuf();
  o.rig.card.hold(true);
  const int64_t began = base::now_ns();
  std::array<uint32_t, 5> calls{};
  for (uint32_t& call : calls)
    call = o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  for (const uint32_t call : calls) {
    const auto reply = o.guest.qemu.reply();
    REQUIRE(reply.has_value());
    CHECK_EQ(reply->reply_to, call);
  }
  CHECK(base::now_ns() - began >= 40'000'000);
  CHECK_EQ(o.guest.listener->stats().late_replies, 5u);
  o.rig.card.land();
  o.rig.card.hold(false);
}

TEST(qemu_is_answered_while_nothing_is_imported) {
  One o;
  // No scanout at all: there is nothing to wait for.
  o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  CHECK(o.guest.qemu.reply().has_value());
  o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {o.buffer.get()});
  const QemuEvent event = o.guest.next();
  const base::UniqueFd fd(event.fds[0]);
  o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  CHECK(o.guest.qemu.reply().has_value()); // in time, though nobody has imported it
  CHECK_EQ(o.rig.call([&](flip::Engine&) { return o.guest.listener->failed(event.slot); }), 0);
  CHECK_EQ(o.rig.call([&](flip::Engine&) { return o.guest.listener->failed(event.slot); }), ENOENT);
  const int64_t began = base::now_ns();
  o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  CHECK(o.guest.qemu.reply().has_value());
  CHECK(base::now_ns() - began < 40'000'000);
  CHECK_EQ(o.guest.listener->plane_stats(0).taken, 0u);
}

TEST(qemu_disable_that_nothing_follows_is_believed) {
  One o;
  const uint32_t slot = o.show_dmabuf();
  CHECK(o.guest.shows(101, 1000 + slot));
  o.guest.qemu.send(test::qemu::cursor_define(8, 8, 0, 0, std::vector<uint8_t>(256, 0xff)));
  CHECK(o.guest.qemu.reply().has_value());
  o.guest.qemu.send(test::qemu::mouse_set(4, 4, 1));
  REQUIRE(test::eventually([&] { return o.rig.card.framebuffer(102) >= 2000; }));
  o.rig.notices();
  for (int round = 0; round < 2; ++round) {
    const int64_t began = base::now_ns();
    o.guest.qemu.send(test::qemu::disable());
    CHECK(o.guest.shows(101, 0));
    CHECK(base::now_ns() - began >= 900'000'000);
    CHECK(o.guest.shows(102, 0));
    // Told, so that the idle picture can take the plane.
    CHECK(test::eventually([&] { return told(o.rig, 10); }));
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
    CHECK(o.guest.qemu.reply().has_value());
    CHECK(o.guest.shows(101, 1000 + slot));
    CHECK(test::eventually([&] { return o.rig.card.framebuffer(102) >= 2000; }));
  }
  // Of something that is hidden, or was never there, it says nothing new.
  o.guest.qemu.send(test::qemu::disable());
  CHECK(o.guest.shows(101, 0));
  const uint64_t taken = o.guest.listener->plane_stats(0).taken;
  o.guest.qemu.send(test::qemu::disable());
  o.guest.set_area({0, 0, 128, 128});
  CHECK(test::eventually([&] { return o.guest.listener->stats().disables == 4; }));
  CHECK_EQ(o.guest.listener->plane_stats(0).taken, taken);
}

TEST(qemu_picture_that_waits_unseen_is_planned_when_it_comes_back) {
  One o;
  o.show_dmabuf();
  o.guest.qemu.send(test::qemu::disable());
  CHECK(o.guest.shows(101, 0));
  CHECK_EQ(o.rig.add_crtc(flip::first_virtual_crtc), 0);
  CHECK_EQ(o.rig.attach(o.guest.listener->stream(0), flip::first_virtual_crtc, 0), 0);
  o.rig.settle();
  o.rig.notices();
  o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  CHECK(o.guest.qemu.reply().has_value());
  CHECK(test::eventually([&] { return told(o.rig, 10); }));
  // Once: what is seen of it there asks for nothing.
  o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  CHECK(o.guest.qemu.reply().has_value());
  CHECK(!told(o.rig, 10));
}

TEST(qemu_disable_before_an_update_or_a_scanout_is_not_believed) {
  One o;
  const uint32_t slot = o.show_dmabuf();
  for (int i = 0; i < 3; ++i) {
    o.guest.qemu.send(test::qemu::disable());
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
    CHECK(o.guest.qemu.reply().has_value());
  }
  o.guest.qemu.send(test::qemu::disable());
  o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {o.buffer.get()});
  CHECK(!o.guest.qemu.reply(1300).has_value()); // as long as it would have to be quiet
  CHECK(o.guest.shows(101, 1000 + slot));
  for (const flip::Notice& notice : o.rig.notices())
    CHECK(notice.type != flip::Notice::Type::unrouted);
}

TEST(qemu_that_waits_for_no_answers_gets_them_all) {
  One o;
  o.show_dmabuf();
  o.rig.card.hold(true);
  constexpr uint32_t many = 150;
  for (uint32_t i = 0; i < many; ++i)
    o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 1, 1));
  uint32_t answered = 0;
  while (answered < many && o.guest.qemu.reply().has_value())
    ++answered;
  CHECK_EQ(answered, many);
  o.rig.card.land();
  o.rig.card.hold(false);
}

TEST(qemu_that_reads_no_answers_is_let_go) {
  One o;
  const std::vector<uint8_t> call = test::qemu::get_all("org.qemu.Display1.Listener").encode();
  for (int i = 0; i < 20000; ++i)
    o.guest.qemu.send(call);
  CHECK_EQ(o.guest.end(), QemuFault::unread);
}

TEST(qemu_that_floods_with_buffers_waits_for_their_import) {
  One o;
  std::vector<base::UniqueFd> buffers;
  for (int i = 0; i < 100; ++i) {
    buffers.emplace_back(memfd_create("flood", MFD_CLOEXEC));
    o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {buffers.back().get()});
  }
  o.rig.settle();
  uint32_t wanted = 0;
  while (const auto event = o.guest.listener->event()) {
    ++wanted;
    close(event->fds[0]);
  }
  CHECK_EQ(wanted, 8u);
}

TEST(qemu_that_floods_with_calls_is_read_at_a_pace) {
  One o;
  o.show_dmabuf();
  const auto read = [&] { return o.guest.listener->stats().calls.load(); };
  const uint64_t before = read();
  const int64_t begin = base::now_ns();
  const std::vector<uint8_t> move = test::qemu::mouse_set(1, 1, 1).encode();
  for (int i = 0; i < 1000; ++i)
    o.guest.qemu.send(move);
  // 256 at once, then one each quarter of a millisecond and what a turn may have too many.
  CHECK(test::eventually([&] {
    const uint64_t calls = read() - before;
    const int64_t allowed = 256 + (base::now_ns() - begin) / 250'000 + 16;
    REQUIRE(static_cast<int64_t>(calls) <= allowed);
    return calls == 1000;
  }));
}

TEST(qemu_that_floods_leaves_others_their_vblanks) {
  Rig rig;
  rig.add_crtc(1);
  rig.add_crtc(2);
  QemuRig guest(rig);
  test::Teller other(rig.engine);
  rig.attach(other.stream(0), 2, 201);
  const std::vector<uint8_t> pixels(size_t{128} * 128 * 4, 1);
  guest.qemu.send(test::qemu::scanout(128, 128, 512, x8r8g8b8, pixels));
  guest.import_next();
  const std::vector<uint8_t> one = test::qemu::scanout(128, 128, 512, x8r8g8b8, pixels).encode();
  for (uint32_t i = 0; i < 100; ++i) {
    guest.qemu.send(one);
    CHECK_EQ(test::show(rig, other, i + 1), 0);
    CHECK(test::eventually([&] { return other.presented == i + 1; }));
  }
  CHECK_EQ(other.flips, 100u);
  rig.leave(other);
}

TEST(qemu_that_breaks_the_rules_is_let_go_and_its_picture_stays) {
  One o;
  const uint32_t slot = o.show_dmabuf();
  auto wrong = test::qemu::update_dmabuf(0, 0, 1, 1);
  wrong.signature = "iii";
  o.guest.qemu.send(wrong);
  CHECK_EQ(o.guest.end(), QemuFault::bad_signature);
  CHECK_EQ(o.rig.card.framebuffer(101), 1000 + slot);
  CHECK_EQ(o.guest.leave(), 0);
}

TEST(qemu_descriptors_among_the_pixels_end_it) {
  One o;
  const std::vector<uint8_t> pixels(size_t{64} * 64 * 4, 1);
  const std::vector<uint8_t> message = test::qemu::scanout(64, 64, 256, x8r8g8b8, pixels).encode();
  const auto half = message.begin() + static_cast<long>(message.size() / 2);
  o.guest.qemu.send(std::vector<uint8_t>(message.begin(), half));
  o.guest.import_next();
  o.guest.qemu.send(std::vector<uint8_t>(half, message.end()), {o.buffer.get()});
  CHECK_EQ(o.guest.end(), QemuFault::bad_fds);
}

TEST(qemu_too_many_descriptors_end_it) {
  One o;
  const int fd = o.buffer.get();
  o.guest.qemu.send(test::qemu::scanout_dmabuf(32, 32, 128), {fd, fd, fd, fd, fd, fd, fd, fd, fd, fd});
  CHECK_EQ(o.guest.end(), QemuFault::bad_fds);
}

TEST(qemu_that_closes_in_the_middle) {
  const std::vector<uint8_t> pixels(size_t{64} * 64 * 4, 1);
  const std::vector<uint8_t> message = test::qemu::scanout(64, 64, 256, x8r8g8b8, pixels).encode();
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, message.size() / 2, message.size()}) {
    One o;
    o.guest.qemu.send(std::vector<uint8_t>(message.begin(), message.begin() + static_cast<long>(size)));
    if (size >= 200) o.guest.import_next();
    o.rig.settle();
    o.guest.qemu.close();
    const QemuEvent event = o.guest.next();
    CHECK_EQ(event.type, QemuEvent::Type::ended);
    CHECK_EQ(event.fault, QemuFault::closed);
    CHECK_EQ(o.guest.leave(), 0);
  }
}

TEST(qemu_that_refuses_us) {
  Rig rig;
  rig.add_crtc(1);
  QemuRig guest(rig, false);
  constexpr std::string_view line = "REJECTED EXTERNAL\r\n";
  guest.qemu.send(std::vector<uint8_t>(line.begin(), line.end()));
  CHECK_EQ(guest.end(), QemuFault::not_allowed);
}

TEST(qemu_listener_leaves_while_it_waits) {
  One o;
  const std::vector<uint8_t> pixels(size_t{64} * 64 * 4, 1);
  o.guest.qemu.send(test::qemu::scanout(64, 64, 256, x8r8g8b8, pixels));
  const QemuEvent event = o.guest.next();
  CHECK_EQ(event.type, QemuEvent::Type::wanted);
  CHECK_EQ(o.guest.leave(), 0);
}

TEST(qemu_picture_fits_its_area) {
  One o;
  flip::Placement place;
  const auto peek = [&] {
    o.rig.call([&](flip::Engine&) {
      const flip::Stream& stream = o.guest.listener->stream(0);
      const flip::Frame* frame = stream.pending();
      if (frame == nullptr && stream.sink() != nullptr) frame = stream.sink()->shown(stream);
      if (frame != nullptr) place = frame->place;
      return 0;
    });
    return place;
  };
  o.guest.qemu.send(test::qemu::scanout_dmabuf2(8, 4, 64, 32, 128, 64, true), {o.buffer.get()});
  o.guest.import_next();
  o.guest.qemu.send(test::qemu::update_dmabuf(0, 0, 64, 32));
  CHECK(o.guest.qemu.reply().has_value());
  // In the middle, as large as it is.
  CHECK_EQ(peek().x, 96);
  CHECK_EQ(peek().y, 112);
  CHECK_EQ(peek().w, 64u);
  CHECK_EQ(peek().src_x, 8u << 16);
  CHECK_EQ(peek().src_y, 4u << 16);
  CHECK(peek().reflect_y);
  // As large as it can be.
  o.guest.set_area({10, 20, 138, 148}, guests::QemuScale::fit);
  o.rig.settle();
  CHECK_EQ(peek().x, 10);
  CHECK_EQ(peek().y, 52);
  CHECK_EQ(peek().w, 128u);
  CHECK_EQ(peek().h, 64u);
  CHECK_EQ(peek().src_w, 64u << 16);
  // Its upper left part, which is at the end of memory since it is upside down.
  o.guest.set_area({0, 0, 40, 20});
  o.rig.settle();
  CHECK_EQ(peek().w, 40u);
  CHECK_EQ(peek().h, 20u);
  CHECK_EQ(peek().src_y, (4u + 12u) << 16);
}
