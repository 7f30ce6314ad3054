// The hot half of a vfio guest: asks a device once a refresh what its planes show, and shows that.
//
// A driver that tells of page flips by an irq is asked when it does. No driver of Linux does, so the question
// is asked as late as its answer can still be committed for the next vblank. A dma-buf that is not known yet
// is told to the JS thread, which imports it; until then the former one stays.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>

#include "base/spsc_ring.h"
#include "base/unique_fd.h"
#include "flip/engine.h"
#include "flip/producer.h"
#include "flip/schedule.h"
#include "guests/vfio_device.h"
#include "guests/vfio_region.h"
#include "kms/implicit_fences.h"

namespace scanout::guests {

constexpr uint32_t vfio_planes = 2;   // primary, cursor
constexpr uint32_t vfio_buffers = 32; // of both planes, by slot

/// Counters of one plane that any thread may read.
struct VfioStats {
  std::atomic<uint64_t> queries{0}, taken{0}, flips{0}, superseded{0}, missed{0}, refused{0}, copied{0};
  std::atomic<int32_t> newest_buffer{-1}; // slot of the newest frame taken
};

/// What the JS thread is told.
struct VfioNews {
  enum class Type : uint32_t {
    unknown = 1, // a plane shows a buffer that is not known: `plane` describes it
    gone,        // the device answers no more (`error`); nothing is asked from now on
    failed,      // a copy, or a question, failed (`error`); tried again
  } type;
  uint32_t index; // of the plane
  int32_t error;
  VfioPlane plane;
};

class VfioGuest final : public flip::Producer, private base::Pollable, private VfioRegionHost {
public:
  struct Options {
    uint32_t first_stream = 0;
    uint32_t plane_count = 1; // 1: primary, 2: and cursor
    VfioPlaneKind kind = VfioPlaneKind::dma_buf;
    int64_t period_ns = 0; // until it is placed
  };
  /// Throws SystemError; a flip irq that the driver has and does not give is `irq_error`.
  VfioGuest(const Options& options, std::shared_ptr<const VfioDevice> device, flip::Engine& engine);
  ~VfioGuest() override;

  // JS thread.
  /// Whether the device tells of its flips.
  [[nodiscard]] bool heard() const noexcept { return irq_.has_value(); }
  /// Why it does not though it could, a positive errno; else 0.
  [[nodiscard]] int irq_error() const noexcept { return irq_error_; }
  /// Told of the copies of a region; for `set_region`.
  [[nodiscard]] VfioRegionHost& host() noexcept { return *this; }
  [[nodiscard]] const VfioStats& stats(uint32_t plane) const noexcept { return stats_[plane]; }
  std::optional<VfioNews> news() noexcept { return news_.pop(); }
  /// Readable when there is news. Reset it by reading.
  [[nodiscard]] int news_fd() const noexcept { return news_event_.get(); }

  // Flip thread, by commands.
  /// Where it is shown, and on which CRTC (0: on none).
  void set_area(const flip::Rect& area, uint32_t crtc_id, int64_t period_ns) noexcept;
  /// A buffer of one plane; `fb_id` 0: the display took it not. 0, EEXIST or EINVAL.
  int add_buffer(uint32_t index, uint32_t slot, const VfioPlane& plane, uint32_t fb_id,
                 kms::ImplicitFences fences = {}) noexcept;
  /// The buffer takes part in no new frame; `command` is finished when no frame holds it.
  void retire_buffer(uint32_t slot, flip::Command& command) noexcept;
  /// The primary plane is copied by it from now on; takes it over, and gives the former one back.
  int set_region(std::unique_ptr<VfioRegion>& region) noexcept;
  /// Drawn into without a word, a buffer that is copied must be copied each time.
  void set_copied(uint32_t index, bool copied) noexcept {
    planes_[index].copied = copied;
    ask_soon();
  }

  // Producer
  int on_enter(flip::Engine& engine) noexcept override;
  void on_leave(flip::Engine& engine) noexcept override;
  [[nodiscard]] uint32_t stream_count() const noexcept override { return options_.plane_count; }
  flip::Stream& stream(uint32_t index) noexcept override { return *planes_[index].stream; }
  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream&) noexcept override {}
  void on_unrouted(flip::Stream& stream) noexcept override;

private:
  struct Buffer {
    bool registered = false;
    uint32_t index = 0; // of the plane
    VfioPlane plane;
    uint32_t fb_id = 0;
    kms::ImplicitFences fences;
    uint32_t uses = 0;               // frames that the engine holds
    flip::Command* retire = nullptr; // asks to be told when uses is 0
  };
  struct Plane {
    uint32_t type = 0;
    std::unique_ptr<flip::Stream> stream;
    uint64_t sequence = 0;
    bool shown = false; // its newest frame shows something
    bool fresh = true;  // to be submitted though nothing changed: it was moved
    bool copied = false;
    uint32_t slot = 0; // of the newest frame, while shown
    VfioPlane newest;  // as that frame has it
    VfioPlane announced;
    uint32_t failures = 0; // in a row
  };

  /// The device's irq. Its own entry, since the guest is the timer's.
  struct Irq final : base::Pollable {
    explicit Irq(VfioGuest& owner) : guest(owner) {}
    void on_ready(uint32_t) noexcept override { guest.on_flip(); }
    VfioGuest& guest;
  };

  void find_irq();
  void on_flip() noexcept;
  void ask(int64_t now) noexcept;
  void ask_soon() noexcept;
  [[nodiscard]] bool waits_for_irq() const noexcept;
  void on_ready(uint32_t events) noexcept override; // the timer
  void arm(int64_t now) noexcept;
  void arm_at(int64_t due) noexcept;
  void look(uint32_t index, int64_t now) noexcept;
  void look_at_region(const VfioPlane& seen) noexcept;
  void hide(Plane& plane, int64_t now) noexcept;
  void show(uint32_t index, uint32_t slot, const VfioPlane& seen, const flip::Rect* damage,
            int64_t now) noexcept;
  void announce(uint32_t index, const VfioPlane& seen) noexcept;
  void failed(uint32_t index, int error) noexcept;
  void tell(const VfioNews& news) noexcept;
  void on_copied(uint32_t canvas, const flip::Rect& rows, int error) noexcept override;
  [[nodiscard]] int32_t find(uint32_t index, const VfioPlane& seen) const noexcept;
  uint32_t index_of(const flip::Stream& stream) const noexcept;

  Options options_;
  std::shared_ptr<const VfioDevice> device_;
  flip::Engine& engine_;
  base::UniqueFd timer_, news_event_, irq_event_;
  std::optional<uint32_t> irq_; // its index
  int irq_error_ = 0;
  Irq irq_entry_{*this};
  base::SpscRing<VfioNews, 64> news_;
  std::array<Plane, vfio_planes> planes_;
  std::array<VfioStats, vfio_planes> stats_;
  std::array<Buffer, vfio_buffers> buffers_;
  std::unique_ptr<VfioRegion> region_;
  int32_t former_canvas_ = -1;
  flip::Rect area_;
  uint32_t base_width_ = 0, base_height_ = 0; // of the primary plane's newest frame
  uint32_t crtc_id_ = 0;
  flip::VblankClock clock_;
  flip::Margin margin_;
  int64_t asked_ns_ = 0;    // how long the newest question took
  int64_t asked_at_ns_ = 0; // when it was
  bool soon_ = true;        // something but a flip may have changed the answer
  bool gone_ = false;
};

} // namespace scanout::guests
