#include "session/udev.h"

#include <unistd.h>

#include <cerrno>

#include "base/error.h"

namespace scanout::session {

namespace {

/// A socket of udevd's that is there exactly while udevd runs.
constexpr const char* udevd_socket = "/run/udev/control";

std::string text_of(const char* text) {
  return text == nullptr ? std::string() : std::string(text);
}

std::unique_ptr<udev, UnrefUdev> new_context() {
  std::unique_ptr<udev, UnrefUdev> context(udev_new());
  if (!context) throw base::SystemError(errno, "udev_new");
  return context;
}

UdevDevice describe(udev_device* device) {
  UdevDevice found{.action = text_of(udev_device_get_action(device)),
                   .subsystem = text_of(udev_device_get_subsystem(device)),
                   .devtype = text_of(udev_device_get_devtype(device)),
                   .sysname = text_of(udev_device_get_sysname(device)),
                   .syspath = text_of(udev_device_get_syspath(device)),
                   .devnode = text_of(udev_device_get_devnode(device)),
                   .sequence = udev_device_get_seqnum(device),
                   .properties = {}};
  for (udev_list_entry* entry = udev_device_get_properties_list_entry(device); entry != nullptr;
       entry = udev_list_entry_get_next(entry)) {
    found.properties.emplace(text_of(udev_list_entry_get_name(entry)),
                             text_of(udev_list_entry_get_value(entry)));
  }
  return found;
}

void check_udev(int result, const char* op, const std::string& subject = {}) {
  if (result < 0) throw base::SystemError(-result, op, subject);
}

} // namespace

std::vector<UdevDevice> enumerate_devices(const UdevFilter& filter) {
  const auto context = new_context();
  const std::unique_ptr<udev_enumerate, UnrefUdev> enumerate(udev_enumerate_new(context.get()));
  if (!enumerate) throw base::SystemError(errno, "udev_enumerate_new");
  check_udev(udev_enumerate_add_match_subsystem(enumerate.get(), filter.subsystem.c_str()),
             "udev_enumerate_add_match_subsystem", filter.subsystem);
  check_udev(udev_enumerate_scan_devices(enumerate.get()), "udev_enumerate_scan_devices", filter.subsystem);
  std::vector<UdevDevice> devices;
  for (udev_list_entry* entry = udev_enumerate_get_list_entry(enumerate.get()); entry != nullptr;
       entry = udev_list_entry_get_next(entry)) {
    const std::unique_ptr<udev_device, UnrefUdev> device(
        udev_device_new_from_syspath(context.get(), udev_list_entry_get_name(entry)));
    if (!device) continue; // gone since the scan
    UdevDevice found = describe(device.get());
    if (filter.devtype.empty() || found.devtype == filter.devtype) devices.push_back(std::move(found));
  }
  return devices;
}

UdevMonitor::UdevMonitor(const std::vector<UdevFilter>& filters, std::optional<Source> source,
                         int buffer_bytes)
    : context_(new_context()),
      source_(source.value_or(::access(udevd_socket, F_OK) == 0 ? Source::udev : Source::kernel)) {
  const char* group = source_ == Source::udev ? "udev" : "kernel";
  monitor_.reset(udev_monitor_new_from_netlink(context_.get(), group));
  if (!monitor_) throw base::SystemError(errno, "udev_monitor_new_from_netlink", group);
  for (const UdevFilter& filter : filters) {
    check_udev(udev_monitor_filter_add_match_subsystem_devtype(
                   monitor_.get(), filter.subsystem.c_str(),
                   filter.devtype.empty() ? nullptr : filter.devtype.c_str()),
               "udev_monitor_filter_add_match_subsystem_devtype", filter.subsystem);
  }
  // Beyond the system's limit only with CAP_NET_ADMIN; a smaller one overflows earlier, and says so.
  const int resized = udev_monitor_set_receive_buffer_size(monitor_.get(), buffer_bytes);
  if (resized < 0 && resized != -EPERM)
    throw base::SystemError(-resized, "udev_monitor_set_receive_buffer_size");
  check_udev(udev_monitor_enable_receiving(monitor_.get()), "udev_monitor_enable_receiving", group);
}

UdevMonitor::Drained UdevMonitor::drain() {
  Drained drained;
  for (;;) {
    errno = 0;
    const std::unique_ptr<udev_device, UnrefUdev> device(udev_monitor_receive_device(monitor_.get()));
    if (device) {
      drained.events.push_back(describe(device.get()));
    } else if (errno == ENOBUFS) {
      drained.overflow = true; // said once; what is still in the buffer comes after it
    } else if (errno == 0 || errno == EAGAIN) {
      return drained;
    } else if (errno != EINTR) {
      throw base::SystemError(errno, "udev_monitor_receive_device");
    }
  }
}

} // namespace scanout::session
