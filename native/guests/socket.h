// The hot half of a socket guest: takes entries from its flip page and tells it what came of them.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>

#include "base/unique_fd.h"
#include "flip/engine.h"
#include "flip/producer.h"
#include "guests/fence_inbox.h"
#include "guests/protocol.h"
#include "kms/implicit_fences.h"

namespace scanout::guests {

/// The flip page: memory that is shared with a guest and cannot be shrunk under us.
class FlipPage {
public:
  /// Makes a sealed memfd. Throws SystemError.
  explicit FlipPage(uint32_t plane_count);
  FlipPage(const FlipPage&) = delete;
  FlipPage& operator=(const FlipPage&) = delete;
  ~FlipPage();
  [[nodiscard]] scanoutd_flip_page& get() const noexcept { return *page_; }
  /// For the guest; owned by the page.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

private:
  base::UniqueFd fd_;
  scanoutd_flip_page* page_ = nullptr;
};

/// Counters of one plane of a guest that any thread may read.
struct PlaneStats {
  std::atomic<uint64_t> taken{0}, flips{0}, superseded{0}, missed{0}, refused{0}, copied{0};
  std::atomic<int32_t> newest_buffer{-1}; // of the newest frame taken
};

/// A buffer that the guest registered.
struct Buffer {
  bool registered = false;
  uint32_t fb_id = 0; // 0: the display did not take it; it can be copied only
  uint32_t width = 0, height = 0;
  kms::ImplicitFences fences;      // of the devices that draw into it
  uint32_t uses = 0;               // frames that the engine holds
  uint32_t generation = 0;         // counts its framebuffers
  uint32_t former_uses = 0;        // of these frames, those with a former framebuffer
  flip::Command* former = nullptr; // asks to be told when former_uses is 0
  uint64_t newest_use = 0;         // largest sequence taken
  flip::Command* retire = nullptr; // asks to be told when uses is 0
};

/// Runs on the flip thread between on_enter and on_leave. Everything in the page is copied, then checked;
/// nothing of it is read twice. A guest that breaks the rules hurts its own picture only.
class SocketGuest final : public flip::Producer, private base::Pollable {
public:
  struct Descriptors {
    base::UniqueFd kick, release, fence_socket; // the last may be none
  };

  /// `first_stream`: ids of the streams are this and those after it. `epoll` is the engine's.
  SocketGuest(uint32_t first_stream, uint32_t plane_count, Descriptors descriptors, flip::Engine& engine);
  ~SocketGuest() override;

  // JS thread.
  [[nodiscard]] int page_fd() const noexcept { return page_.fd(); }
  [[nodiscard]] const PlaneStats& stats(uint32_t plane) const noexcept { return stats_[plane]; }

  // Flip thread, by commands.
  /// Moves what the guest shows along.
  void set_area(const flip::Rect& area) noexcept;
  void set_mode(uint32_t plane, flip::PresentMode mode) noexcept;
  /// 0, EEXIST or EINVAL.
  int add_buffer(uint32_t id, uint32_t fb_id, uint32_t width, uint32_t height,
                 kms::ImplicitFences fences = {}) noexcept;
  /// The buffer's memory is elsewhere: frames that are not committed yet and all later ones have this
  /// framebuffer, and what the display shows of it is shown once more, by that. 0, ENOENT, or EBUSY while
  /// frames with the one before the present one are held.
  int renew_buffer(uint32_t id, uint32_t fb_id, kms::ImplicitFences fences) noexcept;
  /// `command` is finished when no frame holds the framebuffer before the present one.
  void await_former(uint32_t id, flip::Command& command) noexcept;
  /// The buffer takes part in no new frame; `command` is finished when no frame holds it.
  void retire_buffer(uint32_t id, flip::Command& command) noexcept;

  // Producer
  int on_enter(flip::Engine& engine) noexcept override;
  void on_leave(flip::Engine& engine) noexcept override;
  [[nodiscard]] uint32_t stream_count() const noexcept override { return plane_count_; }
  flip::Stream& stream(uint32_t index) noexcept override { return *streams_[index]; }
  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream& stream) noexcept override;
  void on_unrouted(flip::Stream& stream) noexcept override;

private:
  void on_ready(uint32_t events) noexcept override; // the kick
  void take(uint32_t plane, int64_t now) noexcept;
  scanoutd_code check(uint32_t plane, const scanoutd_flip_entry& entry, uint64_t announced) noexcept;
  scanoutd_code make_frame(const scanoutd_flip_entry& entry, flip::Frame& frame) noexcept;
  void refuse(uint32_t plane, uint64_t sequence, scanoutd_code code, int error) noexcept;
  void done_with(uint32_t id, uint64_t sequence) noexcept;
  void publish(uint32_t plane) noexcept;
  [[nodiscard]] bool shows(uint32_t plane) const noexcept; // its newest frame, or is to show it
  void show_again(uint32_t plane) noexcept;
  uint32_t plane_of(const flip::Stream& stream) const noexcept;

  flip::Engine& engine_;
  FlipPage page_;
  FenceInbox fences_;
  base::UniqueFd kick_, release_;
  uint32_t plane_count_;
  std::array<std::unique_ptr<flip::Stream>, SCANOUTD_MAX_PLANES> streams_;
  std::array<PlaneStats, SCANOUTD_MAX_PLANES> stats_;
  std::array<scanoutd_flip_feedback, SCANOUTD_MAX_PLANES> feedback_{}; // ours; the page has a copy
  std::array<uint64_t, SCANOUTD_MAX_PLANES> last_sequence_{};
  std::array<scanoutd_flip_entry, SCANOUTD_MAX_PLANES> last_entry_{}; // as checked
  std::array<Buffer, SCANOUTD_MAX_BUFFERS> buffers_;
  flip::Rect area_;
};

/// Clips `place` to `area` (in CRTC pixels) and shrinks the source with it. False when nothing is left.
bool clip(flip::Placement& place, const flip::Rect& area) noexcept;

} // namespace scanout::guests
