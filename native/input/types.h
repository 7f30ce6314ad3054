// What the input thread moves: evdev events by whole frames, and what a device says that it can do.
#pragma once

#include <linux/input.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace scanout::input {

/// An evdev event (Documentation/input/event-codes.rst) without its time, which belongs to its frame.
struct Event {
  uint16_t type = 0, code = 0;
  int32_t value = 0;
  bool operator==(const Event&) const = default;
};

/// What a device is to a guest: each guest has at most one device of each class, into which all devices of
/// the seat that are of that class come together.
enum class Class : uint8_t {
  keyboard,
  pointer,     // relative
  absolute,    // a pointer with a position: tablets of virtual machines, KVM switches
  touchscreen, // INPUT_PROP_DIRECT
  touchpad,
  tablet, // with tools: pens
  pad,    // buttons, rings and strips of a tablet
  switches,
  joystick,
};
constexpr size_t class_count = 9;

/// Events of one frame at most, its SYN_REPORT included. The kernel's own are shorter
/// (input_estimate_events_per_packet); what is longer is cut into several.
constexpr size_t max_frame = 512;
/// Contacts of a touch device at most; of others, those beyond are not handed on.
constexpr int32_t max_slots = 64;

template <size_t Count> struct Bits {
  std::array<uint64_t, (Count + 63) / 64> words{};
  [[nodiscard]] bool test(size_t index) const noexcept {
    return index < Count && (words[index / 64] >> (index % 64) & 1) != 0;
  }
  void set(size_t index, bool on = true) noexcept {
    if (index >= Count) return;
    const uint64_t bit = uint64_t{1} << (index % 64);
    words[index / 64] = on ? words[index / 64] | bit : words[index / 64] & ~bit;
  }
  [[nodiscard]] bool any() const noexcept {
    for (const uint64_t word : words) {
      if (word != 0) return true;
    }
    return false;
  }
  Bits& operator|=(const Bits& other) noexcept {
    for (size_t i = 0; i < words.size(); ++i)
      words[i] |= other.words[i];
    return *this;
  }
  bool operator==(const Bits&) const = default;
};

/// A device as evdev describes it. Trivially copyable.
struct Description {
  std::array<char, 80> name{}, phys{}, uniq{}; // NUL-terminated
  input_id id{};
  Bits<INPUT_PROP_CNT> properties;
  Bits<EV_CNT> types;
  Bits<KEY_CNT> keys;
  Bits<REL_CNT> relative;
  Bits<ABS_CNT> absolute;
  Bits<MSC_CNT> misc;
  Bits<SW_CNT> switches;
  Bits<LED_CNT> leds;
  /// Only those of `absolute` count. min < max and both within +-2^30 always: whatever claims otherwise was
  /// refused when the device was opened.
  std::array<input_absinfo, ABS_CNT> axes{};
};

} // namespace scanout::input
