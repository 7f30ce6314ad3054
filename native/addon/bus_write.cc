// JavaScript values into D-Bus messages.
#include <cmath>

#include "addon/addon.h"
#include "addon/bus_marshal.h"
#include "bus/connection.h"
#include "bus/signature.h"

namespace scanout::addon {

namespace {

/// The way to a value, only spelled out when something is wrong with it.
struct Where {
  const Where* up;
  std::string key; ///< as it is to be shown

  [[nodiscard]] std::string text() const { return (up == nullptr ? std::string() : up->text()) + key; }
};

std::string index(uint32_t i) {
  return std::string("[").append(std::to_string(i)).append("]");
}

[[noreturn]] void refuse(const Where& at, const std::string& wanted) {
  throw base::UsageError(at.text() + ": " + wanted + " expected");
}

class Writer {
public:
  Writer(sd_bus_message* message, size_t max_bytes) : message_(message), left_(max_bytes), max_(max_bytes) {}

  void value(const std::string& type, const Napi::Value& value, const Where& at, int depth);

private:
  void basic(char type, const Napi::Value& value, const Where& at);
  void text(char type, const Napi::Value& value, const Where& at);
  void wide(char type, const Napi::Value& value, const Where& at);
  void descriptor(const Napi::Value& value, const Where& at);
  void array(const std::string& element, const Napi::Value& value, const Where& at, int depth);
  void bytes(const Napi::Value& value, const Where& at);
  void dictionary(const std::string& entry, const Napi::Value& value, const Where& at, int depth);
  void entry(const std::string& entry, const Napi::Value& key, const Napi::Value& value, const Where& at,
             int depth);
  void structure(const std::string& members, const Napi::Value& value, const Where& at, int depth);
  void variant(const Napi::Value& value, const Where& at, int depth);

  void append(char type, const void* value) {
    bus::check_bus(sd_bus_message_append_basic(message_, type, value), "sd_bus_message_append_basic");
  }
  void open(char type, const std::string& contents) {
    bus::check_bus(sd_bus_message_open_container(message_, type, contents.c_str()),
                   "sd_bus_message_open_container");
  }
  void close() { bus::check_bus(sd_bus_message_close_container(message_), "sd_bus_message_close_container"); }
  void count(size_t bytes, const Where& at) {
    if (bytes > left_) {
      throw base::SystemError(EMSGSIZE, "D-Bus message", at.text(),
                              "longer than " + std::to_string(max_) + " bytes");
    }
    left_ -= bytes;
  }
  template <typename T> void integer(char type, const Napi::Value& value, const Where& at);

  sd_bus_message* message_;
  size_t left_;
  size_t max_;
};

template <typename T> void Writer::integer(char type, const Napi::Value& value, const Where& at) {
  constexpr double low = std::numeric_limits<T>::min();
  constexpr double high = std::numeric_limits<T>::max();
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= low && number <= high) || std::trunc(number) != number) {
    refuse(at, "integer from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
                   std::to_string(std::numeric_limits<T>::max()));
  }
  const T exact = static_cast<T>(number);
  append(type, &exact);
}

void Writer::wide(char type, const Napi::Value& value, const Where& at) {
  if (!value.IsBigInt() && !value.IsNumber()) refuse(at, "bigint");
  const std::string what = at.text();
  const int64_t number =
      type == 'x' ? to_i64(value, what.c_str()) : static_cast<int64_t>(to_u64(value, what.c_str()));
  append(type, &number);
}

void Writer::text(char type, const Napi::Value& value, const Where& at) {
  if (!value.IsString()) refuse(at, "string");
  const std::string string = value.As<Napi::String>().Utf8Value();
  count(string.size(), at);
  if (string.find('\0') != std::string::npos) refuse(at, "string without NUL");
  if (type == 'o' && sd_bus_object_path_is_valid(string.c_str()) <= 0) refuse(at, "object path");
  if (type == 'g' && bus::count_types(string) < 0) refuse(at, "signature");
  append(type, string.c_str());
}

void Writer::descriptor(const Napi::Value& value, const Where& at) {
  const int fd = borrow_fd(value, at.text().c_str());
  const int result = sd_bus_message_append_basic(message_, 'h', &fd);
  if (result == -EOPNOTSUPP)
    throw base::SystemError(EOPNOTSUPP, "D-Bus message", at.text(), "the peer takes no descriptors");
  bus::check_bus(result, "sd_bus_message_append_basic", at.text());
}

void Writer::basic(char type, const Napi::Value& value, const Where& at) {
  count(8, at);
  switch (type) {
  case 'y':
    return integer<uint8_t>(type, value, at);
  case 'n':
    return integer<int16_t>(type, value, at);
  case 'q':
    return integer<uint16_t>(type, value, at);
  case 'i':
    return integer<int32_t>(type, value, at);
  case 'u':
    return integer<uint32_t>(type, value, at);
  case 'x':
  case 't':
    return wide(type, value, at);
  case 'h':
    return descriptor(value, at);
  case 'b': {
    if (!value.IsBoolean()) refuse(at, "boolean");
    const int flag = value.As<Napi::Boolean>().Value() ? 1 : 0;
    return append(type, &flag);
  }
  case 'd': {
    if (!value.IsNumber()) refuse(at, "number");
    const double number = value.As<Napi::Number>().DoubleValue();
    return append(type, &number);
  }
  default:
    return text(type, value, at);
  }
}

