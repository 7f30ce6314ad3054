// D-Bus messages into JavaScript values.
#include <fcntl.h>

#include "addon/addon.h"
#include "addon/bus_marshal.h"
#include "bus/connection.h"
#include "bus/signature.h"

namespace scanout::addon {

namespace {

/// What a peer sent is malformed in whatever way sd-bus found out.
int check_read(int result, const char* op) {
  if (result == -ENOMEM) throw base::SystemError(ENOMEM, op);
  if (result < 0) throw base::SystemError(EBADMSG, op, "", "the message is malformed");
  return result;
}

class Reader {
public:
  Reader(Napi::Env env, sd_bus_message* message, Napi::Array fds) : env_(env), message_(message), fds_(fds) {}

  Napi::Value value(const std::string& type, int depth);

private:
  template <typename T> T basic(char type) {
    T value{};
    check_read(sd_bus_message_read_basic(message_, type, static_cast<void*>(&value)),
               "sd_bus_message_read_basic");
    return value;
  }
  Napi::Value scalar(char type);
  Napi::Value text(char type) { return Napi::String::New(env_, basic<const char*>(type)); }
  Napi::Value descriptor();
  Napi::Value array(const std::string& element, int depth);
  Napi::Value bytes();
  Napi::Value object(const std::string& entry, int depth);
  Napi::Value map(const std::string& entry, int depth);
  Napi::Value structure(const std::string& members, int depth);
  Napi::Value variant(int depth);

  void enter(char type, const std::string& contents) {
    check_read(sd_bus_message_enter_container(message_, type, contents.c_str()),
               "sd_bus_message_enter_container");
  }
  void leave() { check_read(sd_bus_message_exit_container(message_), "sd_bus_message_exit_container"); }
  bool has_more() { return check_read(sd_bus_message_at_end(message_, 0), "sd_bus_message_at_end") == 0; }

