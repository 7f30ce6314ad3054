// A virtio-gpu device (Virtio 1.2, section 5.7): 2D and blob resources in the guest's own memory.
#pragma once

#include <linux/virtio_gpu.h>

#include <array>
#include <atomic>
#include <memory>

#include "base/eventfd_signal.h"
#include "base/spsc_ring.h"
#include "flip/engine.h"
#include "guests/vhost_rings.h"
#include "guests/virtio_gpu_types.h"
#include "guests/virtio_state.h"

namespace scanout::guests {

class VirtioScanout;

/// Serves both queues on the flip thread. A guest's page flip (SET_SCANOUT, RESOURCE_FLUSH) is a frame of the
/// scanout's stream; a fenced flush is answered when that frame is on the screen, and after
/// `answer_within_ns` at the latest.
///
/// What takes long (memory into a dma-buf, a dma-buf into a framebuffer, copying) is JavaScript's: the
/// command stays in hand, and the control queue waits until `finish_job`. That is once for each buffer.
/// Frames and cursor go on meanwhile.
class VirtioGpu final : public RingUser, private base::Pollable {
public:
  static constexpr uint32_t control_ring = 0, cursor_ring = 1;
  /// A Linux guest waits 50 ms for a flush; the timer and the way back take some of that.
  static constexpr int64_t answer_within_ns = 40'000'000;
  static constexpr uint64_t features = uint64_t{1} << VIRTIO_GPU_F_EDID | uint64_t{1}
                                                                              << VIRTIO_GPU_F_RESOURCE_BLOB;

  /// `scanouts`: 1 to 16. `state`: new, or that of a former process, whose buffers have to be given their
  /// framebuffers (`restored`) before its pictures (`show_again`) and its rings. Throws SystemError.
  VirtioGpu(uint32_t scanouts, flip::Engine& engine, std::shared_ptr<VirtioState> state);
  VirtioGpu(const VirtioGpu&) = delete;
  VirtioGpu& operator=(const VirtioGpu&) = delete;
  /// After `close` has run on the flip thread and every scanout has left, or when the engine is stopped.
  ~VirtioGpu() = default;

  // Any thread.
  [[nodiscard]] uint32_t scanout_count() const noexcept { return scanout_count_; }
  /// Readable when there are notices. Reset it by reading.
  [[nodiscard]] int notice_fd() const noexcept { return notice_event_.get(); }
  [[nodiscard]] uint64_t commands() const noexcept { return commands_.load(std::memory_order_relaxed); }
  /// Flushes that were answered by the clock since their frame was not shown in time.
  [[nodiscard]] uint64_t late() const noexcept { return late_.load(std::memory_order_relaxed); }

  // JS thread.
  [[nodiscard]] const std::shared_ptr<VirtioState>& state() const noexcept { return state_; }
  std::optional<GpuNotice> notice() noexcept { return notices_.pop(); }
  /// The command in hand, between a notice of a job and `finish_job`: nobody else touches it then.
  [[nodiscard]] const DescriptorChain& job_chain() const noexcept { return chain_; }
  /// Where its list of memory entries begins, and how many it has.
  [[nodiscard]] uint64_t job_entries_at() const noexcept { return job_entries_at_; }
  [[nodiscard]] uint32_t job_entries() const noexcept { return job_entries_; }

  // Flip thread, by commands.
  int open() noexcept;
  void close() noexcept;
  VhostRings& rings() noexcept { return rings_; }
  void set_display(uint32_t scanout, const GpuDisplay& display) noexcept { displays_[scanout] = display; }
  void finish_job(const GpuJobResult& result) noexcept;
  void buffer_released(uint32_t buffer) noexcept;
  void resource_released(uint32_t resource) noexcept;
  /// A buffer of a former process is there again. JavaScript's job with it is no command's.
  void restored(uint32_t buffer, const GpuJobResult& result) noexcept;
  /// Submits what a former process showed.
  void show_again() noexcept;
  /// Leaves everything as it is for a process to come; nothing is served any more.
  void suspend() noexcept;
  /// The VMM is gone: lets everything go that the guest had.
  void reset() noexcept;

  // Flip thread, for the scanouts.
  void add(uint32_t index, VirtioScanout& scanout) noexcept { scanouts_[index] = &scanout; }
  void remove(uint32_t index) noexcept;
  GpuBuffer& buffer(uint32_t index) noexcept { return buffers_[index]; }
  GpuScanoutRecord& scanout_record(uint32_t index) noexcept { return state_->gpu().scanouts[index]; }
  /// A frame of the buffer is over.
  void unuse(uint32_t index) noexcept;
  void presented(uint32_t scanout, uint64_t sequence) noexcept;

