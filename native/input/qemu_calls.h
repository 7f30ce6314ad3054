// What is called of a console of QEMU's D-Bus display to give it input.
//
// Source: ui/dbus-display1.xml of QEMU, interfaces org.qemu.Display1.Keyboard, .Mouse and .MultiTouch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace scanout::input {

enum class QemuButton : uint32_t { left, middle, right, wheel_up, wheel_down, side, extra };
constexpr size_t qemu_buttons = 7;
/// Org.qemu.Display1.MultiTouch also has "cancel", which leaves the contact as it was
/// (console_handle_touch_event of ui/console.c): a guest's finger would stay for ever.
enum class QemuTouch : uint32_t { begin, update, end };
/// MultiTouch.MaxSlots of every QEMU so far.
constexpr int32_t qemu_slots = 10;

/// Makes method calls that want no reply. All but their numbers is marshalled beforehand. Each is valid until
/// the next of the same method.
class QemuCalls {
public:
  /// `destination`: QEMU's name on a bus, empty between peers. Throws base::UsageError when that is no bus
  /// name of 64 bytes at most.
  QemuCalls(uint32_t console, std::string_view destination);

  std::span<const uint8_t> key(uint32_t serial, bool pressed, uint32_t qnum) noexcept;
  std::span<const uint8_t> button(uint32_t serial, bool pressed, QemuButton button) noexcept;
  std::span<const uint8_t> motion(uint32_t serial, int32_t dx, int32_t dy) noexcept;
  /// In pixels of the console; QEMU refuses what is not less than its size.
  std::span<const uint8_t> position(uint32_t serial, uint32_t x, uint32_t y) noexcept;
  std::span<const uint8_t> touch(uint32_t serial, QemuTouch kind, uint64_t slot, double x, double y) noexcept;

private:
  struct Message {
    std::array<uint8_t, 320> bytes{};
    size_t size = 0, body = 0;
  };
  class Writer;

  template <typename... Values>
  static std::span<const uint8_t> fill(Message& message, uint32_t serial, Values... values) noexcept;

  Message key_press_, key_release_, button_press_, button_release_, motion_, position_, touch_;
};

/// QEMU's number of a key (qnum) by KEY_*; 0: it has none.
uint32_t qnum_of(uint16_t key) noexcept;

} // namespace scanout::input
