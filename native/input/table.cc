#include "input/table.h"

#include <algorithm>

namespace scanout::input {

const Place* SeatTable::at(int32_t output, double x, double y) const noexcept {
  const auto found = std::ranges::find_if(
      places, [&](const Place& place) { return place.output == output && place.contains(x, y); });
  return found == places.end() ? nullptr : &*found;
}

const Place* SeatTable::place_of(const Guest& guest, int32_t output) const noexcept {
  const auto found = std::ranges::find_if(
      places, [&](const Place& place) { return place.guest == &guest && place.output == output; });
  return found == places.end() ? nullptr : &*found;
}

// Asked of the devices themselves: a device that is unplugged with a key down takes that with it.
bool SeatTable::is_down(uint16_t key) const noexcept {
  return std::ranges::any_of(members, [&](const Member& one) { return one.source->down.test(key); });
}

const Hotkey* SeatTable::match(uint16_t key) const noexcept {
  for (const Hotkey& hotkey : hotkeys) {
    if (hotkey.key != key) continue;
    const bool held = std::ranges::all_of(hotkey.held, [&](const std::vector<uint16_t>& keys) {
      return std::ranges::any_of(keys, [&](uint16_t one) { return is_down(one); });
    });
    if (held) return &hotkey;
  }
  return nullptr;
}

} // namespace scanout::input