  // RingUser
  void on_start(uint32_t ring, uint16_t base) noexcept override;
  void on_kick(uint32_t ring) noexcept override;
  void on_stop(uint32_t ring) noexcept override;
  void on_broken(uint32_t ring, const char* why) noexcept override;

private:
  /// A flush whose answer waits for the flip.
  struct Parked {
    AnswerPlace place;
    virtio_gpu_ctrl_hdr header{};
    int64_t deadline_ns = 0;
    uint32_t scanouts = 0; // those that have not shown it yet
    std::array<uint64_t, max_gpu_scanouts> sequences{};
  };
  static constexpr uint32_t max_parked = 64;
  static constexpr int commands_a_turn = 64;

  /// The engine's epoll has two more descriptors of ours.
  struct Again final : base::Pollable {
    VirtioGpu* gpu = nullptr;
    void on_ready(uint32_t) noexcept override { gpu->serve_both(); }
  };

  void on_ready(uint32_t events) noexcept override; // the timer
  void serve_both() noexcept;
  void serve_control() noexcept;
  void serve_cursor() noexcept;
  void come_back() noexcept;
  void show_pending() noexcept;

  // Commands of the control queue; each gives the answer's type, or `later`.
  static constexpr uint32_t later = 0;
  uint32_t execute() noexcept;
  [[nodiscard]] uint32_t unless_again(uint32_t error) const noexcept;
  uint32_t create_2d() noexcept;
  uint32_t create_blob() noexcept;
  uint32_t unref() noexcept;
  uint32_t attach_backing() noexcept;
  uint32_t detach_backing() noexcept;
  uint32_t set_scanout() noexcept;
  uint32_t set_scanout_blob() noexcept;
  uint32_t transfer() noexcept;
  uint32_t flush() noexcept;
  uint32_t display_info() noexcept;
  uint32_t edid() noexcept;
  template <typename T> bool request(T& value) const noexcept;

  uint32_t show_on(uint32_t scanout, uint32_t buffer, const virtio_gpu_rect& rect) noexcept;
  uint32_t submit_flush(uint32_t resource, const GpuRect& rect) noexcept;
  bool park(uint32_t scanouts, const std::array<uint64_t, max_gpu_scanouts>& sequences) noexcept;
  void answer(const void* response, size_t size) noexcept;
  void answer_type(uint32_t type) noexcept;
  void answer_parked(bool all) noexcept;
  [[nodiscard]] virtio_gpu_ctrl_hdr answer_header(uint32_t type) const noexcept;
  void cursor_command() noexcept;
  void refuse_resubmitted(uint32_t ring) noexcept;

  [[nodiscard]] uint32_t find(uint32_t id) const noexcept;
  uint32_t free_resource() const noexcept;
  uint32_t free_buffer() const noexcept;
  void drop_resource(uint32_t index) noexcept;
  void drop_buffer(uint32_t index) noexcept;
  void settle_buffer(uint32_t index) noexcept;
  void settle_resource(uint32_t index) noexcept;
  uint32_t start_job(const GpuNotice& notice) noexcept;
  void take_over(const GpuNotice& job, const GpuJobResult& result, bool wanted) noexcept;
  void tell(const GpuNotice& notice) noexcept;
  void arm_timer() noexcept;

  flip::Engine& engine_;
  uint32_t scanout_count_;
  std::shared_ptr<VirtioState> state_;
  VhostRings rings_;
  std::array<VirtioScanout*, max_gpu_scanouts> scanouts_{};
  std::array<GpuDisplay, max_gpu_scanouts> displays_{};
  std::array<GpuResource, max_gpu_resources>& resources_; // in the state
  std::array<GpuBuffer, max_gpu_buffers>& buffers_;

  DescriptorChain chain_; // the command in hand
  virtio_gpu_ctrl_hdr header_{};
  DescriptorChain cursor_chain_;
  int64_t now_ = 0; // of this turn
  GpuNotice job_;
  bool stalled_ = false;   // a job is under way
  bool abandoned_ = false; // and nobody waits for its answer any more
  uint64_t job_entries_at_ = 0;
  uint32_t job_entries_ = 0;

  std::array<Parked, max_parked> parked_; // oldest first, from parked_first_
  uint32_t parked_first_ = 0, parked_count_ = 0;
  bool timer_armed_ = false;
  uint16_t& stopped_at_; // in the state

  base::UniqueFd timer_, again_event_, notice_event_;
  Again again_;
  base::SpscRing<GpuNotice, 1024> notices_;
  std::atomic<uint64_t> commands_{0}, late_{0};
};

} // namespace scanout::guests
