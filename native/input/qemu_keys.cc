// QEMU's numbers of keys.
//
// A qnum is the code that the key has on a PC's keyboard in scan code set 1, with bit 7 in place of the
// prefix 0xe0 (QEMU's qapi/ui.json, KeyValue "number"; "Interface org.qemu.Display1.Keyboard" of its
// documentation). Linux took its first 83 numbers from that set (linux/input-event-codes.h); the others are
// those of IBM's and Microsoft's keyboards ("Keyboard Scan Code Specification"), and of the keyboards of Sun,
// Japan and Korea.
#include <linux/input-event-codes.h>

#include <array>
#include <utility>

#include "input/qemu_calls.h"

namespace scanout::input {

namespace {

constexpr uint8_t extended = 0x80;

constexpr std::pair<uint16_t, uint8_t> others[] = {
    {KEY_102ND, 0x56},
    {KEY_F11, 0x57},
    {KEY_F12, 0x58},
    {KEY_RO, 0x73},
    {KEY_HIRAGANA, 0x77},
    {KEY_HENKAN, 0x79},
    {KEY_KATAKANAHIRAGANA, 0x70},
    {KEY_MUHENKAN, 0x7b},
    {KEY_KPEQUAL, 0x59},
    {KEY_KPCOMMA, 0x7e},
    {KEY_YEN, 0x7d},
    {KEY_LINEFEED, 0x5b},
    {KEY_OPEN, 0x64},
    {KEY_PASTE, 0x65},
    {KEY_HANGEUL, 0x72},
    {KEY_KPENTER, extended | 0x1c},
    {KEY_RIGHTCTRL, extended | 0x1d},
    {KEY_KPSLASH, extended | 0x35},
    {KEY_RIGHTALT, extended | 0x38},
    {KEY_HOME, extended | 0x47},
    {KEY_UP, extended | 0x48},
    {KEY_PAGEUP, extended | 0x49},
    {KEY_LEFT, extended | 0x4b},
    {KEY_RIGHT, extended | 0x4d},
    {KEY_END, extended | 0x4f},
    {KEY_DOWN, extended | 0x50},
    {KEY_PAGEDOWN, extended | 0x51},
    {KEY_INSERT, extended | 0x52},
    {KEY_DELETE, extended | 0x53},
    {KEY_SYSRQ, extended | 0x37},
    {KEY_PAUSE, extended | 0x46},
    {KEY_LEFTMETA, extended | 0x5b},
    {KEY_RIGHTMETA, extended | 0x5c},
    {KEY_COMPOSE, extended | 0x5d},
    {KEY_MUTE, extended | 0x20},
    {KEY_VOLUMEDOWN, extended | 0x2e},
    {KEY_VOLUMEUP, extended | 0x30},
    {KEY_POWER, extended | 0x5e},
    {KEY_SLEEP, extended | 0x5f},
    {KEY_WAKEUP, extended | 0x63},
    {KEY_STOP, extended | 0x68},
    {KEY_AGAIN, extended | 0x05},
    {KEY_PROPS, extended | 0x06},
    {KEY_UNDO, extended | 0x07},
    {KEY_FRONT, extended | 0x0c},
    {KEY_COPY, extended | 0x78},
    {KEY_FIND, extended | 0x41},
    {KEY_CUT, extended | 0x3c},
    {KEY_HELP, extended | 0x75},
    {KEY_MENU, extended | 0x1e},
    {KEY_CALC, extended | 0x21},
    {KEY_MAIL, extended | 0x6c},
    {KEY_BOOKMARKS, extended | 0x66},
    {KEY_COMPUTER, extended | 0x6b},
    {KEY_BACK, extended | 0x6a},
    {KEY_FORWARD, extended | 0x69},
    {KEY_NEXTSONG, extended | 0x19},
    {KEY_PLAYPAUSE, extended | 0x22},
    {KEY_PREVIOUSSONG, extended | 0x10},
    {KEY_STOPCD, extended | 0x24},
    {KEY_HOMEPAGE, extended | 0x32},
    {KEY_REFRESH, extended | 0x67},
    {KEY_MEDIA, extended | 0x6d},
    {KEY_HANJA, 0x71},
    {KEY_F13, 0x5d},
    {KEY_F14, 0x5e},
    {KEY_F15, 0x5f},
    {KEY_F16, 0x55},
    {KEY_F17, extended | 0x03},
    {KEY_F18, extended | 0x77},
    {KEY_F19, extended | 0x04},
    {KEY_F20, 0x5a},
    {KEY_F21, 0x74},
    {KEY_F22, extended | 0x79},
    {KEY_F23, 0x6d},
    {KEY_F24, 0x6f},
};

constexpr std::array<uint8_t, KEY_MEDIA + 1> make_table() {
  std::array<uint8_t, KEY_MEDIA + 1> table{};
  for (uint8_t key = KEY_ESC; key <= KEY_KPDOT; ++key)
    table[key] = key;
  for (const auto& [key, number] : others)
    table[key] = number;
  return table;
}

constexpr std::array<uint8_t, KEY_MEDIA + 1> table = make_table();

} // namespace

uint32_t qnum_of(uint16_t key) noexcept {
  return key < table.size() ? table[key] : 0;
}

} // namespace scanout::input
