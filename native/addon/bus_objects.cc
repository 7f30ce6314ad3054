// Objects that a BusConnection exports.
#include <algorithm>

#include "addon/addon.h"
#include "addon/bus.h"
#include "addon/bus_marshal.h"

namespace scanout::addon {

namespace {

std::vector<std::string> to_strings(const Napi::Value& value, const char* what) {
  std::vector<std::string> strings;
  if (value.IsUndefined()) return strings;
  const Napi::Array array = to_array(value, what);
  for (uint32_t i = 0; i < array.Length(); ++i)
    strings.push_back(to_string(array.Get(i), what));
  return strings;
}

/// For sd-bus's functions that take a char**; points into `strings`.
std::vector<char*> to_strv(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& string : strings)
    pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

bus::Member::Kind to_kind(const std::string& kind) {
  if (kind == "method") return bus::Member::Kind::method;
  if (kind == "signal") return bus::Member::Kind::signal;
  if (kind == "property") return bus::Member::Kind::property;
  throw base::UsageError("kind: 'method', 'signal' or 'property' expected");
}

bus::Member::Emits to_emits(const std::string& emits) {
  if (emits == "none") return bus::Member::Emits::none;
  if (emits == "change") return bus::Member::Emits::change;
  if (emits == "invalidates") return bus::Member::Emits::invalidates;
  if (emits == "const") return bus::Member::Emits::constant;
  throw base::UsageError("emits: 'change', 'invalidates', 'const' or 'none' expected");
}

bus::Member to_member(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "member");
  bus::Member member;
  member.kind = to_kind(to_string(object.Get("kind"), "kind"));
  member.name = to_string(object.Get("name"), "name");
  member.in = to_string(object.Get("in"), "in");
  member.out = to_string(object.Get("out"), "out");
  member.in_names = to_strings(object.Get("inNames"), "inNames");
  member.out_names = to_strings(object.Get("outNames"), "outNames");
  member.emits = to_emits(to_string(object.Get("emits"), "emits"));
  member.writable = to_bool(object.Get("writable"), "writable");
  member.deprecated = to_bool(object.Get("deprecated"), "deprecated");
  return member;
}

/// A JavaScript error as a D-Bus one; -errno.
int to_bus_error(const Napi::Error& thrown, sd_bus_error* error) {
  const Napi::Value name = thrown.Get("dbusName");
  std::string text = name.IsString() ? name.As<Napi::String>().Utf8Value() : std::string();
  if (sd_bus_interface_name_is_valid(text.c_str()) <= 0) text = SD_BUS_ERROR_FAILED;
  return sd_bus_error_set(error, text.c_str(), thrown.Message().c_str());
}

} // namespace

JsInterface::JsInterface(BusConnection& connection, std::string object_path, std::string name,
                         std::vector<bus::Member> members, const Napi::Object& handlers)
    : bus::Interface(std::move(name), std::move(members)), owner(connection), path(std::move(object_path)),
      method(Napi::Persistent(to_function(handlers.Get("method"), "method"))),
      get(Napi::Persistent(to_function(handlers.Get("get"), "get"))),
      set(Napi::Persistent(to_function(handlers.Get("set"), "set"))) {}

int JsInterface::on_call(const bus::Member& member, sd_bus_message* call, sd_bus_error* error) noexcept {
  return shielded([&] { return owner.dispatch(*this, member, call, error); });
}

int JsInterface::on_get(const bus::Member& member, sd_bus_message* reply, sd_bus_error* error) noexcept {
  return shielded([&] { return append_property(member, reply, error); });
}

int JsInterface::append_property(const bus::Member& member, sd_bus_message* reply, sd_bus_error* error) {
  try {
    const Napi::HandleScope scope(owner.Env());
    const Napi::Value value = get.Value().Call({Napi::String::New(owner.Env(), member.name)});
    append_value(reply, member.in, value, member.name, owner.max_message_);
    return 0;
  } catch (const Napi::Error& thrown) {
    owner.getter_error_ = member.name + ": " + thrown.Message();
    return to_bus_error(thrown, error);
  } catch (const std::exception& thrown) {
    owner.getter_error_ = thrown.what();
    return sd_bus_error_set(error, SD_BUS_ERROR_FAILED, thrown.what());
  }
}

