// A device that is read, raw or through a library, on the input thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/epoll.h"
#include "base/packed.h"
#include "base/unique_fd.h"
#include "input/source.h"

namespace scanout::input {

/// Told on the input thread, from within an entry of its loop.
class DeviceOwner {
public:
  /// A whole frame.
  virtual void frame(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept = 0;
  /// The kernel dropped events; these are what is different now. Not told when nothing is.
  virtual void resync(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept = 0;
  /// The frames of one read are all told.
  virtual void read_done() noexcept = 0;
  /// That happened, whether or not anything is different.
  virtual void dropped(uint32_t device) noexcept = 0;
  /// There are lines about it for people to read, of a library that reads it.
  virtual void said(uint32_t device) noexcept = 0;
  /// It cannot be read any more, and is not. `error`: a positive errno; ENODEV when it was unplugged or
  /// revoked.
  virtual void gone(uint32_t device, int error) noexcept = 0;

protected:
  ~DeviceOwner() = default;
};

/// Made and destroyed on the JS thread, which may take long; everything else on the input thread.
class Device {
public:
  explicit Device(uint32_t device_id) noexcept : id(device_id) {}
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  const uint32_t id;
  /// What comes out of it, one of each class at most. Does not change.
  [[nodiscard]] virtual std::span<Source* const> sources() noexcept = 0;
  /// Begins reading. Both outlive its stay. 0 or a positive errno.
  virtual int enter(base::Epoll& epoll, DeviceOwner& owner) noexcept = 0;
  /// Reads no more. Not from within an entry of its own.
  virtual void leave() noexcept = 0;
};

class Changes;

/// Options of a raw device.
struct RawOptions {
  Class of = Class::keyboard;
  bool grab = false;
};

/// Events as the kernel has them (linux/input.h, Documentation/input/event-codes.rst).
class RawDevice final : private base::Pollable, public Device, public base::Packed {
public:
  /// Takes the descriptor over, which it makes non-blocking, and whose clock it sets to CLOCK_MONOTONIC.
  /// Throws base::SystemError: EBUSY where another has grabbed the device, and what `describe` throws.
  RawDevice(uint32_t id, base::UniqueFd fd, const RawOptions& options);
  ~RawDevice() override = default;

  [[nodiscard]] std::span<Source* const> sources() noexcept override { return sources_; }
  int enter(base::Epoll& epoll, DeviceOwner& owner) noexcept override;
  void leave() noexcept override;

private:
  class RawSource final : public Source {
  public:
    RawSource(uint32_t id, Class of, const Description& description, int fd)
        : Source(id, of, description), fd_(fd) {}
    void set_leds(uint32_t leds) noexcept override;
    /// Reads the device's state, and gives the events by which it differs from what is known; valid until
    /// the next call.
    std::span<const Event> read_state() noexcept;

  private:
    void read_slots(Changes& changes) noexcept;
    /// Of every key, switch and axis, and of every axis of every contact with its slot.
    static constexpr size_t max_changes =
        KEY_CNT + SW_CNT + ABS_CNT + size_t{max_slots} * 2 * (ABS_MT_TOOL_Y - ABS_MT_SLOT) + 2;
    int fd_;
    std::vector<Event> changes_ = std::vector<Event>(max_changes);
  };
  void on_ready(uint32_t events) noexcept override;
  bool take(std::span<const input_event> events) noexcept;
  void keep(std::span<const Event> events, int64_t kernel_ns) noexcept;
  void resync() noexcept;
  void end(int error) noexcept;

  base::UniqueFd fd_;
  base::Epoll* epoll_ = nullptr;
  DeviceOwner* owner_ = nullptr;
  /// Of a frame whose end was not in the same read.
  size_t kept_count_ = 0;
  RawSource source_;
  const std::array<Source*, 1> sources_{&source_};
  const std::unique_ptr<std::array<Event, max_frame>> kept_ =
      std::make_unique<std::array<Event, max_frame>>();
};

} // namespace scanout::input
