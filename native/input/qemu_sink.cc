#include "input/qemu_sink.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace scanout::input {

namespace {

constexpr int32_t click = 120; // REL_WHEEL_HI_RES, Documentation/input/event-codes.rst

/// Of a mouse and of a pen. QEMU has no more.
constexpr std::pair<uint16_t, QemuButton> button_table[] = {
    {BTN_LEFT, QemuButton::left},    {BTN_RIGHT, QemuButton::right},   {BTN_MIDDLE, QemuButton::middle},
    {BTN_SIDE, QemuButton::side},    {BTN_EXTRA, QemuButton::extra},   {BTN_TOUCH, QemuButton::left},
    {BTN_STYLUS, QemuButton::right}, {BTN_STYLUS2, QemuButton::middle}};

/// Pixel of `size` that a value from 0 to 65535 is in.
uint32_t to_pixel(int32_t value, uint32_t size) noexcept {
  return static_cast<uint32_t>(static_cast<uint64_t>(std::clamp(value, 0, 65535)) * size >> 16);
}

} // namespace

QemuSink::QemuSink(std::shared_ptr<QemuRelay> relay, uint32_t console, std::string_view destination)
    : relay_(std::move(relay)), calls_(console, destination) {}

Description QemuSink::describe(Class of) {
  Description description;
  const std::string name = "QEMU";
  std::memcpy(description.name.data(), name.c_str(), name.size() + 1);
  description.id = {.bustype = BUS_VIRTUAL, .vendor = 0, .product = 0, .version = 0};
  const auto keys = [&](std::initializer_list<int> codes) {
    description.types.set(EV_KEY);
    for (const int code : codes)
      description.keys.set(static_cast<size_t>(code));
  };
  const auto axes = [&](std::initializer_list<int> codes) {
    description.types.set(EV_ABS);
    for (const int code : codes) {
      description.absolute.set(static_cast<size_t>(code));
      description.axes[static_cast<size_t>(code)].maximum = axis_maximum;
    }
  };
  const auto relative = [&](std::initializer_list<int> codes) {
    description.types.set(EV_REL);
    for (const int code : codes)
      description.relative.set(static_cast<size_t>(code));
  };
  switch (of) {
  case Class::keyboard:
    for (uint16_t key = 0; key < KEY_CNT; ++key) {
      if (qnum_of(key) != 0) keys({key});
    }
    description.types.set(EV_LED);
    for (const size_t led : {LED_NUML, LED_CAPSL, LED_SCROLLL})
      description.leds.set(led);
    break;
  case Class::pointer:
    keys({BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA});
    relative({REL_X, REL_Y, REL_WHEEL, REL_WHEEL_HI_RES});
    break;
  case Class::absolute:
    keys({BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA});
    relative({REL_WHEEL, REL_WHEEL_HI_RES});
    axes({ABS_X, ABS_Y});
    break;
  case Class::touchscreen:
    description.properties.set(INPUT_PROP_DIRECT);
    keys({BTN_TOUCH});
    axes({ABS_X, ABS_Y, ABS_MT_POSITION_X, ABS_MT_POSITION_Y, ABS_MT_TRACKING_ID, ABS_MT_SLOT});
    description.axes[ABS_MT_SLOT].maximum = qemu_slots - 1;
    break;
  case Class::tablet:
    description.properties.set(INPUT_PROP_DIRECT);
    keys({BTN_TOOL_PEN, BTN_TOUCH, BTN_STYLUS, BTN_STYLUS2});
    axes({ABS_X, ABS_Y});
    break;
  default:
    break;
  }
  return description;
}

int QemuSink::enter(base::Epoll&, SinkOwner& owner) noexcept {
  owner_ = &owner;
  return relay_->join(*this);
}

void QemuSink::closed(int error, const char* why) noexcept {
  ended_ = true;
  owner_->ended(*this, error, why);
}

void QemuSink::set(const QemuConsoleState& state) noexcept {
  // The guest has moved its pointer by itself, or has another: differences begin anew.
  if (!set_ || state.absolute != state_.absolute) absolute_.known = tablet_.known = false;
  state_ = state;
  pointer_x_ = std::clamp(pointer_x_, 0, std::max(static_cast<int32_t>(state.width) - 1, 0));
  pointer_y_ = std::clamp(pointer_y_, 0, std::max(static_cast<int32_t>(state.height) - 1, 0));
  set_ = true;
  tell_leds();
  if (relay_->idle()) room();
}

void QemuSink::tell_leds() noexcept {
  const auto led = [&](uint32_t modifier, uint32_t code) {
    return (state_.modifiers & modifier) != 0 ? 1U << code : 0U;
  };
  const uint32_t leds = led(1, LED_SCROLLL) | led(2, LED_NUML) | led(4, LED_CAPSL);
  if (std::exchange(leds_, leds) != leds && owner_ != nullptr && !ended_) owner_->leds_set(*this, leds);
}

// ---- frames

[[gnu::hot]] Sink::Delivery QemuSink::frame(Class from, std::span<const Event> events,
                                            int64_t kernel_ns) noexcept {
  if (ended_) return Delivery::lost;
  if (!may_send() || !backlog_.empty()) {
    backlog_.push(from, events, kernel_ns);
    return Delivery::waiting;
  }
  backlog_.passed(from, events);
  if (give(from, events)) return Delivery::done;
  if (ended_) return Delivery::lost;
  sending_ns_ = kernel_ns;
  return Delivery::waiting;
}

