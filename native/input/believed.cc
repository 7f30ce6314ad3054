#include "input/believed.h"

#include <bit>

namespace scanout::input {

void Believed::apply(const Event& event) noexcept {
  if (event.type == EV_KEY) {
    keys.set(event.code, event.value != 0);
  } else if (event.type == EV_ABS && event.code == ABS_MT_SLOT) {
    slot = event.value;
  } else if (event.type == EV_ABS && event.code == ABS_MT_TRACKING_ID && is_slot(slot)) {
    const uint64_t bit = uint64_t{1} << slot;
    contacts = event.value < 0 ? contacts & ~bit : contacts | bit;
  }
}

void Owed::add(const Event& event) noexcept {
  if (event.type == EV_SW && event.code < SW_CNT) {
    switches.set(event.code);
    switch_values.set(event.code, event.value != 0);
  }
  if (event.type != EV_ABS || event.code >= ABS_CNT) return;
  if (event.code == ABS_MT_SLOT) {
    slot = event.value;
  } else if (!is_contact_axis(event)) {
    axes.set(event.code);
    axis_values[event.code] = event.value;
  } else if (event.code != ABS_MT_TRACKING_ID && is_slot(slot)) {
    const auto axis = static_cast<uint16_t>(event.code - first_contact_axis);
    contact[static_cast<size_t>(slot)] |= static_cast<uint16_t>(1u << axis);
    contact_values[static_cast<size_t>(slot)][axis] = event.value;
  }
}

void Owed::paid(const Event& event, int32_t of) noexcept {
  if (event.type == EV_SW) switches.set(event.code, false);
  if (event.type != EV_ABS) return;
  if (!is_contact_axis(event)) {
    axes.set(event.code, false);
  } else if (is_slot(of)) {
    const uint32_t bit = 1u << (event.code - first_contact_axis);
    contact[static_cast<size_t>(of)] &= static_cast<uint16_t>(~bit);
  }
}

bool Owed::any() const noexcept {
  for (const uint16_t slot_axes : contact) {
    if (slot_axes != 0) return true;
  }
  return axes.any() || switches.any();
}

namespace {

class Writer {
public:
  Writer(Event* events, size_t room) noexcept : events_(events), room_(room) {}
  [[nodiscard]] size_t count() const noexcept { return count_; }
  [[nodiscard]] bool has_room(size_t wanted) const noexcept { return room_ - count_ >= wanted; }
  void add(uint16_t type, size_t code, int32_t value) noexcept {
    if (has_room(1)) events_[count_++] = {type, static_cast<uint16_t>(code), value};
  }

private:
  Event* events_;
  size_t room_, count_ = 0;
};

template <size_t Count, typename Each> void each_bit(const Bits<Count>& bits, Each each) {
  for (size_t word = 0; word < bits.words.size(); ++word) {
    for (uint64_t left = bits.words[word]; left != 0; left &= left - 1)
      each(word * 64 + static_cast<size_t>(std::countr_zero(left)));
  }
}

} // namespace

size_t settle(const Believed& believed, const Owed& owed, Event* events, size_t room) noexcept {
  Writer writer(events, room);
  each_bit(believed.keys, [&](size_t code) { writer.add(EV_KEY, code, 0); });
  int32_t slot = believed.slot;
  for (int32_t i = 0; i < max_slots; ++i) {
    const uint16_t axes = owed.contact[static_cast<size_t>(i)];
    const bool down = (believed.contacts >> i & 1) != 0;
    if (!down && axes == 0) continue;
    if (!writer.has_room(contact_axes + 1)) return writer.count();
    if (slot != i) writer.add(EV_ABS, ABS_MT_SLOT, i);
    slot = i;
    if (down) writer.add(EV_ABS, ABS_MT_TRACKING_ID, -1);
    for (size_t axis = 0; axis < contact_axes; ++axis) {
      if ((axes >> axis & 1) != 0)
        writer.add(EV_ABS, first_contact_axis + axis, owed.contact_values[static_cast<size_t>(i)][axis]);
    }
  }
  each_bit(owed.axes, [&](size_t code) { writer.add(EV_ABS, code, owed.axis_values[code]); });
  each_bit(owed.switches,
           [&](size_t code) { writer.add(EV_SW, code, owed.switch_values.test(code) ? 1 : 0); });
  if (slot != owed.slot) writer.add(EV_ABS, ABS_MT_SLOT, owed.slot);
  return writer.count();
}

} // namespace scanout::input
