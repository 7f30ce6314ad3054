// Fuzz target (libFuzzer): what a hostile QEMU can send on a display listener's connection. The bytes are the
// stream itself, cut at will and with descriptors at will; arrays go to memory of the size that they say.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "guests/qemu_answer.h"
#include "guests/qemu_array.h"
#include "guests/qemu_reader.h"

using namespace scanout;
using namespace scanout::guests;

namespace {

constexpr size_t most_memory = 1 << 20;

void require(bool condition) {
  if (!condition) std::abort();
}

/// Of a picture that was let through the listener may believe all this.
void believe(const QemuCall& call) {
  const QemuLayout& layout = call.layout;
  switch (call.method) {
  case QemuMethod::scanout:
  case QemuMethod::update:
  case QemuMethod::cursor_define:
    require(layout.width >= 1 && layout.height >= 1);
    require(layout.width <= max_qemu_size && layout.height <= max_qemu_size);
    require(call.data_bytes > 0 && call.data_bytes <= uint64_t{layout.strides[0]} * layout.height);
    break;
  case QemuMethod::scanout_dmabuf:
  case QemuMethod::scanout_dmabuf2:
  case QemuMethod::scanout_map:
    require(layout.plane_count >= 1 && layout.plane_count <= max_qemu_planes);
    require(uint64_t{layout.x} + layout.width <= layout.backing_width);
    require(uint64_t{layout.y} + layout.height <= layout.backing_height);
    break;
  default:
    require(call.data_bytes == 0);
    break;
  }
}

/// Feeds the stream byte for byte until it ends or is refused.
class Stream {
public:
  Stream(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  void run() {
    constexpr std::string_view agreed = "OK 0\r\nAGREE_UNIX_FD\r\n";
    for (const char byte : agreed) {
      reader_.want()[0] = static_cast<uint8_t>(byte);
      require(reader_.filled(1) == QemuReader::Step::more);
    }
    while (size_ > 0 && step()) {
    }
  }

private:
  bool step() {
    const uint8_t how = take();
    for (int i = 0; i < how >> 5; ++i)
      reader_.fds().add(-1); // as many as came; which ones is nothing to the reader
    const std::span<uint8_t> room = reader_.want();
    require(!room.empty());
    const size_t count = std::min({room.size(), size_t{how} % 32 * 16 + 1, size_});
    std::memcpy(room.data(), data_, count);
    skip(count);
    switch (reader_.filled(count)) {
    case QemuReader::Step::more:
      return true;
    case QemuReader::Step::fault:
      require(reader_.fault() != QemuFault::none);
      return false;
    case QemuReader::Step::call:
      call();
      reader_.next();
      return true;
    }
    return false;
  }

  void call() {
    const QemuCall& call = reader_.call();
    believe(call);
    const std::span<const uint8_t> answer =
        call.method == QemuMethod::get_property || call.method == QemuMethod::get_all_properties
            ? answer_.property(call)
            : answer_.empty(call.serial);
    bus::Frame frame;
    bus::HeaderFields said;
    require(bus::read_frame(answer.first<16>(), 4096, frame) == 0 && bus::read_fields(frame, answer, said));
    require(said.reply_serial == call.serial);
    receive(call);
  }

  void receive(const QemuCall& call) {
    if (call.data_bytes == 0) return;
    const uint32_t row = call.layout.strides[0] > 3 ? call.layout.strides[0] - take() % 4 : 1;
    const uint32_t rows = std::min<uint32_t>(call.layout.height, take());
    const bool wanted = size_t{row} * rows > 0 && size_t{row} * rows < most_memory;
    memory_.assign(wanted ? size_t{row} * rows : 0, std::byte{0});
    array_.begin(call.data_bytes, call.layout.strides[0],
                 {wanted ? memory_.data() : nullptr, row, row, wanted ? rows : 0});
    // As much of it as the input has; the rest of a long one is nobody's time worth.
    for (int i = 0; i < 64 && array_.left() > 0; ++i) {
      std::array<iovec, 8> parts{};
      const uint32_t count = array_.parts(parts, size_t{take()} * 64 + 1);
      require(count > 0);
      size_t bytes = 0;
      for (uint32_t k = 0; k < count; ++k) {
        std::memset(parts[k].iov_base, 1, parts[k].iov_len);
        bytes += parts[k].iov_len;
      }
      array_.advance(bytes);
    }
  }

  uint8_t take() {
    if (size_ == 0) return 0;
    const uint8_t value = *data_;
    skip(1);
    return value;
  }
  void skip(size_t count) {
    data_ += count;
    size_ -= count;
  }

  const uint8_t* data_;
  size_t size_;
  QemuReader reader_;
  QemuArray array_;
  QemuAnswer answer_;
  std::vector<std::byte> memory_;
};

} // namespace

// Either the stream, or the arguments of one call, which no chance would find a header for.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  if (data[0] % 2 == 0) {
    Stream(data + 1, size - 1).run();
    return 0;
  }
  constexpr std::string_view members[] = {
      "Scanout",   "Update", "ScanoutDMABUF", "UpdateDMABUF", "MouseSet", "CursorDefine",  "ScanoutMap",
      "UpdateMap", "Get",    "GetAll",        "Disable",      "Ping",     "ScanoutDMABUF2"};
  const QemuShape* shape = find_qemu_shape({}, members[data[0] / 2 % std::size(members)]);
  const std::span<const uint8_t> body(data + 2, size - 2);
  // Arguments are where the reader has them: 8 bytes aligned.
  std::vector<uint64_t> words(body.size() / 8 + 1);
  auto* aligned = reinterpret_cast<uint8_t*>(words.data());
  std::memcpy(aligned, body.data(), body.size());
  const size_t fixed = shape->fixed_bytes > 0 ? shape->fixed_bytes : body.size();
  if (body.size() < fixed) return 0;
  uint32_t array = 0; // its length is the last of the arguments before it
  if (shape->fixed_bytes > 0) std::memcpy(&array, aligned + fixed - 4, sizeof array);
  const auto whole = static_cast<uint32_t>(fixed) + array;
  QemuCall call;
  call.method = shape->method;
  if (read_qemu_arguments(*shape, {aligned, fixed}, whole, data[1] % 6, call) == QemuFault::none)
    believe(call);
  return 0;
}
