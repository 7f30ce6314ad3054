// What the add-on files of flip engine, guests and shadow copy share.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "flip/engine.h"

namespace scanout::addon {

/// The engine of a FlipEngine object; throws when it is closed.
std::shared_ptr<flip::Engine> engine_of(const Napi::Value& value);

/// What a promise is resolved with, made on the JS thread when the command is back without an error.
using MakeResult = std::function<Napi::Value(Napi::Env, flip::Command&)>;

/// Posts a command to the engine of `engine_object`. The promise is rejected with a SystemError (`op`,
/// `subject`) when the command comes back with an error, or when the engine is closed meanwhile.
Napi::Value post(Napi::Env env, const Napi::Value& engine_object, std::unique_ptr<flip::Command> command,
                 const char* op, const std::string& subject, MakeResult result = nullptr);

/// The same for a callable `int(flip::Engine&)` that runs on the flip thread and gives 0 or a positive errno.
template <typename Body>
Napi::Value post_simple(Napi::Env env, const Napi::Value& engine_object, const char* op,
                        const std::string& subject, Body body) {
  return post(env, engine_object, std::make_unique<flip::SimpleCommand<Body>>(std::move(body)), op, subject);
}

/// A JavaScript object around a producer. Subclasses make the producer and hand it to `enter`.
class ProducerHolder {
public:
  ~ProducerHolder();
  void enter(Napi::Env env, const Napi::Value& engine_object, std::unique_ptr<flip::Producer> producer);
  /// Promise: resolved when no plane holds a frame of it any more; the producer is freed then.
  Napi::Value leave(Napi::Env env);
  /// Throws when it has left.
  flip::Producer& producer(Napi::Env env) const;
  [[nodiscard]] Napi::Value engine_object() const { return engine_object_.Value(); }

private:
  std::shared_ptr<flip::Engine> engine_;
  std::unique_ptr<flip::Producer> producer_; // with the flip thread between enter and the end of leave
  Napi::ObjectReference engine_object_;
  bool left_ = false;
};

/// The producer inside any JavaScript object that has one (Picture, SocketGuest, Shadow). Each such class
/// registers its own way to find it.
using FindProducer = ProducerHolder* (*)(const Napi::Object& object);
void register_producer_class(FindProducer find);
ProducerHolder& holder_of(const Napi::Value& value, const char* what);

} // namespace scanout::addon
