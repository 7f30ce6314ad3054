#include "input/libinput_frames.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace scanout::input {

namespace {

constexpr double units_a_detent = 15;
constexpr double fine_a_unit = 120 / units_a_detent;
constexpr int32_t max_tracking = 65535;
constexpr double turn = 360;

/// A part of a turn, 0 up to but not 1.
double part_of_turn(double degrees) noexcept {
  const double part = std::fmod(degrees / turn, 1.0);
  return part < 0 ? part + 1 : part;
}

int32_t around(const input_absinfo& range, double part) noexcept {
  const auto steps = static_cast<int64_t>(width(range));
  return static_cast<int32_t>(range.minimum +
                              std::llround(part * static_cast<double>(steps)) % std::max<int64_t>(steps, 1));
}

} // namespace

std::span<const Event> FrameMaker::finish() noexcept {
  if (count_ == 0) return {};
  events_[count_++] = {.type = EV_SYN, .code = SYN_REPORT, .value = 0};
  return {events_.data(), std::exchange(count_, 0)};
}

int32_t Steps::take(double amount) noexcept {
  // Beyond any device, and what is no number at all.
  constexpr double farthest = 1 << 30;
  if (!(std::abs(amount) < farthest)) return 0;
  rest_ += amount / size_;
  const double whole = std::trunc(rest_);
  rest_ -= whole;
  return static_cast<int32_t>(whole);
}

// ---- pointers

void PointerFrames::motion(FrameMaker& frame, double dx, double dy) noexcept {
  if (const int32_t steps = x_.take(dx); steps != 0) frame.add(EV_REL, REL_X, steps);
  if (const int32_t steps = y_.take(dy); steps != 0) frame.add(EV_REL, REL_Y, steps);
}

void PointerFrames::Axis::add(FrameMaker& frame, double amount, uint16_t fine_code, uint16_t code) noexcept {
  const int32_t steps = fine.take(amount);
  if (steps == 0) return;
  frame.add(EV_REL, fine_code, steps);
  if (const int32_t whole = detents.take(steps); whole != 0) frame.add(EV_REL, code, whole);
}

void PointerFrames::Axis::reset() noexcept {
  fine.reset();
  detents.reset();
}

void PointerFrames::wheel(FrameMaker& frame, double vertical, double horizontal) noexcept {
  vertical_.add(frame, -vertical, REL_WHEEL_HI_RES, REL_WHEEL);
  horizontal_.add(frame, horizontal, REL_HWHEEL_HI_RES, REL_HWHEEL);
}

void PointerFrames::continuous(FrameMaker& frame, std::optional<double> vertical,
                               std::optional<double> horizontal) noexcept {
  if (vertical == 0.0) scroll_vertical_.reset();
  if (horizontal == 0.0) scroll_horizontal_.reset();
  scroll_vertical_.add(frame, -vertical.value_or(0) * fine_a_unit, REL_WHEEL_HI_RES, REL_WHEEL);
  scroll_horizontal_.add(frame, horizontal.value_or(0) * fine_a_unit, REL_HWHEEL_HI_RES, REL_HWHEEL);
}

// ---- touch

TouchFrames::Contact* TouchFrames::at(int32_t slot) noexcept {
  const int32_t index = std::max(slot, 0); // -1: a device of one contact
  return static_cast<size_t>(index) < contacts_.size() ? &contacts_[static_cast<size_t>(index)] : nullptr;
}

void TouchFrames::down(int32_t slot, int32_t x, int32_t y) noexcept {
  Contact* contact = at(slot);
  if (contact == nullptr) return;
  contact->tracking = next_;
  next_ = next_ == max_tracking ? 0 : next_ + 1;
  contact->x = x;
  contact->y = y;
}

void TouchFrames::move(int32_t slot, int32_t x, int32_t y) noexcept {
  Contact* contact = at(slot);
  if (contact == nullptr || contact->tracking < 0) return;
  contact->x = x;
  contact->y = y;
}

void TouchFrames::up(int32_t slot) noexcept {
  if (Contact* contact = at(slot)) contact->tracking = -1;
}

void TouchFrames::contact(FrameMaker& frame, int32_t index) noexcept {
  Contact& contact = contacts_[static_cast<size_t>(index)];
  const bool other = contact.tracking != contact.told;
  const bool moved =
      contact.tracking >= 0 && (contact.x != contact.told_x || contact.y != contact.told_y || other);
  if (!other && !moved) return;
  if (slot_ != index) frame.add(EV_ABS, ABS_MT_SLOT, slot_ = index);
  if (other) {
    if (contact.told >= 0 && contact.tracking >= 0) frame.add(EV_ABS, ABS_MT_TRACKING_ID, -1);
    frame.add(EV_ABS, ABS_MT_TRACKING_ID, contact.tracking);
  }
  if (contact.tracking >= 0) {
    if (other || contact.x != contact.told_x) frame.add(EV_ABS, ABS_MT_POSITION_X, contact.x);
    if (other || contact.y != contact.told_y) frame.add(EV_ABS, ABS_MT_POSITION_Y, contact.y);
    contact.told_x = contact.x;
    contact.told_y = contact.y;
  }
  contact.told = contact.tracking;
}

