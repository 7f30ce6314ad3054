// Of the class InputEngine: devices, seats, guests and their sinks.
#include <algorithm>
#include <utility>

#include "addon/input.h"
#include "addon/input_libinput.h"
#include "base/clock.h"
#include "input/uinput_sink.h"

namespace scanout::addon {

namespace {

template <typename T>
std::shared_ptr<T> find(const std::map<uint32_t, std::shared_ptr<T>>& all, const Napi::Value& id,
                        const char* what) {
  const auto found = all.find(to_u32(id, what));
  if (found == all.end())
    throw Napi::RangeError::New(id.Env(),
                                std::string(what) + ": there is no " + std::to_string(to_u32(id, what)));
  return found->second;
}

/// No table and no command that comes later finds it any more.
template <typename T>
std::shared_ptr<T> take(std::map<uint32_t, std::shared_ptr<T>>& all, const Napi::Value& id,
                        const char* what) {
  std::shared_ptr<T> taken = find(all, id, what);
  all.erase(to_u32(id, what));
  return taken;
}

bool is_null(const Napi::Value& value) {
  return value.IsNull() || value.IsUndefined();
}

double to_size(const Napi::Value& value, const char* what) {
  const double number = to_i32(value, what);
  if (number < 1) throw Napi::RangeError::New(value.Env(), std::string(what) + ": 1 or more expected");
  return number;
}

uint16_t to_key(const Napi::Value& value) {
  const uint32_t key = to_u32(value, "hotkeys: key");
  if (key >= KEY_CNT)
    throw Napi::RangeError::New(value.Env(), "hotkeys: there is no key " + std::to_string(key));
  return static_cast<uint16_t>(key);
}

/// Calls `each` with every element.
template <typename Each> void for_each(const Napi::Value& value, const char* what, Each each) {
  const Napi::Array array = to_array(value, what);
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope handles(value.Env());
    each(array.Get(i));
  }
}

Napi::Object opened_to_js(Napi::Env env, input::Device& device) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", device.id);
  Napi::Array classes = Napi::Array::New(env);
  for (const input::Source* source : device.sources()) {
    Napi::Object one = Napi::Object::New(env);
    one.Set("class", input_class_name(source->of));
    one.Set("description", input_description_to_js(env, source->description));
    classes.Set(classes.Length(), one);
  }
  object.Set("classes", classes);
  object.Set("refused", refused_to_js(env, device));
  return object;
}

} // namespace

input::Guest& InputEngine::guest(const Napi::Value& id) {
  return *find(guests_, id, "guest");
}

input::Attachment& InputEngine::sink(const Napi::Value& id) {
  return *find(sinks_, id, "sink");
}

/// Before something is taken out of its map: a removal that cannot be posted would free what the input thread
/// has.
void InputEngine::require_room() const {
  if (!engine().has_room()) throw base::SystemError(EAGAIN, "input thread", "", "too much waits for it");
}

// ---- devices

Napi::Value InputEngine::open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = to_object(info[0], "options");
  base::UniqueFd fd = take_fd(options.Get("fd"), "options.fd");
  const std::string read = to_string(options.Get("read"), "options.read");
  std::shared_ptr<input::Device> device;
  if (read == "raw") {
    device = std::make_unique<input::RawDevice>(
        next_id(), std::move(fd),
        input::RawOptions{.of = to_input_class(options.Get("class"), "options.class"),
                          .grab = to_bool(options.Get("grab"), "options.grab")});
  } else if (read == "libinput") {
    device = open_libinput(next_id(), std::move(fd), options, contexts_);
  } else {
    throw base::UsageError("options.read: raw or libinput expected");
  }
  auto begin = [device](input::Engine& engine) {
    if (const int error = engine.add(*device); error != 0)
      engine.tell({.what = input::Notice::What::device_gone, .id = device->id, .error = error});
    return 0;
  };
  if (!engine().post(std::make_unique<input::BodyCommand<decltype(begin)>>(std::move(begin))))
    throw base::SystemError(EAGAIN, "read", options.Get("path").ToString());
  devices_.emplace(device->id, device);
  return opened_to_js(env, *device);
}

Napi::Value InputEngine::close(const Napi::CallbackInfo& info) {
  require_room();
  const auto device = take(devices_, info[0], "device");
  return post(
      "close",
      [one = device.get()](input::Engine& engine) {
        engine.remove(*one);
        return 0;
      },
      nullptr, device);
}

// ---- seats

