// A call of ours that waits for its reply.
#pragma once

#include <list>
#include <string>

#include "addon/bus.h"

namespace scanout::addon {

struct BusConnection::Outgoing {
  Outgoing(Napi::Env env, BusConnection& connection, std::string what)
      : owner(connection), deferred(env), subject(std::move(what)) {}

  BusConnection& owner;
  Napi::Promise::Deferred deferred;
  std::string subject;
  bus::SlotPtr slot;
  std::list<Outgoing>::iterator self;
};

} // namespace scanout::addon
