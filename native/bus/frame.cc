#include "bus/frame.h"

#include <systemd/sd-bus.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "bus/signature.h"

namespace scanout::bus {

namespace {

uint32_t read_u32(const uint8_t* at, bool swapped) noexcept {
  uint32_t value = 0;
  std::memcpy(&value, at, sizeof(value));
  return swapped ? __builtin_bswap32(value) : value;
}

constexpr size_t align(size_t offset, size_t to) noexcept {
  return (offset + to - 1) / to * to;
}

/// Reads header fields one after the other; the first thing that is wrong ends it.
class FieldReader {
public:
  FieldReader(std::span<const uint8_t> fields, bool swapped) noexcept : fields_(fields), swapped_(swapped) {}

  [[nodiscard]] bool at_end() const noexcept { return failed_ || offset_ >= fields_.size(); }
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  void fail() noexcept { failed_ = true; }

  uint8_t byte(size_t alignment = 1) noexcept {
    const uint8_t* at = take(alignment, 1);
    return at == nullptr ? 0 : *at;
  }
  uint32_t u32() noexcept {
    const uint8_t* at = take(4, 4);
    return at == nullptr ? 0 : read_u32(at, swapped_);
  }
  /// NUL-terminated in place.
  const char* string() noexcept { return text(u32()); }
  const char* signature() noexcept {
    const char* found = text(byte());
    if (count_types(found) < 0) failed_ = true;
    return found;
  }

private:
  const uint8_t* take(size_t alignment, size_t bytes) noexcept {
    const size_t start = align(offset_, alignment);
    if (failed_ || start > fields_.size() || bytes > fields_.size() - start) {
      failed_ = true;
      return nullptr;
    }
    for (; offset_ < start; ++offset_)
      if (fields_[offset_] != 0) failed_ = true;
    offset_ = start + bytes;
    return fields_.data() + start;
  }
  const char* text(size_t length) noexcept {
    const auto* at = reinterpret_cast<const char*>(take(1, length + 1));
    if (at == nullptr || at[length] != '\0' || std::memchr(at, 0, length) != nullptr) {
      failed_ = true;
      return "";
    }
    return at;
  }

  std::span<const uint8_t> fields_;
  bool swapped_;
  size_t offset_ = 0;
  bool failed_ = false;
};

enum Field : uint8_t {
  path = 1,
  interface,
  member,
  error_name,
  reply_serial,
  destination,
  sender,
  signature,
  unix_fds
};

struct Fields {
  uint32_t seen = 0; ///< bit per field
  HeaderFields said;

  [[nodiscard]] bool has(Field field) const noexcept { return (seen >> field & 1) != 0; }
};

bool is_local(const char* name) noexcept {
  return std::string_view(name) == "org.freedesktop.DBus.Local" ||
         std::string_view(name) == "/org/freedesktop/DBus/Local";
}

using Check = int (*)(const char*);

std::string_view check_text(FieldReader& reader, const char* type, const char* wanted, Check valid) noexcept {
  if (std::strcmp(type, wanted) != 0) {
    reader.fail();
    return {};
  }
  const char* text = reader.string();
  // Local is the namespace of what the library itself says; nobody else may.
  if (reader.failed() || valid(text) <= 0 || is_local(text)) reader.fail();
  return text;
}

uint32_t check_number(FieldReader& reader, const char* type) noexcept {
  if (std::strcmp(type, "u") != 0) reader.fail();
  return reader.u32();
}

/// Fields that are not known are passed over, as the specification wants; of the types that they have had.
void skip_unknown(FieldReader& reader, const char* type) noexcept {
  const std::string_view name(type);
  if (name == "s" || name == "o")
    (void)reader.string();
  else if (name == "u")
    (void)reader.u32();
  else
    reader.fail();
}

void read_field(FieldReader& reader, Fields& fields) noexcept {
  const uint8_t code = reader.byte(8);
  const char* type = reader.signature();
  if (reader.failed() || code == 0 || (code <= unix_fds && fields.has(static_cast<Field>(code)))) {
    reader.fail();
    return;
  }
  if (code <= unix_fds) fields.seen |= 1U << code;
  switch (code) {
  case path:
    fields.said.path = check_text(reader, type, "o", sd_bus_object_path_is_valid);
    return;
  case interface:
    fields.said.interface = check_text(reader, type, "s", sd_bus_interface_name_is_valid);
    return;
  case error_name:
    (void)check_text(reader, type, "s", sd_bus_interface_name_is_valid);
    return;
  case member:
    fields.said.member = check_text(reader, type, "s", sd_bus_member_name_is_valid);
    return;
  case destination:
  case sender:
    (void)check_text(reader, type, "s", sd_bus_service_name_is_valid);
    return;
  case reply_serial:
    fields.said.reply_serial = check_number(reader, type);
    if (fields.said.reply_serial == 0) reader.fail();
    return;
  case unix_fds:
    fields.said.fds = check_number(reader, type);
    return;
  case signature:
    if (std::strcmp(type, "g") != 0) reader.fail();
    fields.said.signature = reader.signature();
    return;
  default:
    return skip_unknown(reader, type);
  }
}

bool has_required(const Frame& frame, const Fields& fields) noexcept {
  switch (frame.type) {
  case SD_BUS_MESSAGE_METHOD_CALL:
    return fields.has(path) && fields.has(member) && !fields.has(reply_serial);
  case SD_BUS_MESSAGE_SIGNAL:
    return fields.has(path) && fields.has(interface) && fields.has(member) && !fields.has(reply_serial);
  case SD_BUS_MESSAGE_METHOD_RETURN:
    return fields.has(reply_serial);
  case SD_BUS_MESSAGE_METHOD_ERROR:
    return fields.has(reply_serial) && fields.has(error_name);
  default:
    return false;
  }
}

} // namespace

int read_frame(std::span<const uint8_t, Frame::fixed_size> fixed, size_t max_size, Frame& frame) noexcept {
  constexpr uint8_t native = std::endian::native == std::endian::little ? 'l' : 'B';
  constexpr uint8_t protocol_version = 1;
  if (fixed[0] != 'l' && fixed[0] != 'B') return -EBADMSG;
  frame.swapped = fixed[0] != native;
  frame.type = fixed[1];
  const uint64_t body = read_u32(&fixed[4], frame.swapped);
  const uint64_t fields = read_u32(&fixed[12], frame.swapped);
  const uint32_t serial = read_u32(&fixed[8], frame.swapped);
  if (fixed[3] != protocol_version || serial == 0) return -EBADMSG;
  const uint64_t size = Frame::fixed_size + align(fields, 8) + body;
  if (size > max_size) return -EMSGSIZE;
  frame.size = size;
  frame.fields = fields;
  return 0;
}

bool read_fields(const Frame& frame, std::span<const uint8_t> message, HeaderFields& said) noexcept {
  FieldReader reader(message.subspan(Frame::fixed_size, frame.fields), frame.swapped);
  Fields fields;
  while (!reader.at_end())
    read_field(reader, fields);
  said = fields.said;
  return !reader.failed() && has_required(frame, fields);
}

bool has_valid_fields(const Frame& frame, std::span<const uint8_t> message, size_t fds) noexcept {
  HeaderFields said;
  return read_fields(frame, message, said) && said.fds == fds;
}

} // namespace scanout::bus
