// A virtual machine by hand: guest memory in a memfd, rings in it, and a vhost-user front end.
#pragma once

#include <linux/virtio_gpu.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "flip_rig.h"
#include "guests/vhost_user.h"
#include "guests/virtio_gpu.h"
#include "guests/virtio_scanout.h"

namespace scanout::test {

/// One region of memory: guest-physical from `guest_base`, the VMM's own from `user_base`.
class FakeMemory {
public:
  static constexpr uint64_t guest_base = 0x100000, user_base = 0x7f0000000000, size = 8 << 20;
  explicit FakeMemory(unsigned seals = 0x2 | 0x4); // F_SEAL_SHRINK | F_SEAL_GROW
  FakeMemory(const FakeMemory&) = delete;
  FakeMemory& operator=(const FakeMemory&) = delete;
  ~FakeMemory();

  [[nodiscard]] guests::GuestRegion region() const;
  [[nodiscard]] std::shared_ptr<const guests::GuestMemory> map() const;
  template <typename T> T& at(uint64_t guest) { return *reinterpret_cast<T*>(&bytes[guest - guest_base]); }

  base::UniqueFd fd;
  uint8_t* bytes = nullptr;
};

struct FakeDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};
constexpr uint16_t has_next = 1, is_writable = 2, is_indirect = 4;

/// The driver's half of a split ring in a FakeMemory.
class FakeRing {
public:
  FakeRing(FakeMemory& memory, uint64_t at, uint32_t size);
  [[nodiscard]] guests::VirtqueueSetup setup(bool event_idx = false) const;
  FakeDescriptor& descriptor(uint32_t index) {
    return memory_.at<FakeDescriptor>(at_ + uint64_t{16} * index);
  }
  /// Makes a chain available by its head.
  void offer(uint16_t head);
  void set_used(uint16_t index) { word(8192 + 2) = index; }
  void set_available(uint16_t index) { word(4096 + 2) = index; }
  [[nodiscard]] uint16_t available() { return word(4096 + 2); }
  uint16_t& available_flags() { return word(4096); }
  uint16_t& used_event() { return word(4096 + 4 + 2 * size_); }
  uint16_t& avail_event() { return word(8192 + 4 + 8 * size_); }
  [[nodiscard]] uint16_t used() { return std::atomic_ref(word(8192 + 2)).load(std::memory_order_acquire); }
  /// Head of a used entry.
  [[nodiscard]] uint32_t used_head(uint16_t index) {
    return memory_.at<uint32_t>(at_ + 8192 + 4 + 8 * (index % size_));
  }
  /// As a driver that starts anew leaves it.
  void clear();
  [[nodiscard]] uint32_t size() const { return size_; }

private:
  uint16_t& word(uint64_t offset) { return memory_.at<uint16_t>(at_ + offset); }
  FakeMemory& memory_;
  uint64_t at_;
  uint32_t size_;
};

/// A device with its front end and its driver. What JavaScript does is done by `work`.
class VirtioRig : private guests::VhostUser::Owner {
public:
  static constexpr uint64_t control_at = FakeMemory::guest_base, cursor_at = control_at + 0x4000,
                            requests_at = control_at + 0x8000, pixels_at = FakeMemory::guest_base + 0x100000;
  static constexpr uint32_t side = 64; // of the resources that `create` makes
  static constexpr uint32_t bytes = side * side * 4;

  explicit VirtioRig(Rig& rig, uint32_t scanouts = 1);
  VirtioRig(const VirtioRig&) = delete;
  VirtioRig& operator=(const VirtioRig&) = delete;
  ~VirtioRig();

