// A display listener on a fake card, and QEMU's end of it.
#pragma once

#include <map>
#include <memory>

#include "flip_rig.h"
#include "guests/qemu_listener.h"
#include "guests/qemu_mirror.h"
#include "qemu_fake.h"

namespace scanout::test {

constexpr uint32_t x8r8g8b8 = 0x20020888; // pixman's format code

/// The picture is on plane 101, the cursor on plane 102 of CRTC 1. Buffers become framebuffers 1000 + slot
/// by `import_next`, as TypeScript does it.
class QemuRig {
public:
  explicit QemuRig(Rig& rig, bool agree = true);
  QemuRig(const QemuRig&) = delete;
  QemuRig& operator=(const QemuRig&) = delete;
  ~QemuRig();

  /// The next event; fails the test when there is none for some seconds.
  guests::QemuEvent next();
  /// True when there is no event now and none on its way.
  bool quiet();
  /// Answers the next event, which has to be `wanted`; gives its slot.
  uint32_t import_next();
  /// The fault that the connection ended with.
  guests::QemuFault end();
  int ready(uint32_t slot, uint32_t fb, std::shared_ptr<guests::QemuMirror> mirror = nullptr);
  int freed(uint32_t slot);
  int set_area(const flip::Rect& area, guests::QemuScale scale = guests::QemuScale::none);
  int leave();
  /// The framebuffer that the plane shows becomes `fb`.
  bool shows(uint32_t plane, uint64_t fb) const;

  Rig& rig;
  FakeQemu qemu;
  std::unique_ptr<guests::QemuListener> listener;
  std::map<uint32_t, std::shared_ptr<guests::QemuMirror>> mirrors; // by slot
  std::array<std::vector<uint32_t>, guests::qemu_cursors> cursors; // 64 x 64, framebuffers 2000 and on

private:
  bool left_ = false;
};

} // namespace scanout::test
