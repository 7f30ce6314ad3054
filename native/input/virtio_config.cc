#include "input/virtio_config.h"

#include <linux/virtio_input.h>

#include <algorithm>
#include <cstring>

namespace scanout::input {

namespace {

static_assert(sizeof(virtio_input_config) == VirtioConfig::size);
// Numbers are little-endian, as every machine is that the daemon runs on.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

template <size_t Count> void put_bits(virtio_input_config& config, const Bits<Count>& bits) noexcept {
  static_assert(Count <= 8 * sizeof config.u.bitmap);
  for (size_t bit = 0; bit < Count; ++bit) {
    if (!bits.test(bit)) continue;
    config.u.bitmap[bit / 8] |= static_cast<uint8_t>(1u << bit % 8);
    config.size = static_cast<uint8_t>(bit / 8 + 1);
  }
}

template <size_t Size>
void put_text(virtio_input_config& config, const std::array<char, Size>& text) noexcept {
  const size_t length = std::min(strnlen(text.data(), text.size()), sizeof config.u.string);
  std::memcpy(config.u.string, text.data(), length);
  config.size = static_cast<uint8_t>(length);
}

void put_codes(virtio_input_config& config, const Description& of, uint8_t type) noexcept {
  if (!of.types.test(type)) return;
  switch (type) {
  case EV_KEY:
    put_bits(config, of.keys);
    return;
  case EV_REL:
    put_bits(config, of.relative);
    return;
  case EV_ABS:
    put_bits(config, of.absolute);
    return;
  case EV_MSC:
    put_bits(config, of.misc);
    return;
  case EV_SW:
    put_bits(config, of.switches);
    return;
  case EV_LED:
    put_bits(config, of.leds);
    return;
  case EV_REP: // the guest repeats keys by itself
    config.u.bitmap[0] = 1u << REP_DELAY | 1u << REP_PERIOD;
    config.size = 1;
    return;
  default:
    return;
  }
}

void put_axis(virtio_input_config& config, const Description& of, uint8_t axis) noexcept {
  if (!of.absolute.test(axis)) return;
  const input_absinfo& range = of.axes[axis];
  config.u.abs.min = static_cast<uint32_t>(range.minimum);
  config.u.abs.max = static_cast<uint32_t>(range.maximum);
  config.u.abs.fuzz = static_cast<uint32_t>(range.fuzz);
  config.u.abs.flat = static_cast<uint32_t>(range.flat);
  config.u.abs.res = static_cast<uint32_t>(range.resolution);
  config.size = sizeof config.u.abs;
}

virtio_input_config config_of(const Description& of, uint8_t select, uint8_t subsel) noexcept {
  virtio_input_config config{};
  config.select = select;
  config.subsel = subsel;
  switch (select) {
  case VIRTIO_INPUT_CFG_ID_NAME:
    if (subsel == 0) put_text(config, of.name);
    break;
  case VIRTIO_INPUT_CFG_ID_SERIAL:
    if (subsel == 0) put_text(config, of.uniq);
    break;
  case VIRTIO_INPUT_CFG_ID_DEVIDS:
    if (subsel != 0) break;
    config.u.ids = {
        .bustype = of.id.bustype, .vendor = of.id.vendor, .product = of.id.product, .version = of.id.version};
    config.size = sizeof config.u.ids;
    break;
  case VIRTIO_INPUT_CFG_PROP_BITS:
    if (subsel == 0) put_bits(config, of.properties);
    break;
  case VIRTIO_INPUT_CFG_EV_BITS:
    put_codes(config, of, subsel);
    break;
  case VIRTIO_INPUT_CFG_ABS_INFO:
    put_axis(config, of, subsel);
    break;
  default:
    break;
  }
  return config;
}

} // namespace

bool VirtioConfig::get(uint32_t offset, std::span<uint8_t> target) const noexcept {
  if (offset >= size) return false;
  const virtio_input_config config = config_of(description_, select_, subsel_);
  std::fill(target.begin(), target.end(), uint8_t{0});
  const size_t part = std::min<size_t>(target.size(), size - offset);
  std::memcpy(target.data(), reinterpret_cast<const uint8_t*>(&config) + offset, part);
  return true;
}

bool VirtioConfig::set(uint32_t offset, std::span<const uint8_t> source) noexcept {
  if (offset >= size || source.size() > size - offset) return false;
  if (offset == 0 && !source.empty()) select_ = source[0];
  if (offset <= 1 && source.size() > 1 - offset) subsel_ = source[1 - offset];
  return true;
}

} // namespace scanout::input
