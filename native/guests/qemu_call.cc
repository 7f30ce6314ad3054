#include "guests/qemu_call.h"

#include <drm_fourcc.h>
#include <pixman.h>

#include <algorithm>
#include <cstring>

#include "pixels/format.h"

namespace scanout::guests {

namespace {

constexpr std::string_view listener = "org.qemu.Display1.Listener";
constexpr std::string_view map = "org.qemu.Display1.Listener.Unix.Map";
constexpr std::string_view dmabuf2 = "org.qemu.Display1.Listener.Unix.ScanoutDMABUF2";
constexpr std::string_view properties = "org.freedesktop.DBus.Properties";

using Method = QemuMethod;

constexpr QemuShape shapes[] = {
    {Method::scanout, listener, "Scanout", "uuuuay", 20, 0, 0},
    {Method::update, listener, "Update", "iiiiuuay", 28, 0, 0},
    {Method::scanout_dmabuf, listener, "ScanoutDMABUF", "huuuutb", 0, 1, 1},
    {Method::update_dmabuf, listener, "UpdateDMABUF", "iiii", 0, 0, 0},
    {Method::disable, listener, "Disable", "", 0, 0, 0},
    {Method::mouse_set, listener, "MouseSet", "iii", 0, 0, 0},
    {Method::cursor_define, listener, "CursorDefine", "iiiiay", 20, 0, 0},
    {Method::scanout_map, map, "ScanoutMap", "huuuuu", 0, 1, 1},
    {Method::update_map, map, "UpdateMap", "iiii", 0, 0, 0},
    {Method::scanout_dmabuf2, dmabuf2, "ScanoutDMABUF2", "ahuuuuauauuuuutb", 0, 1, max_qemu_planes},
    {Method::get_property, properties, "Get", "ss", 0, 0, 0},
    {Method::get_all_properties, properties, "GetAll", "s", 0, 0, 0},
    {Method::ping, "org.freedesktop.DBus.Peer", "Ping", "", 0, 0, 0},
};

/// Reads arguments one after the other; the first that is wrong ends it, and what follows is 0.
class Arguments {
public:
  explicit Arguments(std::span<const uint8_t> bytes) noexcept : bytes_(bytes) {}

