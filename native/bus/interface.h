// An interface of an object: its members as an sd-bus vtable that is made at run time.
#pragma once

#include <systemd/sd-bus-vtable.h>
#include <systemd/sd-bus.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

namespace scanout::bus {

struct Member {
  enum class Kind { method, signal, property } kind = Kind::method;
  enum class Emits { none, change, invalidates, constant };

  std::string name;
  std::string in;                    ///< of a method; or the signature of a signal or property
  std::string out;                   ///< of a method
  std::vector<std::string> in_names; ///< one for each type, or none at all; also of a signal
  std::vector<std::string> out_names;
  Emits emits = Emits::none; ///< of a property
  bool writable = false;     ///< of a property
  bool deprecated = false;
};

/// Answers for one interface on one object of one connection.
///
/// Lives as long as its slot: sd-bus walks the vtable once more when it drops the slot, which can be later
/// than the owner lets go of it (when it happens in a handler of this very interface).
class Interface {
public:
  Interface(const Interface&) = delete;
  Interface& operator=(const Interface&) = delete;

  /// Adds `made` to an object and gives its slot, which owns it. Throws UsageError with the member's name
  /// when something in it is not allowed, SystemError (EEXIST and so on); `made` is deleted then.
  static sd_bus_slot* add(sd_bus* bus, const std::string& path, Interface* made);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Null when there is none of that name and kind.
  [[nodiscard]] const Member* find(Member::Kind kind, const std::string& name) const noexcept;

protected:
  /// Nothing is checked yet.
  Interface(std::string name, std::vector<Member> members);
  virtual ~Interface() = default;

  /// Positive when a reply was or will be sent, or -errno with `error` set.
  virtual int on_call(const Member& method, sd_bus_message* call, sd_bus_error* error) noexcept = 0;
  /// Appends the value to `reply`. 0 or -errno.
  virtual int on_get(const Member& property, sd_bus_message* reply, sd_bus_error* error) noexcept = 0;

private:
  void check() const;
  void build();
  const char* keep(std::string text);
  const char* keep_names(const std::vector<std::string>& first, const std::vector<std::string>& second);
  static int call(sd_bus_message* message, void* self, sd_bus_error* error) noexcept;
  static int get(sd_bus* bus, const char* path, const char* interface, const char* property,
                 sd_bus_message* reply, void* self, sd_bus_error* error) noexcept;
  static int set(sd_bus* bus, const char* path, const char* interface, const char* property,
                 sd_bus_message* value, void* self, sd_bus_error* error) noexcept;

  std::string name_;
  std::vector<Member> members_;
  std::map<std::string, size_t> by_name_[3]; ///< by kind
  std::deque<std::string> texts_;            ///< what the vtable points at
  std::vector<sd_bus_vtable> vtable_;
};

} // namespace scanout::bus
