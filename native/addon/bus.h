// The class BusConnection: what its files share.
#pragma once

#include <napi.h>

#include <list>
#include <map>
#include <memory>
#include <string>

#include "addon/loop.h"
#include "addon/wrapped.h"
#include "bus/connection.h"
#include "bus/interface.h"

namespace scanout::addon {

class JsInterface;

/// A D-Bus connection on the JS loop. It keeps itself alive until it is closed.
class BusConnection : public Wrapped<BusConnection>, private bus::Connection::Owner {
public:
  /// ({ address, peer } or { socket }, { maxMessageBytes, maxFds, maxPendingCalls }, onReady(),
  ///  onClosed(error or null), onDrain())
  explicit BusConnection(const Napi::CallbackInfo& info);
  ~BusConnection() override;

  // bus.cc
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value is_closed(const Napi::CallbackInfo& info);
  Napi::Value unique_name(const Napi::CallbackInfo& info);
  Napi::Value credentials(const Napi::CallbackInfo& info);
  Napi::Value queued(const Napi::CallbackInfo& info);
  Napi::Value await_drain(const Napi::CallbackInfo& info);

  // bus_messages.cc
  /// (destination or null, path, interface or null, member, signature, body, timeout in ms or undefined)
  Napi::Value call(const Napi::CallbackInfo& info);
  /// (path, interface, member, signature, body, destination or null)
  Napi::Value emit(const Napi::CallbackInfo& info);
  /// (rule, onMessage(message), onInstalled(error or null)); gives the slot's number
  Napi::Value add_match(const Napi::CallbackInfo& info);
  /// (call's number, results); false when the call is gone
  Napi::Value reply(const Napi::CallbackInfo& info);
  /// (call's number, D-Bus error name, message); false when the call is gone
  Napi::Value reply_error(const Napi::CallbackInfo& info);

  // bus_objects.cc
  /// (path, interface, members, { method, get, set }); gives the slot's number
  Napi::Value add_interface(const Napi::CallbackInfo& info);
  Napi::Value add_object_manager(const Napi::CallbackInfo& info);
  Napi::Value remove(const Napi::CallbackInfo& info);
  Napi::Value emit_properties_changed(const Napi::CallbackInfo& info);
  Napi::Value emit_interfaces_added(const Napi::CallbackInfo& info);
  Napi::Value emit_interfaces_removed(const Napi::CallbackInfo& info);

private:
  friend class JsInterface;
  struct Outgoing;
  struct Match;
  /// A call of the peer's that JavaScript has not answered yet.
  struct Incoming {
    bus::MessagePtr message;
    std::string out; ///< signature of the results
    JsInterface* interface;
  };
  struct Slot {
    bus::SlotPtr slot;
    JsInterface* interface = nullptr;
  };
  using Object = std::pair<std::string, std::string>; ///< path, interface

  // bus::Connection::Owner
  void on_ready() noexcept override;
  int on_message(sd_bus_message* message) noexcept override;
  void on_closed(int error) noexcept override;

  /// Throws when closed.
  sd_bus* bus();
  void run();
  void rearm();
  void after_send();
  void conclude_emission(int result, const char* op, const std::string& subject);
  void tell_closed(int error);
  void reject_outgoing(const Napi::Error& error);
  void conclude_call(Outgoing& call, sd_bus_message* reply);
  void on_signal(Match& match, sd_bus_message* message);
  uint32_t keep(sd_bus_slot* slot, JsInterface* interface = nullptr);
  bool set_property(sd_bus_message* message);
  /// What sd-bus is to be told about a message that could not be read.
  int refuse(const std::exception& error, sd_bus_error* reply);
  [[nodiscard]] bool is_overloaded(sd_bus_message* call) const;
  /// Gives a call to JavaScript. Positive, or -errno with `error` set.
  int dispatch(JsInterface& interface, const bus::Member& member, sd_bus_message* call, sd_bus_error* error);

  std::unique_ptr<bus::Connection> connection_;
  std::unique_ptr<LoopPoll> poll_;
  std::unique_ptr<LoopTimer> timer_;
  Napi::FunctionReference on_ready_;
  Napi::FunctionReference on_closed_;
  Napi::FunctionReference on_drain_;
  size_t max_message_ = 0;
  size_t max_pending_ = 0;
  bool wants_drain_ = false;
  uint32_t numbers_ = 0;
  std::map<uint32_t, Incoming> incoming_;
  std::list<Outgoing> outgoing_;
  std::map<uint32_t, Slot> slots_;
  std::map<Object, JsInterface*> objects_;
  std::string getter_error_; ///< why the newest emission failed, of which sd-bus tells only an errno
};

/// An interface whose members are in JavaScript.
class JsInterface final : public bus::Interface {
public:
  JsInterface(BusConnection& owner, std::string path, std::string name, std::vector<bus::Member> members,
              const Napi::Object& handlers);

  BusConnection& owner;
  const std::string path;
  /// (name, arguments, descriptors among them, sender or null, call's number, whether it may take a dialogue)
  Napi::FunctionReference method;
  /// (name): the value
  Napi::FunctionReference get;
  /// (name, value, descriptors in it, sender or null, call's number, whether it may take a dialogue)
  Napi::FunctionReference set;

private:
  int on_call(const bus::Member& member, sd_bus_message* call, sd_bus_error* error) noexcept override;
  int on_get(const bus::Member& member, sd_bus_message* reply, sd_bus_error* error) noexcept override;
  int append_property(const bus::Member& member, sd_bus_message* reply, sd_bus_error* error);
};

/// `text` or null.
Napi::Value text_or_null(Napi::Env env, const char* text);
/// Null or a string.
const char* to_optional(const Napi::Value& value, const char* what, std::string& storage);

} // namespace scanout::addon
