#include "input/libinput_device.h"

#include <fcntl.h>
#include <libudev.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/error.h"
#include "input/describe.h"
#include "input/libinput_describe.h"

namespace scanout::input {

namespace {

/// libinput waits for udev by sleeping, up to two seconds: better told at once.
void require_udev(int fd, const std::string& path) {
  struct stat status{};
  base::check(fstat(fd, &status), "fstat", path);
  const std::unique_ptr<udev, decltype(&udev_unref)> context(udev_new(), &udev_unref);
  if (!context) throw base::SystemError(ENOMEM, "udev_new");
  const std::unique_ptr<udev_device, decltype(&udev_device_unref)> device(
      udev_device_new_from_devnum(context.get(), 'c', status.st_rdev), &udev_device_unref);
  if (!device) throw base::SystemError(ENODEV, "udev_device_new_from_devnum", path);
  if (udev_device_get_is_initialized(device.get()) <= 0)
    throw base::SystemError(EAGAIN, "udev_device_get_is_initialized", path,
                            "udev has not dealt with it, without which libinput cannot read it");
}

int64_t time_of(libinput_event* event) noexcept {
  const auto ns = [](uint64_t usec) { return static_cast<int64_t>(usec) * 1000; };
  switch (libinput_event_get_type(event)) {
  case LIBINPUT_EVENT_KEYBOARD_KEY:
    return ns(libinput_event_keyboard_get_time_usec(libinput_event_get_keyboard_event(event)));
  case LIBINPUT_EVENT_TOUCH_DOWN:
  case LIBINPUT_EVENT_TOUCH_MOTION:
  case LIBINPUT_EVENT_TOUCH_UP:
  case LIBINPUT_EVENT_TOUCH_CANCEL:
  case LIBINPUT_EVENT_TOUCH_FRAME:
    return ns(libinput_event_touch_get_time_usec(libinput_event_get_touch_event(event)));
  case LIBINPUT_EVENT_TABLET_TOOL_AXIS:
  case LIBINPUT_EVENT_TABLET_TOOL_PROXIMITY:
  case LIBINPUT_EVENT_TABLET_TOOL_TIP:
  case LIBINPUT_EVENT_TABLET_TOOL_BUTTON:
    return ns(libinput_event_tablet_tool_get_time_usec(libinput_event_get_tablet_tool_event(event)));
  case LIBINPUT_EVENT_TABLET_PAD_BUTTON:
  case LIBINPUT_EVENT_TABLET_PAD_RING:
  case LIBINPUT_EVENT_TABLET_PAD_STRIP:
  case LIBINPUT_EVENT_TABLET_PAD_KEY:
    return ns(libinput_event_tablet_pad_get_time_usec(libinput_event_get_tablet_pad_event(event)));
  case LIBINPUT_EVENT_SWITCH_TOGGLE:
    return ns(libinput_event_switch_get_time_usec(libinput_event_get_switch_event(event)));
  default: // the pointer's
    return ns(libinput_event_pointer_get_time_usec(libinput_event_get_pointer_event(event)));
  }
}

} // namespace

LibinputDevice::LibinputDevice(uint32_t id, std::shared_ptr<LibinputContext> context, base::UniqueFd fd,
                               std::string path, const Options& options)
    : Device(id), context_(std::move(context)), fd_(std::move(fd)), path_(std::move(path)) {
  const Description raw = describe(fd_.get());
  require_udev(fd_.get(), path_);
  const int flags = base::check(fcntl(fd_.get(), F_GETFL), "fcntl(F_GETFL)", path_);
  base::check(fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK), "fcntl(F_SETFL)", path_);
  if (options.grab) base::check(ioctl(fd_.get(), EVIOCGRAB, 1), "EVIOCGRAB", path_);
  const LibinputContext::Hold hold(*context_);
  handle_ = context_->add(*this);
  try {
    make_sources(raw);
    refused_ = configure(handle_, options.settings);
  } catch (...) {
    context_->remove(*this, handle_);
    throw;
  }
}

LibinputDevice::~LibinputDevice() {
  const LibinputContext::Hold hold(*context_);
  context_->remove(*this, handle_);
}

void LibinputDevice::make_sources(const Description& raw) {
  for (const auto& [of, description] : describe(handle_, raw)) {
    auto& source = by_class_[static_cast<size_t>(of)];
    source = LibinputSource::make(id, of, description, fd_.get());
    sources_.push_back(source.get());
  }
  if (sources_.empty())
    throw base::SystemError(EOPNOTSUPP, "libinput_device_has_capability", path_,
                            "libinput makes no device of it that a guest could use");
}