  // The front end.
  /// Sends a message and has it handled; gives the payload of the reply, empty when there is none.
  std::vector<uint8_t> ask(guests::vhost::Request request, const void* payload, size_t size,
                           const std::vector<int>& fds = {}, uint32_t flags = guests::vhost::version);
  /// The payload of a reply that has come.
  std::vector<uint8_t> reply();
  uint64_t ask_u64(guests::vhost::Request request);
  /// True when it was acknowledged as done.
  bool tell(guests::vhost::Request request, const void* payload, size_t size,
            const std::vector<int>& fds = {});
  bool tell_u64(guests::vhost::Request request, uint64_t value, const std::vector<int>& fds = {});
  bool tell_state(guests::vhost::Request request, uint32_t ring, uint32_t number);
  bool share(const FakeMemory& memory);
  void negotiate(uint64_t features = 0);
  void start_ring(uint32_t index, bool enable = true);
  uint32_t stop_ring(uint32_t index);
  /// Everything a VMM does.
  void boot();
  void hang_up();

  /// The process dies as it is, and another one goes on with what was kept. `between`: what happens to the
  /// state that is kept, before. False when it cannot go on; `refusals` has why.
  bool die_and_go_on(const std::function<void(guests::VirtioState&)>& between = {});

  // The driver.
  /// Offers a command of the control queue without a kick; gives its number.
  uint32_t offer(const void* request, size_t size, uint32_t answer_size = 1100);
  void kick(uint32_t ring = 0) const;
  /// Waits until the command is answered, doing JavaScript's work meanwhile; gives the answer's header.
  virtio_gpu_ctrl_hdr answer(uint32_t number);
  [[nodiscard]] bool answered(uint32_t number) const;
  uint32_t run(const void* request, size_t size) {
    const uint32_t number = offer(request, size);
    kick();
    return answer(number).type;
  }
  template <typename T> uint32_t run(const T& request) { return run(&request, sizeof request); }
  uint32_t create(uint32_t id, uint32_t format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, uint32_t width = side,
                  uint32_t height = side);
  uint32_t attach(uint32_t id, uint64_t address, uint32_t length = bytes);
  uint32_t set_scanout(uint32_t scanout, uint32_t id, uint32_t width = side, uint32_t height = side);
  uint32_t unref(uint32_t id);
  /// Gives the number of a fenced flush that was kicked.
  uint32_t flush(uint32_t id, uint64_t fence);
  /// Two resources, 1 and 2, with their framebuffers.
  void make_two();

  // JavaScript.
  /// Answers what the device has asked; false when there was nothing.
  bool work();
  [[nodiscard]] uint32_t framebuffer_of(uint32_t id) const { return 1000 + id; }

  Rig& rig;
  FakeMemory memory;
  FakeRing control{memory, control_at, 64}, cursor{memory, cursor_at, 16};
  base::UniqueFd kicks[2], calls[2];
  std::shared_ptr<guests::VirtioState> state;
  std::shared_ptr<guests::VirtioGpu> gpu;
  std::vector<std::unique_ptr<guests::VirtioScanout>> scanouts;
  std::unique_ptr<guests::VhostUser> vhost;
  base::UniqueFd front;
  std::vector<std::string> refusals, broken;
  bool unhandled = false; // messages are sent, and not handled
  bool jobs_wait = false; // `work` leaves jobs alone
  guests::VhostUser::Kept kept;
  int released_buffers = 0, released_resources = 0, backed = 0;

private:
  void apply(std::unique_ptr<guests::RingChange> change) override { change_ = std::move(change); }
  void features_set(uint64_t) override {}
  bool get_config(uint32_t offset, std::span<uint8_t> config) override;
  bool set_config(uint32_t, std::span<const uint8_t>) override { return true; }
  bool other(guests::vhost::Request, std::span<const uint8_t>, guests::ReceivedFds&) override {
    return false;
  }
  void keep(const std::string& name, int fd) override { kept[name].reset(dup(fd)); }
  void drop(const std::string& name) override { kept.erase(name); }
  void refused(const std::string& why) override { refusals.push_back(why); }
  void make_device();
  void make_vhost(base::UniqueFd socket);
  bool go_on();
  void pump();
  void leave();

  std::unique_ptr<guests::RingChange> change_;
  std::vector<uint16_t> heads_; // by number
  uint32_t slots_ = 0, count_, lives_ = 0;
  bool left_ = false;
};

} // namespace scanout::test
