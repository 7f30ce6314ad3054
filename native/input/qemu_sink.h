// A console of QEMU's D-Bus display that takes input.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "input/backlog.h"
#include "input/qemu_calls.h"
#include "input/qemu_relay.h"
#include "input/sink.h"

namespace scanout::input {

/// What is known of a console by its properties.
struct QemuConsoleState {
  uint32_t width = 0, height = 0; // pixels; 0: it shows nothing
  bool absolute = false;          // Mouse.IsAbsolute: its guest's pointer has a position
  uint32_t modifiers = 0;         // Keyboard.Modifiers: ScrollLock 1, NumLock 2, CapsLock 4
};

/// Everything in one sink, as QEMU has one keyboard, one pointer and one touchscreen for a console. Classes:
/// keyboard, pointer, absolute, tablet, touchscreen, each with the description of `describe`. Others have no
/// like there.
///
/// The pointer is moved as the guest's is: a device with a position moves a guest's relative mouse by
/// differences, and a relative one a guest's tablet from where it was. Touches are given whatever the pointer
/// is. There are no tools, no pressure and no horizontal wheel; a wheel turns by whole clicks.
class QemuSink final : public Sink, private QemuRelay::User {
public:
  /// What a guest has as a device of that class; axes from 0 to 65535. Empty for classes that it has not.
  static Description describe(Class of);
  static constexpr std::array classes = {Class::keyboard, Class::pointer, Class::absolute, Class::touchscreen,
                                         Class::tablet};

  /// `destination` as in QemuCalls. Throws base::UsageError.
  QemuSink(std::shared_ptr<QemuRelay> relay, uint32_t console, std::string_view destination);

  /// Events wait for the first one.
  void set(const QemuConsoleState& state) noexcept;

  int enter(base::Epoll& epoll, SinkOwner& owner) noexcept override;
  void leave() noexcept override { relay_->part(*this); }
  Delivery frame(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept override;
  [[nodiscard]] uint64_t merged() const noexcept override { return backlog_.merged(); }
  [[nodiscard]] uint64_t dropped() const noexcept override { return backlog_.dropped(); }

private:
  static constexpr int32_t axis_maximum = 65535;
  /// Clicks of the wheel in one frame; what is beyond is lost.
  static constexpr int32_t most_clicks = 16;

  struct Contact {
    bool down = false;                                // for QEMU
    bool ends = false, begins = false, moves = false; // in the frame in hand
    int32_t x = 0, y = 0;                             // 0 to axis_maximum
  };
  struct Position {
    int32_t x = 0, y = 0;        // 0 to axis_maximum
    bool known = false;          // since the guest's pointer is what it is
    uint32_t at_x = 0, at_y = 0; // in pixels, where that is
  };

  // QemuRelay::User
  void room() noexcept override;
  void closed(int error, const char* why) noexcept override;

  [[nodiscard]] bool may_send() const noexcept { return set_ && relay_->idle(); }
  bool give(Class from, std::span<const Event> events) noexcept;
  void keys(std::span<const Event> events) noexcept;
  void button(QemuButton button, bool pressed) noexcept;
  void buttons(std::span<const Event> events) noexcept;
  void move_by(std::span<const Event> events) noexcept;
  void move_to(Position& position, std::span<const Event> events) noexcept;
  void put_position() noexcept;
  void wheel(std::span<const Event> events) noexcept;
  void touch(std::span<const Event> events) noexcept;
  void touch_event(const Event& event) noexcept;
  void touch_alone(bool moved) noexcept;
  void put_contact(QemuTouch kind, size_t slot) noexcept;
  void tell_leds() noexcept;

  std::shared_ptr<QemuRelay> relay_;
  QemuCalls calls_;
  SinkOwner* owner_ = nullptr;
  Backlog backlog_;
  bool ended_ = false;
  int64_t sending_ns_ = 0; // of a frame whose calls are not all with the kernel, or 0

  bool set_ = false;
  QemuConsoleState state_;
  uint32_t leds_ = UINT32_MAX; // told last

  Bits<KEY_CNT> keys_;                          // that QEMU believes pressed
  std::array<uint8_t, qemu_buttons> buttons_{}; // how many devices press each
  int32_t pointer_x_ = 0, pointer_y_ = 0;       // of a pointer that has a position; pixels
  Position absolute_, tablet_;
  int32_t wheel_ = 0; // of a click, in 120ths
  std::array<Contact, qemu_slots> contacts_{};
  int32_t slot_ = 0;   // that events are for
  Contact finger_;     // of a touchscreen without slots: contact 0
  bool alone_ = false; // it is that one that is down
};

} // namespace scanout::input
