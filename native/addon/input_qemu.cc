// Of the class InputEngine: consoles of QEMU's D-Bus display.
#include <sys/socket.h>

#include <algorithm>

#include "addon/input.h"
#include "base/unix_socket.h"
#include "input/qemu_sink.h"

namespace scanout::addon {

// (socket) -> { id, socket }
Napi::Value InputEngine::relay_qemu(const Napi::CallbackInfo& info) {
  base::UniqueFd socket = take_fd(info[0], "socket");
  if (!base::is_unix_socket(socket.get(), SOCK_STREAM))
    throw base::UsageError("socket: a unix stream socket expected");
  const auto relay = std::make_shared<input::QemuRelay>(std::move(socket));
  return post(
      "relay", [relay](input::Engine& engine) { return relay->enter(engine.epoll()); },
      [this, relay](Napi::Env env) -> Napi::Value {
        const uint32_t id = next_id();
        relays_.emplace(id, relay);
        Napi::Object object = Napi::Object::New(env);
        object.Set("id", id);
        object.Set("socket", wrap_fd(env, relay->take_inner()));
        return object;
      });
}

Napi::Value InputEngine::close_qemu_relay(const Napi::CallbackInfo& info) {
  const auto relay = relay_of(info[0]);
  relays_.erase(to_u32(info[0], "relay"));
  return post("relay", [relay](input::Engine&) {
    relay->leave();
    return 0;
  });
}

std::shared_ptr<input::QemuRelay> InputEngine::relay_of(const Napi::Value& id) {
  const auto found = relays_.find(to_u32(id, "relay"));
  if (found == relays_.end())
    throw Napi::RangeError::New(id.Env(), "relay: there is no " + std::to_string(to_u32(id, "relay")));
  return found->second;
}

// (guest, relay, { console, destination })
Napi::Value InputEngine::add_qemu(const Napi::CallbackInfo& info) {
  input::Guest& of = guest(info[0]);
  const auto relay = relay_of(info[1]);
  const Napi::Object options = to_object(info[2], "options");
  const Napi::Value destination = options.Get("destination");
  auto sink = std::make_unique<input::QemuSink>(
      relay, to_u32(options.Get("console"), "options.console"),
      destination.IsNull() ? std::string() : to_string(destination, "options.destination"));
  input::Attachment::Classes classes;
  for (const input::Class each : input::QemuSink::classes)
    classes.emplace_back(each, input::QemuSink::describe(each));
  return attach(of, std::move(sink), classes);
}

// (sink, { width, height, absolute, modifiers })
Napi::Value InputEngine::set_qemu(const Napi::CallbackInfo& info) {
  auto* of = dynamic_cast<input::QemuSink*>(sink(info[0]).sink.get());
  if (of == nullptr) throw base::UsageError("sink: one of QEMU expected");
  const Napi::Object object = to_object(info[1], "state");
  const input::QemuConsoleState state{
      .width = std::min(to_u32(object.Get("width"), "state.width"), 1u << 20),
      .height = std::min(to_u32(object.Get("height"), "state.height"), 1u << 20),
      .absolute = to_bool(object.Get("absolute"), "state.absolute"),
      .modifiers = to_u32(object.Get("modifiers"), "state.modifiers"),
  };
  return post("sink", [of, state](input::Engine&) {
    of->set(state);
    return 0;
  });
}

} // namespace scanout::addon
