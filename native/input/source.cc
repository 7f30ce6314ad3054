#include "input/source.h"

#include <unistd.h>

#include "input/describe.h"

namespace scanout::input {

Source::Source(uint32_t device, Class of, const Description& description)
    : description_(std::make_unique<const Description>(description)), description(*description_),
      device(device), of(of), slots(static_cast<size_t>(slot_count(description))) {
  for (size_t axis = 0; axis < ABS_CNT; ++axis)
    values[axis] = description.axes[axis].value;
}

[[gnu::hot]] void Source::take(std::span<const Event> events) noexcept {
  for (const Event& event : events) {
    switch (event.type) {
    case EV_KEY:
      if (event.value != 2) down.set(event.code, event.value != 0);
      break;
    case EV_SW:
      switched.set(event.code, event.value != 0);
      break;
    case EV_ABS:
      if (event.code == ABS_MT_SLOT) {
        slot = event.value;
      } else if (is_slot_axis(event.code)) {
        if (slot < 0 || static_cast<size_t>(slot) >= slots.size()) break;
        Slot& one = slots[static_cast<size_t>(slot)];
        if (event.code == ABS_MT_TRACKING_ID)
          one.tracking = event.value;
        else
          one.values[event.code - ABS_MT_TOUCH_MAJOR] = event.value;
      } else if (event.code < ABS_CNT) {
        values[event.code] = event.value;
      }
      break;
    default:
      break;
    }
  }
}

int32_t Source::contacts() const noexcept {
  int32_t count = 0;
  for (const Slot& one : slots)
    count += one.tracking >= 0 ? 1 : 0;
  return count;
}

void write_leds(int fd, const Description& description, uint32_t leds) noexcept {
  std::array<input_event, LED_CNT + 1> events{};
  size_t count = 0;
  for (uint16_t led = 0; led < LED_CNT; ++led) {
    if (!description.leds.test(led)) continue;
    events[count].type = EV_LED;
    events[count].code = led;
    events[count++].value = static_cast<int32_t>(leds >> led & 1);
  }
  if (count == 0) return;
  events[count++].type = EV_SYN;
  [[maybe_unused]] const ssize_t written = write(fd, events.data(), count * sizeof events[0]);
}

bool Source::holds() const noexcept {
  if (given_contacts > 0) return true;
  Bits<KEY_CNT> held = given;
  for (uint16_t key = BTN_TOOL_PEN; key <= BTN_TOOL_LENS; ++key)
    held.set(key, false);
  return held.any();
}

bool is_finger_count(uint16_t key) noexcept {
  switch (key) {
  case BTN_TOUCH:
  case BTN_TOOL_FINGER:
  case BTN_TOOL_DOUBLETAP:
  case BTN_TOOL_TRIPLETAP:
  case BTN_TOOL_QUADTAP:
  case BTN_TOOL_QUINTTAP:
    return true;
  default:
    return false;
  }
}

bool is_tool(uint16_t key) noexcept {
  return key >= BTN_TOOL_PEN && key <= BTN_TOOL_LENS && key != BTN_TOOL_FINGER;
}

bool is_modifier(uint16_t key) noexcept {
  switch (key) {
  case KEY_LEFTCTRL:
  case KEY_RIGHTCTRL:
  case KEY_LEFTSHIFT:
  case KEY_RIGHTSHIFT:
  case KEY_LEFTALT:
  case KEY_RIGHTALT:
  case KEY_LEFTMETA:
  case KEY_RIGHTMETA:
    return true;
  default:
    return false;
  }
}

} // namespace scanout::input