Napi::Value InputEngine::add_seat(const Napi::CallbackInfo&) {
  const std::shared_ptr<input::Seat> seat = std::make_unique<input::Seat>(next_id());
  seat->active_ns = base::now_ns();
  seats_.emplace(seat->id, seat);
  return post(
      "seat", [one = seat.get()](input::Engine& engine) { return engine.add(*one); },
      [id = seat->id](Napi::Env env) { return Napi::Number::New(env, id); });
}

Napi::Value InputEngine::remove_seat(const Napi::CallbackInfo& info) {
  require_room();
  const auto seat = take(seats_, info[0], "seat");
  return post(
      "seat",
      [one = seat.get()](input::Engine& engine) {
        engine.remove(*one);
        return 0;
      },
      nullptr, seat);
}

std::unique_ptr<input::SeatTable> InputEngine::to_table(const Napi::Object& object) {
  auto table = std::make_unique<input::SeatTable>();
  const auto guest_or_null = [&](const Napi::Value& id) { return is_null(id) ? nullptr : &guest(id); };
  for_each(object.Get("outputs"), "outputs", [&](const Napi::Value& value) {
    const Napi::Object output = to_object(value, "outputs");
    table->outputs.push_back({.width = to_size(output.Get("width"), "outputs: width"),
                              .height = to_size(output.Get("height"), "outputs: height")});
  });
  const auto output_or_none = [&](const Napi::Value& value, const char* what) {
    if (is_null(value)) return -1;
    const int32_t index = to_i32(value, what);
    if (table->output(index) == nullptr)
      throw Napi::RangeError::New(value.Env(), std::string(what) + ": there is no such output");
    return index;
  };
  for_each(object.Get("devices"), "devices", [&](const Napi::Value& value) {
    const Napi::Object member = to_object(value, "devices");
    const int32_t output = output_or_none(member.Get("output"), "devices: output");
    for (input::Source* source : find(devices_, member.Get("id"), "device")->sources())
      table->members.push_back({.source = source, .output = output});
  });
  table->guest = guest_or_null(object.Get("guest"));
  table->switches = to_u32(object.Get("switches"), "switches");
  const std::string pointer = to_string(object.Get("pointer"), "pointer");
  if (pointer != "seat" && pointer != "under")
    throw Napi::TypeError::New(object.Env(), "pointer: seat or under expected");
  table->under = pointer == "under";
  table->carry_locks = to_bool(object.Get("carryLocks"), "carryLocks");
  for_each(object.Get("places"), "places", [&](const Napi::Value& value) {
    const Napi::Object place = to_object(value, "places");
    table->places.push_back({.guest = &guest(place.Get("guest")),
                             .output = output_or_none(place.Get("output"), "places: output"),
                             .x = static_cast<double>(to_i32(place.Get("x"), "places: x")),
                             .y = static_cast<double>(to_i32(place.Get("y"), "places: y")),
                             .width = to_size(place.Get("width"), "places: width"),
                             .height = to_size(place.Get("height"), "places: height")});
  });
  for_each(object.Get("hotkeys"), "hotkeys", [&](const Napi::Value& value) {
    const Napi::Object from = to_object(value, "hotkeys");
    input::Hotkey hotkey{.held = {},
                         .key = to_key(from.Get("key")),
                         .id = to_u32(from.Get("id"), "hotkeys: id"),
                         .guest = guest_or_null(from.Get("guest"))};
    for_each(from.Get("held"), "hotkeys: held", [&](const Napi::Value& keys) {
      std::vector<uint16_t>& alternatives = hotkey.held.emplace_back();
      for_each(keys, "hotkeys: held", [&](const Napi::Value& key) { alternatives.push_back(to_key(key)); });
    });
    table->hotkeys.push_back(std::move(hotkey));
  });
  return table;
}

Napi::Value InputEngine::set_seat(const Napi::CallbackInfo& info) {
  const auto seat = find(seats_, info[0], "seat");
  // What it gives back is freed with the command, on this thread.
  return post("seat", [seat, table = to_table(to_object(info[1], "table"))](input::Engine& engine) mutable {
    table = engine.router().set(*seat, std::move(table));
    return 0;
  });
}

Napi::Value InputEngine::idle_ns(const Napi::CallbackInfo& info) {
  const int64_t active = find(seats_, info[0], "seat")->active_ns.load(std::memory_order_relaxed);
  return Napi::Number::New(info.Env(), static_cast<double>(std::max<int64_t>(0, base::now_ns() - active)));
}

// ---- guests

