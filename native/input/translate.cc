#include "input/translate.h"

#include <algorithm>
#include <cmath>

namespace scanout::input {

namespace {

constexpr bool is_horizontal(uint16_t code) {
  return code == ABS_X || code == ABS_MT_POSITION_X;
}
constexpr bool is_vertical(uint16_t code) {
  return code == ABS_Y || code == ABS_MT_POSITION_Y;
}
/// Positions on a screen, not those of a touchpad or a stick.
bool is_position(Class of, uint16_t code) {
  const bool screen = of == Class::absolute || of == Class::touchscreen || of == Class::tablet;
  return screen && (is_horizontal(code) || is_vertical(code));
}

constexpr std::array<uint16_t, 5> finger_keys = {BTN_TOOL_FINGER, BTN_TOOL_DOUBLETAP, BTN_TOOL_TRIPLETAP,
                                                 BTN_TOOL_QUADTAP, BTN_TOOL_QUINTTAP};

} // namespace

[[gnu::hot]] void Translator::frame(Source& source, std::span<const Event> events, int32_t first_slot,
                                    const Bits<KEY_CNT>* swallowed, const Mapping& mapping,
                                    int64_t kernel_ns) noexcept {
  begin(source, mapping, kernel_ns);
  at_slot_ = first_slot;
  if (tip_is_foreign_) {
    tip_is_foreign_ = std::ranges::none_of(events, [](const Event& event) {
      return event.type == EV_KEY && event.code == BTN_TOUCH && event.value == 1;
    });
  }
  for (const Event& event : events) {
    switch (event.type) {
    case EV_KEY:
      if (swallowed != nullptr && swallowed->test(event.code) && event.value != 0) {
        if (scan_) --count_;
        scan_ = false;
        break;
      }
      key(event.code, event.value);
      break;
    case EV_REL:
      relative(event.code, event.value);
      break;
    case EV_ABS:
      if (event.code == ABS_MT_SLOT || Source::is_slot_axis(event.code))
        contact(event.code, event.value);
      else
        absolute(event.code, event.value);
      break;
    case EV_MSC:
      if (port_->misc.test(event.code)) emit(EV_MSC, event.code, event.value);
      scan_ = event.code == MSC_SCAN && port_->misc.test(event.code);
      break;
    case EV_SW:
      if (port_->description.switches.test(event.code)) emit(EV_SW, event.code, event.value);
      break;
    default: // EV_SYN is made anew; EV_LED and EV_SND echo what was written to the device; EV_REP is ours
      break;
    }
  }
  if (mapping.positioned) position();
  if (!source.slots.empty()) finger_counts();
  if (begun_.any() || port_->told_by != &source) complete();
  finish();
}

[[gnu::hot]] void Translator::begin(Source& source, const Mapping& mapping, int64_t kernel_ns) noexcept {
  source_ = &source;
  port_ = source.port;
  mapping_ = mapping;
  kernel_ns_ = kernel_ns;
  begun_ = {};
  tip_is_foreign_ =
      source.of == Class::tablet && source.down.test(BTN_TOUCH) && !source.given.test(BTN_TOUCH);
  scan_ = false;
  count_ = 0;
}

/// Nothing is sent of a frame of which nothing is left.
[[gnu::hot]] void Translator::finish() noexcept {
  if (count_ > 0) flush();
}

[[gnu::hot]] void Translator::flush() noexcept {
  out_[count_++] = {.type = EV_SYN, .code = SYN_REPORT, .value = 0};
  port_->send({out_.data(), count_}, kernel_ns_);
  count_ = 0;
}

[[gnu::hot]] void Translator::emit(uint16_t type, uint16_t code, int32_t value) noexcept {
  if (count_ == max_frame - 1) flush();
  out_[count_++] = {.type = type, .code = code, .value = value};
  scan_ = false;
  if (type == EV_ABS) port_->told(code, value);
}

// ---- keys

[[gnu::hot]] void Translator::key(uint16_t code, int32_t value) noexcept {
  const bool scanned = scan_;
  const size_t before = count_;
  // The guest's own kernel repeats keys, and how many fingers there are follows from its contacts.
  const bool counted = !source_->slots.empty() && is_finger_count(code) && !whole();
  if (value == 1 && !counted)
    press(code);
  else if (value == 0 && !counted)
    unpress(code);
  if (count_ == before && scanned) --count_; // its scan code goes with it
  scan_ = false;
}

[[gnu::hot]] void Translator::press(uint16_t code) noexcept {
  if (!port_->description.keys.test(code) || source_->given.test(code)) return;
  source_->given.set(code);
  if (port_->press(code)) emit(EV_KEY, code, 1);
}

[[gnu::hot]] void Translator::unpress(uint16_t code) noexcept {
  if (!source_->given.test(code)) return;
  source_->given.set(code, false);
  if (port_->release(code)) emit(EV_KEY, code, 0);
}

// ---- axes

[[gnu::hot]] void Translator::relative(uint16_t code, int32_t value) noexcept {
  if (mapping_.positioned && (code == REL_X || code == REL_Y)) return;
  if (port_->relative.test(code)) emit(EV_REL, code, value);
}

[[gnu::hot, gnu::noinline]] void Translator::position() noexcept {
  const Place& place = *mapping_.place;
  port_->told_by = nullptr; // by no device's own axes
  emit(EV_ABS, ABS_X, scale(ABS_X, (mapping_.x - place.x) / place.width));
  emit(EV_ABS, ABS_Y, scale(ABS_Y, (mapping_.y - place.y) / place.height));
}

[[gnu::hot, gnu::noinline]] void Translator::absolute(uint16_t code, int32_t value) noexcept {
  if (!port_->description.absolute.test(code)) return;
  // Of a touch device that has slots these follow the contacts, of which none is the guest's.
  if (source_->given_contacts == 0 && source_->contacts() > 0) {
    port_->told_by = nullptr;
    return;
  }
  emit(EV_ABS, code, map(code, value));
}

/// The kernel tells axes only when they change. What it did not tell now, and another guest or another device
/// had otherwise, comes at the end of the frame.
[[gnu::hot, gnu::noinline]] void Translator::complete() noexcept {
  for (size_t i = 0; i < source_->slots.size(); ++i) {
    const Source::Slot& slot = source_->slots[i];
    if (!begun_.test(i) || slot.given_slot < 0) continue;
    for (uint16_t code = ABS_MT_TOUCH_MAJOR; code <= ABS_MT_TOOL_Y; ++code) {
      if (code == ABS_MT_TRACKING_ID || !source_->description.absolute.test(code) ||
          !port_->description.absolute.test(code))
        continue;
      const int32_t value = map(code, slot.values[code - ABS_MT_TOUCH_MAJOR]);
      if (value == port_->slot_value(slot.given_slot, code)) continue;
      select(slot.given_slot);
      emit(EV_ABS, code, value);
    }
  }
  if (port_->told_by == source_ || count_ == 0 || mapping_.positioned) return;
  if (source_->given_contacts == 0 && source_->contacts() > 0) return;
  port_->told_by = source_;
  for (uint16_t code = 0; code < ABS_MT_SLOT; ++code) {
    if (!source_->description.absolute.test(code) || !port_->description.absolute.test(code)) continue;
    if (const int32_t value = map(code, source_->values[code]); value != port_->value(code))
      emit(EV_ABS, code, value);
  }
}

/// Into the range of the guest's device: by the guest's place on the output, or from one whole to the other.
int32_t Translator::map(uint16_t code, int32_t value) const noexcept {
  const input_absinfo& from = source_->description.axes[code];
  const input_absinfo& to = port_->description.axes[code];
  if (code == ABS_PRESSURE && tip_is_foreign_) return to.minimum;
  const bool placed =
      mapping_.place != nullptr && mapping_.output != nullptr && is_position(source_->of, code);
  if (!placed && from.minimum == to.minimum && from.maximum == to.maximum) return value;
  double part =
      (static_cast<double>(value) - from.minimum) / (static_cast<double>(from.maximum) - from.minimum);
  if (placed) {
    const Place& place = *mapping_.place;
    part = is_horizontal(code) ? (part * mapping_.output->width - place.x) / place.width
                               : (part * mapping_.output->height - place.y) / place.height;
  }
  return scale(code, part);
}

int32_t Translator::scale(uint16_t code, double part) const noexcept {
  const input_absinfo& to = port_->description.axes[code];
  const double range = static_cast<double>(to.maximum) - to.minimum;
  return static_cast<int32_t>(std::lround(to.minimum + std::clamp(part, 0.0, 1.0) * range));
}

// ---- contacts

void Translator::select(int32_t slot) noexcept {
  if (port_->slot == slot) return;
  port_->slot = slot;
  emit(EV_ABS, ABS_MT_SLOT, slot);
}

[[gnu::hot, gnu::noinline]] void Translator::contact(uint16_t code, int32_t value) noexcept {
  if (code == ABS_MT_SLOT) {
    at_slot_ = value;
    return;
  }
  if (at_slot_ < 0 || static_cast<size_t>(at_slot_) >= source_->slots.size()) return;
  Source::Slot& slot = source_->slots[static_cast<size_t>(at_slot_)];
  if (code == ABS_MT_TRACKING_ID) {
    if (value < 0) {
      contact_ends(slot);
    } else if (slot.given_slot >= 0) { // another finger, and no word of the former one's end
      select(slot.given_slot);
      emit(EV_ABS, ABS_MT_TRACKING_ID, value);
    } else {
      contact_begins(slot, at_slot_);
    }
    return;
  }
  if (slot.given_slot < 0) return;
  if (!port_->description.absolute.test(code)) return;
  select(slot.given_slot);
  emit(EV_ABS, code, map(code, value));
}

/// One that begins beside the guest is none of the guest's.
void Translator::contact_begins(Source::Slot& slot, int32_t index) noexcept {
  if (!inside(slot)) return;
  slot.given_slot = port_->take_slot(index);
  if (slot.given_slot < 0) return;
  ++source_->given_contacts;
  select(slot.given_slot);
  emit(EV_ABS, ABS_MT_TRACKING_ID, slot.tracking);
  begun_.set(static_cast<size_t>(index));
}

void Translator::contact_ends(Source::Slot& slot) noexcept {
  if (slot.given_slot < 0) return;
  select(slot.given_slot);
  emit(EV_ABS, ABS_MT_TRACKING_ID, -1);
  port_->free_slot(slot.given_slot);
  slot.given_slot = -1;
  --source_->given_contacts;
}

bool Translator::inside(const Source::Slot& slot) const noexcept {
  if (mapping_.place == nullptr || mapping_.output == nullptr || source_->of != Class::touchscreen)
    return true;
  const auto part = [&](uint16_t code) {
    const input_absinfo& range = source_->description.axes[code];
    const double value = slot.values[code - ABS_MT_TOUCH_MAJOR];
    return (value - range.minimum) / (static_cast<double>(range.maximum) - range.minimum);
  };
  // The far edge belongs to the output.
  const double x = std::min(part(ABS_MT_POSITION_X) * mapping_.output->width, mapping_.output->width - 0.5);
  const double y = std::min(part(ABS_MT_POSITION_Y) * mapping_.output->height, mapping_.output->height - 0.5);
  return mapping_.place->contains(x, y);
}

/// The guest has all contacts that there are.
bool Translator::whole() const noexcept {
  return source_->given_contacts == source_->contacts();
}

/// BTN_TOUCH and its like as the device has them, when its guest has all of its contacts; else as the guest's
/// own contacts have it.
[[gnu::hot, gnu::noinline]] void Translator::finger_counts() noexcept {
  const bool all = whole();
  const auto fingers = static_cast<size_t>(source_->given_contacts);
  const auto set = [&](uint16_t code, bool counted) {
    const bool wanted = all ? source_->down.test(code) : counted && source_->description.keys.test(code);
    if (wanted)
      press(code);
    else
      unpress(code);
  };
  set(BTN_TOUCH, fingers > 0);
  for (size_t i = 0; i < finger_keys.size(); ++i)
    set(finger_keys[i], fingers == i + 1 || (i + 1 == finger_keys.size() && fingers > i));
}

// ---- between guests

void Translator::release(Source& source, int64_t kernel_ns) noexcept {
  if (source.port == nullptr) return;
  begin(source, {}, kernel_ns);
  for (Source::Slot& slot : source.slots)
    contact_ends(slot);
  if (source.given.any()) {
    for (const bool modifiers : {false, true}) { // modifiers last: a shortcut stays what it was
      for (size_t word = 0; word < source.given.words.size(); ++word) {
        for (uint64_t bits = source.given.words[word]; bits != 0; bits &= bits - 1) {
          const auto code = static_cast<uint16_t>(word * 64 + static_cast<size_t>(__builtin_ctzll(bits)));
          if (is_modifier(code) == modifiers) unpress(code);
        }
      }
    }
  }
  finish();
  if (port_->told_by == &source) port_->told_by = nullptr;
}

void Translator::introduce(Source& source, const Mapping& mapping, int64_t kernel_ns) noexcept {
  if (source.port == nullptr) return;
  begin(source, mapping, kernel_ns);
  for (uint16_t code = 0; code < SW_CNT; ++code) {
    if (source.description.switches.test(code) && port_->description.switches.test(code))
      emit(EV_SW, code, source.switched.test(code) ? 1 : 0);
  }
  if (source.of == Class::tablet) {
    for (uint16_t code = BTN_TOOL_PEN; code <= BTN_TOOL_LENS; ++code) {
      if (is_tool(code) && source.down.test(code)) press(code);
    }
    complete();
  }
  finish();
}

bool Translator::tap(Port& port, uint16_t key, int64_t kernel_ns) noexcept {
  if (!port.description.keys.test(key) || port.is_held(key)) return false;
  for (const int32_t value : {1, 0}) {
    const std::array<Event, 2> events{
        {{.type = EV_KEY, .code = key, .value = value}, {.type = EV_SYN, .code = SYN_REPORT, .value = 0}}};
    port.send(events, kernel_ns);
  }
  return true;
}

} // namespace scanout::input
