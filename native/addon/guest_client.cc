// The class GuestClientNative: the C client on the loop of the JS thread.
#include <memory>

#include "addon/guest_client.h"
#include "addon/loop.h"
#include "addon/wrapped.h"

namespace scanout::addon {

namespace {

constexpr const char* resource = "scanoutd:guest-client";
// A daemon that never stops sending leaves the rest of the program its turn.
constexpr int events_per_turn = 64;

struct CloseClient {
  void operator()(scanoutd_client* client) const { scanoutd_client_close(client); }
};

/// Throws SystemError for what the C client returns.
int check_client(int result, const char* op) {
  if (result < 0) throw base::SystemError(-result, op);
  return result;
}

class GuestClient : public Wrapped<GuestClient> {
public:
  /// (path, { name, planes, capabilities }, onEvent(event))
  explicit GuestClient(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value connected(const Napi::CallbackInfo& info);
  Napi::Value capabilities(const Napi::CallbackInfo& info);
  Napi::Value bye(const Napi::CallbackInfo& info);
  Napi::Value disconnect(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value add_buffer(const Napi::CallbackInfo& info);
  Napi::Value renew_buffer(const Napi::CallbackInfo& info);
  Napi::Value remove_buffer(const Napi::CallbackInfo& info);
  Napi::Value set_present(const Napi::CallbackInfo& info);
  Napi::Value submit(const Napi::CallbackInfo& info);
  Napi::Value withdraw(const Napi::CallbackInfo& info);
  Napi::Value buffer_free(const Napi::CallbackInfo& info);
  Napi::Value acquire(const Napi::CallbackInfo& info);
  Napi::Value feedback(const Napi::CallbackInfo& info);
  Napi::Value take_input(const Napi::CallbackInfo& info);
  Napi::Value read_input(const Napi::CallbackInfo& info);
  Napi::Value input_device(const Napi::CallbackInfo& info);
  Napi::Value set_leds(const Napi::CallbackInfo& info);

private:
  scanoutd_client* client() {
    if (!client_) throw Napi::Error::New(Env(), "GuestClientNative is closed");
    return client_.get();
  }
  /// Passes a result of the client on, after looking whether the connection ended in that call.
  int checked(int result, const char* op) {
    follow();
    return check_client(result, op);
  }
  void start_watching();
  void watch_input();
  void stop_watching();
  void follow();
  void on_ready();

  std::unique_ptr<scanoutd_client, CloseClient> client_;
  std::unique_ptr<LoopPoll> control_, release_, input_; // after client_, whose descriptors they watch
  std::unique_ptr<LoopTimer> later_;
  Napi::FunctionReference on_event_;
};

GuestClient::GuestClient(const Napi::CallbackInfo& info) : Wrapped<GuestClient>(info) {
  guarded(info.Env(), [&] {
    const std::string path = to_string(info[0], "path");
    const Napi::Object js = to_object(info[1], "options");
    const std::string name = to_string(js.Get("name"), "name");
    scanoutd_client_options options{};
    options.name = name.c_str();
    plane_kinds_from_js(js.Get("planes"), options);
    options.capabilities = to_u64(js.Get("capabilities"), "capabilities");
    on_event_ = Napi::Persistent(to_function(info[2], "onEvent"));
    scanoutd_client* made = nullptr;
    check_client(scanoutd_client_create(path.c_str(), &options, &made), "scanoutd_client_create");
    client_.reset(made);
    later_ = std::make_unique<LoopTimer>(info.Env(), [this] { on_ready(); });
  });
}

/// One attempt. The event `connected` or `closed` follows.
Napi::Value GuestClient::connect(const Napi::CallbackInfo& info) {
  check_client(scanoutd_client_connect(client(), 0), "scanoutd_client_connect");
  start_watching();
  return info.Env().Undefined();
}

void GuestClient::start_watching() {
  control_ =
      std::make_unique<LoopPoll>(Env(), scanoutd_client_fd(client_.get()), [this](int) { on_ready(); });
  release_ = std::make_unique<LoopPoll>(Env(), scanoutd_client_release_fd(client_.get()),
                                        [this](int) { on_ready(); });
  control_->watch(UV_READABLE);
  release_->watch(UV_READABLE);
  watch_input();
  Ref(); // it works without anybody holding it, until the connection ends
}

void GuestClient::watch_input() {
  const int fd = scanoutd_client_input_fd(client_.get());
  if (fd < 0 || !control_ || input_) return;
  input_ = std::make_unique<LoopPoll>(Env(), fd, [this](int) { on_ready(); });
  input_->watch(UV_READABLE);
}

void GuestClient::stop_watching() {
  if (!control_) return;
  control_.reset();
  release_.reset();
  input_.reset();
  Unref();
}

/// The client closes its socket by itself when the connection ends; the watch must not survive it.
void GuestClient::follow() {
  if (!control_ || scanoutd_client_fd(client_.get()) >= 0) return;
  stop_watching();
  later_->set(0); // the event `closed` waits to be delivered
}

void GuestClient::on_ready() {
  scanoutd_event event;
  for (int i = 0; client_ && i < events_per_turn; ++i) {
    const bool any = scanoutd_client_dispatch(client_.get(), &event) == 1;
    follow();
    if (!any) return;
    enter_js(Env(), resource, [&] { on_event_.Value().Call({event_to_js(Env(), client_.get(), event)}); });
  }
  if (client_) later_->set(0);
}

Napi::Value GuestClient::connected(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), client_ && scanoutd_client_connected(client_.get()));
}

Napi::Value GuestClient::capabilities(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), scanoutd_client_capabilities(client()));
}

