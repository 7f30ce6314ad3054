// A device that is read through libinput.
#pragma once

#include <libinput.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/spsc_ring.h"
#include "base/unique_fd.h"
#include "input/device.h"
#include "input/libinput_context.h"
#include "input/libinput_options.h"
#include "input/libinput_source.h"

namespace scanout::input {

/// Its events come out as those of a plain evdev device, one source for each class. Swipes, pinches and holds
/// have no form in evdev and go nowhere, as do dials of pads and totems on tablets. Of a
/// scroll with two fingers a wheel is made.
class LibinputDevice final : public Device {
public:
  struct Options {
    bool grab = false;
    LibinputOptions settings;
  };

  /// JS thread. `fd` is of the evdev device at `path`, and taken over; libinput has duplicates of it only.
  /// udev must be done with the device. Throws base::SystemError, with libinput's own words where it has any.
  LibinputDevice(uint32_t id, std::shared_ptr<LibinputContext> context, base::UniqueFd fd, std::string path,
                 const Options& options);
  /// JS thread.
  ~LibinputDevice() override;

  /// Settings that libinput did not take: see `configure`.
  [[nodiscard]] const std::vector<std::string>& refused() const noexcept { return refused_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  /// What libinput had to say of it while it was read: bugs of its driver, mostly. JS thread.
  struct Line {
    std::array<char, 200> text;
  };
  std::optional<Line> line() noexcept { return lines_.pop(); }

  [[nodiscard]] std::span<Source* const> sources() noexcept override { return sources_; }
  int enter(base::Epoll& epoll, DeviceOwner& owner) noexcept override;
  void leave() noexcept override;

  // The context, on whatever thread has it.
  /// An event of this device. What comes before `enter` is in the sources' state alone.
  void take(libinput_event* event) noexcept;
  /// libinput has given it up, or nothing can be read any more.
  void end(int error) noexcept;
  [[nodiscard]] bool ended() const noexcept { return ended_ != 0; }
  /// A line of libinput's log about it, while it was read.
  void logged(const char* line) noexcept;

private:
  LibinputSource* source(Class of) const noexcept { return by_class_[static_cast<size_t>(of)].get(); }
  LibinputSource* source_for(libinput_event_type type) const noexcept;
  void make_sources(const Description& raw);

  std::shared_ptr<LibinputContext> context_;
  base::UniqueFd fd_;
  std::string path_;
  libinput_device* handle_ = nullptr;
  std::vector<std::string> refused_;
  std::array<std::unique_ptr<LibinputSource>, class_count> by_class_;
  std::vector<Source*> sources_;
  base::SpscRing<Line, 16> lines_;
  FrameMaker frame_;
  int ended_ = 0;                // a positive errno
  DeviceOwner* owner_ = nullptr; // null: not entered
};

} // namespace scanout::input
