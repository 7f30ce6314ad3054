#include "addon/kms_events.h"

#include <fcntl.h>

#include <utility>

#include "addon/kms_convert.h"
#include "addon/kms_device.h"

namespace scanout::addon {

namespace {

const char* name_of(kms::Event::Type type) {
  switch (type) {
  case kms::Event::Type::flip:
    return "flip";
  case kms::Event::Type::vblank:
    return "vblank";
  default:
    return "sequence";
  }
}

Napi::Object to_js(Napi::Env env, const kms::Event& event) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", name_of(event.type));
  object.Set("crtc", event.crtc_id);
  object.Set("sequence", big(env, event.sequence));
  object.Set("userData", big(env, event.user_data));
  object.Set("timeNs", big(env, event.time_ns));
  return object;
}

base::UniqueFd duplicate(int fd) {
  return base::UniqueFd(base::check(fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)"));
}

} // namespace

EventPoll::EventPoll(Napi::Env env, std::shared_ptr<kms::Device> device, const Napi::Function& callback)
    : env_(env), device_(std::move(device)), fd_(duplicate(device_->fd())),
      callback_(Napi::Persistent(callback)), poll_(env, fd_.get(), [this](int ready) { on_ready(ready); }) {
  poll_.watch(UV_READABLE);
}

EventPoll::~EventPoll() {
  *alive_ = false;
}

void EventPoll::on_ready(int ready) {
  const int result = kms::read_events(fd_.get(), *this);
  // A descriptor that fails would stay ready for ever.
  const int error = result < 0 ? -result : ready == 0 ? EIO : 0;
  if (error != 0) poll_.watch(0);
  const auto alive = alive_; // the callback may close the device, and this with it
  const auto events = std::exchange(pending_, {});
  enter_js(env_, "scanoutd.kms.event", [&] {
    for (const auto& event : events) {
      if (!*alive) return;
      const Napi::HandleScope handles(env_);
      try {
        callback_.Call({to_js(env_, event)});
      } catch (const Napi::Error& error) {
        report_uncaught(env_, error); // the other events are not lost for it
      }
    }
    if (error != 0 && *alive) throw base::SystemError(error, "read", device_->path());
  });
}

Napi::Value KmsDevice::on_event(const Napi::CallbackInfo& info) {
  (void)device(); // throws when closed
  if (info[0].IsNull()) {
    events_.reset();
    return info.Env().Undefined();
  }
  const Napi::Function callback = to_function(info[0], "callback");
  events_.reset();
  events_ = std::make_unique<EventPoll>(info.Env(), device(), callback);
  return info.Env().Undefined();
}

} // namespace scanout::addon
