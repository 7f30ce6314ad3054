// Values of D-Bus and of JavaScript.
//
//   y n q i u d   number            b        boolean
//   x t           bigint (safe integers are taken, too)
//   s o g         string            h        Fd: given, it is duplicated; received, it is owned by the
//   receiver v             { signature, value } ay            Uint8Array        a(...)   Array; so are all
//   other arrays
//   (...)         Array
//   a{s.} a{o.} a{g.}  plain object (a Map is taken, too); other dictionaries: Map
#pragma once

#include <napi.h>
#include <systemd/sd-bus.h>

#include <string>

namespace scanout::addon {

/// Containers within each other, variants included.
constexpr int max_depth = 64;
/// Values in one message that is received; JavaScript objects are many times larger than what makes them.
constexpr size_t max_values = 262144;

/// Appends `values`, one for each type of `signature`. `what` names the array in messages ("body").
/// Throws UsageError with the path to the value that does not fit, SystemError, RangeError beyond
/// `max_bytes`.
void append_values(sd_bus_message* message, const std::string& signature, const Napi::Array& values,
                   const char* what, size_t max_bytes);
/// The same for one value of one complete type.
void append_value(sd_bus_message* message, const std::string& type, const Napi::Value& value,
                  const std::string& what, size_t max_bytes);

/// Reads all values from where `message` stands to its end. Descriptors are appended to `fds`, too.
/// Throws SystemError: EBADMSG when the message is malformed, EMSGSIZE beyond the limits above.
Napi::Array read_values(Napi::Env env, sd_bus_message* message, Napi::Array fds);
/// The same for the next value, of `type`.
Napi::Value read_value(Napi::Env env, sd_bus_message* message, const std::string& type, Napi::Array fds);

} // namespace scanout::addon