  Napi::Env env_;
  sd_bus_message* message_;
  Napi::Array fds_; ///< every descriptor, for those who want to close what nobody took
  size_t left_ = max_values;
};

Napi::Value Reader::scalar(char type) {
  switch (type) {
  case 'y':
    return Napi::Number::New(env_, basic<uint8_t>(type));
  case 'n':
    return Napi::Number::New(env_, basic<int16_t>(type));
  case 'q':
    return Napi::Number::New(env_, basic<uint16_t>(type));
  case 'i':
    return Napi::Number::New(env_, basic<int32_t>(type));
  case 'u':
    return Napi::Number::New(env_, basic<uint32_t>(type));
  case 'x':
    return Napi::BigInt::New(env_, basic<int64_t>(type));
  case 't':
    return Napi::BigInt::New(env_, basic<uint64_t>(type));
  case 'd':
    return Napi::Number::New(env_, basic<double>(type));
  case 'b':
    return Napi::Boolean::New(env_, basic<int>(type) != 0);
  case 'h':
    return descriptor();
  default:
    return text(type);
  }
}

Napi::Value Reader::descriptor() {
  const int borrowed = basic<int>('h'); // the message's
  const Napi::Value fd = wrap_fd(
      env_, base::UniqueFd(base::check(::fcntl(borrowed, F_DUPFD_CLOEXEC, 3), "fcntl(F_DUPFD_CLOEXEC)")));
  fds_.Set(fds_.Length(), fd);
  return fd;
}

Napi::Value Reader::bytes() {
  const void* data = nullptr;
  size_t size = 0;
  check_read(sd_bus_message_read_array(message_, 'y', &data, &size), "sd_bus_message_read_array");
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env_, size);
  std::copy_n(static_cast<const uint8_t*>(data), size, bytes.Data());
  return bytes;
}

Napi::Value Reader::object(const std::string& entry, int depth) {
  const Napi::Object object = Napi::Object::New(env_);
  while (has_more()) {
    const Napi::HandleScope scope(env_);
    enter('e', entry);
    const Napi::Value key = value(entry.substr(0, 1), depth + 1);
    const Napi::Value held = value(entry.substr(1), depth + 1);
    leave();
    // Defined, not set: a key may be "__proto__".
    const napi_property_descriptor property{.utf8name = nullptr,
                                            .name = key,
                                            .method = nullptr,
                                            .getter = nullptr,
                                            .setter = nullptr,
                                            .value = held,
                                            .attributes = napi_default_jsproperty,
                                            .data = nullptr};
    if (napi_define_properties(env_, object, 1, &property) != napi_ok) throw Napi::Error::New(env_);
  }
  return object;
}

Napi::Value Reader::map(const std::string& entry, int depth) {
  const Napi::Object map = env_.Global().Get("Map").As<Napi::Function>().New({});
  const auto set = map.Get("set").As<Napi::Function>();
  while (has_more()) {
    const Napi::HandleScope scope(env_);
    enter('e', entry);
    const Napi::Value key = value(entry.substr(0, 1), depth + 1);
    const Napi::Value held = value(entry.substr(1), depth + 1);
    leave();
    set.Call(map, {key, held});
  }
  return map;
}

Napi::Value Reader::array(const std::string& element, int depth) {
  if (element == "y") return bytes();
  enter('a', element);
  Napi::Value result;
  if (element[0] == '{') {
    const std::string entry = element.substr(1, element.size() - 2);
    const bool has_text_keys = entry[0] == 's' || entry[0] == 'o' || entry[0] == 'g';
    result = has_text_keys ? object(entry, depth) : map(entry, depth);
  } else {
    Napi::Array array = Napi::Array::New(env_);
    for (uint32_t i = 0; has_more(); ++i) {
      const Napi::HandleScope scope(env_);
      array.Set(i, value(element, depth + 1));
    }
    result = array;
  }
  leave();
  return result;
}

Napi::Value Reader::structure(const std::string& members, int depth) {
  enter('r', members);
  Napi::Array array = Napi::Array::New(env_);
  std::string_view rest = members;
  for (uint32_t i = 0; !rest.empty(); ++i) {
    const size_t length = bus::complete_type(rest);
    if (length == 0) throw base::SystemError(EBADMSG, "D-Bus message");
    array.Set(i, value(std::string(rest.substr(0, length)), depth + 1));
    rest.remove_prefix(length);
  }
  leave();
  return array;
}

Napi::Value Reader::variant(int depth) {
  const char* contents = nullptr;
  check_read(sd_bus_message_peek_type(message_, nullptr, &contents), "sd_bus_message_peek_type");
  if (contents == nullptr || bus::count_types(contents) != 1)
    throw base::SystemError(EBADMSG, "D-Bus message");
  const std::string type = contents;
  enter('v', type);
  Napi::Object object = Napi::Object::New(env_);
  object.Set("signature", type);
  object.Set("value", value(type, depth + 1));
  leave();
  return object;
}

Napi::Value Reader::value(const std::string& type, int depth) {
  if (depth > max_depth || left_ == 0)
    throw base::SystemError(EMSGSIZE, "D-Bus message", "", "too many values, or nested too deep");
  --left_;
  switch (type[0]) {
  case 'a':
    return array(type.substr(1), depth);
  case '(':
    return structure(type.substr(1, type.size() - 2), depth);
  case 'v':
    return variant(depth);
  default:
    return scalar(type[0]);
  }
}

} // namespace

Napi::Array read_values(Napi::Env env, sd_bus_message* message, Napi::Array fds) {
  const std::string signature = sd_bus_message_get_signature(message, 1);
  if (bus::count_types(signature) < 0) throw base::SystemError(EBADMSG, "D-Bus message");
  Reader reader(env, message, fds);
  Napi::Array values = Napi::Array::New(env);
  std::string_view rest = signature;
  for (uint32_t i = 0; !rest.empty(); ++i) {
    const size_t length = bus::complete_type(rest);
    values.Set(i, reader.value(std::string(rest.substr(0, length)), 0));
    rest.remove_prefix(length);
  }
  return values;
}

Napi::Value read_value(Napi::Env env, sd_bus_message* message, const std::string& type, Napi::Array fds) {
  return Reader(env, message, fds).value(type, 0);
}

} // namespace scanout::addon
