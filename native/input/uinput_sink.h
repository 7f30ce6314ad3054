// A device of uinput (Documentation/input/uinput.rst): for a virtual machine's virtio-input-host or
// input-linux.
#pragma once

#include <array>
#include <string>

#include "base/packed.h"
#include "base/unique_fd.h"
#include "input/sink.h"

namespace scanout::input {

/// Has what its description has; its phys names the guest and the class, by which udev finds it.
class UinputSink final : public Sink, public base::Packed, private base::Pollable {
public:
  /// Throws base::SystemError: no /dev/uinput, or the kernel refuses the description.
  explicit UinputSink(const Description& description);
  ~UinputSink() override;

  /// "/dev/input/event7"; empty when the node is not there yet.
  [[nodiscard]] const std::string& node() const noexcept { return node_; }
  /// "/sys/devices/virtual/input/input12"
  [[nodiscard]] const std::string& sys_path() const noexcept { return sys_path_; }

  int enter(base::Epoll& epoll, SinkOwner& owner) noexcept override;
  void leave() noexcept override;
  Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept override;
  void flush() noexcept override;

private:
  // Gathered. A longer frame takes several writes.
  static constexpr size_t max_frames = 32;
  static constexpr size_t max_events = 64;
  /// The end of a pause.
  struct Pause final : base::Pollable {
    explicit Pause(UinputSink& of) noexcept : sink(of) {}
    void on_ready(uint32_t) noexcept override { sink.on_pause(); }
    UinputSink& sink;
  };
  void on_ready(uint32_t events) noexcept override;
  void on_pause() noexcept;
  void pause() noexcept;
  void find_nodes();

  base::UniqueFd fd_, timer_;
  Pause pause_{*this};
  bool paused_ = false;
  uint32_t leds_ = 0;
  base::Epoll* epoll_ = nullptr;
  SinkOwner* owner_ = nullptr;
  // One write for all frames of a read.
  size_t event_count_ = 0, frame_count_ = 0;
  std::array<int64_t, max_frames> kernel_ns_;
  std::array<input_event, max_events> events_;
  std::string node_, sys_path_;
};

} // namespace scanout::input
