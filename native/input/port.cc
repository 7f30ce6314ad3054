#include "input/port.h"

#include "base/clock.h"
#include "input/describe.h"

namespace scanout::input {

namespace {

void add(std::atomic<uint64_t>& counter, uint64_t count) noexcept { // one thread writes
  counter.store(counter.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
}

} // namespace

Port::Port(Guest& guest, Class of, const Description& description, Sink& sink, Traffic& traffic)
    : description_(std::make_unique<const Description>(description)), guest(guest),
      description(*description_), of(of), relative(description.relative), misc(description.misc), sink_(sink),
      traffic_(traffic), slot_values_(static_cast<size_t>(slot_count(description))) {
  renew();
}

void Port::renew() noexcept {
  for (size_t axis = 0; axis < ABS_CNT; ++axis)
    values_[axis] = description.axes[axis].value;
  for (auto& one : slot_values_)
    one = {};
  slot = 0;
  told_by = nullptr;
}

[[gnu::hot]] void Port::told(uint16_t axis, int32_t value) noexcept {
  if (axis > ABS_MT_SLOT && axis <= ABS_MT_TOOL_Y) {
    if (static_cast<size_t>(slot) < slot_values_.size())
      slot_values_[static_cast<size_t>(slot)][axis - ABS_MT_SLOT] = value;
  } else {
    values_[axis] = value;
  }
}

int32_t Port::take_slot(int32_t wanted) noexcept {
  int32_t free = -1;
  const auto count = static_cast<int32_t>(slot_values_.size());
  if (wanted < count && !slots_.test(static_cast<size_t>(wanted))) {
    free = wanted;
  } else {
    for (int32_t i = 0; free < 0 && i < count; ++i) {
      if (!slots_.test(static_cast<size_t>(i))) free = i;
    }
  }
  if (free >= 0) slots_.set(static_cast<size_t>(free));
  return free;
}

[[gnu::hot]] void Port::send(std::span<const Event> events, int64_t kernel_ns) noexcept {
  switch (open ? sink_.frame(of, events, kernel_ns) : Sink::Delivery::lost) {
  case Sink::Delivery::done:
    traffic_.latency->add(base::now_ns() - kernel_ns);
    add(traffic_.events, events.size());
    break;
  case Sink::Delivery::waiting:
    add(traffic_.events, events.size());
    break;
  case Sink::Delivery::lost:
    add(traffic_.lost, events.size());
    return;
  }
  if (traffic_.unflushed != nullptr)
    traffic_.unflushed->add(traffic_);
  else
    sink_.flush();
}

[[gnu::hot]] void Unflushed::add(Traffic& traffic) noexcept {
  if (traffic.added) return;
  traffic.added = true;
  traffic.next = nullptr;
  *end_ = &traffic;
  end_ = &traffic.next;
}

[[gnu::hot]] void Unflushed::flush() noexcept {
  while (first_ != nullptr) {
    Traffic& traffic = *first_;
    first_ = traffic.next;
    if (first_ == nullptr) end_ = &first_;
    traffic.added = false;
    traffic.sink.flush();
  }
}

} // namespace scanout::input
