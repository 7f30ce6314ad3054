// A context of libinput that devices of a seat share.
#pragma once

#include <libinput.h>

#include <array>
#include <cstdarg>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/epoll.h"
#include "base/unique_fd.h"

namespace scanout::input {

class LibinputDevice;

/// Devices in one context know of each other: a keyboard that is typed on disables a touchpad, a lid that is
/// closed too. libinput looks for such pairs among devices of one ID_SEAT of udev.
///
/// libinput may be used by one thread at a time. The JS thread makes and configures devices, which takes
/// milliseconds (udev's files, the first time all of the quirks), and holds the context meanwhile. The input
/// thread never waits for that: it leaves a context that is held alone, and is woken when it is free. What
/// the devices of that context do meanwhile stays with the kernel; no other device is delayed.
class LibinputContext final : private base::Pollable {
public:
  /// JS thread. Throws base::SystemError.
  LibinputContext();
  LibinputContext(const LibinputContext&) = delete;
  LibinputContext& operator=(const LibinputContext&) = delete;
  /// JS thread. No device is left by then.
  ~LibinputContext();

  /// JS thread: the context for itself. Waits for what the input thread is doing with it; its end wakes that.
  class Hold {
  public:
    explicit Hold(LibinputContext& context);
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold();

  private:
    LibinputContext& context_;
  };

  // While it is held.
  /// What libinput makes of the device's node, with a reference for the caller. Descriptors that libinput
  /// asks for, also later on (it closes and opens a touchpad as the lid does), are duplicates of the
  /// device's. Throws base::SystemError.
  libinput_device* add(LibinputDevice& device);
  void remove(LibinputDevice& device, libinput_device* handle) noexcept;

  // Input thread.
  /// For each device that is entered. 0 or a positive errno.
  int enter(base::Epoll& epoll) noexcept;
  void leave() noexcept;

private:
  void on_ready(uint32_t events) noexcept override;
  bool resume() noexcept;
  void read() noexcept;
  void logged(const char* line) noexcept;
  [[nodiscard]] LibinputDevice* find(const char* path) const noexcept;

  static int open_restricted(const char* path, int flags, void* context);
  static void close_restricted(int fd, void* context);
  static void log(libinput* handle, libinput_log_priority priority, const char* format, va_list arguments);
  static const libinput_interface interface;

  base::UniqueFd wake_;
  std::mutex busy_;

  // Of whoever has it.
  libinput* handle_ = nullptr;
  bool held_ = false; // by the JS thread
  std::vector<LibinputDevice*> devices_;
  std::array<char, 256> line_{}; // the newest of its log while it was held

  // Input thread.
  base::Epoll* epoll_ = nullptr;
  size_t entered_ = 0;
  bool reading_ = false;
};

/// The contexts by name. JS thread.
class LibinputContexts {
public:
  /// Made when there is none. Throws base::SystemError.
  std::shared_ptr<LibinputContext> of(const std::string& group);

private:
  std::map<std::string, std::weak_ptr<LibinputContext>> contexts_;
};

} // namespace scanout::input