void Writer::bytes(const Napi::Value& value, const Where& at) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    refuse(at, "Uint8Array");
  const auto bytes = value.As<Napi::Uint8Array>();
  count(bytes.ByteLength(), at);
  bus::check_bus(sd_bus_message_append_array(message_, 'y', bytes.Data(), bytes.ByteLength()),
                 "sd_bus_message_append_array", at.text());
}

void Writer::array(const std::string& element, const Napi::Value& value, const Where& at, int depth) {
  if (element == "y") return bytes(value, at);
  if (element[0] == '{') return dictionary(element.substr(1, element.size() - 2), value, at, depth);
  if (!value.IsArray()) refuse(at, "array");
  const auto array = value.As<Napi::Array>();
  open('a', element);
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    this->value(element, array.Get(i), {&at, index(i)}, depth + 1);
  }
  close();
}

void Writer::entry(const std::string& entry, const Napi::Value& key, const Napi::Value& value,
                   const Where& at, int depth) {
  open('e', entry);
  const std::string shown = key.ToString().Utf8Value();
  basic(entry[0], key, {&at, " key '" + shown + "'"});
  this->value(entry.substr(1), value, {&at, "['" + shown + "']"}, depth + 1);
  close();
}

void Writer::dictionary(const std::string& entry, const Napi::Value& value, const Where& at, int depth) {
  const Napi::Env env = value.Env();
  const bool has_text_keys = entry[0] == 's' || entry[0] == 'o' || entry[0] == 'g';
  const Napi::Object global = env.Global();
  const bool is_map =
      value.IsObject() && value.As<Napi::Object>().InstanceOf(global.Get("Map").As<Napi::Function>());
  if (!is_map && (!has_text_keys || !value.IsObject() || value.IsArray()))
    refuse(at, has_text_keys ? "object or Map" : "Map");
  // Of either kind, an array of [key, value].
  const Napi::Object helper = global.Get(is_map ? "Array" : "Object").As<Napi::Object>();
  const auto pairs =
      helper.Get(is_map ? "from" : "entries").As<Napi::Function>().Call(helper, {value}).As<Napi::Array>();
  open('a', "{" + entry + "}");
  for (uint32_t i = 0; i < pairs.Length(); ++i) {
    const Napi::HandleScope scope(env);
    const auto pair = pairs.Get(i).As<Napi::Array>();
    this->entry(entry, pair.Get(0U), pair.Get(1U), at, depth + 1);
  }
  close();
}

void Writer::structure(const std::string& members, const Napi::Value& value, const Where& at, int depth) {
  const auto count = static_cast<uint32_t>(bus::count_types(members));
  if (!value.IsArray() || value.As<Napi::Array>().Length() != count)
    refuse(at, "array of " + std::to_string(count));
  open('r', members);
  std::string_view rest = members;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t length = bus::complete_type(rest);
    this->value(std::string(rest.substr(0, length)), value.As<Napi::Array>().Get(i), {&at, index(i)},
                depth + 1);
    rest.remove_prefix(length);
  }
  close();
}

void Writer::variant(const Napi::Value& value, const Where& at, int depth) {
  if (!value.IsObject()) refuse(at, "{ signature, value }");
  const auto object = value.As<Napi::Object>();
  const Napi::Value signature = object.Get("signature");
  if (!signature.IsString()) refuse(at, "{ signature, value }");
  const std::string type = signature.As<Napi::String>().Utf8Value();
  if (bus::count_types(type) != 1) refuse({&at, ".signature"}, "one complete type");
  count(type.size(), at);
  open('v', type);
  this->value(type, object.Get("value"), {&at, ".value"}, depth + 1);
  close();
}

void Writer::value(const std::string& type, const Napi::Value& value, const Where& at, int depth) {
  if (depth > max_depth) throw base::UsageError(at.text() + ": nested too deep");
  switch (type[0]) {
  case 'a':
    return array(type.substr(1), value, at, depth);
  case '(':
    return structure(type.substr(1, type.size() - 2), value, at, depth);
  case 'v':
    return variant(value, at, depth);
  default:
    return basic(type[0], value, at);
  }
}

} // namespace

void append_values(sd_bus_message* message, const std::string& signature, const Napi::Array& values,
                   const char* what, size_t max_bytes) {
  const int count = bus::count_types(signature);
  if (count < 0) throw base::UsageError(std::string(what) + ": '" + signature + "' is no signature");
  if (values.Length() != static_cast<uint32_t>(count)) {
    throw base::UsageError(std::string(what) + ": " + std::to_string(count) + " values expected for '" +
                           signature + "', not " + std::to_string(values.Length()));
  }
  const Where root{nullptr, what};
  Writer writer(message, max_bytes);
  std::string_view rest = signature;
  for (uint32_t i = 0; !rest.empty(); ++i) {
    const size_t length = bus::complete_type(rest);
    writer.value(std::string(rest.substr(0, length)), values.Get(i), {&root, index(i)}, 0);
    rest.remove_prefix(length);
  }
}

void append_value(sd_bus_message* message, const std::string& type, const Napi::Value& value,
                  const std::string& what, size_t max_bytes) {
  Writer(message, max_bytes).value(type, value, {nullptr, what}, 0);
}

} // namespace scanout::addon
