#include "bus/interface.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "bus/connection.h"
#include "bus/signature.h"

namespace scanout::bus {

namespace {

[[noreturn]] void refuse(const std::string& member, const std::string& why) {
  throw base::UsageError(member + ": " + why);
}

bool is_name(const std::string& name) noexcept {
  // What sd-bus allows for names of arguments: a C identifier.
  return sd_bus_member_name_is_valid(name.c_str()) > 0;
}

void check_signature(const std::string& member, const std::string& signature,
                     const std::vector<std::string>& names) {
  const int count = count_types(signature);
  if (count < 0) refuse(member, "'" + signature + "' is no signature");
  if (names.empty()) return;
  if (names.size() != static_cast<size_t>(count)) {
    refuse(member, std::to_string(names.size()) + " names for the " + std::to_string(count) + " types of '" +
                       signature + "'");
  }
  for (const std::string& name : names)
    if (!is_name(name)) refuse(member, "'" + name + "' is no name of an argument");
}

void check_property(const std::string& name, const Member& property) {
  if (count_types(property.in) != 1) refuse(name, "one complete type expected, not '" + property.in + "'");
  // sd-bus would close the connection of a reader that takes no descriptors.
  if (property.in.find('h') != std::string::npos) refuse(name, "a property cannot hold descriptors");
  if (property.writable && property.emits == Member::Emits::constant)
    refuse(name, "a constant cannot be writable");
}

uint64_t flags_of(const Member& member) noexcept {
  uint64_t flags = 0;
  if (member.deprecated) flags |= SD_BUS_VTABLE_DEPRECATED;
  // Who may do what is the business of the handlers; sd-bus's own rule is "root, or nobody".
  if (member.kind == Member::Kind::method || member.writable) flags |= SD_BUS_VTABLE_UNPRIVILEGED;
  if (member.emits == Member::Emits::change) flags |= SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
  if (member.emits == Member::Emits::invalidates) flags |= SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION;
  if (member.emits == Member::Emits::constant) flags |= SD_BUS_VTABLE_PROPERTY_CONST;
  return flags;
}

sd_bus_vtable zeroed(char type, uint64_t flags) noexcept {
  sd_bus_vtable entry;
  std::memset(&entry, 0, sizeof(entry)); // the unused parts of its union count
  entry.type = static_cast<uint8_t>(type);
  entry.flags = flags & 0x00ff'ffff'ffff'ffff;
  return entry;
}

} // namespace

Interface::Interface(std::string name, std::vector<Member> members)
    : name_(std::move(name)), members_(std::move(members)) {}

sd_bus_slot* Interface::add(sd_bus* bus, const std::string& path, Interface* made) {
  const auto destroy = [](void* self) { delete static_cast<Interface*>(self); };
  std::unique_ptr<Interface, void (*)(void*)> owned(made, destroy);
  if (sd_bus_object_path_is_valid(path.c_str()) <= 0)
    throw base::UsageError("path: '" + path + "' is no object path");
  made->check();
  made->build();
  sd_bus_slot* slot = nullptr;
  check_bus(
      sd_bus_add_object_vtable(bus, &slot, path.c_str(), made->name_.c_str(), made->vtable_.data(), made),
      "sd_bus_add_object_vtable", made->name_ + " at " + path);
  sd_bus_slot_set_destroy_callback(slot, destroy);
  (void)owned.release();
  return slot;
}

const Member* Interface::find(Member::Kind kind, const std::string& name) const noexcept {
  const auto& names = by_name_[static_cast<size_t>(kind)];
  const auto found = names.find(name);
  return found == names.end() ? nullptr : &members_[found->second];
}

void Interface::check() const {
  if (sd_bus_interface_name_is_valid(name_.c_str()) <= 0)
    throw base::UsageError("interface: '" + name_ + "' is no interface name");
  for (const Member& member : members_) {
    const std::string name = name_ + "." + member.name;
    if (sd_bus_member_name_is_valid(member.name.c_str()) <= 0) refuse(name, "no member name");
    check_signature(name, member.in, member.in_names);
    check_signature(name, member.out, member.out_names);
    if (member.in_names.empty() != member.out_names.empty() && !member.in.empty() && !member.out.empty())
      refuse(name, "names for all arguments or for none");
    if (member.kind == Member::Kind::property) check_property(name, member);
  }
}

const char* Interface::keep(std::string text) {
  return texts_.emplace_back(std::move(text)).c_str();
}

/// Names one after the other, each with its NUL, and another NUL.
const char* Interface::keep_names(const std::vector<std::string>& first,
                                  const std::vector<std::string>& second) {
  std::string all;
  for (const auto* names : {&first, &second})
    for (const std::string& name : *names)
      all.append(name).push_back('\0');
  return keep(all);
}

void Interface::build() {
  sd_bus_vtable start = zeroed(_SD_BUS_VTABLE_START, 0);
  start.x.start.element_size = sizeof(sd_bus_vtable);
  start.x.start.features = _SD_BUS_VTABLE_PARAM_NAMES;
  start.x.start.vtable_format_reference = &sd_bus_object_vtable_format;
  vtable_.push_back(start);
  for (size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    if (!by_name_[static_cast<size_t>(member.kind)].emplace(member.name, i).second)
      refuse(name_ + "." + member.name, "described twice");
    const char* name = keep(member.name);
    const char* signature = keep(member.in);
    sd_bus_vtable entry = zeroed(0, flags_of(member));
    switch (member.kind) {
    case Member::Kind::method:
      entry.type = _SD_BUS_VTABLE_METHOD;
      entry.x.method = {.member = name,
                        .signature = signature,
                        .result = keep(member.out),
                        .handler = call,
                        .offset = 0,
                        .names = keep_names(member.in_names, member.out_names)};
      break;
    case Member::Kind::signal:
      entry.type = _SD_BUS_VTABLE_SIGNAL;
      entry.x.signal = {.member = name, .signature = signature, .names = keep_names(member.in_names, {})};
      break;
    case Member::Kind::property:
      entry.type = member.writable ? _SD_BUS_VTABLE_WRITABLE_PROPERTY : _SD_BUS_VTABLE_PROPERTY;
      entry.x.property = {.member = name,
                          .signature = signature,
                          .get = get,
                          .set = member.writable ? set : nullptr,
                          .offset = 0};
      break;
    }
    vtable_.push_back(entry);
  }
  vtable_.push_back(zeroed(_SD_BUS_VTABLE_END, 0));
}

int Interface::call(sd_bus_message* message, void* self, sd_bus_error* error) noexcept {
  auto* interface = static_cast<Interface*>(self);
  const Member* method = interface->find(Member::Kind::method, sd_bus_message_get_member(message));
  return method == nullptr ? -ENOENT : interface->on_call(*method, message, error);
}

int Interface::get(sd_bus*, const char*, const char*, const char* property, sd_bus_message* reply, void* self,
                   sd_bus_error* error) noexcept {
  auto* interface = static_cast<Interface*>(self);
  const Member* found = interface->find(Member::Kind::property, property);
  return found == nullptr ? -ENOENT : interface->on_get(*found, reply, error);
}

/// Its presence makes the property writable to those who ask. Set itself is a call whose reply may take its
/// time, which sd-bus does not offer; the owner answers it before it comes to this.
int Interface::set(sd_bus*, const char*, const char*, const char*, sd_bus_message*, void*,
                   sd_bus_error* error) noexcept {
  return sd_bus_error_set_const(error, SD_BUS_ERROR_NOT_SUPPORTED, "not here");
}

} // namespace scanout::bus
