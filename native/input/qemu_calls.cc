#include "input/qemu_calls.h"

#include <systemd/sd-bus.h>

#include <bit>
#include <cstring>
#include <string>

#include "base/error.h"

namespace scanout::input {

namespace {

// D-Bus specification, "Message Format".
enum Field : uint8_t { path = 1, interface = 2, member = 3, destination = 6, signature = 8 };
constexpr size_t serial_at = 8;
constexpr size_t longest_destination = 64;

} // namespace

class QemuCalls::Writer {
public:
  explicit Writer(Message& message) : message_(message) {}

  void begin(uint32_t body_bytes) {
    constexpr uint8_t no_reply_expected = 1, protocol_version = 1;
    byte(std::endian::native == std::endian::little ? 'l' : 'B');
    byte(SD_BUS_MESSAGE_METHOD_CALL);
    byte(no_reply_expected);
    byte(protocol_version);
    u32(body_bytes);
    u32(0); // serial
    u32(0); // bytes of the fields
  }
  void field(Field code, const char* type, std::string_view text) {
    align(8);
    byte(code);
    short_text(type);
    if (code == signature)
      short_text(text);
    else
      long_text(text);
  }
  void end(uint32_t body_bytes) {
    const auto fields = static_cast<uint32_t>(message_.size - 16);
    std::memcpy(&message_.bytes[12], &fields, sizeof fields);
    align(8);
    message_.body = message_.size;
    message_.size += body_bytes;
    if (message_.size > message_.bytes.size()) throw base::UsageError("a call that is too long");
  }

private:
  void align(size_t to) {
    while (message_.size % to != 0)
      byte(0);
  }
  void byte(uint8_t value) { message_.bytes.at(message_.size++) = value; }
  void u32(uint32_t value) {
    align(4);
    std::array<uint8_t, sizeof value> bytes{};
    std::memcpy(bytes.data(), &value, sizeof value);
    for (const uint8_t each : bytes)
      byte(each);
  }
  void text(std::string_view characters) {
    for (const char each : characters)
      byte(static_cast<uint8_t>(each));
    byte(0);
  }
  void short_text(std::string_view characters) {
    byte(static_cast<uint8_t>(characters.size()));
    text(characters);
  }
  void long_text(std::string_view characters) {
    u32(static_cast<uint32_t>(characters.size()));
    text(characters);
  }

  Message& message_;
};

QemuCalls::QemuCalls(uint32_t console, std::string_view to) {
  if (to.size() > longest_destination) throw base::UsageError("destination: 64 bytes at most expected");
  if (!to.empty() && sd_bus_service_name_is_valid(std::string(to).c_str()) <= 0)
    throw base::UsageError("destination: a bus name expected");
  const std::string object = "/org/qemu/Display1/Console_" + std::to_string(console);
  const auto make = [&](Message& message, const char* of, const char* method, const char* types,
                        uint32_t body_bytes) {
    Writer writer(message);
    writer.begin(body_bytes);
    writer.field(path, "o", object);
    writer.field(interface, "s", of);
    writer.field(member, "s", method);
    if (!to.empty()) writer.field(destination, "s", to);
    writer.field(signature, "g", types);
    writer.end(body_bytes);
  };
  constexpr const char* keyboard = "org.qemu.Display1.Keyboard";
  constexpr const char* mouse = "org.qemu.Display1.Mouse";
  make(key_press_, keyboard, "Press", "u", 4);
  make(key_release_, keyboard, "Release", "u", 4);
  make(button_press_, mouse, "Press", "u", 4);
  make(button_release_, mouse, "Release", "u", 4);
  make(motion_, mouse, "RelMotion", "ii", 8);
  make(position_, mouse, "SetAbsPosition", "uu", 8);
  make(touch_, "org.qemu.Display1.MultiTouch", "SendEvent", "utdd", 32);
}

template <typename... Values>
[[gnu::hot]] std::span<const uint8_t> QemuCalls::fill(Message& message, uint32_t serial,
                                                      Values... values) noexcept {
  std::memcpy(&message.bytes[serial_at], &serial, sizeof serial);
  size_t at = message.body;
  const auto put = [&](const auto& value) {
    at = (at + sizeof value - 1) / sizeof value * sizeof value; // each is aligned to its size
    std::memcpy(&message.bytes[at], &value, sizeof value);
    at += sizeof value;
  };
  (put(values), ...);
  return {message.bytes.data(), message.size};
}

std::span<const uint8_t> QemuCalls::key(uint32_t serial, bool pressed, uint32_t qnum) noexcept {
  return fill(pressed ? key_press_ : key_release_, serial, qnum);
}

std::span<const uint8_t> QemuCalls::button(uint32_t serial, bool pressed, QemuButton button) noexcept {
  return fill(pressed ? button_press_ : button_release_, serial, static_cast<uint32_t>(button));
}

std::span<const uint8_t> QemuCalls::motion(uint32_t serial, int32_t dx, int32_t dy) noexcept {
  return fill(motion_, serial, dx, dy);
}

std::span<const uint8_t> QemuCalls::position(uint32_t serial, uint32_t x, uint32_t y) noexcept {
  return fill(position_, serial, x, y);
}

std::span<const uint8_t> QemuCalls::touch(uint32_t serial, QemuTouch kind, uint64_t slot, double x,
                                          double y) noexcept {
  return fill(touch_, serial, static_cast<uint32_t>(kind), slot, x, y);
}

} // namespace scanout::input
