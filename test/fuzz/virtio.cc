// Fuzz target (libFuzzer): a hostile VMM and a hostile guest at once. The input is a list of what they do:
// messages with descriptors, writes into guest memory, kicks, and in between what JavaScript would answer.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "guests/vhost_user.h"
#include "guests/virtio_backing.h"
#include "guests/virtio_gpu.h"
#include "guests/virtio_scanout.h"

using namespace scanout;
using namespace scanout::guests;
using vhost::Request;

namespace {

constexpr size_t memory_size = 256 << 10;
constexpr uint64_t guest_base = 0x100000, user_base = 0x7f0000000000;

/// Takes values off the input; zeroes when there is nothing left.
class Input {
public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool more() const { return size_ > 0; }
  void bytes(void* target, size_t size) {
    const size_t part = std::min(size, size_);
    std::memcpy(target, data_, part);
    std::memset(static_cast<uint8_t*>(target) + part, 0, size - part);
    data_ += part;
    size_ -= part;
  }
  template <typename T> T take() {
    T value{};
    bytes(&value, sizeof value);
    return value;
  }

private:
  const uint8_t* data_;
  size_t size_;
};

/// Made once: an engine whose thread has ended. Everything of its thread is called from here.
struct World {
  World() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
    card.reset(ends[0]);
    engine = std::make_unique<flip::Engine>(card.get(), 0);
    engine->stop();
    memory.reset(memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (ftruncate(memory.get(), memory_size) != 0) std::abort();
    fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    bytes = static_cast<uint8_t*>(
        mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0));
    event.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    null.reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  }
  base::UniqueFd card, memory, event, null;
  std::unique_ptr<flip::Engine> engine;
  uint8_t* bytes = nullptr;
};

World& world() {
  static World one;
  return one;
}

class Victim final : private VhostUser::Owner {
public:
  Victim() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) std::abort();
    front_.reset(pair[0]);
    make(base::UniqueFd(pair[1]));
    std::memset(world().bytes, 0, memory_size);
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() {
    RingChange(RingChange::What::stop_all).run(gpu_->rings());
    gpu_->reset();
    unmake();
  }

  /// A good front end, so that the rest of the input reaches the device.
  void start(Input& input);

  void act(Input& input) {
    switch (input.take<uint8_t>() % 8) {
    case 0:
    case 1:
      message(input);
      return;
    case 2:
      if (input.take<uint8_t>() % 4 == 0)
        restart();
      else
        start(input);
      return;
    case 3:
    case 4:
      write_memory(input);
      return;
    case 5:
      command(input);
      return;
    case 6:
      gpu_->on_kick(input.take<uint8_t>() % 2);
      return;
    default:
      javascript(input);
      return;
    }
  }

