#include "input/router.h"

#include <algorithm>

#include "base/clock.h"

namespace scanout::input {

namespace {

constexpr uint32_t bit(uint32_t led) {
  return 1U << led;
}
struct Lock {
  uint32_t led;
  uint16_t key;
};
constexpr std::array<Lock, 3> locks = {
    {{LED_NUML, KEY_NUMLOCK}, {LED_CAPSL, KEY_CAPSLOCK}, {LED_SCROLLL, KEY_SCROLLLOCK}}};

/// Where on its output, as a part of it, an absolute device is; touch is where its newest contact is.
struct Point {
  double x, y;
};
Point point_of(const Source& source) noexcept {
  const auto part = [&](uint16_t code, int32_t value) {
    const input_absinfo& range = source.description.axes[code];
    return (static_cast<double>(value) - range.minimum) /
           (static_cast<double>(range.maximum) - range.minimum);
  };
  for (const Source::Slot& slot : source.slots) {
    if (slot.tracking < 0) continue;
    return {.x = part(ABS_MT_POSITION_X, slot.values[ABS_MT_POSITION_X - ABS_MT_TOUCH_MAJOR]),
            .y = part(ABS_MT_POSITION_Y, slot.values[ABS_MT_POSITION_Y - ABS_MT_TOUCH_MAJOR])};
  }
  return {.x = part(ABS_X, source.values[ABS_X]), .y = part(ABS_Y, source.values[ABS_Y])};
}

bool is_on_screen(Class of) noexcept {
  return of == Class::absolute || of == Class::touchscreen || of == Class::tablet;
}

} // namespace

[[gnu::hot]] void Router::frame(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept {
  const int32_t first_slot = source.slot;
  source.take(events);
  if (source.seat == nullptr) return;
  source.seat->active_ns.store(kernel_ns, std::memory_order_relaxed);
  const Bits<KEY_CNT>* swallowed = hotkeys(source, events, kernel_ns);
  deliver(source, events, first_slot, swallowed, kernel_ns);
}

void Router::resync(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept {
  const int32_t first_slot = source.slot;
  source.take(events);
  if (source.seat != nullptr) deliver(source, events, first_slot, nullptr, kernel_ns);
}

[[gnu::hot]] void Router::deliver(Source& source, std::span<const Event> events, int32_t first_slot,
                                  const Bits<KEY_CNT>* swallowed, int64_t kernel_ns) noexcept {
  if (source.roams) seek(source, events, kernel_ns);
  if (source.seat == watched_seat_) keep_watch(source, events, kernel_ns);
  if (source.port != nullptr)
    translator_.frame(source, events, first_slot, swallowed, mapping(source), kernel_ns);
}

void Router::seek(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept {
  Guest* guest = source.of == Class::pointer ? under_pointer(source, events) : under_position(source);
  Port* port = guest == nullptr ? nullptr : port_for(source, *guest);
  // What is held stays with the guest that it was pressed in, wherever the pointer goes.
  const bool stays = source.port != nullptr && source.holds();
  if (port != source.port && !stays) point(source, port, kernel_ns);
}

// ---- hotkeys

/// Their keys, or null.
[[gnu::hot]] const Bits<KEY_CNT>* Router::hotkeys(const Source& source, std::span<const Event> events,
                                                  int64_t kernel_ns) noexcept {
  bool any = false;
  for (const Event& event : events) {
    if (event.type != EV_KEY || event.value != 1) continue;
    const Hotkey* hotkey = source.seat->table->match(event.code);
    if (hotkey == nullptr) continue;
    if (!std::exchange(any, true)) swallowed_ = {};
    swallowed_.set(event.code);
    const uint32_t id = hotkey->id;
    Guest* guest = hotkey->guest;
    if (guest != nullptr) {
      ++source.seat->switches;
      go_to(*source.seat, guest, kernel_ns);
    }
    owner_.hotkey(*source.seat, id, guest);
  }
  return any ? &swallowed_ : nullptr;
}

// ---- where to

Guest* Router::under_pointer(Source& source, std::span<const Event> events) noexcept {
  Seat& seat = *source.seat;
  const int32_t index = std::max(source.output, 0);
  const SeatTable::Output* output = seat.table->output(index);
  if (output == nullptr) return seat.table->guest;
  for (const Event& event : events) {
    if (event.type != EV_REL) continue;
    if (event.code == REL_X)
      seat.pointer_x = std::clamp(seat.pointer_x + event.value, 0.0, std::max(output->width - 1, 0.0));
    if (event.code == REL_Y)
      seat.pointer_y = std::clamp(seat.pointer_y + event.value, 0.0, std::max(output->height - 1, 0.0));
  }
  const Place* place = seat.table->at(index, seat.pointer_x, seat.pointer_y);
  return place == nullptr ? nullptr : place->guest;
}

Guest* Router::under_position(const Source& source) noexcept {
  const SeatTable& table = *source.seat->table;
  const SeatTable::Output* output = table.output(source.output);
  if (output == nullptr) return table.guest;
  const Point point = point_of(source);
  const Place* place = table.at(source.output, std::min(point.x * output->width, output->width - 0.5),
                                std::min(point.y * output->height, output->height - 0.5));
  return place == nullptr ? nullptr : place->guest;
}

/// A relative pointer that is looked for under guests has a position, which a guest can only be told as one.
Port* Router::port_for(const Source& source, const Guest& guest) noexcept {
  if (source.of == Class::pointer && source.roams) {
    Port* port = guest.port(Class::absolute);
    if (port != nullptr && source.seat->table->place_of(guest, std::max(source.output, 0)) != nullptr)
      return port;
  }
  return guest.port(source.of);
}

[[gnu::hot]] Translator::Mapping Router::mapping(const Source& source) noexcept {
  if (!source.roams && !is_on_screen(source.of)) return {};
  const Seat& seat = *source.seat;
  const SeatTable& table = *seat.table;
  const bool positioned = source.of == Class::pointer && source.port->of == Class::absolute;
  const int32_t index = positioned ? std::max(source.output, 0) : source.output;
  const SeatTable::Output* output = table.output(index);
  const Place* place = output == nullptr ? nullptr : table.place_of(source.port->guest, index);
  if (place == nullptr) return {};
  return {
      .output = output, .place = place, .positioned = positioned, .x = seat.pointer_x, .y = seat.pointer_y};
}

void Router::point(Source& source, Port* port, int64_t kernel_ns) noexcept {
  translator_.release(source, kernel_ns);
  source.port = port;
  if (port != nullptr) translator_.introduce(source, mapping(source), kernel_ns);
}

// ---- tables

void Router::go_to(Seat& seat, Guest* guest, int64_t kernel_ns) noexcept {
  SeatTable& table = *seat.table;
  if (table.guest == guest) return;
  table.guest = guest;
  settle(seat, kernel_ns);
}

/// After a change: nothing stays pressed in a guest that is not concerned any more.
void Router::settle(Seat& seat, int64_t kernel_ns) noexcept {
  const SeatTable& table = *seat.table;
  for (const SeatTable::Member& one : table.members) {
    Source& source = *one.source;
    if (!source.roams) {
      Port* port = table.guest == nullptr ? nullptr : port_for(source, *table.guest);
      if (port != source.port) point(source, port, kernel_ns);
    } else if (source.port != nullptr && std::ranges::none_of(table.places, [&](const Place& place) {
                 return place.guest == &source.port->guest;
               })) {
      point(source, nullptr, kernel_ns);
    }
  }
  if (table.guest == seat.shown_leds_of) return;
  seat.shown_leds_of = table.guest;
  if (table.guest == nullptr) return;
  if (!table.guest->leds_known) return;
  if (table.carry_locks) carry_locks(seat, *table.guest, kernel_ns);
  show_leds(seat, table.carry_locks && seat.locks_known ? seat.locks : table.guest->leds);
}

std::unique_ptr<SeatTable> Router::set(Seat& seat, std::unique_ptr<SeatTable> table) noexcept {
  const int64_t now = base::now_ns();
  std::swap(seat.table, table);
  // Made before JavaScript had heard of the newest switch; nobody's input is nobody's in any case.
  if (seat.table->switches != seat.switches && seat.table->guest != nullptr && table->guest != nullptr)
    seat.table->guest = table->guest;
  for (const SeatTable::Member& one : table->members) {
    const bool stays = std::ranges::any_of(
        seat.table->members, [&](const SeatTable::Member& member) { return member.source == one.source; });
    if (stays || one.source->seat != &seat) continue;
    point(*one.source, nullptr, now);
    one.source->seat = nullptr;
  }
  for (const SeatTable::Member& one : seat.table->members) {
    Source& source = *one.source;
    if (source.seat != nullptr && source.seat != &seat) {
      point(source, nullptr, now);
      std::erase_if(source.seat->table->members,
                    [&](const SeatTable::Member& member) { return member.source == &source; });
    }
    source.seat = &seat;
    source.output = one.output;
    source.roams = seat.table->under && (source.of == Class::pointer || is_on_screen(source.of));
  }
  settle(seat, now);
  return table;
}

void Router::forget(Seat& seat) noexcept {
  for (const SeatTable::Member& one : seat.table->members) {
    point(*one.source, nullptr, base::now_ns());
    one.source->seat = nullptr;
  }
  seat.table->members.clear();
  if (watched_seat_ == &seat) watched_seat_ = nullptr;
}

void Router::forget_device(Seat& seat, uint32_t device) noexcept {
  for (const SeatTable::Member& one : seat.table->members) {
    if (one.source->device != device) continue;
    point(*one.source, nullptr, base::now_ns());
    one.source->down = {}; // no hotkey is held by it
  }
}

void Router::refresh(Guest& guest, std::span<Seat* const> seats) noexcept {
  for (Seat* seat : seats) {
    if (seat->table->guest == &guest) settle(*seat, base::now_ns());
  }
}

void Router::forget(Source& source) noexcept {
  if (source.seat == nullptr) return;
  point(source, nullptr, base::now_ns());
  std::erase_if(source.seat->table->members,
                [&](const SeatTable::Member& member) { return member.source == &source; });
  source.seat = nullptr;
}

void Router::forget(Port& port, std::span<Seat* const> seats) noexcept {
  for (const Seat* seat : seats) {
    for (const SeatTable::Member& one : seat->table->members) {
      if (one.source->port == &port) point(*one.source, nullptr, base::now_ns());
    }
  }
}

void Router::forget(Guest& guest, std::span<Seat* const> seats) noexcept {
  for (Seat* seat : seats) {
    SeatTable& table = *seat->table;
    std::erase_if(table.places, [&](const Place& place) { return place.guest == &guest; });
    std::erase_if(table.hotkeys, [&](const Hotkey& hotkey) { return hotkey.guest == &guest; });
    if (table.guest == &guest) table.guest = nullptr;
    if (seat->shown_leds_of == &guest) seat->shown_leds_of = nullptr;
    for (const SeatTable::Member& one : table.members) {
      if (one.source->port != nullptr && &one.source->port->guest == &guest)
        point(*one.source, nullptr, base::now_ns());
    }
  }
}

void Router::renewed(Port& port, std::span<Seat* const> seats) noexcept {
  for (const Seat* seat : seats) {
    for (const SeatTable::Member& one : seat->table->members) {
      if (one.source->port == &port) point(*one.source, nullptr, base::now_ns());
    }
  }
  port.renew();
  refresh(port.guest, seats); // switches, and tools that are near
}

// ---- LEDs

/// The lock state of a keyboard is the guest's own business; its LEDs are all that is known of it.
void Router::carry_locks(Seat& seat, Guest& to, int64_t kernel_ns) noexcept {
  Port* keyboard = to.port(Class::keyboard);
  if (keyboard == nullptr || !seat.locks_known) return;
  for (const Lock& lock : locks) {
    // As it will be once the guest has dealt with it; it tells by itself what came of it.
    if (((seat.locks ^ to.leds) & bit(lock.led)) != 0 && translator_.tap(*keyboard, lock.key, kernel_ns))
      to.leds ^= bit(lock.led);
  }
}

void Router::show_leds(Seat& seat, uint32_t leds) noexcept {
  seat.locks = leds;
  seat.locks_known = true;
  for (const SeatTable::Member& one : seat.table->members)
    one.source->set_leds(leds);
}

void Router::leds(Guest& guest, uint32_t leds, std::span<Seat* const> seats) noexcept {
  guest.leds = leds;
  guest.leds_known = true;
  for (Seat* seat : seats) {
    if (seat->table->guest == &guest) show_leds(*seat, leds);
  }
}

// ---- watching

void Router::watch(const Seat* seat, bool keys, uint32_t watch) noexcept {
  watched_seat_ = seat;
  watched_keys_ = keys;
  watch_ = watch;
}

/// What there is no room for is not kept: whoever watches reads too slowly.
void Router::keep_watch(const Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept {
  for (Event event : events) {
    if (event.type == EV_SYN) continue;
    const bool secret = (event.type == EV_KEY && event.code < BTN_MISC) ||
                        (event.type == EV_KEY && event.code >= KEY_OK && event.code < BTN_TRIGGER_HAPPY) ||
                        event.type == EV_MSC;
    if (secret && !watched_keys_) {
      event.code = UINT16_MAX;
      if (event.type == EV_MSC) event.value = 0;
    }
    watched_.push({.watch = watch_,
                   .kernel_ns = kernel_ns,
                   .device = source.device,
                   .guest = source.port == nullptr ? 0 : source.port->guest.id,
                   .of = source.of,
                   .event = event});
  }
}

} // namespace scanout::input