Napi::Value GuestClient::bye(const Napi::CallbackInfo& info) {
  checked(scanoutd_client_bye(client(), 0), "scanoutd_client_bye");
  return info.Env().Undefined();
}

Napi::Value GuestClient::disconnect(const Napi::CallbackInfo& info) {
  scanoutd_client* borrowed = client();
  stop_watching();
  scanoutd_client_disconnect(borrowed);
  return info.Env().Undefined();
}

Napi::Value GuestClient::close(const Napi::CallbackInfo& info) {
  stop_watching();
  later_.reset();
  client_.reset();
  on_event_.Reset();
  return info.Env().Undefined();
}

std::vector<int> borrow_fds(const Napi::Value& value) {
  const Napi::Array list = to_array(value, "fds");
  std::vector<int> fds(list.Length());
  for (uint32_t i = 0; i < list.Length(); ++i)
    fds[i] = borrow_fd(list.Get(i), "fds");
  return fds;
}

Napi::Value GuestClient::add_buffer(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "id");
  const scanoutd_layout layout = layout_from_js(to_object(info[1], "layout"));
  const std::vector<int> fds = borrow_fds(info[2]);
  uint32_t serial = 0;
  const auto count = static_cast<uint32_t>(fds.size());
  checked(scanoutd_client_add_buffer(client(), id, &layout, fds.data(), count, &serial),
          "scanoutd_client_add_buffer");
  return Napi::Number::New(info.Env(), serial);
}

Napi::Value GuestClient::renew_buffer(const Napi::CallbackInfo& info) {
  const uint32_t id = to_u32(info[0], "id");
  const std::vector<int> fds = borrow_fds(info[1]);
  uint32_t serial = 0;
  checked(scanoutd_client_renew_buffer(client(), id, fds.data(), static_cast<uint32_t>(fds.size()), &serial),
          "scanoutd_client_renew_buffer");
  return Napi::Number::New(info.Env(), serial);
}

Napi::Value GuestClient::remove_buffer(const Napi::CallbackInfo& info) {
  uint32_t serial = 0;
  checked(scanoutd_client_remove_buffer(client(), to_u32(info[0], "id"), &serial),
          "scanoutd_client_remove_buffer");
  return Napi::Number::New(info.Env(), serial);
}

Napi::Value GuestClient::set_present(const Napi::CallbackInfo& info) {
  uint32_t serial = 0;
  checked(scanoutd_client_set_present(client(), to_u32(info[0], "plane"), to_u32(info[1], "mode"), &serial),
          "scanoutd_client_set_present");
  return Napi::Number::New(info.Env(), serial);
}

Napi::Value GuestClient::submit(const Napi::CallbackInfo& info) {
  std::vector<scanoutd_rect> damage;
  const uint32_t plane = to_u32(info[0], "plane");
  const scanoutd_frame frame = frame_from_js(to_object(info[1], "frame"), damage);
  scanoutd_submission submission{};
  checked(scanoutd_client_submit(client(), plane, &frame, &submission), "scanoutd_client_submit");
  return submission_to_js(info.Env(), submission);
}