Napi::Value BusConnection::add_interface(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  const std::string name = to_string(info[1], "interface");
  const Napi::Array array = to_array(info[2], "members");
  std::vector<bus::Member> members;
  members.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    members.push_back(to_member(array.Get(i)));
  sd_bus* bus = this->bus();
  // sd-bus allows several vtables of one interface on one object; their handlers could not be told apart.
  if (objects_.contains({path, name})) throw base::SystemError(EEXIST, "addInterface", name + " at " + path);
  auto* made = new JsInterface(*this, path, name, std::move(members), to_object(info[3], "handlers"));
  const uint32_t number = keep(bus::Interface::add(bus, path, made), made);
  objects_.emplace(Object{path, name}, made);
  return Napi::Number::New(info.Env(), number);
}

Napi::Value BusConnection::add_object_manager(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  sd_bus_slot* slot = nullptr;
  bus::check_bus(sd_bus_add_object_manager(bus(), &slot, path.c_str()), "sd_bus_add_object_manager", path);
  return Napi::Number::New(info.Env(), keep(slot));
}

uint32_t BusConnection::keep(sd_bus_slot* slot, JsInterface* interface) {
  const uint32_t number = ++numbers_;
  slots_.emplace(number, Slot{.slot = bus::SlotPtr(slot), .interface = interface});
  return number;
}

Napi::Value BusConnection::remove(const Napi::CallbackInfo& info) {
  const auto found = slots_.find(to_u32(info[0], "slot"));
  if (found == slots_.end()) return info.Env().Undefined(); // closed, or removed before
  const JsInterface* interface = found->second.interface;
  if (interface != nullptr) {
    objects_.erase({interface->path, interface->name()});
    // Replies point at the vtable: none may come after it.
    std::erase_if(incoming_, [&](auto& call) {
      if (call.second.interface != interface) return false;
      sd_bus_reply_method_errorf(call.second.message.get(), SD_BUS_ERROR_UNKNOWN_OBJECT,
                                 "%s has gone from %s", interface->name().c_str(), interface->path.c_str());
      return true;
    });
  }
  slots_.erase(found);
  after_send();
  return info.Env().Undefined();
}

bool BusConnection::is_overloaded(sd_bus_message* call) const {
  if (connection_->is_peer()) return incoming_.size() >= max_pending_;
  // On a bus many senders share the connection.
  const char* sender = sd_bus_message_get_sender(call);
  const auto same = std::count_if(incoming_.begin(), incoming_.end(), [&](const auto& other) {
    const char* name = sd_bus_message_get_sender(other.second.message.get());
    return sender != nullptr && name != nullptr && std::string_view(sender) == name;
  });
  return static_cast<size_t>(same) >= max_pending_ || incoming_.size() >= 16 * max_pending_;
}

int BusConnection::refuse(const std::exception& error, sd_bus_error* reply) {
  const auto* system = dynamic_cast<const base::SystemError*>(&error);
  const bool is_malformed = system != nullptr && system->error() == EBADMSG;
  // Who speaks no D-Bus has no business here; a bus daemon's connection is not for one sender to close.
  if (is_malformed && connection_->is_peer()) connection_->close(EBADMSG);
  return sd_bus_error_set(reply, is_malformed ? SD_BUS_ERROR_INVALID_ARGS : SD_BUS_ERROR_LIMITS_EXCEEDED,
                          error.what());
}

int BusConnection::dispatch(JsInterface& interface, const bus::Member& member, sd_bus_message* call,
                            sd_bus_error* error) {
  if (is_overloaded(call))
    return sd_bus_error_set_const(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "too many calls wait for an answer");
  const Napi::Env env = Env();
  const bool is_set = member.kind == bus::Member::Kind::property;
  const uint32_t number = ++numbers_;
  try {
    const Napi::HandleScope scope(env);
    const Napi::Array fds = Napi::Array::New(env);
    const Napi::Value arguments = is_set ? read_value(env, call, "v", fds).As<Napi::Object>().Get("value")
                                         : read_values(env, call, fds).As<Napi::Value>();
    incoming_.emplace(number, Incoming{.message = bus::MessagePtr(sd_bus_message_ref(call)),
                                       .out = is_set ? std::string() : member.out,
                                       .interface = &interface});
    const Napi::Function handler = is_set ? interface.set.Value() : interface.method.Value();
    handler.Call({Napi::String::New(env, member.name), arguments, fds,
                  text_or_null(env, sd_bus_message_get_sender(call)), Napi::Number::New(env, number),
                  Napi::Boolean::New(env, sd_bus_message_get_allow_interactive_authorization(call) > 0)});
    return 1;
  } catch (const Napi::Error& thrown) {
    incoming_.erase(number);
    return to_bus_error(thrown, error);
  } catch (const std::exception& thrown) {
    return refuse(thrown, error);
  }
}