Napi::Value InputEngine::add_guest(const Napi::CallbackInfo& info) {
  const auto guest = std::make_shared<input::Guest>(next_id());
  guests_.emplace(guest->id, guest);
  auto deferred = Napi::Promise::Deferred::New(info.Env());
  deferred.Resolve(Napi::Number::New(info.Env(), guest->id));
  return deferred.Promise();
}

Napi::Value InputEngine::remove_guest(const Napi::CallbackInfo& info) {
  require_room();
  const auto guest = take(guests_, info[0], "guest");
  auto gone = std::make_shared<std::vector<std::shared_ptr<input::Attachment>>>();
  std::erase_if(sinks_, [&](const auto& entry) {
    if (&entry.second->guest != guest.get()) return false;
    gone->push_back(entry.second);
    return true;
  });
  return post("guest", [guest, gone](input::Engine& engine) {
    for (const auto& sink : *gone)
      engine.remove(*sink);
    engine.remove(*guest);
    return 0;
  });
}

Napi::Value InputEngine::attach(input::Guest& guest, std::unique_ptr<input::Sink> sink,
                                const input::Attachment::Classes& classes,
                                std::function<Napi::Value(Napi::Env, uint32_t id)> result) {
  const std::shared_ptr<input::Attachment> attachment =
      std::make_unique<input::Attachment>(next_id(), guest, std::move(sink), classes);
  sinks_.emplace(attachment->id, attachment);
  const auto owner = guests_.at(guest.id);
  return post(
      "sink", [attachment, owner](input::Engine& engine) { return engine.add(*attachment); },
      [id = attachment->id, result = std::move(result)](Napi::Env env) -> Napi::Value {
        return result ? result(env, id) : Napi::Number::New(env, id);
      },
      nullptr, [this, id = attachment->id] { sinks_.erase(id); });
}

Napi::Value InputEngine::add_uinput(const Napi::CallbackInfo& info) {
  input::Guest& of = guest(info[0]);
  const input::Class each = to_input_class(info[1], "class");
  const input::Description description = to_input_description(info[2], "description");
  auto sink = std::make_unique<input::UinputSink>(description);
  const std::string node = sink->node(), path = sink->sys_path();
  return attach(of, std::move(sink), {{each, description}},
                [node, path](Napi::Env env, uint32_t id) -> Napi::Value {
                  Napi::Object object = Napi::Object::New(env);
                  object.Set("id", id);
                  object.Set("path", node);
                  object.Set("sysPath", path);
                  return object;
                });
}

Napi::Value InputEngine::remove_sink(const Napi::CallbackInfo& info) {
  require_room();
  const auto sink = take(sinks_, info[0], "sink");
  return post("sink", [sink](input::Engine& engine) {
    engine.remove(*sink);
    return 0;
  });
}

Napi::Value InputEngine::stats(const Napi::CallbackInfo& info) {
  const input::Attachment& of = sink(info[0]);
  const base::Histogram& latency = *of.traffic.latency;
  Napi::Object object = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, uint64_t value) { object.Set(name, static_cast<double>(value)); };
  set("delivered", of.traffic.events.load(std::memory_order_relaxed));
  set("merged", of.sink->merged());
  set("dropped", of.sink->dropped() + of.traffic.lost.load(std::memory_order_relaxed));
  set("p50Ns", latency.quantile(0.5));
  set("p99Ns", latency.quantile(0.99));
  set("maxNs", latency.max());
  return object;
}

// ---- watching

Napi::Value InputEngine::watch(const Napi::CallbackInfo& info) {
  const std::shared_ptr<input::Seat> seat = is_null(info[0]) ? nullptr : find(seats_, info[0], "seat");
  return post("watch", [seat, keys = to_bool(info[1], "keys"), watch = ++watch_](input::Engine& engine) {
    engine.router().watch(seat.get(), keys, watch);
    return 0;
  });
}

Napi::Value InputEngine::watched(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array array = Napi::Array::New(env);
  uint32_t length = 0;
  while (const auto one = engine().watched()) {
    if (one->watch != watch_) continue; // of a former one, which may have been for other eyes
    Napi::Object object = Napi::Object::New(env);
    object.Set("timeNs", static_cast<double>(one->kernel_ns));
    object.Set("device", one->device);
    object.Set("guest", one->guest == 0 ? env.Null() : Napi::Number::New(env, one->guest));
    object.Set("class", input_class_name(one->of));
    object.Set("type", one->event.type);
    object.Set("code", one->event.code == UINT16_MAX ? -1 : static_cast<int>(one->event.code));
    object.Set("value", one->event.value);
    array.Set(length++, object);
  }
  return array;
}

} // namespace scanout::addon
