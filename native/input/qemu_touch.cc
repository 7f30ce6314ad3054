// Contacts of a console that takes input.
#include <algorithm>

#include "input/qemu_sink.h"

namespace scanout::input {

[[gnu::hot]] void QemuSink::touch(std::span<const Event> events) noexcept {
  bool moved = false; // a touchscreen without slots
  for (const Event& event : events) {
    if (event.type == EV_KEY && event.code == BTN_TOUCH)
      (event.value != 0 ? finger_.begins : finger_.ends) = true;
    if (event.type != EV_ABS) continue;
    if (event.code == ABS_X || event.code == ABS_Y) {
      (event.code == ABS_X ? finger_.x : finger_.y) = event.value;
      moved = true;
    } else {
      touch_event(event);
    }
  }
  for (size_t slot = 0; slot < contacts_.size(); ++slot) {
    Contact& contact = contacts_[slot];
    if (contact.ends && contact.down) put_contact(QemuTouch::end, slot);
    if (contact.begins) {
      put_contact(QemuTouch::begin, slot);
      alone_ = alone_ && slot != 0;
    }
    if (!contact.begins && contact.moves && contact.down) put_contact(QemuTouch::update, slot);
    contact.ends = contact.begins = contact.moves = false;
  }
  touch_alone(moved);
}

void QemuSink::touch_event(const Event& event) noexcept {
  if (event.code == ABS_MT_SLOT) slot_ = event.value;
  if (slot_ < 0 || slot_ >= qemu_slots) return;
  Contact& contact = contacts_[static_cast<size_t>(slot_)];
  switch (event.code) {
  case ABS_MT_TRACKING_ID:
    // Another number without an end in between is another finger. One that comes and goes at once was none.
    contact.ends = contact.ends || contact.down;
    contact.begins = event.value >= 0;
    break;
  case ABS_MT_POSITION_X:
    contact.x = event.value;
    contact.moves = true;
    break;
  case ABS_MT_POSITION_Y:
    contact.y = event.value;
    contact.moves = true;
    break;
  default:
    break;
  }
}

/// What a touchscreen with slots says of its newest contact for those that know of one only is passed over.
void QemuSink::touch_alone(bool moved) noexcept {
  const bool begins = finger_.begins, ends = finger_.ends;
  finger_.begins = finger_.ends = false;
  const bool others = std::ranges::any_of(contacts_, &Contact::down);
  Contact& contact = contacts_[0];
  if (!alone_ && (others || !begins)) return;
  contact.x = finger_.x;
  contact.y = finger_.y;
  if (alone_ && ends) {
    if (contact.down) put_contact(QemuTouch::end, 0);
    alone_ = false;
  } else if (!alone_) {
    put_contact(QemuTouch::begin, 0);
    alone_ = true;
  } else if (moved && contact.down) {
    put_contact(QemuTouch::update, 0);
  }
}

void QemuSink::put_contact(QemuTouch kind, size_t slot) noexcept {
  Contact& contact = contacts_[slot];
  contact.down = kind != QemuTouch::end;
  const auto place = [](int32_t value, uint32_t size) { // less than `size`
    return std::clamp(value, 0, axis_maximum) * static_cast<double>(size) / (axis_maximum + 1);
  };
  relay_->put(calls_.touch(relay_->next_serial(), kind, slot, place(contact.x, state_.width),
                           place(contact.y, state_.height)));
}

} // namespace scanout::input
