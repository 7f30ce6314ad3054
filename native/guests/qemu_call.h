// A call that QEMU makes of a display listener, as checked values.
//
// Source: ui/dbus-display1.xml of QEMU, interfaces org.qemu.Display1.Listener, .Listener.Unix.Map and
// .Listener.Unix.ScanoutDMABUF2.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace scanout::guests {

constexpr uint32_t max_qemu_planes = 4;
constexpr uint32_t max_qemu_size = 16384;       // pixels, as everywhere in the daemon
constexpr uint32_t max_qemu_cursor = 512;       // pixels; QEMU's own limit (ui/cursor.c)
constexpr uint64_t max_qemu_map = 256ull << 20; // bytes of one picture in shared memory
constexpr uint32_t max_qemu_array = 64u << 20;  // bytes; the longest array of the D-Bus specification

/// Why a connection is over. The numbers are told to TypeScript (src/native/qemu.ts).
enum class QemuFault : uint32_t {
  none,
  closed,        // QEMU closed it, or is gone
  socket,        // the socket failed, see the errno
  unread,        // QEMU does not read its answers
  not_allowed,   // the handshake: QEMU does not take us for whom we say
  bad_handshake, // neither OK nor AGREE_UNIX_FD, or a line that does not end
  bad_header,    // no D-Bus message
  byte_order,    // of another machine's
  too_long,      // beyond 64 MiB, or arguments that no call has
  unexpected,    // a reply to nothing
  bad_fds,       // descriptors that the call does not have, or fewer than it has
  bad_signature, // arguments of other types than the interface's
  bad_arguments, // marshalled wrongly
  bad_size,      // of a picture
  bad_format,    // pixels that are unknown
  bad_rectangle, // outside of everything
  bad_data,      // an array that is shorter or longer than its picture
};

enum class QemuMethod : uint8_t {
  unknown, // to be answered with an error
  ignored, // a signal
  scanout,
  update,
  scanout_dmabuf,
  update_dmabuf,
  disable,
  mouse_set,
  cursor_define,
  scanout_map,
  update_map,
  scanout_dmabuf2,
  get_property,
  get_all_properties,
  ping,
};

/// A picture, and where its pixels are.
struct QemuLayout {
  enum class Kind : uint32_t { pixels, map, dmabuf } kind = Kind::pixels;
  uint32_t x = 0, y = 0, width = 0, height = 0;   // what of it is shown; pixels
  uint32_t backing_width = 0, backing_height = 0; // all of it
  uint32_t fourcc = 0;
  uint32_t plane_count = 1;
  std::array<uint32_t, max_qemu_planes> strides{}, offsets{}; // bytes
  uint64_t modifier = 0;
  uint32_t y0_top = 0; // 1: the first row in memory is the lowest of the picture
  bool operator==(const QemuLayout&) const = default;
};

struct QemuCall {
  QemuMethod method = QemuMethod::unknown;
  bool wants_reply = false;
  uint32_t serial = 0;
  QemuLayout layout;                  // scanouts; of `update` size, format and stride of the array
  int32_t x = 0, y = 0, w = 0, h = 0; // updates: pixels, not checked against any picture but for `update`
  int32_t hot_x = 0, hot_y = 0;       // cursor_define
  bool on = false;                    // mouse_set
  uint32_t data_bytes = 0;            // of the array of pixels that follows the arguments
  std::string_view interface, name;   // of a property that is asked for; in the message
};

/// What is known of a call before its arguments are read.
struct QemuShape {
  QemuMethod method;
  std::string_view interface, member, signature;
  uint32_t fixed_bytes; // of arguments up to and with the length of the array of pixels; 0: there is none
  uint32_t least_fds, most_fds;
};

/// Null for what is in none of the interfaces. An absent interface matches any.
const QemuShape* find_qemu_shape(std::string_view interface, std::string_view member) noexcept;

/// Reads the arguments of a call from `bytes`, which begin where the body does; for calls with pixels these
/// are the first `fixed_bytes` of a body of `body_bytes`, otherwise all of it. Checks everything that needs
/// no picture. `fds`: how many descriptors came along.
QemuFault read_qemu_arguments(const QemuShape& shape, std::span<const uint8_t> bytes, uint32_t body_bytes,
                              uint32_t fds, QemuCall& call) noexcept;

/// DRM fourcc of a pixman format code of a little-endian machine; 0 when it has none.
uint32_t fourcc_of_pixman(uint32_t format) noexcept;

} // namespace scanout::guests
