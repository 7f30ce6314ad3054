// The ring of a socket guest, for the class InputEngine.
#include <fcntl.h>

#include "addon/input.h"
#include "base/fd_kind.h"
#include "input/ring_sink.h"

namespace scanout::addon {

namespace {

base::UniqueFd take_eventfd(const Napi::Value& value, const char* what) {
  if (!base::is_eventfd(borrow_fd(value, what)))
    throw base::SystemError(EINVAL, "readlink", what, "no eventfd");
  return take_fd(value, what);
}

input::Attachment::Classes to_classes(const Napi::Value& value) {
  const Napi::Array array = to_array(value, "devices");
  input::Attachment::Classes classes;
  uint32_t seen = 0;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope handles(value.Env());
    const Napi::Object device = to_object(array.Get(i), "devices");
    const input::Class of = to_input_class(device.Get("class"), "devices: class");
    const uint32_t bit = 1u << static_cast<uint32_t>(of);
    if ((seen & bit) != 0) throw base::UsageError("devices: one of each class expected");
    seen |= bit;
    classes.emplace_back(of, to_input_description(device.Get("description"), "devices: description"));
  }
  return classes;
}

base::UniqueFd duplicate(int fd) {
  return base::UniqueFd(base::check(fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)", "input ring"));
}

input::RingSink& ring_of(input::Attachment& attachment) {
  auto* ring = dynamic_cast<input::RingSink*>(attachment.sink.get());
  if (ring == nullptr) throw base::UsageError("sink: a ring expected");
  return *ring;
}

} // namespace

/// (guest, { event, room, devices })
Napi::Value InputEngine::add_ring(const Napi::CallbackInfo& info) {
  input::Guest& of = guest(info[0]);
  const Napi::Object options = to_object(info[1], "options");
  const input::Attachment::Classes classes = to_classes(options.Get("devices"));
  input::RingSink::Descriptors descriptors{take_eventfd(options.Get("event"), "event eventfd"),
                                           take_eventfd(options.Get("room"), "room eventfd")};
  auto sink = std::make_unique<input::RingSink>(std::move(descriptors), engine().signaller());
  sink->set_devices(classes);
  struct Memory {
    base::UniqueFd ring, reply;
  };
  const auto memory = std::make_shared<Memory>(duplicate(sink->ring_fd()), duplicate(sink->reply_fd()));
  return attach(of, std::move(sink), classes, [memory](Napi::Env env, uint32_t id) -> Napi::Value {
    Napi::Object object = Napi::Object::New(env);
    object.Set("id", id);
    object.Set("ring", wrap_fd(env, std::move(memory->ring)));
    object.Set("reply", wrap_fd(env, std::move(memory->reply)));
    return object;
  });
}

/// (sink, devices)
Napi::Value InputEngine::set_ring(const Napi::CallbackInfo& info) {
  input::Attachment& attachment = sink(info[0]);
  input::RingSink& ring = ring_of(attachment);
  auto classes = std::make_shared<input::Attachment::Classes>(to_classes(info[1]));
  auto ports = std::make_shared<std::vector<std::unique_ptr<input::Port>>>();
  for (const auto& [each, description] : *classes)
    ports->push_back(
        std::make_unique<input::Port>(attachment.guest, each, description, ring, attachment.traffic));
  // Former ports are freed with the command, on this thread.
  return post("sink", [&attachment, &ring, classes, ports](input::Engine& engine) {
    engine.withdraw(attachment);
    ring.set_devices(*classes);
    std::swap(attachment.ports, *ports);
    engine.offer(attachment);
    return 0;
  });
}

} // namespace scanout::addon
