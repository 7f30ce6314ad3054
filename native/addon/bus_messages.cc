// Calls, replies and signals of a BusConnection.
#include <cmath>

#include "addon/addon.h"
#include "addon/bus.h"
#include "addon/bus_marshal.h"
#include "addon/bus_outgoing.h"

namespace scanout::addon {

namespace {

void check_name(int (*valid)(const char*), const char* name, const char* what) {
  if (name != nullptr && valid(name) <= 0)
    throw base::UsageError(std::string(what) + ": '" + name + "' is no valid " + what);
}

uint64_t to_timeout_us(const Napi::Value& value) {
  if (value.IsUndefined()) return 0; // sd-bus's own
  const double ms = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(ms > 0)) throw base::UsageError("timeoutMs: positive number expected");
  return ms > 1e12 ? UINT64_MAX : static_cast<uint64_t>(std::ceil(ms * 1000));
}

Napi::Error to_error(Napi::Env env, const sd_bus_error* error) {
  Napi::Error made = Napi::Error::New(env, error->message != nullptr ? error->message : error->name);
  made.Set("dbusName", error->name);
  return made;
}

Napi::Object describe(Napi::Env env, sd_bus_message* message) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("sender", text_or_null(env, sd_bus_message_get_sender(message)));
  object.Set("path", text_or_null(env, sd_bus_message_get_path(message)));
  object.Set("interface", text_or_null(env, sd_bus_message_get_interface(message)));
  object.Set("member", text_or_null(env, sd_bus_message_get_member(message)));
  object.Set("signature", text_or_null(env, sd_bus_message_get_signature(message, 1)));
  object.Set("body", read_values(env, message, Napi::Array::New(env)));
  return object;
}

} // namespace

// ---- calls of ours

Napi::Value BusConnection::call(const Napi::CallbackInfo& info) {
  std::string destination_text;
  std::string interface_text;
  const char* destination = to_optional(info[0], "destination", destination_text);
  const std::string path = to_string(info[1], "path");
  const char* interface = to_optional(info[2], "interface", interface_text);
  const std::string member = to_string(info[3], "member");
  const uint64_t timeout = to_timeout_us(info[6]);
  check_name(sd_bus_service_name_is_valid, destination, "destination");
  check_name(sd_bus_object_path_is_valid, path.c_str(), "path");
  check_name(sd_bus_interface_name_is_valid, interface, "interface");
  check_name(sd_bus_member_name_is_valid, member.c_str(), "member");
  if (destination == nullptr && !connection_->is_peer())
    throw base::UsageError("destination: needed where there is a bus daemon");

  sd_bus_message* made = nullptr;
  bus::check_bus(
      sd_bus_message_new_method_call(bus(), &made, destination, path.c_str(), interface, member.c_str()),
      "sd_bus_message_new_method_call", member);
  const bus::MessagePtr message(made);
  append_values(made, to_string(info[4], "signature"), to_array(info[5], "body"), "body", max_message_);
  if (info[7].ToBoolean())
    bus::check_bus(sd_bus_message_set_allow_interactive_authorization(made, 1),
                   "sd_bus_message_set_allow_interactive_authorization", member);

  Outgoing& waiting = outgoing_.emplace_back(Env(), *this, path + " " + member);
  waiting.self = std::prev(outgoing_.end());
  sd_bus_slot* slot = nullptr;
  const auto on_reply = [](sd_bus_message* reply, void* userdata, sd_bus_error*) noexcept {
    return shielded([&] {
      auto* call = static_cast<Outgoing*>(userdata);
      call->owner.conclude_call(*call, reply);
      return 1;
    });
  };
  const int result = sd_bus_call_async(connection_->get(), &slot, made, on_reply, &waiting, timeout);
  if (result < 0) {
    const std::string subject = waiting.subject;
    outgoing_.pop_back();
    after_send(); // it may have found the peer gone
    throw base::SystemError(-result, "sd_bus_call_async", subject);
  }
  waiting.slot.reset(slot);
  const Napi::Promise promise = waiting.deferred.Promise();
  after_send(); // may reject it at once
  return promise;
}

void BusConnection::conclude_call(Outgoing& call, sd_bus_message* reply) {
  connection_->count_reply();
  std::list<Outgoing> concluded;
  concluded.splice(concluded.end(), outgoing_, call.self);
  try {
    if (const sd_bus_error* error = sd_bus_message_get_error(reply); error != nullptr) {
      call.deferred.Reject(to_error(Env(), error).Value());
      return;
    }
    call.deferred.Resolve(read_values(Env(), reply, Napi::Array::New(Env())));
  } catch (const Napi::Error& error) {
    call.deferred.Reject(error.Value());
  } catch (const std::exception& error) {
    call.deferred.Reject(to_js(Env(), error).Value());
    refuse(error, nullptr);
  }
}

void BusConnection::reject_outgoing(const Napi::Error& error) {
  std::list<Outgoing> all;
  all.swap(outgoing_);
  for (const Outgoing& call : all)
    call.deferred.Reject(error.Value());
}

// ---- replies of ours

Napi::Value BusConnection::reply(const Napi::CallbackInfo& info) {
  const auto found = incoming_.find(to_u32(info[0], "call"));
  if (found == incoming_.end()) return Napi::Boolean::New(info.Env(), false);
  sd_bus_message* made = nullptr;
  bus::check_bus(sd_bus_message_new_method_return(found->second.message.get(), &made),
                 "sd_bus_message_new_method_return");
  const bus::MessagePtr message(made);
  append_values(made, found->second.out, to_array(info[1], "results"), "results", max_message_);
  bus::check_bus(sd_bus_send(bus(), made, nullptr), "sd_bus_send");
  incoming_.erase(found);
  after_send();
  return Napi::Boolean::New(info.Env(), true);
}

