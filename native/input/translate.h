// A frame of a device, as the guest's device of that class has it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "input/source.h"
#include "input/table.h"

namespace scanout::input {

/// Keeps keys and contacts balanced in the guest, whatever the device does and whenever it was pointed at
/// another guest, and maps positions into the guest's part of the output. A device that has its guest for
/// itself, on the whole of an output, comes through event by event as the kernel sent it, but for key
/// repeats, which the guest's own kernel makes.
///
/// Input thread. No allocation.
class Translator {
public:
  /// Where the positions of a frame come from and go to.
  struct Mapping {
    const SeatTable::Output* output = nullptr; // null: the whole range of the device is the guest's
    const Place* place = nullptr;
    /// The seat's pointer, for relative devices that are shown to the guest as a position. In pixels.
    bool positioned = false;
    double x = 0, y = 0;
  };

  /// `events`: as the device has it, already in the source's state (`Source::take`); `first_slot`: the slot
  /// that was selected before them; `swallowed`: keys whose presses are none of the guest's, or null. The
  /// source has a port.
  void frame(Source& source, std::span<const Event> events, int32_t first_slot,
             const Bits<KEY_CNT>* swallowed, const Mapping& mapping, int64_t kernel_ns) noexcept;
  /// Releases everything that the source has pressed in its port.
  void release(Source& source, int64_t kernel_ns) noexcept;
  /// Brings what needs no pressing: switches, tools of a tablet that are near.
  void introduce(Source& source, const Mapping& mapping, int64_t kernel_ns) noexcept;
  /// One frame of a key alone, pressed or released, which no device has.
  /// False when there is no such key, or it is held.
  bool tap(Port& port, uint16_t key, int64_t kernel_ns) noexcept;

private:
  void begin(Source& source, const Mapping& mapping, int64_t kernel_ns) noexcept;
  void finish() noexcept;
  [[nodiscard]] bool whole() const noexcept;
  void emit(uint16_t type, uint16_t code, int32_t value) noexcept;
  void flush() noexcept;

  void key(uint16_t code, int32_t value) noexcept;
  void press(uint16_t code) noexcept;
  void unpress(uint16_t code) noexcept;
  void relative(uint16_t code, int32_t value) noexcept;
  void absolute(uint16_t code, int32_t value) noexcept;
  void complete() noexcept;
  void contact(uint16_t code, int32_t value) noexcept;
  void contact_begins(Source::Slot& slot, int32_t index) noexcept;
  void contact_ends(Source::Slot& slot) noexcept;
  void select(int32_t slot) noexcept;
  void finger_counts() noexcept;
  [[nodiscard]] bool inside(const Source::Slot& slot) const noexcept;
  [[nodiscard]] int32_t map(uint16_t code, int32_t value) const noexcept;
  [[nodiscard]] int32_t scale(uint16_t code, double part) const noexcept;
  void position() noexcept;

  // Of the frame in hand.
  Source* source_ = nullptr;
  Port* port_ = nullptr;
  Mapping mapping_;
  int64_t kernel_ns_ = 0;
  int32_t at_slot_ = 0; // that the device has selected
  /// A tip of a tablet that the guest was not given, and which must not press there.
  bool tip_is_foreign_ = false;
  Bits<max_slots> begun_; // contacts that began in it
  bool scan_ = false;     // the newest event is a scan code, which belongs to the key after it
  size_t count_ = 0;
  std::array<Event, max_frame> out_;
};

} // namespace scanout::input
