#include "input/libinput_context.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ranges>
#include <string_view>

#include "base/error.h"
#include "input/libinput_device.h"

namespace scanout::input {

const libinput_interface LibinputContext::interface = {
    .open_restricted = &LibinputContext::open_restricted,
    .close_restricted = &LibinputContext::close_restricted,
};

LibinputContext::LibinputContext()
    : wake_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      handle_(libinput_path_create_context(&interface, this)) {
  if (handle_ == nullptr) throw base::SystemError(ENOMEM, "libinput_path_create_context");
  libinput_log_set_handler(handle_, &LibinputContext::log);
  libinput_log_set_priority(handle_, LIBINPUT_LOG_PRIORITY_INFO);
}

LibinputContext::~LibinputContext() {
  libinput_unref(handle_);
}

LibinputContext::Hold::Hold(LibinputContext& context) : context_(context) {
  context_.busy_.lock();
  context_.held_ = true;
  context_.line_ = {};
}

LibinputContext::Hold::~Hold() {
  context_.held_ = false;
  context_.busy_.unlock();
  // What was held up, and what adding or removing a device has brought about.
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(context_.wake_.get(), &one, sizeof one);
}

libinput_device* LibinputContext::add(LibinputDevice& device) {
  devices_.push_back(&device);
  libinput_device* handle = libinput_path_add_device(handle_, device.path().c_str());
  if (handle == nullptr) {
    devices_.pop_back();
    throw base::SystemError(EOPNOTSUPP, "libinput_path_add_device", device.path(), line_.data());
  }
  libinput_device_set_user_data(handle, &device);
  return libinput_device_ref(handle);
}

void LibinputContext::remove(LibinputDevice& device, libinput_device* handle) noexcept {
  libinput_device_set_user_data(handle, nullptr); // events of it may wait
  libinput_path_remove_device(handle);            // also of one that was unplugged
  libinput_device_unref(handle);
  std::erase(devices_, &device);
}

// ---- the input thread

int LibinputContext::enter(base::Epoll& epoll) noexcept {
  if (entered_++ > 0) return 0;
  epoll_ = &epoll;
  int result = epoll.try_add(libinput_get_fd(handle_), EPOLLIN, this);
  // Never read: each signal is an edge. The first is there already.
  if (result == 0) result = epoll.try_add(wake_.get(), EPOLLIN | EPOLLET, this);
  reading_ = true;
  if (result != 0) leave();
  return -result;
}

void LibinputContext::leave() noexcept {
  if (--entered_ > 0) return;
  epoll_->remove(libinput_get_fd(handle_));
  epoll_->remove(wake_.get());
  epoll_ = nullptr;
}

void LibinputContext::on_ready(uint32_t) noexcept {
  if (epoll_ == nullptr) return;
  const std::unique_lock lock(busy_, std::try_to_lock);
  if (lock) {
    if (resume()) read();
  } else if (std::exchange(reading_, false)) {
    epoll_->remove(libinput_get_fd(handle_)); // it would not cease to be ready; the end of the hold wakes us
  }
}

bool LibinputContext::resume() noexcept {
  if (std::exchange(reading_, true)) return true;
  const int result = epoll_->try_add(libinput_get_fd(handle_), EPOLLIN, this);
  if (result == 0) return true;
  for (LibinputDevice* device : devices_)
    device->end(-result);
  return false;
}

[[gnu::hot]] void LibinputContext::read() noexcept {
  libinput_dispatch(handle_);
  while (libinput_event* event = libinput_get_event(handle_)) {
    auto* device =
        static_cast<LibinputDevice*>(libinput_device_get_user_data(libinput_event_get_device(event)));
    if (device != nullptr) device->take(event);
    libinput_event_destroy(event);
  }
}

// ---- what libinput asks and says

/// The newest: one that was unplugged may still be there when its node has come back.
LibinputDevice* LibinputContext::find(const char* path) const noexcept {
  for (LibinputDevice* device : devices_ | std::views::reverse) {
    if (!device->ended() && device->path() == path) return device;
  }
  return nullptr;
}

int LibinputContext::open_restricted(const char* path, int /*flags*/, void* context) {
  const LibinputDevice* device = static_cast<LibinputContext*>(context)->find(path);
  if (device == nullptr) return -ENODEV;
  const int fd = fcntl(device->fd(), F_DUPFD_CLOEXEC, 0);
  return fd < 0 ? -errno : fd;
}

void LibinputContext::close_restricted(int fd, void* /*context*/) {
  close(fd);
}

void LibinputContext::log(libinput* handle, libinput_log_priority /*priority*/, const char* format,
                          va_list arguments) {
  auto* context = static_cast<LibinputContext*>(libinput_get_user_data(handle));
  std::array<char, sizeof context->line_> line;
  vsnprintf(line.data(), line.size(), format, arguments);
  if (char* end = std::strchr(line.data(), '\n')) *end = '\0';
  context->logged(line.data());
}

/// Lines begin with the name of the node that they are about, padded.
void LibinputContext::logged(const char* line) noexcept {
  if (held_) {
    std::snprintf(line_.data(), line_.size(), "%s", line);
    return;
  }
  const std::string_view text(line);
  for (LibinputDevice* device : devices_) {
    const std::string_view path = device->path();
    const std::string_view node = path.substr(path.rfind('/') + 1);
    if (!device->ended() && text.starts_with(node) && text.substr(node.size()).starts_with(' '))
      device->logged(line);
  }
}

// ---- by name

std::shared_ptr<LibinputContext> LibinputContexts::of(const std::string& group) {
  std::erase_if(contexts_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<LibinputContext>& known = contexts_[group];
  std::shared_ptr<LibinputContext> context = known.lock();
  if (!context) known = context = std::make_shared<LibinputContext>();
  return context;
}

} // namespace scanout::input
