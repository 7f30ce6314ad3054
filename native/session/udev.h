// Devices as udev knows them: those that are there, and what happens to them.
#pragma once

#include <libudev.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace scanout::session {

struct UdevFilter {
  std::string subsystem;
  std::string devtype; ///< empty: any
};

struct UdevDevice {
  std::string action; ///< "add", "remove", "change" and so on; empty for an enumerated device
  std::string subsystem;
  std::string devtype; ///< empty when it has none
  std::string sysname;
  std::string syspath;
  std::string devnode;   ///< empty when it has none
  uint64_t sequence = 0; ///< of the event
  std::map<std::string, std::string> properties;
};

struct UnrefUdev {
  void operator()(udev* context) const noexcept { udev_unref(context); }
  void operator()(udev_monitor* monitor) const noexcept { udev_monitor_unref(monitor); }
  void operator()(udev_device* device) const noexcept { udev_device_unref(device); }
  void operator()(udev_enumerate* enumerate) const noexcept { udev_enumerate_unref(enumerate); }
};

/// All devices that match, with their properties, in the order of their syspaths. Throws SystemError.
std::vector<UdevDevice> enumerate_devices(const UdevFilter& filter);

/// Hears of devices that come, go and change. Not thread-safe.
class UdevMonitor {
public:
  enum class Source {
    udev,  ///< after udevd has dealt with an event: with ID_SEAT and the like, and a device node that can be
           ///< opened
    kernel ///< as the kernel says it; needs no udevd
  };

  /// `source` none: udev where udevd runs, else the kernel. An empty filter list lets everything through.
  /// `buffer_bytes` of events that have not been read yet, beyond which some are lost. Throws SystemError.
  UdevMonitor(const std::vector<UdevFilter>& filters, std::optional<Source> source, int buffer_bytes);

  [[nodiscard]] int fd() const noexcept { return udev_monitor_get_fd(monitor_.get()); }
  [[nodiscard]] Source source() const noexcept { return source_; }

  struct Drained {
    std::vector<UdevDevice> events;
    bool overflow = false; ///< events were lost: look at everything again
  };
  /// All that waits, without blocking. Throws SystemError.
  Drained drain();

private:
  std::unique_ptr<udev, UnrefUdev> context_;
  std::unique_ptr<udev_monitor, UnrefUdev> monitor_;
  Source source_;
};

} // namespace scanout::session