int LibinputDevice::enter(base::Epoll& epoll, DeviceOwner& owner) noexcept {
  if (ended_ != 0) return ended_;
  const int error = context_->enter(epoll);
  if (error == 0) owner_ = &owner;
  return error;
}

void LibinputDevice::leave() noexcept {
  if (owner_ == nullptr) return;
  owner_ = nullptr;
  context_->leave();
}

void LibinputDevice::end(int error) noexcept {
  if (ended_ != 0) return;
  ended_ = error;
  if (owner_ == nullptr) return;
  DeviceOwner* owner = owner_;
  leave();
  owner->gone(id, error);
}

// ---- events

/// Null for what no evdev device tells.
LibinputSource* LibinputDevice::source_for(libinput_event_type type) const noexcept {
  switch (type) {
  case LIBINPUT_EVENT_KEYBOARD_KEY:
    return source(Class::keyboard);
  case LIBINPUT_EVENT_POINTER_MOTION_ABSOLUTE:
    return source(Class::absolute);
  case LIBINPUT_EVENT_POINTER_MOTION:
  case LIBINPUT_EVENT_POINTER_BUTTON:
  case LIBINPUT_EVENT_POINTER_AXIS:
  case LIBINPUT_EVENT_POINTER_SCROLL_WHEEL:
  case LIBINPUT_EVENT_POINTER_SCROLL_FINGER:
  case LIBINPUT_EVENT_POINTER_SCROLL_CONTINUOUS: {
    // Of a device with both, whose buttons are those of either, the one with a position.
    LibinputSource* positioned = source(Class::absolute);
    return positioned == nullptr || type == LIBINPUT_EVENT_POINTER_MOTION ? source(Class::pointer)
                                                                          : positioned;
  }
  case LIBINPUT_EVENT_TOUCH_DOWN:
  case LIBINPUT_EVENT_TOUCH_MOTION:
  case LIBINPUT_EVENT_TOUCH_UP:
  case LIBINPUT_EVENT_TOUCH_CANCEL:
  case LIBINPUT_EVENT_TOUCH_FRAME:
    return source(Class::touchscreen);
  case LIBINPUT_EVENT_TABLET_TOOL_AXIS:
  case LIBINPUT_EVENT_TABLET_TOOL_PROXIMITY:
  case LIBINPUT_EVENT_TABLET_TOOL_TIP:
  case LIBINPUT_EVENT_TABLET_TOOL_BUTTON:
    return source(Class::tablet);
  case LIBINPUT_EVENT_TABLET_PAD_BUTTON:
  case LIBINPUT_EVENT_TABLET_PAD_RING:
  case LIBINPUT_EVENT_TABLET_PAD_STRIP:
  case LIBINPUT_EVENT_TABLET_PAD_KEY:
    return source(Class::pad);
  case LIBINPUT_EVENT_SWITCH_TOGGLE:
    return source(Class::switches);
  default:
    return nullptr;
  }
}

[[gnu::hot]] void LibinputDevice::take(libinput_event* event) noexcept {
  const libinput_event_type type = libinput_event_get_type(event);
  if (type == LIBINPUT_EVENT_DEVICE_ADDED) return;
  if (type == LIBINPUT_EVENT_DEVICE_REMOVED) {
    end(ENODEV);
    return;
  }
  LibinputSource* source = source_for(type);
  if (source == nullptr) return;
  source->make_frame(frame_, event);
  const std::span<const Event> events = frame_.finish();
  if (events.empty()) return;
  if (owner_ != nullptr)
    owner_->frame(*source, events, time_of(event));
  else
    source->take(events);
}

void LibinputDevice::logged(const char* line) noexcept {
  if (std::strstr(line, "SYN_DROPPED") != nullptr) {
    if (owner_ != nullptr) owner_->dropped(id);
    return;
  }
  const std::string_view text(line);
  // That it was removed is told otherwise, and how late its events are is measured where they are delivered.
  if (text.ends_with("device removed") || text.find("processing lagging") != text.npos) return;
  Line kept{};
  text.copy(kept.text.data(), kept.text.size() - 1);
  // The oldest say most, and of a flood of them no more than that is told.
  if (lines_.push(kept) && owner_ != nullptr) owner_->said(id);
}

} // namespace scanout::input