private:
  void apply(std::unique_ptr<RingChange> change) override { change_ = std::move(change); }
  void features_set(uint64_t) override {}
  bool get_config(uint32_t offset, std::span<uint8_t> config) override {
    std::fill(config.begin(), config.end(), uint8_t{1});
    return offset < 16;
  }
  bool set_config(uint32_t, std::span<const uint8_t>) override { return true; }
  bool other(Request, std::span<const uint8_t>, ReceivedFds&) override { return false; }
  void keep(const std::string& name, int fd) override { kept_[name].reset(dup(fd)); }
  void drop(const std::string& name) override { kept_.erase(name); }
  void refused(const std::string&) override {}

  void make(base::UniqueFd socket) {
    VhostUser::Owner& owner = *this;
    vhost_ = std::make_unique<VhostUser>(std::move(socket),
                                         VhostUser::Traits{VirtioGpu::features, vhost::protocol_config, 2},
                                         owner, state_->transport());
    gpu_ = std::make_shared<VirtioGpu>(2, *world().engine, state_);
    gpu_->open();
    for (uint32_t i = 0; i < 2; ++i) {
      scanouts_[i] = std::make_unique<VirtioScanout>(gpu_, i, 1 + 2 * i, *world().engine);
      scanouts_[i]->on_enter(*world().engine);
      scanouts_[i]->set_area({0, 0, 640, 480});
    }
  }

  void unmake() {
    gpu_->close();
    for (const auto& scanout : scanouts_) {
      for (uint32_t i = 0; i < 2; ++i)
        scanout->stream(i).drop();
      scanout->on_leave(*world().engine);
    }
    while (world().engine->notice()) {
    }
  }

  /// The process dies, and another one goes on if it can.
  void restart() {
    gpu_->suspend();
    base::UniqueFd socket(dup(vhost_->fd()));
    vhost_.reset();
    change_.reset();
    unmake();
    for (auto& scanout : scanouts_)
      scanout.reset();
    gpu_.reset();
    backing_.reset();
    state_ = VirtioState::open(base::UniqueFd(dup(state_->fd())), 2, "fuzz");
    make(std::move(socket));
    try {
      VhostUser::Kept kept;
      for (const auto& [name, fd] : kept_)
        kept[name].reset(dup(fd.get()));
      const auto changes = vhost_->restore(std::move(kept));
      gpu_->show_again();
      for (const auto& change : changes)
        change->run(gpu_->rings());
    } catch (const std::runtime_error&) { // what was refused before may be so again
    }
    receive();
  }

  void receive() {
    while (vhost_->receive() == VhostUser::State::waiting) {
      change_->run(gpu_->rings());
      vhost_->finished(std::move(change_));
    }
    uint8_t answers[4096];
    (void)!recv(front_.get(), answers, sizeof answers, MSG_DONTWAIT);
  }

  void send_message(const void* bytes, size_t size, int fd) {
    if (vhost_->state() == VhostUser::State::ended) return;
    iovec part{const_cast<void*>(bytes), size};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
    msghdr message{.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    (void)!sendmsg(front_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    receive();
  }

  void message(Input& input) {
    const int fds[]{-1, world().event.get(), world().memory.get(), world().null.get()};
    const int fd = fds[input.take<uint8_t>() % 4];
    struct {
      vhost::Header header;
      uint8_t payload[320];
    } message{};
    message.header = {input.take<uint8_t>() % 40u, vhost::version | (input.take<uint8_t>() & 8u),
                      input.take<uint16_t>() % 330u};
    const size_t size = std::min<size_t>(message.header.size, sizeof message.payload);
    input.bytes(message.payload, size);
    send_message(&message, sizeof(vhost::Header) + size, fd);
  }

  template <typename T> void say(Request request, const T& payload, int fd = -1) {
    struct {
      vhost::Header header;
      T payload;
    } __attribute__((packed)) message{
        {static_cast<uint32_t>(request), vhost::version | vhost::flag_need_reply, sizeof payload}, payload};
    send_message(&message, sizeof message, fd);
  }

  void write_memory(Input& input) {
    const size_t at = input.take<uint16_t>() * size_t{4} % memory_size;
    const size_t size = std::min<size_t>(input.take<uint8_t>(), memory_size - at);
    input.bytes(world().bytes + at, size);
  }

  /// A chain of one request and one answer, well formed but for its contents.
  void command(Input& input) {
    const uint32_t ring = input.take<uint8_t>() % 8 == 0 ? 1 : 0;
    const size_t request = 0x10000, answer = 0x14000;
    uint8_t* rings = world().bytes + size_t{ring} * 0x4000;
    uint32_t type = input.take<uint8_t>() % 16;
    type += ring == 1 ? VIRTIO_GPU_CMD_UPDATE_CURSOR : VIRTIO_GPU_CMD_GET_DISPLAY_INFO;
    const uint32_t flags = input.take<uint8_t>() & 3;
    const uint32_t size = 24 + input.take<uint8_t>() % 200;
    input.bytes(world().bytes + request, size);
    std::memcpy(world().bytes + request, &type, 4);
    std::memcpy(world().bytes + request + 4, &flags, 4);
    const struct {
      uint64_t address;
      uint32_t length;
      uint16_t flags, next;
    } descriptors[2]{{guest_base + request, size, 1, 1}, {guest_base + answer, 1100, 2, 0}};
    std::memcpy(rings, descriptors, sizeof descriptors);
    const uint16_t head = 0;
    std::memcpy(rings + 0x1000 + 4 + 2 * (next_[ring] % ring_size), &head, 2);
    ++next_[ring];
    std::memcpy(rings + 0x1000 + 2, &next_[ring], 2);
    gpu_->on_kick(ring);
  }

  void javascript(Input& input) {
    const auto notice = gpu_->notice();
    if (!notice) return;
    const auto chance = input.take<uint8_t>();
    switch (notice->what) {
    case GpuNotice::What::back:
    case GpuNotice::What::import:
    case GpuNotice::What::transfer:
      job(*notice, chance);
      return;
    case GpuNotice::What::release_buffer:
      gpu_->buffer_released(notice->buffer);
      return;
    case GpuNotice::What::release_resource:
      gpu_->resource_released(notice->resource);
      return;
    case GpuNotice::What::broken:
      return;
    }
  }

  void job(const GpuNotice& notice, uint8_t chance) {
    GpuJobResult result{.done = chance % 4 != 0, .copied = chance % 3 == 0, .fb_id = chance};
    try {
      if (notice.what == GpuNotice::What::back && vhost_->memory())
        backing_ = std::make_unique<GpuBacking>(*vhost_->memory(), gpu_->job_chain(), gpu_->job_entries_at(),
                                                gpu_->job_entries());
      if (notice.what == GpuNotice::What::transfer && backing_ && vhost_->memory()) {
        static std::array<uint8_t, 1 << 20> target;
        backing_->copy(*vhost_->memory(), notice.layout, notice.rect, notice.offset, target,
                       uint64_t{notice.layout.width} * 4);
      }
    } catch (const base::SystemError&) {
      result.done = false;
    }
    gpu_->finish_job(result);
  }

  static constexpr uint32_t ring_size = 16;
  std::shared_ptr<VirtioState> state_ = VirtioState::make(2, "fuzz");
  std::shared_ptr<VirtioGpu> gpu_;
  std::unique_ptr<VirtioScanout> scanouts_[2];
  std::unique_ptr<VhostUser> vhost_;
  std::unique_ptr<RingChange> change_;
  std::unique_ptr<GpuBacking> backing_;
  VhostUser::Kept kept_;
  base::UniqueFd front_;
  uint16_t next_[2]{};
};

void Victim::start(Input& input) {
  say(Request::set_protocol_features, uint64_t{vhost::protocol_reply_ack | vhost::protocol_config});
  const uint64_t event_idx = input.take<uint8_t>() % 2 == 0 ? 0 : vhost::feature_event_idx;
  say(Request::set_features, uint64_t{vhost::feature_version_1 | vhost::feature_protocol | event_idx});
  struct {
    uint32_t count, padding;
    vhost::MemoryRegion region;
  } const table{1, 0, {guest_base, memory_size, user_base, 0}};
  say(Request::set_mem_table, table, world().memory.get());
  // The guest writes into the records, too.
  if (input.take<uint8_t>() % 2 == 0) {
    const vhost::Inflight records{InflightMemory::bytes(2, ring_size), 0x8000, 2, ring_size};
    say(Request::get_inflight_fd, records);
    say(Request::set_inflight_fd, records, world().memory.get());
  }
  for (uint32_t ring = 0; ring < 2; ++ring) {
    say(Request::set_vring_num, vhost::VringState{ring, ring_size});
    say(Request::set_vring_base, vhost::VringState{ring, 0});
    const uint64_t at = user_base + uint64_t{ring} * 0x4000;
    say(Request::set_vring_addr, vhost::VringAddress{ring, 0, at, at + 0x2000, at + 0x1000, 0});
    say(Request::set_vring_kick, uint64_t{ring}, world().event.get());
    say(Request::set_vring_enable, vhost::VringState{ring, 1});
    next_[ring] = gpu_->rings().next_available(ring);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  Victim victim;
  if (input.take<uint8_t>() % 8 != 0) victim.start(input);
  while (input.more())
    victim.act(input);
  return 0;
}