int BusConnection::on_message(sd_bus_message* message) noexcept {
  if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "Set") <= 0) return 0;
  return shielded([&] { return set_property(message) ? 1 : 0; });
}

/// Answers a Set of a property that is there and writable, with time for its handler; the rest is sd-bus's.
bool BusConnection::set_property(sd_bus_message* message) {
  const char* interface = nullptr;
  const char* name = nullptr;
  const char* contents = nullptr;
  const char* path = sd_bus_message_get_path(message);
  if (sd_bus_message_has_signature(message, "ssv") <= 0 ||
      sd_bus_message_read(message, "ss", &interface, &name) <= 0 ||
      sd_bus_message_peek_type(message, nullptr, &contents) <= 0 || contents == nullptr || path == nullptr) {
    sd_bus_message_rewind(message, 1);
    return false;
  }
  const auto found = objects_.find({path, interface});
  const bus::Member* property =
      found == objects_.end() ? nullptr : found->second->find(bus::Member::Kind::property, name);
  if (property == nullptr || !property->writable || property->in != contents) {
    sd_bus_message_rewind(message, 1);
    return false;
  }
  sd_bus_error error = SD_BUS_ERROR_NULL;
  if (dispatch(*found->second, *property, message, &error) < 0) sd_bus_reply_method_error(message, &error);
  sd_bus_error_free(&error);
  return true;
}

Napi::Value BusConnection::emit_properties_changed(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  const std::string interface = to_string(info[1], "interface");
  std::vector<std::string> names = to_strings(info[2], "properties");
  if (!connection_->is_open()) return info.Env().Undefined();
  const auto object = objects_.find({path, interface});
  if (object == objects_.end())
    throw base::UsageError("properties: no interface " + interface + " at " + path);
  for (const std::string& name : names) {
    const bus::Member* property = object->second->find(bus::Member::Kind::property, name);
    if (property == nullptr || property->emits == bus::Member::Emits::none ||
        property->emits == bus::Member::Emits::constant) {
      throw base::UsageError(std::string("properties: ").append(name).append(" is none that emits changes"));
    }
  }
  if (names.empty()) return info.Env().Undefined(); // to sd-bus it would mean all of them
  getter_error_.clear();
  std::vector<char*> strv = to_strv(names);
  const int result =
      sd_bus_emit_properties_changed_strv(connection_->get(), path.c_str(), interface.c_str(), strv.data());
  conclude_emission(result, "sd_bus_emit_properties_changed_strv", path);
  return info.Env().Undefined();
}

Napi::Value BusConnection::emit_interfaces_added(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  std::vector<std::string> names = to_strings(info[1], "interfaces");
  if (!connection_->is_open()) return info.Env().Undefined();
  std::vector<char*> strv = to_strv(names);
  getter_error_.clear();
  const int result = sd_bus_emit_interfaces_added_strv(connection_->get(), path.c_str(), strv.data());
  conclude_emission(result, "sd_bus_emit_interfaces_added_strv", path);
  return info.Env().Undefined();
}

Napi::Value BusConnection::emit_interfaces_removed(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  std::vector<std::string> names = to_strings(info[1], "interfaces");
  if (!connection_->is_open()) return info.Env().Undefined();
  std::vector<char*> strv = to_strv(names);
  const int result = sd_bus_emit_interfaces_removed_strv(connection_->get(), path.c_str(), strv.data());
  conclude_emission(result, "sd_bus_emit_interfaces_removed_strv", path);
  return info.Env().Undefined();
}

} // namespace scanout::addon
