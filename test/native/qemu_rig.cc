#include "qemu_rig.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd_kind.h"
#include "check.h"

namespace scanout::test {

namespace {

constexpr uint32_t cursor_size = 64;

std::array<base::UniqueFd, 2> pair() {
  int ends[2];
  base::check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  return {base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

} // namespace

QemuRig::QemuRig(Rig& rig, bool agree) : rig(rig), qemu(base::UniqueFd()) {
  auto ends = pair();
  qemu = FakeQemu(std::move(ends[0]));
  guests::QemuListenerOptions options;
  options.first_stream = 10;
  options.socket = std::move(ends[1]);
  options.uid = 1000;
  options.cursor_width = options.cursor_height = cursor_size;
  for (uint32_t i = 0; i < guests::qemu_cursors; ++i) {
    cursors[i].assign(size_t{cursor_size} * cursor_size, 0xdeadbeef);
    options.cursors[i] = {2000 + i, reinterpret_cast<std::byte*>(cursors[i].data()), cursor_size * 4,
                          nullptr};
  }
  listener = std::make_unique<guests::QemuListener>(std::move(options), rig.engine);
  CHECK_EQ(rig.call([this](flip::Engine& engine) { return -listener->on_enter(engine); }), 0);
  set_area({0, 0, 256, 256});
  rig.attach(listener->stream(0), 1, 101);
  rig.attach(listener->stream(1), 1, 102);
  if (agree) qemu.agree();
}

QemuRig::~QemuRig() {
  if (!left_) leave();
}

int QemuRig::leave() {
  left_ = true;
  return rig.leave(*listener);
}

guests::QemuEvent QemuRig::next() {
  std::optional<guests::QemuEvent> event;
  eventually([&] { return (event = listener->event()).has_value(); });
  REQUIRE(event.has_value());
  return *event;
}

bool QemuRig::quiet() {
  rig.settle();
  return !listener->event().has_value();
}

uint32_t QemuRig::import_next() {
  const guests::QemuEvent event = next();
  CHECK_EQ(event.fault, guests::QemuFault::none);
  REQUIRE(event.type == guests::QemuEvent::Type::wanted);
  base::UniqueFd memfd;
  for (uint32_t i = 0; i < event.fd_count; ++i) {
    if (event.layout.kind == guests::QemuLayout::Kind::map)
      memfd.reset(event.fds[i]);
    else
      base::close_untrusted(event.fds[i]);
  }
  if (event.layout.kind != guests::QemuLayout::Kind::dmabuf)
    mirrors[event.slot] = std::make_shared<guests::QemuMirror>(event.layout, std::move(memfd));
  const auto found = mirrors.find(event.slot);
  CHECK_EQ(ready(event.slot, 1000 + event.slot, found == mirrors.end() ? nullptr : found->second), 0);
  return event.slot;
}

guests::QemuFault QemuRig::end() {
  const guests::QemuEvent event = next();
  REQUIRE(event.type == guests::QemuEvent::Type::ended);
  CHECK(qemu.closed());
  return event.fault;
}

int QemuRig::ready(uint32_t slot, uint32_t fb, std::shared_ptr<guests::QemuMirror> mirror) {
  return rig.call([&](flip::Engine&) {
    kms::ImplicitFences fences;
    return listener->ready(slot, fb, mirror, fences);
  });
}

int QemuRig::freed(uint32_t slot) {
  std::shared_ptr<guests::QemuMirror> mirror;
  return rig.call([&](flip::Engine&) {
    kms::ImplicitFences fences;
    return listener->freed(slot, mirror, fences);
  });
}

int QemuRig::set_area(const flip::Rect& area, guests::QemuScale scale) {
  return rig.call([=, this](flip::Engine&) { return listener->set_area(area, true, scale), 0; });
}

bool QemuRig::shows(uint32_t plane, uint64_t fb) const {
  return eventually([&] { return rig.card.framebuffer(plane) == fb; });
}

} // namespace scanout::test