  uint32_t u32() noexcept { return number<uint32_t>(); }
  int32_t i32() noexcept { return static_cast<int32_t>(number<uint32_t>()); }
  uint64_t u64() noexcept { return number<uint64_t>(); }
  bool boolean() noexcept {
    const uint32_t value = u32();
    failed_ = failed_ || value > 1;
    return value == 1;
  }
  std::string_view string() noexcept {
    const uint32_t length = u32();
    const uint8_t* at = take(1, size_t{length} + 1);
    if (at == nullptr || at[length] != 0 || std::memchr(at, 0, length) != nullptr) {
      failed_ = true;
      return {};
    }
    return {reinterpret_cast<const char*>(at), length};
  }
  /// An array of 32-bit values, as many as `out` holds at most; gives how many there were.
  uint32_t array(std::span<uint32_t> out) noexcept {
    const uint32_t bytes = u32();
    if (bytes % 4 != 0 || bytes / 4 > out.size()) failed_ = true;
    if (failed_) return 0;
    for (uint32_t i = 0; i < bytes / 4; ++i)
      out[i] = u32();
    return bytes / 4;
  }
  /// Of a descriptor among those that came along, in the order of the arguments.
  void descriptor(uint32_t expected) noexcept { failed_ = u32() != expected || failed_; }
  void fail() noexcept { failed_ = true; }
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  [[nodiscard]] bool at_end() const noexcept { return at_ == bytes_.size(); }

private:
  template <typename T> T number() noexcept {
    T value = 0;
    const uint8_t* at = take(sizeof value, sizeof value);
    if (at != nullptr) std::memcpy(&value, at, sizeof value);
    return value;
  }
  const uint8_t* take(size_t alignment, size_t size) noexcept {
    const size_t start = (at_ + alignment - 1) / alignment * alignment;
    if (failed_ || start > bytes_.size() || size > bytes_.size() - start) {
      failed_ = true;
      return nullptr;
    }
    for (; at_ < start; ++at_)
      if (bytes_[at_] != 0) failed_ = true;
    at_ = start + size;
    return bytes_.data() + start;
  }

  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  bool failed_ = false;
};

bool is_size(uint32_t width, uint32_t height, uint32_t most) noexcept {
  return width >= 1 && height >= 1 && width <= most && height <= most;
}

// A picture of known pixels in rows of `strides[0]` bytes.
QemuFault check_rows(const QemuLayout& layout) noexcept {
  if (!is_size(layout.width, layout.height, max_qemu_size)) return QemuFault::bad_size;
  const pixels::Format* format = pixels::find_format(layout.fourcc);
  if (layout.fourcc == 0 || format == nullptr) return QemuFault::bad_format;
  const uint32_t shortest = pixels::plane_size(*format, 0, layout.width, layout.height).min_stride;
  // Four times the width is as much padding as anybody needs, and keeps the sums below small.
  return layout.strides[0] < shortest || layout.strides[0] > max_qemu_size * 16 ? QemuFault::bad_size
                                                                                : QemuFault::none;
}

QemuFault check_data(const QemuLayout& layout, uint32_t bytes) noexcept {
  const pixels::Format* format = pixels::find_format(layout.fourcc);
  const uint64_t all = uint64_t{layout.strides[0]} * layout.height;
  const uint64_t least = pixels::plane_end(*format, 0, layout.width, layout.height, layout.strides[0], 0);
  return bytes < least || bytes > all ? QemuFault::bad_data : QemuFault::none;
}

void read_rectangle(Arguments& arguments, QemuCall& call) noexcept {
  call.x = arguments.i32();
  call.y = arguments.i32();
  call.w = arguments.i32();
  call.h = arguments.i32();
}

QemuFault read_scanout(Arguments& arguments, QemuCall& call) noexcept {
  QemuLayout& layout = call.layout;
  layout.width = layout.backing_width = arguments.u32();
  layout.height = layout.backing_height = arguments.u32();
  layout.strides[0] = arguments.u32();
  layout.fourcc = fourcc_of_pixman(arguments.u32());
  call.data_bytes = arguments.u32();
  const QemuFault fault = check_rows(layout);
  return fault != QemuFault::none ? fault : check_data(layout, call.data_bytes);
}

QemuFault read_update(Arguments& arguments, QemuCall& call) noexcept {
  read_rectangle(arguments, call);
  QemuLayout& layout = call.layout;
  layout.strides[0] = arguments.u32();
  layout.fourcc = fourcc_of_pixman(arguments.u32());
  call.data_bytes = arguments.u32();
  constexpr auto most = static_cast<int32_t>(max_qemu_size);
  const auto outside = [](int32_t at, int32_t size) {
    return at < 0 || size < 1 || at > most || size > most || at + size > most;
  };
  if (outside(call.x, call.w) || outside(call.y, call.h)) return QemuFault::bad_rectangle;
  layout.width = static_cast<uint32_t>(call.w);
  layout.height = static_cast<uint32_t>(call.h);
  const QemuFault fault = check_rows(layout);
  return fault != QemuFault::none ? fault : check_data(layout, call.data_bytes);
}

QemuFault read_cursor(Arguments& arguments, QemuCall& call) noexcept {
  const int32_t width = arguments.i32();
  const int32_t height = arguments.i32();
  call.hot_x = arguments.i32();
  call.hot_y = arguments.i32();
  call.data_bytes = arguments.u32();
  if (width < 1 || height < 1 || width > static_cast<int32_t>(max_qemu_cursor) ||
      height > static_cast<int32_t>(max_qemu_cursor))
    return QemuFault::bad_size;
  QemuLayout& layout = call.layout;
  layout.fourcc = DRM_FORMAT_ARGB8888;
  layout.width = static_cast<uint32_t>(width);
  layout.height = static_cast<uint32_t>(height);
  layout.strides[0] = layout.width * 4;
  return check_data(layout, call.data_bytes);
}

QemuFault read_dmabuf(Arguments& arguments, QemuCall& call) noexcept {
  QemuLayout& layout = call.layout;
  layout.kind = QemuLayout::Kind::dmabuf;
  arguments.descriptor(0);
  layout.width = layout.backing_width = arguments.u32();
  layout.height = layout.backing_height = arguments.u32();
  layout.strides[0] = arguments.u32();
  layout.fourcc = arguments.u32();
  layout.modifier = arguments.u64();
  layout.y0_top = arguments.boolean() ? 1 : 0;
  return is_size(layout.width, layout.height, max_qemu_size) ? QemuFault::none : QemuFault::bad_size;
}

QemuFault read_dmabuf2(Arguments& arguments, uint32_t fds, QemuCall& call) noexcept {
  QemuLayout& layout = call.layout;
  layout.kind = QemuLayout::Kind::dmabuf;
  std::array<uint32_t, max_qemu_planes> handles{};
  const uint32_t handle_count = arguments.array(handles);
  for (uint32_t i = 0; i < handle_count; ++i)
    if (handles[i] != i) arguments.fail();
  layout.x = arguments.u32();
  layout.y = arguments.u32();
  layout.width = arguments.u32();
  layout.height = arguments.u32();
  const uint32_t offset_count = arguments.array(layout.offsets);
  const uint32_t stride_count = arguments.array(layout.strides);
  layout.plane_count = arguments.u32();
  layout.fourcc = arguments.u32();
  layout.backing_width = arguments.u32();
  layout.backing_height = arguments.u32();
  layout.modifier = arguments.u64();
  layout.y0_top = arguments.boolean() ? 1 : 0;
  if (arguments.failed()) return QemuFault::bad_arguments;
  if (handle_count != fds) return QemuFault::bad_fds;
  const uint32_t planes = layout.plane_count;
  if (planes < 1 || planes > max_qemu_planes || offset_count != planes || stride_count != planes ||
      (handle_count != 1 && handle_count != planes))
    return QemuFault::bad_arguments;
  if (!is_size(layout.backing_width, layout.backing_height, max_qemu_size) ||
      !is_size(layout.width, layout.height, max_qemu_size))
    return QemuFault::bad_size;
  const bool inside = uint64_t{layout.x} + layout.width <= layout.backing_width &&
                      uint64_t{layout.y} + layout.height <= layout.backing_height;
  return inside ? QemuFault::none : QemuFault::bad_rectangle;
}

QemuFault read_map(Arguments& arguments, QemuCall& call) noexcept {
  QemuLayout& layout = call.layout;
  layout.kind = QemuLayout::Kind::map;
  arguments.descriptor(0);
  layout.offsets[0] = arguments.u32();
  layout.width = layout.backing_width = arguments.u32();
  layout.height = layout.backing_height = arguments.u32();
  layout.strides[0] = arguments.u32();
  layout.fourcc = fourcc_of_pixman(arguments.u32());
  if (const QemuFault fault = check_rows(layout); fault != QemuFault::none) return fault;
  return uint64_t{layout.strides[0]} * layout.height > max_qemu_map ? QemuFault::bad_size : QemuFault::none;
}

QemuFault read_each(const QemuShape& shape, Arguments& arguments, uint32_t fds, QemuCall& call) noexcept {
  switch (shape.method) {
  case Method::scanout:
    return read_scanout(arguments, call);
  case Method::update:
    return read_update(arguments, call);
  case Method::scanout_dmabuf:
    return read_dmabuf(arguments, call);
  case Method::scanout_dmabuf2:
    return read_dmabuf2(arguments, fds, call);
  case Method::update_dmabuf:
  case Method::update_map:
    read_rectangle(arguments, call);
    return QemuFault::none;
  case Method::mouse_set:
    call.x = arguments.i32();
    call.y = arguments.i32();
    call.on = arguments.i32() != 0;
    return QemuFault::none;
  case Method::cursor_define:
    return read_cursor(arguments, call);
  case Method::scanout_map:
    return read_map(arguments, call);
  case Method::get_property:
    call.interface = arguments.string();
    call.name = arguments.string();
    return QemuFault::none;
  case Method::get_all_properties:
    call.interface = arguments.string();
    return QemuFault::none;
  case Method::unknown:
  case Method::ignored:
  case Method::disable:
  case Method::ping:
    return QemuFault::none;
  }
  return QemuFault::none;
}

} // namespace

[[gnu::hot]] const QemuShape* find_qemu_shape(std::string_view interface, std::string_view member) noexcept {
  for (const QemuShape& shape : shapes) {
    if (shape.member == member && (interface.empty() || shape.interface == interface)) return &shape;
  }
  return nullptr;
}

[[gnu::hot]] QemuFault read_qemu_arguments(const QemuShape& shape, std::span<const uint8_t> bytes,
                                           uint32_t body_bytes, uint32_t fds, QemuCall& call) noexcept {
  if (fds < shape.least_fds || fds > shape.most_fds) return QemuFault::bad_fds;
  Arguments arguments(bytes);
  const QemuFault fault = read_each(shape, arguments, fds, call);
  if (arguments.failed() || !arguments.at_end()) return QemuFault::bad_arguments;
  if (fault != QemuFault::none) return fault;
  const bool whole = bytes.size() + uint64_t{call.data_bytes} == body_bytes;
  return whole ? QemuFault::none : QemuFault::bad_arguments;
}

uint32_t fourcc_of_pixman(uint32_t format) noexcept {
  switch (format) {
  case PIXMAN_x8r8g8b8:
    return DRM_FORMAT_XRGB8888;
  case PIXMAN_a8r8g8b8:
    return DRM_FORMAT_ARGB8888;
  case PIXMAN_x8b8g8r8:
    return DRM_FORMAT_XBGR8888;
  case PIXMAN_a8b8g8r8:
    return DRM_FORMAT_ABGR8888;
  case PIXMAN_b8g8r8x8:
    return DRM_FORMAT_BGRX8888;
  case PIXMAN_b8g8r8a8:
    return DRM_FORMAT_BGRA8888;
  case PIXMAN_r8g8b8x8:
    return DRM_FORMAT_RGBX8888;
  case PIXMAN_r8g8b8a8:
    return DRM_FORMAT_RGBA8888;
  case PIXMAN_r8g8b8:
    return DRM_FORMAT_RGB888;
  case PIXMAN_b8g8r8:
    return DRM_FORMAT_BGR888;
  case PIXMAN_r5g6b5:
    return DRM_FORMAT_RGB565;
  case PIXMAN_x1r5g5b5:
    return DRM_FORMAT_XRGB1555;
  default:
    return 0;
  }
}

} // namespace scanout::guests
