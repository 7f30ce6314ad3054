#include "guests/qemu_answer.h"

#include <systemd/sd-bus.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace scanout::guests {

namespace {

constexpr std::string_view listener = "org.qemu.Display1.Listener";
constexpr std::string_view optional[] = {"org.qemu.Display1.Listener.Unix.Map",
                                         "org.qemu.Display1.Listener.Unix.ScanoutDMABUF2"};

enum Field : uint8_t { error_name = 4, reply_serial = 5, signature_of = 8 };

} // namespace

void QemuAnswer::align(size_t to) noexcept {
  while (size_ % to != 0)
    byte(0);
}

void QemuAnswer::byte(uint8_t value) noexcept {
  if (size_ < buffer_.size()) buffer_[size_++] = value;
}

void QemuAnswer::put_u32(size_t at, uint32_t value) noexcept {
  std::memcpy(&buffer_[at], &value, sizeof value);
}

void QemuAnswer::u32(uint32_t value) noexcept {
  align(4);
  size_ += sizeof value;
  put_u32(size_ - sizeof value, value);
}

void QemuAnswer::string(std::string_view text) noexcept {
  u32(static_cast<uint32_t>(text.size()));
  for (const char character : text)
    byte(static_cast<uint8_t>(character));
  byte(0);
}

void QemuAnswer::signature(std::string_view text) noexcept {
  byte(static_cast<uint8_t>(text.size()));
  for (const char character : text)
    byte(static_cast<uint8_t>(character));
  byte(0);
}

void QemuAnswer::begin(uint8_t type, uint32_t reply_to, std::string_view name,
                       std::string_view body_signature) noexcept {
  constexpr uint8_t no_reply_expected = 1;
  constexpr uint8_t protocol_version = 1;
  size_ = 0;
  byte(std::endian::native == std::endian::little ? 'l' : 'B');
  byte(type);
  byte(no_reply_expected);
  byte(protocol_version);
  u32(0); // bytes of the body, later
  serial_ = serial_ == UINT32_MAX ? 1 : serial_ + 1;
  u32(serial_);
  u32(0); // bytes of the fields, later
  const size_t fields = size_;
  const auto field = [this](Field code, std::string_view type_of_it) {
    align(8);
    byte(code);
    signature(type_of_it);
  };
  field(reply_serial, "u");
  u32(reply_to);
  if (!name.empty()) {
    field(error_name, "s");
    string(name);
  }
  if (!body_signature.empty()) {
    field(signature_of, "g");
    signature(body_signature);
  }
  put_u32(fields - 4, static_cast<uint32_t>(size_ - fields));
  align(8);
  body_ = size_;
}

std::span<const uint8_t> QemuAnswer::end() noexcept {
  put_u32(4, static_cast<uint32_t>(size_ - body_));
  return {buffer_.data(), size_};
}

std::span<const uint8_t> QemuAnswer::empty(uint32_t call) noexcept {
  begin(SD_BUS_MESSAGE_METHOD_RETURN, call, {}, {});
  return end();
}

std::span<const uint8_t> QemuAnswer::error(uint32_t call, std::string_view name,
                                           std::string_view text) noexcept {
  begin(SD_BUS_MESSAGE_METHOD_ERROR, call, name.substr(0, 127), "s");
  string(text.substr(0, 127));
  return end();
}

// "as" as a variant.
void QemuAnswer::interfaces() noexcept {
  signature("as");
  u32(0);
  const size_t begin = size_;
  for (const std::string_view name : optional)
    string(name);
  put_u32(begin - 4, static_cast<uint32_t>(size_ - begin));
}

std::span<const uint8_t> QemuAnswer::property(const QemuCall& call) noexcept {
  const bool ours = call.interface == listener;
  if (call.method == QemuMethod::get_property) {
    if (!ours || call.name != "Interfaces")
      return error(call.serial, "org.freedesktop.DBus.Error.UnknownProperty", "there is Interfaces only");
    begin(SD_BUS_MESSAGE_METHOD_RETURN, call.serial, {}, "v");
    interfaces();
    return end();
  }
  begin(SD_BUS_MESSAGE_METHOD_RETURN, call.serial, {}, "a{sv}");
  u32(0);
  align(8);
  const size_t entries = size_;
  if (ours) {
    string("Interfaces");
    interfaces();
  }
  // The padding before the first entry does not count.
  put_u32(body_, static_cast<uint32_t>(size_ - entries));
  return end();
}

} // namespace scanout::guests
