// Events of a DRM device for JavaScript.
#pragma once

#include <napi.h>

#include <memory>

#include "addon/loop.h"
#include "kms/device.h"
#include "kms/events.h"

namespace scanout::addon {

/// Watches a device on the JS thread's loop and calls a function for each event.
class EventPoll final : private kms::EventHandler {
public:
  /// Throws SystemError.
  EventPoll(Napi::Env env, std::shared_ptr<kms::Device> device, const Napi::Function& callback);
  EventPoll(const EventPoll&) = delete;
  EventPoll& operator=(const EventPoll&) = delete;
  virtual ~EventPoll();

private:
  void on_event(const kms::Event& event) noexcept override { pending_.push_back(event); }
  void on_ready(int ready);

  Napi::Env env_;
  std::shared_ptr<kms::Device> device_;
  // libuv watches a descriptor once; the device's own may be watched by somebody else as well.
  base::UniqueFd fd_;
  Napi::FunctionReference callback_;
  std::vector<kms::Event> pending_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  LoopPoll poll_;
};

} // namespace scanout::addon