/// The submission taken back, or null when there was none.
Napi::Value GuestClient::withdraw(const Napi::CallbackInfo& info) {
  scanoutd_submission submission{};
  const int result = checked(scanoutd_client_withdraw(client(), to_u32(info[0], "plane"), &submission),
                             "scanoutd_client_withdraw");
  return result == 1 ? submission_to_js(info.Env(), submission).As<Napi::Value>() : info.Env().Null();
}

Napi::Value GuestClient::buffer_free(const Napi::CallbackInfo& info) {
  const bool free = scanoutd_client_buffer_free(client(), to_u32(info[0], "id"));
  follow();
  return Napi::Boolean::New(info.Env(), free);
}

/// The id, or null when none is free now.
Napi::Value GuestClient::acquire(const Napi::CallbackInfo& info) {
  const int result = scanoutd_client_acquire(client(), to_u64(info[0], "buffers"), 0);
  follow();
  later_->set(0); // what was read on the way makes events
  if (result == -ETIMEDOUT) return info.Env().Null();
  return Napi::Number::New(info.Env(), check_client(result, "scanoutd_client_acquire"));
}

Napi::Value GuestClient::feedback(const Napi::CallbackInfo& info) {
  scanoutd_flip_feedback feedback{};
  check_client(scanoutd_client_feedback(client(), to_u32(info[0], "plane"), &feedback),
               "scanoutd_client_feedback");
  return feedback_to_js(info.Env(), feedback);
}

Napi::Value GuestClient::take_input(const Napi::CallbackInfo& info) {
  uint32_t serial = 0;
  checked(scanoutd_client_take_input(client(), &serial), "scanoutd_client_take_input");
  watch_input();
  return Napi::Number::New(info.Env(), serial);
}

/// A frame, true where the devices are others from here on, or null.
Napi::Value GuestClient::read_input(const Napi::CallbackInfo& info) {
  scanoutd_input_frame frame;
  const int result = scanoutd_client_read_input(client(), &frame);
  follow();
  if (result == 1) return input_frame_to_js(info.Env(), frame);
  // A ring that is nonsense has ended the connection: the event `closed` tells why.
  return result == 2 ? Napi::Boolean::New(info.Env(), true).As<Napi::Value>() : info.Env().Null();
}

Napi::Value GuestClient::input_device(const Napi::CallbackInfo& info) {
  const scanoutd_input_device* device = scanoutd_client_input_device(client(), to_u32(info[0], "device"));
  return device == nullptr ? info.Env().Null() : input_device_to_js(info.Env(), *device).As<Napi::Value>();
}

Napi::Value GuestClient::set_leds(const Napi::CallbackInfo& info) {
  scanoutd_client_set_leds(client(), to_u32(info[0], "leds"));
  return info.Env().Undefined();
}

} // namespace

void init_guest_client(Napi::Env env, Napi::Object exports) {
  using G = GuestClient;
  exports.Set("GuestClientNative", G::DefineClass(env, "GuestClientNative",
                                                  {
                                                      G::define<&G::connect>("connect"),
                                                      G::define_getter<&G::connected>("connected"),
                                                      G::define_getter<&G::capabilities>("capabilities"),
                                                      G::define<&G::bye>("bye"),
                                                      G::define<&G::disconnect>("disconnect"),
                                                      G::define<&G::close>("close"),
                                                      G::define<&G::add_buffer>("addBuffer"),
                                                      G::define<&G::renew_buffer>("renewBuffer"),
                                                      G::define<&G::remove_buffer>("removeBuffer"),
                                                      G::define<&G::set_present>("setPresent"),
                                                      G::define<&G::submit>("submit"),
                                                      G::define<&G::withdraw>("withdraw"),
                                                      G::define<&G::buffer_free>("bufferFree"),
                                                      G::define<&G::acquire>("acquire"),
                                                      G::define<&G::feedback>("feedback"),
                                                      G::define<&G::take_input>("takeInput"),
                                                      G::define<&G::read_input>("readInput"),
                                                      G::define<&G::input_device>("inputDevice"),
                                                      G::define<&G::set_leds>("setLeds"),
                                                  }));
}

} // namespace scanout::addon
