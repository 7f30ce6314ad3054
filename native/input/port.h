// A guest's device of one class, and what the guest believes of it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/histogram.h"
#include "base/packed.h"
#include "input/sink.h"
#include "input/types.h"

namespace scanout::input {

struct Guest;

struct Traffic;

/// Sinks that were given frames since they were flushed, oldest first. Input thread.
class Unflushed {
public:
  void add(Traffic& traffic) noexcept;
  void flush() noexcept;

private:
  Traffic* first_ = nullptr;
  Traffic** end_ = &first_;
};

/// What went through a sink. The input thread counts; any thread reads.
struct Traffic {
  explicit Traffic(Sink& of) : sink(of) {}
  Sink& sink;
  std::atomic<uint64_t> events{0}, lost{0};
  /// From the kernel's timestamp to delivery, ns.
  const std::unique_ptr<base::Histogram> latency = std::make_unique<base::Histogram>();

  // Input thread.
  Unflushed* unflushed = nullptr; // null: it is flushed after each frame
  Traffic* next = nullptr;
  bool added = false;
};

/// All devices of a class come together in it. Made and destroyed on the JS thread, else of the input thread
/// but for the counters.
class Port final : public base::Packed {
  const std::unique_ptr<const Description> description_; // apart: a frame needs little of it

public:
  /// `guest`, `sink` and `traffic` outlive it.
  Port(Guest& guest, Class of, const Description& description, Sink& sink, Traffic& traffic);
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  ~Port() = default;

  Guest& guest;
  const Description& description;
  const Class of;
  /// False once its far end is gone.
  bool open = true;
  // Of the description, at hand.
  const Bits<REL_CNT> relative;
  const Bits<MSC_CNT> misc;

  /// A device presses or releases a key: true when the guest is to be told, as the first or last that holds
  /// it.
  bool press(uint16_t key) noexcept {
    ++held_[key];
    return held_[key] == 1;
  }
  bool release(uint16_t key) noexcept {
    if (held_[key] == 0) return false;
    --held_[key];
    return held_[key] == 0;
  }
  [[nodiscard]] bool is_held(uint16_t key) const noexcept { return held_[key] > 0; }

  /// A slot for a new contact, `wanted` if that is free, or -1.
  int32_t take_slot(int32_t wanted) noexcept;
  void free_slot(int32_t slot) noexcept { slots_.set(static_cast<size_t>(slot), false); }
  /// The slot that events of contacts are for now, in the guest.
  int32_t slot = 0;
  /// Whose axes the guest knows: of another source it has to be told those that differ.
  const void* told_by = nullptr;
  /// An axis is told; one of contacts is of the selected slot.
  void told(uint16_t axis, int32_t value) noexcept;
  [[nodiscard]] int32_t value(uint16_t axis) const noexcept { return values_[axis]; }
  [[nodiscard]] int32_t slot_value(int32_t of_slot, uint16_t axis) const noexcept {
    return slot_values_[static_cast<size_t>(of_slot)][axis - ABS_MT_SLOT];
  }
  /// The guest's device starts afresh, with nothing pressed and nothing told.
  void renew() noexcept;

  /// Hands one frame over, and counts. `events` ends with SYN_REPORT.
  void send(std::span<const Event> events, int64_t kernel_ns) noexcept;

private:
  Sink& sink_;
  Traffic& traffic_;
  Bits<max_slots> slots_;
  std::vector<std::array<int32_t, ABS_MT_TOOL_Y - ABS_MT_SLOT + 1>> slot_values_;
  std::array<int32_t, ABS_CNT> values_{};
  std::array<uint8_t, KEY_CNT> held_{};
};

/// A guest to the input thread: its devices.
struct Guest {
  explicit Guest(uint32_t guest_id) noexcept : id(guest_id) {}
  const uint32_t id;
  std::array<Port*, class_count> ports{};
  /// As its kernel set them last, bits by LED_*.
  uint32_t leds = 0;
  bool leds_known = false;

  /// Null when it has none, or none that is open.
  [[nodiscard]] Port* port(Class of) const noexcept {
    Port* port = ports[static_cast<size_t>(of)];
    return port != nullptr && port->open ? port : nullptr;
  }
};

} // namespace scanout::input
