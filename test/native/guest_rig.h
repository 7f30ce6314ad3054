// A socket guest on a fake card: the daemon's half and the guest's, in one process.
#pragma once

#include <atomic>
#include <vector>

#include "flip_rig.h"
#include "guests/socket.h"

namespace scanout::test {

/// While one lives, eventfds pass for other files, by their name in procfs: there is no other way to make
/// such ones without a device.
class FakeFiles {
public:
  explicit FakeFiles(const char* name);
  FakeFiles(const FakeFiles&) = delete;
  FakeFiles& operator=(const FakeFiles&) = delete;
  ~FakeFiles();
};

struct FakeSyncFiles : FakeFiles {
  FakeSyncFiles() : FakeFiles("anon_inode:sync_file") {}
};
struct FakeVfioFiles : FakeFiles {
  FakeVfioFiles() : FakeFiles("anon_inode:[vfio-device]") {}
};

constexpr uint32_t guest_size = 256; // width and height of buffers and area

/// Buffers 0 to 3 are framebuffers `first_fb` and on. Planes are those from `first_plane` on, of CRTC 1.
class GuestRig {
public:
  GuestRig(Rig& rig, uint32_t first_stream, uint32_t planes, uint32_t first_plane, uint32_t first_fb);
  GuestRig(const GuestRig&) = delete;
  GuestRig& operator=(const GuestRig&) = delete;
  ~GuestRig();

  /// A good entry.
  [[nodiscard]] scanoutd_flip_entry entry(uint32_t buffer);
  /// Puts it into the page without a kick; gives its sequence.
  uint64_t put(uint32_t plane, const scanoutd_flip_entry& entry);
  void kick_now() const;
  uint64_t submit(uint32_t plane, uint32_t buffer);
  uint64_t submit(uint32_t plane, const scanoutd_flip_entry& entry);
  /// Sends a fence for a frame, or whatever else is in `fds`.
  void send_fence(uint32_t plane, uint64_t sequence, const std::vector<int>& fds,
                  size_t size = sizeof(scanoutd_fence)) const;

  /// A copy under the seqlock.
  [[nodiscard]] scanoutd_flip_feedback feedback(uint32_t plane) const;
  [[nodiscard]] bool presented(uint32_t plane, uint64_t sequence) const;
  [[nodiscard]] bool refused(uint32_t plane, uint64_t sequence) const;
  [[nodiscard]] uint64_t released(uint32_t buffer) const;
  /// Value of the release eventfd, which is 0 afterwards.
  [[nodiscard]] uint64_t signals() const;
  int leave();
  /// The test has it leave by itself.
  void abandon() { left_ = true; }
  int set_mode(uint32_t plane, flip::PresentMode mode);
  int set_area(const flip::Rect& area);

  Rig& rig;
  base::UniqueFd kick, release, fences;
  std::unique_ptr<guests::SocketGuest> guest;
  scanoutd_flip_page* page = nullptr;
  uint64_t sequence = 0;

private:
  uint32_t next_entry_[SCANOUTD_MAX_PLANES]{};
  bool left_ = false;
};

/// Retires a buffer; the command is back when no frame holds it.
class RetireCommand final : public flip::Command {
public:
  RetireCommand(guests::SocketGuest& guest, uint32_t buffer) : guest_(guest), buffer_(buffer) {}
  Result run(flip::Engine&) noexcept override {
    guest_.retire_buffer(buffer_, *this);
    return Result::later;
  }

private:
  guests::SocketGuest& guest_;
  uint32_t buffer_;
};

} // namespace scanout::test
