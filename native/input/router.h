// Routes frames of devices to guests by the tables of seats.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/spsc_ring.h"
#include "input/table.h"
#include "input/translate.h"

namespace scanout::input {

/// Told on the input thread.
class RouterOwner {
public:
  /// A hotkey was pressed; the seat's input goes to `guest` since then, or where it went when null.
  virtual void hotkey(const Seat& seat, uint32_t id, const Guest* guest) noexcept = 0;

protected:
  ~RouterOwner() = default;
};

/// An event as it came, for who watches a seat.
struct Watched {
  uint32_t watch; // that it was kept for
  int64_t kernel_ns;
  uint32_t device;
  uint32_t guest; // 0: none
  Class of;
  Event event;
};

/// Input thread, but where it says so. No allocation.
class Router {
public:
  explicit Router(RouterOwner& owner) noexcept : owner_(owner) {}

  /// A whole frame, as the device has it.
  void frame(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept;
  /// The device was read anew after the kernel had dropped events: these are what is different now.
  void resync(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept;

  /// Puts `table` into force and gives the former one back. What is held in guests that are not concerned any
  /// more is released there first.
  std::unique_ptr<SeatTable> set(Seat& seat, std::unique_ptr<SeatTable> table) noexcept;
  /// The seat goes away: everything that is held by its devices is released, and they belong to no seat.
  void forget(Seat& seat) noexcept;
  /// A device cannot be read any more: what it holds is released, what it is in its seat stays.
  void forget_device(Seat& seat, uint32_t device) noexcept;
  /// The guest has got ports: its seats' devices are pointed at them.
  void refresh(Guest& guest, std::span<Seat* const> seats) noexcept;
  /// Releases what the source holds, and takes it out of the table of its seat.
  void forget(Source& source) noexcept;
  /// The port is about to be taken from its guest: whatever is held in it is released. Sources are those of
  /// `seats`.
  void forget(Port& port, std::span<Seat* const> seats) noexcept;
  void forget(Guest& guest, std::span<Seat* const> seats) noexcept;
  /// The guest's device starts afresh: see SinkOwner.
  void renewed(Port& port, std::span<Seat* const> seats) noexcept;
  /// The guest's kernel set its LEDs.
  void leds(Guest& guest, uint32_t leds, std::span<Seat* const> seats) noexcept;

  /// Whose events are kept for `watched`, or null. `watch`: by which they are known from those of others.
  void watch(const Seat* seat, bool keys, uint32_t watch = 0) noexcept;
  /// JS thread.
  std::optional<Watched> watched() noexcept { return watched_.pop(); }

private:
  void deliver(Source& source, std::span<const Event> events, int32_t first_slot,
               const Bits<KEY_CNT>* swallowed, int64_t kernel_ns) noexcept;
  void seek(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept;
  const Bits<KEY_CNT>* hotkeys(const Source& source, std::span<const Event> events,
                               int64_t kernel_ns) noexcept;
  void go_to(Seat& seat, Guest* guest, int64_t kernel_ns) noexcept;
  void settle(Seat& seat, int64_t kernel_ns) noexcept;
  void carry_locks(Seat& seat, Guest& to, int64_t kernel_ns) noexcept;
  static void show_leds(Seat& seat, uint32_t leds) noexcept;
  void keep_watch(const Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept;
  static Guest* under_pointer(Source& source, std::span<const Event> events) noexcept;
  static Guest* under_position(const Source& source) noexcept;
  static Port* port_for(const Source& source, const Guest& guest) noexcept;
  static Translator::Mapping mapping(const Source& source) noexcept;
  void point(Source& source, Port* port, int64_t kernel_ns) noexcept;

  RouterOwner& owner_;
  const Seat* watched_seat_ = nullptr;
  bool watched_keys_ = false;
  uint32_t watch_ = 0;
  Bits<KEY_CNT> swallowed_; // keys of this frame that were hotkeys, when there are any
  Translator translator_;
  base::SpscRing<Watched, 4096> watched_;
};

} // namespace scanout::input
