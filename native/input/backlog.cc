#include "input/backlog.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace scanout::input {

namespace {

constexpr Event report{EV_SYN, SYN_REPORT, 0};

int32_t saturated(int64_t value) noexcept {
  return static_cast<int32_t>(
      std::clamp<int64_t>(value, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
}

/// The event of the same axis, and of the same contact where it is one of a contact. `slot`: in which
/// `events` start.
Event* find(std::span<Event> events, int32_t slot, const Event& wanted, int32_t wanted_slot) noexcept {
  const bool of_contact = is_contact_axis(wanted);
  Event* found = nullptr;
  for (Event& event : events) {
    if (event.type == EV_ABS && event.code == ABS_MT_SLOT) slot = event.value;
    if (event.type == wanted.type && event.code == wanted.code && (!of_contact || slot == wanted_slot))
      found = &event;
  }
  return found;
}

} // namespace

void Backlog::push(Class from, std::span<const Event> events, int64_t kernel_ns) noexcept {
  if (pieces_ > 0 && gathered_.from != from) finish(); // nobody else's events within a frame
  for (const Event& event : events) {
    make_room(); // first: it may change what is ahead
    if (pieces_ == 0) gathered_ = {from, Kind::other, 0, ahead_[index(from)].slot, kernel_ns};
    if (is_report(event))
      finish();
    else if (admit(from, event))
      append(event);
    else
      count(dropped_, 1);
  }
}

/// Keeps out what would release something that is not down there, and repetitions.
bool Backlog::admit(Class from, const Event& event) noexcept {
  Believed& ahead = ahead_[index(from)];
  if (event.type == EV_KEY) {
    if (event.value > 1 || event.code >= KEY_CNT) return false;
    if (ahead.keys.test(event.code) == (event.value != 0)) return false;
  }
  const bool lifted = event.type == EV_ABS && event.code == ABS_MT_TRACKING_ID && event.value < 0;
  if (lifted && (!is_slot(ahead.slot) || (ahead.contacts >> ahead.slot & 1) == 0)) return false;
  ahead.apply(event);
  return true;
}

void Backlog::make_room() noexcept {
  while (events_.full()) {
    if (!drop_motion()) collapse();
  }
}

void Backlog::append(const Event& event) noexcept {
  events_.append(event);
  ++pieces_;
}

void Backlog::finish() noexcept {
  make_room();
  if (pieces_ == 0) return; // nothing of it was admitted, or all of it is owed now
  append(report);
  const std::span<const Event> frame = events_.all().last(pieces_);
  gathered_.kind = kind_of(frame);
  gathered_.count = pieces_;
  if (frames_.size() == 0 || !merge(frames_.back())) frames_.append(gathered_);
  pieces_ = 0;
}

Backlog::Kind Backlog::kind_of(std::span<const Event> frame) noexcept {
  Kind kind = Kind::relative;
  for (const Event& event : frame.first(frame.size() - 1)) {
    if (event.type == EV_REL || (event.type == EV_MSC && event.code == MSC_TIMESTAMP)) continue;
    const bool motion = event.type == EV_ABS && event.code != ABS_MT_TRACKING_ID;
    // Which pen it is comes with every motion of it.
    const bool serial = event.type == EV_MSC && event.code == MSC_SERIAL;
    if (!motion && !serial) return Kind::other;
    kind = Kind::motion;
  }
  return kind;
}

/// Merges the pieces, which are a frame, into the one right before them.
bool Backlog::merge(Waiting& into) noexcept {
  const size_t more = pieces_ - size_t{1}; // without SYN_REPORT
  if (into.from != gathered_.from || into.kind == Kind::other || gathered_.kind == Kind::other) return false;
  if (into.count + more > max_frame) return false;
  const std::span<Event> both = events_.all().last(size_t{into.count} + pieces_);
  const std::span<const Event> added = both.subspan(into.count, more);
  for (const Event& event : added) {
    if (event.type != EV_MSC || event.code != MSC_SERIAL) continue;
    const Event* same = find(both.first(into.count), into.slot, event, 0);
    if (same == nullptr || same->value != event.value) return false;
  }

  // What cannot be merged is put behind: never more than what was read, so that nothing unread is
  // overwritten.
  size_t end = into.count - size_t{1};
  int32_t written_slot = gathered_.slot, slot = gathered_.slot;
  for (const Event& read : added) {
    const Event event = read;
    if (event.type == EV_ABS && event.code == ABS_MT_SLOT) {
      slot = event.value;
      continue;
    }
    if (Event* same = find(both.first(end), into.slot, event, slot); same != nullptr) {
      same->value = event.type == EV_REL ? saturated(int64_t{same->value} + event.value) : event.value;
      count(merged_, 1);
      continue;
    }
    if (is_contact_axis(event) && slot != written_slot) both[end++] = {EV_ABS, ABS_MT_SLOT, slot};
    if (is_contact_axis(event)) written_slot = slot;
    both[end++] = event;
  }
  if (slot != written_slot) both[end++] = {EV_ABS, ABS_MT_SLOT, slot};
  both[end++] = report;
  events_.erase(events_.size() - (both.size() - end), both.size() - end);
  into.count = static_cast<uint16_t>(end);
  if (gathered_.kind == Kind::motion) into.kind = Kind::motion;
  return true;
}

/// The oldest relative motion. Absolute motion stays: what follows it counts on where it led.
bool Backlog::drop_motion() noexcept {
  size_t at = 0;
  for (size_t i = 0; i < frames_.size(); ++i) {
    const Waiting& frame = frames_[i];
    if (frame.kind == Kind::relative) {
      count(dropped_, frame.count - uint64_t{1});
      events_.erase(at, frame.count);
      frames_.erase(i, 1);
      return true;
    }
    at += frame.count;
  }
  return false;
}

void Backlog::collapse() noexcept {
  for (size_t i = 0; i < class_count; ++i) {
    if ((owing_ >> i & 1) == 0) owed_[i].slot = told_[i].slot;
  }
  size_t at = 0;
  const auto owe = [&](Class from, size_t many) {
    for (const Event& event : events_.all().subspan(at, many)) {
      owed_[index(from)].add(event);
      if (!is_report(event)) count(dropped_, 1);
    }
    at += many;
  };
  for (const Waiting& frame : frames_.all())
    owe(frame.from, frame.count);
  owe(gathered_.from, pieces_);
  events_.clear();
  frames_.clear();
  pieces_ = 0;
  settling_count_ = 0;
  collapsed_ns_ = gathered_.kernel_ns;
  for (size_t i = 0; i < class_count; ++i) {
    ahead_[i] = {};
    ahead_[i].slot = owed_[i].slot;
    if (told_[i].anything_down() || owed_[i].any() || told_[i].slot != owed_[i].slot) owing_ |= 1u << i;
  }
  gathered_.slot = ahead_[index(gathered_.from)].slot;
}

Backlog::Frame Backlog::front() noexcept {
  if (owing_ == 0) {
    const Waiting& frame = frames_[0];
    return {frame.from, frame.kernel_ns, events_.all().first(frame.count)};
  }
  const auto first = static_cast<size_t>(std::countr_zero(owing_));
  settling_count_ = settle(told_[first], owed_[first], settling_.data(), max_frame - 1);
  settling_[settling_count_++] = report;
  return {static_cast<Class>(first), collapsed_ns_, {settling_.data(), settling_count_}};
}

void Backlog::pop() noexcept {
  if (owing_ == 0) {
    const Waiting& frame = frames_[0];
    for (const Event& event : events_.all().first(frame.count))
      told_[index(frame.from)].apply(event);
    events_.erase(0, frame.count);
    frames_.erase(0, 1);
    return;
  }
  const auto first = static_cast<size_t>(std::countr_zero(owing_));
  Believed& told = told_[first];
  Owed& owed = owed_[first];
  for (const Event& event : std::span(settling_).first(settling_count_)) {
    told.apply(event);
    owed.paid(event, told.slot);
  }
  settling_count_ = 0;
  if (!told.anything_down() && !owed.any() && told.slot == owed.slot) owing_ &= owing_ - 1;
}

void Backlog::clear() noexcept {
  events_.clear();
  frames_.clear();
  pieces_ = 0;
  owing_ = 0;
  settling_count_ = 0;
  told_ = {};
  ahead_ = {};
  for (Owed& owed : owed_) {
    owed.axes = {};
    owed.switches = {};
    owed.contact = {};
    owed.slot = 0;
  }
}

void Backlog::distrust(Class of, const Bits<KEY_CNT>& keys, int32_t slots) noexcept {
  Believed& told = told_[index(of)];
  told.keys |= keys;
  if (slots > 0) told.contacts |= ~uint64_t{0} >> (max_slots - std::min(slots, max_slots));
  collapse();
}

void Backlog::passed(Class from, std::span<const Event> events) noexcept {
  for (const Event& event : events) {
    told_[index(from)].apply(event);
    ahead_[index(from)].apply(event);
  }
}

} // namespace scanout::input