void QemuSink::room() noexcept {
  if (const int64_t sent = std::exchange(sending_ns_, 0); sent != 0) owner_->delivered(*this, {&sent, 1});
  while (may_send() && !backlog_.empty()) {
    const Backlog::Frame waited = backlog_.front();
    const int64_t kernel_ns = waited.kernel_ns;
    const bool all = give(waited.from, waited.events);
    if (ended_) return;
    backlog_.pop();
    if (all)
      owner_->delivered(*this, {&kernel_ns, 1});
    else
      sending_ns_ = kernel_ns;
  }
}

/// True when all of it is with the kernel.
[[gnu::hot]] bool QemuSink::give(Class from, std::span<const Event> events) noexcept {
  switch (from) {
  case Class::keyboard:
    keys(events);
    break;
  case Class::pointer:
    move_by(events);
    buttons(events);
    wheel(events);
    break;
  case Class::absolute:
  case Class::tablet:
    move_to(from == Class::tablet ? tablet_ : absolute_, events);
    buttons(events);
    wheel(events);
    break;
  case Class::touchscreen:
    touch(events);
    break;
  default:
    break;
  }
  return relay_->send();
}

void QemuSink::keys(std::span<const Event> events) noexcept {
  for (const Event& event : events) {
    const uint32_t number = event.type == EV_KEY ? qnum_of(event.code) : 0;
    const bool pressed = event.value != 0;
    if (number == 0 || keys_.test(event.code) == pressed) continue;
    keys_.set(event.code, pressed);
    relay_->put(calls_.key(relay_->next_serial(), pressed, number));
  }
}

// ---- the pointer

/// Several devices come together in QEMU's one pointer: a button is pressed as long as one of them presses
/// it.
void QemuSink::button(QemuButton button, bool pressed) noexcept {
  uint8_t& count = buttons_[static_cast<size_t>(button)];
  if (!pressed && count == 0) return;
  count = static_cast<uint8_t>(pressed ? count + 1 : count - 1);
  if (count == (pressed ? 1 : 0)) relay_->put(calls_.button(relay_->next_serial(), pressed, button));
}

void QemuSink::buttons(std::span<const Event> events) noexcept {
  for (const Event& event : events) {
    if (event.type != EV_KEY) continue;
    for (const auto& [code, to] : button_table) {
      if (code == event.code) button(to, event.value != 0);
    }
  }
}

void QemuSink::move_by(std::span<const Event> events) noexcept {
  int64_t dx = 0, dy = 0;
  for (const Event& event : events) {
    if (event.type != EV_REL) continue;
    if (event.code == REL_X) dx += event.value;
    if (event.code == REL_Y) dy += event.value;
  }
  if (dx == 0 && dy == 0) return;
  constexpr int64_t most = INT16_MAX;
  const auto x = static_cast<int32_t>(std::clamp(dx, -most, most));
  const auto y = static_cast<int32_t>(std::clamp(dy, -most, most));
  if (!state_.absolute) {
    relay_->put(calls_.motion(relay_->next_serial(), x, y));
    return;
  }
  if (state_.width == 0 || state_.height == 0) return;
  pointer_x_ = std::clamp(pointer_x_ + x, 0, static_cast<int32_t>(state_.width) - 1);
  pointer_y_ = std::clamp(pointer_y_ + y, 0, static_cast<int32_t>(state_.height) - 1);
  put_position();
}

void QemuSink::put_position() noexcept {
  relay_->put(calls_.position(relay_->next_serial(), static_cast<uint32_t>(pointer_x_),
                              static_cast<uint32_t>(pointer_y_)));
}

void QemuSink::move_to(Position& position, std::span<const Event> events) noexcept {
  bool moved = false;
  for (const Event& event : events) {
    if (event.type != EV_ABS || (event.code != ABS_X && event.code != ABS_Y)) continue;
    (event.code == ABS_X ? position.x : position.y) = event.value;
    moved = true;
  }
  if (!moved || state_.width == 0 || state_.height == 0) return;
  const uint32_t x = to_pixel(position.x, state_.width), y = to_pixel(position.y, state_.height);
  const auto dx = static_cast<int32_t>(x - position.at_x), dy = static_cast<int32_t>(y - position.at_y);
  const bool known = std::exchange(position.known, true);
  position.at_x = x;
  position.at_y = y;
  if (state_.absolute) {
    pointer_x_ = static_cast<int32_t>(x);
    pointer_y_ = static_cast<int32_t>(y);
    put_position();
  } else if (known && (dx != 0 || dy != 0)) {
    relay_->put(calls_.motion(relay_->next_serial(), dx, dy));
  }
}

/// A wheel of high resolution tells whole clicks as well, in the same frames.
void QemuSink::wheel(std::span<const Event> events) noexcept {
  int64_t fine = 0, clicks = 0;
  bool is_fine = false;
  for (const Event& event : events) {
    if (event.type != EV_REL) continue;
    if (event.code == REL_WHEEL) clicks += event.value;
    if (event.code == REL_WHEEL_HI_RES) {
      fine += event.value;
      is_fine = true;
    }
  }
  const int64_t turned = is_fine ? fine : clicks * click;
  if (turned == 0) return;
  if ((turned < 0) != (wheel_ < 0)) wheel_ = 0; // it turned back: what was left of a click is void
  const int64_t all = wheel_ + turned;
  wheel_ = static_cast<int32_t>(all % click);
  const int64_t count = std::min<int64_t>(std::abs(all / click), most_clicks);
  const QemuButton way = all > 0 ? QemuButton::wheel_up : QemuButton::wheel_down;
  for (int64_t i = 0; i < count; ++i) {
    for (const bool pressed : {true, false})
      relay_->put(calls_.button(relay_->next_serial(), pressed, way));
  }
}

} // namespace scanout::input