Napi::Value BusConnection::reply_error(const Napi::CallbackInfo& info) {
  const auto found = incoming_.find(to_u32(info[0], "call"));
  if (found == incoming_.end()) return Napi::Boolean::New(info.Env(), false);
  std::string name = to_string(info[1], "name");
  if (sd_bus_interface_name_is_valid(name.c_str()) <= 0) name = SD_BUS_ERROR_FAILED;
  const std::string text = to_string(info[2], "message");
  const sd_bus_error error{.name = name.c_str(), .message = text.c_str(), ._need_free = 0};
  const bus::MessagePtr call = std::move(found->second.message);
  incoming_.erase(found);
  bus::check_bus(sd_bus_reply_method_error(call.get(), &error), "sd_bus_reply_method_error");
  after_send();
  return Napi::Boolean::New(info.Env(), true);
}

// ---- signals

Napi::Value BusConnection::emit(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  const std::string interface = to_string(info[1], "interface");
  const std::string member = to_string(info[2], "member");
  std::string destination_text;
  const char* destination = to_optional(info[5], "destination", destination_text);
  check_name(sd_bus_object_path_is_valid, path.c_str(), "path");
  check_name(sd_bus_interface_name_is_valid, interface.c_str(), "interface");
  check_name(sd_bus_member_name_is_valid, member.c_str(), "member");
  check_name(sd_bus_service_name_is_valid, destination, "destination");
  if (!connection_->is_open()) return info.Env().Undefined();
  sd_bus_message* made = nullptr;
  bus::check_bus(sd_bus_message_new_signal(bus(), &made, path.c_str(), interface.c_str(), member.c_str()),
                 "sd_bus_message_new_signal", member);
  const bus::MessagePtr message(made);
  append_values(made, to_string(info[3], "signature"), to_array(info[4], "body"), "body", max_message_);
  getter_error_.clear();
  const int result = destination == nullptr ? sd_bus_send(bus(), made, nullptr)
                                            : sd_bus_send_to(bus(), made, destination, nullptr);
  conclude_emission(result, "sd_bus_send", member);
  return info.Env().Undefined();
}

/// Signals to who has just gone are no failure of the sender's: those who tell many peers would otherwise
/// tell none after the first such.
void BusConnection::conclude_emission(int result, const char* op, const std::string& subject) {
  after_send();
  if (result == -ENOTCONN || result == -ECONNRESET || result == -EPIPE || !connection_->is_open()) return;
  if (result < 0 && !getter_error_.empty()) throw std::runtime_error(getter_error_);
  bus::check_bus(result, op, subject);
}

struct BusConnection::Match {
  BusConnection& owner;
  Napi::FunctionReference on_message;
  Napi::FunctionReference on_installed;
};

void BusConnection::on_signal(Match& match, sd_bus_message* message) {
  // What sd-bus says to itself is no signal of anybody's.
  if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local", nullptr) > 0) return;
  try {
    match.on_message.Value().Call({describe(Env(), message)});
  } catch (const Napi::Error& error) {
    report_uncaught(Env(), error);
  } catch (const std::exception& error) {
    refuse(error, nullptr);
  }
}

Napi::Value BusConnection::add_match(const Napi::CallbackInfo& info) {
  const std::string rule = to_string(info[0], "rule");
  auto match = std::make_unique<Match>(Match{.owner = *this, .on_message = {}, .on_installed = {}});
  match->on_message = Napi::Persistent(to_function(info[1], "onMessage"));
  match->on_installed = Napi::Persistent(to_function(info[2], "onInstalled"));
  const auto on_message = [](sd_bus_message* message, void* userdata, sd_bus_error*) noexcept {
    return shielded([&] {
      auto* self = static_cast<Match*>(userdata);
      self->owner.on_signal(*self, message);
      return 0;
    });
  };
  const auto on_installed = [](sd_bus_message* reply, void* userdata, sd_bus_error*) noexcept {
    return shielded([&] {
      auto* self = static_cast<Match*>(userdata);
      const Napi::Env env = self->owner.Env();
      const sd_bus_error* error = sd_bus_message_get_error(reply);
      self->on_installed.Value().Call({error == nullptr ? env.Null() : to_error(env, error).Value()});
      return 1;
    });
  };
  sd_bus_slot* slot = nullptr;
  // Between peers there is nobody to ask: what arrives is matched here.
  const int result =
      connection_->is_peer()
          ? sd_bus_add_match(bus(), &slot, rule.c_str(), on_message, match.get())
          : sd_bus_add_match_async(bus(), &slot, rule.c_str(), on_message, on_installed, match.get());
  bus::check_bus(result, "sd_bus_add_match", rule);
  // sd-bus may still be in one of these callbacks when the slot is dropped.
  sd_bus_slot_set_destroy_callback(slot, [](void* userdata) { delete static_cast<Match*>(userdata); });
  const Match* installed = match.release();
  const uint32_t number = keep(slot);
  if (connection_->is_peer()) installed->on_installed.Value().Call({Env().Null()});
  after_send();
  return Napi::Number::New(Env(), number);
}

} // namespace scanout::addon
