// A way to a guest by a virtio-input device of our own.
#pragma once

#include <memory>
#include <utility>

#include "input/virtio_device.h"

namespace scanout::input {

/// For one class. The device outlives it where its connection still has changes of the rings under way.
class VirtioSink : public Sink {
public:
  explicit VirtioSink(std::shared_ptr<VirtioDevice> device) noexcept : device_(std::move(device)) {}

  int enter(base::Epoll&, SinkOwner& owner) noexcept override { return device_->enter(*this, owner); }
  void leave() noexcept override { device_->leave(); }
  Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept override {
    return device_->frame(from, events, kernel_ns);
  }
  [[nodiscard]] uint64_t merged() const noexcept override { return device_->merged(); }
  [[nodiscard]] uint64_t dropped() const noexcept override { return device_->dropped(); }

protected:
  [[nodiscard]] const std::shared_ptr<VirtioDevice>& device() const noexcept { return device_; }

private:
  std::shared_ptr<VirtioDevice> device_;
};

} // namespace scanout::input
