#include "input/describe.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/error.h"

namespace scanout::input {

namespace {

constexpr int32_t farthest = 1 << 30;

template <size_t Count> void ask(int fd, unsigned long request, Bits<Count>& bits, const char* op) {
  static_assert(sizeof(bits.words[0]) == sizeof(unsigned long));
  base::check(ioctl(fd, request, bits.words.data()), op);
}

/// A device without that text has an empty one.
template <size_t Size> void ask_text(int fd, unsigned long request, std::array<char, Size>& text) {
  if (ioctl(fd, request, text.data()) < 0) text = {};
  text[Size - 1] = '\0';
}

template <size_t Count> constexpr size_t bytes_of(const Bits<Count>& bits) {
  return sizeof bits.words;
}

void ask_axes(int fd, Description& description) {
  for (size_t axis = 0; axis < ABS_CNT; ++axis) {
    if (!description.absolute.test(axis)) continue;
    input_absinfo& range = description.axes[axis];
    base::check(ioctl(fd, EVIOCGABS(axis), &range), "EVIOCGABS");
    const bool within = range.minimum >= -farthest && range.maximum <= farthest;
    // Some drivers leave an axis without a range; what cannot move is passed over.
    if (axis != ABS_MT_SLOT && range.minimum == 0 && range.maximum == 0) {
      range.maximum = 1;
      continue;
    }
    const bool one_slot = axis == ABS_MT_SLOT && range.minimum == 0 && range.maximum == 0;
    if (!within || (range.minimum >= range.maximum && !one_slot)) {
      throw base::SystemError(ERANGE, "EVIOCGABS",
                              "axis " + std::to_string(axis) + " of " + description.name.data() + " from " +
                                  std::to_string(range.minimum) + " to " + std::to_string(range.maximum));
    }
  }
}

} // namespace

Description describe(int fd) {
  Description description;
  base::check(ioctl(fd, EVIOCGID, &description.id), "EVIOCGID");
  ask_text(fd, EVIOCGNAME(sizeof description.name), description.name);
  ask_text(fd, EVIOCGPHYS(sizeof description.phys), description.phys);
  ask_text(fd, EVIOCGUNIQ(sizeof description.uniq), description.uniq);
  ask(fd, EVIOCGPROP(bytes_of(description.properties)), description.properties, "EVIOCGPROP");
  ask(fd, EVIOCGBIT(0, bytes_of(description.types)), description.types, "EVIOCGBIT");
  ask(fd, EVIOCGBIT(EV_KEY, bytes_of(description.keys)), description.keys, "EVIOCGBIT(EV_KEY)");
  ask(fd, EVIOCGBIT(EV_REL, bytes_of(description.relative)), description.relative, "EVIOCGBIT(EV_REL)");
  ask(fd, EVIOCGBIT(EV_ABS, bytes_of(description.absolute)), description.absolute, "EVIOCGBIT(EV_ABS)");
  ask(fd, EVIOCGBIT(EV_MSC, bytes_of(description.misc)), description.misc, "EVIOCGBIT(EV_MSC)");
  ask(fd, EVIOCGBIT(EV_SW, bytes_of(description.switches)), description.switches, "EVIOCGBIT(EV_SW)");
  ask(fd, EVIOCGBIT(EV_LED, bytes_of(description.leds)), description.leds, "EVIOCGBIT(EV_LED)");
  ask_axes(fd, description);
  return description;
}

// The order matters: many keyboards have a wheel, many pens have a mouse's buttons. What udev's input_id
// builtin calls them is much the same.
std::optional<Class> classify(const Description& description) noexcept {
  const auto& keys = description.keys;
  const auto has = [&](size_t code) { return keys.test(code); };
  if (description.properties.test(INPUT_PROP_ACCELEROMETER)) return std::nullopt;
  const bool position = description.absolute.test(ABS_X) && description.absolute.test(ABS_Y);
  const bool contacts = slot_count(description) > 0;
  // Pads of tablets have the stylus's buttons among theirs, and sometimes axes.
  if (has(BTN_0) && has(BTN_1) && has(BTN_STYLUS) && !has(BTN_TOOL_PEN)) return Class::pad;
  const bool pen = has(BTN_TOOL_PEN) || has(BTN_STYLUS);
  if (position && pen) return Class::tablet;
  if (has(BTN_0) && !pen && description.absolute.any() &&
      (has(BTN_STYLUS) || description.absolute.test(ABS_WHEEL)))
    return Class::pad;
  if (position || contacts) {
    if (description.properties.test(INPUT_PROP_DIRECT)) return Class::touchscreen;
    if (has(BTN_TOOL_FINGER)) return Class::touchpad;
    if (has(BTN_TOUCH) && !has(BTN_LEFT)) return Class::touchscreen;
    if (has(BTN_LEFT)) return Class::absolute;
  }
  for (size_t code = BTN_JOYSTICK; code < BTN_DIGI; ++code) {
    if (has(code)) return Class::joystick;
  }
  if (description.relative.test(REL_X) && description.relative.test(REL_Y)) return Class::pointer;
  for (size_t code = KEY_ESC; code < BTN_MISC; ++code) {
    if (has(code)) return Class::keyboard;
  }
  for (size_t code = KEY_OK; code < BTN_TRIGGER_HAPPY; ++code) {
    if (has(code)) return Class::keyboard;
  }
  if (description.switches.any()) return Class::switches;
  if (description.relative.any() || has(BTN_LEFT)) return Class::pointer;
  return std::nullopt;
}

int32_t slot_count(const Description& description) noexcept {
  if (!description.absolute.test(ABS_MT_SLOT) || !description.absolute.test(ABS_MT_TRACKING_ID)) return 0;
  return std::clamp(description.axes[ABS_MT_SLOT].maximum + 1, 0, max_slots);
}

} // namespace scanout::input