/// Those that know one contact only follow the oldest, as the kernel has it
/// (input_mt_report_pointer_emulation).
void TouchFrames::first(FrameMaker& frame) noexcept {
  const Contact* oldest = nullptr;
  for (const Contact& contact : contacts_) {
    if (contact.tracking < 0) continue;
    // Ids begin anew after the last: the difference decides.
    const auto age = [&](const Contact& of) {
      return (next_ - of.tracking + max_tracking + 1) % (max_tracking + 1);
    };
    if (oldest == nullptr || age(contact) > age(*oldest)) oldest = &contact;
  }
  if (const bool touching = oldest != nullptr; touching != touching_)
    frame.add(EV_KEY, BTN_TOUCH, static_cast<int32_t>(touching_ = touching));
  if (oldest == nullptr) return;
  const bool other = std::exchange(first_, oldest->tracking) != oldest->tracking;
  if (other || oldest->x != x_) frame.add(EV_ABS, ABS_X, x_ = oldest->x);
  if (other || oldest->y != y_) frame.add(EV_ABS, ABS_Y, y_ = oldest->y);
}

void TouchFrames::frame(FrameMaker& frame) noexcept {
  for (size_t i = 0; i < contacts_.size(); ++i)
    contact(frame, static_cast<int32_t>(i));
  first(frame);
}

// ---- tools

void ToolFrames::identifies(bool serial, bool id) noexcept {
  has_serial_ = serial;
  has_id_ = id;
}

void ToolFrames::near(FrameMaker& frame, uint16_t tool, uint32_t serial, uint32_t id) noexcept {
  tool_ = tool;
  serial_ = serial;
  told_ = {};
  frame.add(EV_KEY, tool, 1);
  if (has_id_) frame.add(EV_ABS, ABS_MISC, static_cast<int32_t>(id));
  if (has_serial_) frame.add(EV_MSC, MSC_SERIAL, static_cast<int32_t>(serial));
}

void ToolFrames::axes(FrameMaker& frame, std::span<const Axis> axes) noexcept {
  for (const Axis& axis : axes) {
    if (told_.test(axis.code) && values_[axis.code] == axis.value) continue;
    told_.set(axis.code);
    values_[axis.code] = axis.value;
    frame.add(EV_ABS, axis.code, axis.value);
  }
}

void ToolFrames::tip(FrameMaker& frame, bool down) noexcept {
  if (tip_ == down) return;
  tip_ = down;
  frame.add(EV_KEY, BTN_TOUCH, down ? 1 : 0);
}

void ToolFrames::far(FrameMaker& frame) noexcept {
  if (tool_ == 0) return;
  tip(frame, false);
  frame.add(EV_KEY, std::exchange(tool_, uint16_t{0}), 0);
  if (has_id_) frame.add(EV_ABS, ABS_MISC, 0);
  if (has_serial_) frame.add(EV_MSC, MSC_SERIAL, static_cast<int32_t>(serial_));
}

// ---- positions

int32_t scale(const input_absinfo& range, double part) noexcept {
  const double steps = static_cast<double>(range.maximum) - range.minimum;
  return static_cast<int32_t>(std::lround(range.minimum + std::clamp(part, 0.0, 1.0) * steps));
}

uint32_t width(const input_absinfo& range) noexcept {
  return static_cast<uint32_t>(int64_t{range.maximum} - range.minimum + 1);
}

int32_t position(const input_absinfo& range, double offset) noexcept {
  const double farthest = static_cast<double>(range.maximum) - range.minimum;
  return static_cast<int32_t>(std::lround(range.minimum + std::clamp(offset, 0.0, farthest)));
}

int32_t ring(const input_absinfo& range, double degrees) noexcept {
  return around(range, part_of_turn(degrees + turn / 4));
}

int32_t strip(const input_absinfo& range, double part) noexcept {
  const double places = std::log2(std::max(range.maximum, 1));
  return 1 << std::lround(std::clamp(part, 0.0, 1.0) * places);
}

int32_t barrel(const input_absinfo& range, double degrees) noexcept {
  return around(range, part_of_turn(degrees - turn / 4));
}

uint16_t pad_button(const Bits<KEY_CNT>& keys, uint32_t index) noexcept {
  struct Row {
    uint16_t first, count;
  };
  constexpr std::array<Row, 4> rows{{{BTN_0, 10}, {BTN_BASE, 2}, {BTN_A, 6}, {BTN_LEFT, 7}}};
  for (const auto& [first, count] : rows) {
    for (uint16_t code = first; code < first + count; ++code) {
      if (keys.test(code) && index-- == 0) return code;
    }
  }
  return 0;
}

} // namespace scanout::input
