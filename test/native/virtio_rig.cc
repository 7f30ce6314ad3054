#include "virtio_rig.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "check.h"
#include "guests/virtio_backing.h"

namespace scanout::test {

using guests::GpuNotice;
using guests::RingChange;
using guests::VhostUser;
using guests::vhost::Request;

FakeMemory::FakeMemory(unsigned seals)
    : fd(base::check(memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create")) {
  base::check(ftruncate(fd.get(), size), "ftruncate");
  if (seals != 0) base::check(fcntl(fd.get(), F_ADD_SEALS, seals), "fcntl(F_ADD_SEALS)");
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  REQUIRE(mapped != MAP_FAILED);
  bytes = static_cast<uint8_t*>(mapped);
}

FakeMemory::~FakeMemory() {
  munmap(bytes, size);
}

guests::GuestRegion FakeMemory::region() const {
  return {.guest_address = guest_base,
          .size = size,
          .user_address = user_base,
          .file_offset = 0,
          .fd = base::UniqueFd(dup(fd.get()))};
}

std::shared_ptr<const guests::GuestMemory> FakeMemory::map() const {
  std::vector<guests::GuestRegion> regions;
  regions.push_back(region());
  return guests::GuestMemory::map(std::move(regions));
}

FakeRing::FakeRing(FakeMemory& memory, uint64_t at, uint32_t size) : memory_(memory), at_(at), size_(size) {}

guests::VirtqueueSetup FakeRing::setup(bool event_idx) const {
  const uint64_t user = FakeMemory::user_base + (at_ - FakeMemory::guest_base);
  return {.size = size_,
          .descriptors = user,
          .available = user + 4096,
          .used = user + 8192,
          .base = 0,
          .event_idx = event_idx};
}

void FakeRing::offer(uint16_t head) {
  const uint16_t index = available();
  word(4096 + 4 + 2 * (index % size_)) = head;
  std::atomic_ref(word(4096 + 2)).store(static_cast<uint16_t>(index + 1), std::memory_order_release);
}

void FakeRing::clear() {
  std::memset(&memory_.at<uint8_t>(at_), 0, 0x3000);
}

VirtioRig::VirtioRig(Rig& rig, uint32_t count)
    : rig(rig), state(guests::VirtioState::make(count, "rig")), count_(count) {
  for (int i = 0; i < 2; ++i) {
    kicks[i].reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    calls[i].reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  int pair[2];
  base::check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), "socketpair");
  front.reset(pair[0]);
  make_vhost(base::UniqueFd(pair[1]));
  for (uint32_t i = 0; i < count; ++i)
    rig.add_crtc(i + 1);
  make_device();
}

void VirtioRig::make_vhost(base::UniqueFd socket) {
  VhostUser::Owner& owner = *this;
  vhost = std::make_unique<VhostUser>(std::move(socket),
                                      VhostUser::Traits{.features = guests::VirtioGpu::features,
                                                        .protocol_features = guests::vhost::protocol_config,
                                                        .rings = 2},
                                      owner, state->transport());
}

void VirtioRig::make_device() {
  left_ = false;
  gpu = std::make_shared<guests::VirtioGpu>(count_, rig.engine, state);
  CHECK_EQ(rig.call([this](flip::Engine&) { return gpu->open(); }), 0);
  for (uint32_t i = 0; i < count_; ++i) {
    const uint32_t stream = 10 + 2 * (i + count_ * lives_);
    scanouts.push_back(std::make_unique<guests::VirtioScanout>(gpu, i, stream, rig.engine));
    guests::VirtioScanout* scanout = scanouts.back().get();
    CHECK_EQ(rig.call([scanout](flip::Engine& engine) { return -scanout->on_enter(engine); }), 0);
    CHECK_EQ(rig.call([scanout](flip::Engine&) { return scanout->set_area({0, 0, 640, 480}), 0; }), 0);
    // Each scanout on a CRTC of its own: planes 100 and 101, 200 and 201.
    rig.attach(scanout->stream(0), i + 1, 100 * (i + 1));
    rig.attach(scanout->stream(1), i + 1, 100 * (i + 1) + 1);
  }
  ++lives_;
}

bool VirtioRig::die_and_go_on(const std::function<void(guests::VirtioState&)>& between) {
  // What is in the file at one moment, as a process that is killed leaves it.
  base::UniqueFd file(base::check(memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create"));
  std::vector<uint8_t> bytes(4 << 20); // the tables, the records, and the pieces of some resources
  const auto size = static_cast<ssize_t>(bytes.size());
  const int unread = rig.call([&](flip::Engine&) {
    const bool read = pread(state->fd(), bytes.data(), bytes.size(), 0) == size;
    gpu->suspend();
    return read ? 0 : EIO;
  });
  REQUIRE(unread == 0);
  struct stat status{};
  REQUIRE(fstat(state->fd(), &status) == 0 && ftruncate(file.get(), status.st_size) == 0);
  REQUIRE(pwrite(file.get(), bytes.data(), bytes.size(), 0) == size);
  REQUIRE(fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  base::UniqueFd socket(dup(vhost->fd()));
  vhost.reset();
  change_.reset();
  leave();
  while (gpu->notice()) {
  }
  scanouts.clear();
  gpu.reset();
  state = guests::VirtioState::open(std::move(file), count_, "rig");
  if (between) between(*state);
  make_vhost(std::move(socket));
  make_device();
  return go_on();
}

bool VirtioRig::go_on() {
  VhostUser::Kept copies;
  for (const auto& [name, fd] : kept)
    copies[name].reset(dup(fd.get()));
  try {
    auto changes = vhost->restore(std::move(copies));
    const int error = rig.call([&](flip::Engine&) {
      for (uint32_t i = 0; i < guests::max_gpu_buffers; ++i) {
        const guests::GpuBuffer& buffer = gpu->buffer(i);
        const bool ready = buffer.state == guests::GpuBuffer::State::ready;
        // As in the former life.
        if (ready) gpu->restored(i, {.done = true, .fb_id = 1001 + i});
      }
      gpu->show_again();
      int failed = 0;
      for (const auto& change : changes) {
        change->run(gpu->rings());
        failed |= change->error;
      }
      return failed;
    });
    return error == 0;
  } catch (const std::runtime_error& error) {
    refusals.emplace_back(error.what());
    return false;
  }
}

VirtioRig::~VirtioRig() {
  leave();
}

void VirtioRig::leave() {
  if (left_) return;
  left_ = true;
  const bool dead = !vhost; // everything stays as it is
  rig.call([this, dead](flip::Engine&) {
    if (dead) return 0;
    RingChange(RingChange::What::stop_all).run(gpu->rings());
    gpu->reset();
    gpu->close();
    return 0;
  });
  rig.card.hold(false);
  rig.card.land();
  for (const auto& scanout : scanouts)
    rig.leave(*scanout);
}

void VirtioRig::pump() {
  while (vhost->receive() == VhostUser::State::waiting) {
    RingChange* change = change_.get();
    rig.call([this, change](flip::Engine&) { return change->run(gpu->rings()), 0; });
    vhost->finished(std::move(change_));
  }
}

bool VirtioRig::get_config(uint32_t offset, std::span<uint8_t> config) {
  for (size_t i = 0; i < config.size(); ++i)
    config[i] = static_cast<uint8_t>(offset + i);
  return offset < 16;
}

std::vector<uint8_t> VirtioRig::ask(Request request, const void* payload, size_t size,
                                    const std::vector<int>& fds, uint32_t flags) {
  guests::vhost::Header header{
      .request = static_cast<uint32_t>(request), .flags = flags, .size = static_cast<uint32_t>(size)};
  iovec parts[2]{{&header, sizeof header}, {const_cast<void*>(payload), size}};
  msghdr message{.msg_iov = parts, .msg_iovlen = 2};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 16)]{};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  REQUIRE(sendmsg(front.get(), &message, MSG_NOSIGNAL) >= 0);
  return reply();
}

std::vector<uint8_t> VirtioRig::reply() {
  if (unhandled) return {};
  pump();
  guests::vhost::Header header{};
  std::vector<uint8_t> reply(sizeof header + 1024);
  const ssize_t got = recv(front.get(), reply.data(), reply.size(), MSG_DONTWAIT);
  if (got < static_cast<ssize_t>(sizeof header)) return {};
  std::memcpy(&header, reply.data(), sizeof header);
  CHECK_EQ(header.flags, guests::vhost::version | guests::vhost::flag_reply);
  reply.resize(static_cast<size_t>(got));
  reply.erase(reply.begin(), reply.begin() + sizeof header);
  CHECK_EQ(reply.size(), size_t{header.size});
  return reply;
}

uint64_t VirtioRig::ask_u64(Request request) {
  const auto reply = ask(request, nullptr, 0);
  uint64_t value = 0;
  if (reply.size() == sizeof value) std::memcpy(&value, reply.data(), sizeof value);
  return value;
}

bool VirtioRig::tell(Request request, const void* payload, size_t size, const std::vector<int>& fds) {
  const auto reply =
      ask(request, payload, size, fds, guests::vhost::version | guests::vhost::flag_need_reply);
  uint64_t value = 1;
  if (reply.size() == sizeof value) std::memcpy(&value, reply.data(), sizeof value);
  return value == 0;
}

bool VirtioRig::tell_u64(Request request, uint64_t value, const std::vector<int>& fds) {
  return tell(request, &value, sizeof value, fds);
}

bool VirtioRig::tell_state(Request request, uint32_t ring, uint32_t number) {
  const guests::vhost::VringState state{ring, number};
  return tell(request, &state, sizeof state);
}

bool VirtioRig::share(const FakeMemory& shared) {
  guests::vhost::MemoryTable table{};
  table.count = 1;
  table.regions[0] = {FakeMemory::guest_base, FakeMemory::size, FakeMemory::user_base, 0};
  return tell(Request::set_mem_table, &table, 8 + sizeof(guests::vhost::MemoryRegion), {shared.fd.get()});
}

void VirtioRig::negotiate(uint64_t extra) {
  using namespace guests::vhost;
  CHECK((ask_u64(Request::get_features) & feature_version_1) != 0);
  const uint64_t protocol = ask_u64(Request::get_protocol_features);
  // The reply to this one is asked for with the feature that it turns on.
  ask(Request::set_protocol_features, &protocol, sizeof protocol);
  CHECK(tell_u64(Request::set_features, feature_version_1 | feature_indirect | feature_protocol | extra));
}

void VirtioRig::start_ring(uint32_t index, bool enable) {
  FakeRing& ring = index == 0 ? control : cursor;
  const guests::VirtqueueSetup setup = ring.setup();
  CHECK(tell_state(Request::set_vring_num, index, setup.size));
  const guests::vhost::VringAddress address{index, 0, setup.descriptors, setup.used, setup.available, 0};
  CHECK(tell(Request::set_vring_addr, &address, sizeof address));
  CHECK(tell_u64(Request::set_vring_kick, index, {kicks[index].get()}));
  CHECK(tell_u64(Request::set_vring_call, index, {calls[index].get()}));
  if (enable) CHECK(tell_state(Request::set_vring_enable, index, 1));
}

uint32_t VirtioRig::stop_ring(uint32_t index) {
  const guests::vhost::VringState state{index, 0};
  const auto reply = ask(Request::get_vring_base, &state, sizeof state);
  guests::vhost::VringState answer{};
  REQUIRE(reply.size() == sizeof answer);
  std::memcpy(&answer, reply.data(), sizeof answer);
  CHECK_EQ(answer.index, index);
  return answer.number;
}

void VirtioRig::boot() {
  negotiate();
  CHECK(share(memory));
  for (const uint32_t ring : {0u, 1u}) {
    CHECK(tell_state(Request::set_vring_base, ring, 0));
    start_ring(ring);
  }
}

void VirtioRig::hang_up() {
  front.reset();
  pump();
  CHECK(vhost->state() == VhostUser::State::ended);
  leave();
}

uint32_t VirtioRig::offer(const void* request, size_t size, uint32_t answer_size) {
  const uint32_t slot = slots_++ % 16; // two descriptors and 4 KiB each
  const uint64_t at = requests_at + uint64_t{4096} * slot;
  const auto head = static_cast<uint16_t>(2 * slot);
  std::memcpy(&memory.at<uint8_t>(at), request, size);
  std::memset(&memory.at<uint8_t>(at + 2048), 0, 32);
  control.descriptor(head) = {at, static_cast<uint32_t>(size), has_next, static_cast<uint16_t>(head + 1)};
  control.descriptor(head + 1) = {at + 2048, answer_size, is_writable, 0};
  heads_.push_back(head);
  control.offer(head);
  return static_cast<uint32_t>(heads_.size()) - 1;
}

void VirtioRig::kick(uint32_t ring) const {
  const uint64_t one = 1;
  CHECK_EQ(write(kicks[ring].get(), &one, sizeof one), 8);
}

bool VirtioRig::answered(uint32_t number) const {
  const uint64_t at = requests_at + uint64_t{4096} * (heads_[number] / 2) + 2048;
  auto& type = const_cast<FakeMemory&>(memory).at<uint32_t>(at);
  return std::atomic_ref(type).load(std::memory_order_acquire) != 0;
}

virtio_gpu_ctrl_hdr VirtioRig::answer(uint32_t number) {
  REQUIRE(eventually([&] {
    while (work()) {
    }
    return answered(number);
  }));
  return memory.at<virtio_gpu_ctrl_hdr>(requests_at + uint64_t{4096} * (heads_[number] / 2) + 2048);
}

uint32_t VirtioRig::create(uint32_t id, uint32_t format, uint32_t width, uint32_t height) {
  virtio_gpu_resource_create_2d request{};
  request.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D;
  request.resource_id = id;
  request.format = format;
  request.width = width;
  request.height = height;
  return run(request);
}

uint32_t VirtioRig::attach(uint32_t id, uint64_t address, uint32_t length) {
  struct {
    virtio_gpu_resource_attach_backing attach;
    virtio_gpu_mem_entry entry;
  } request{};
  request.attach.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING;
  request.attach.resource_id = id;
  request.attach.nr_entries = 1;
  request.entry.addr = address;
  request.entry.length = length;
  return run(request);
}

uint32_t VirtioRig::set_scanout(uint32_t scanout, uint32_t id, uint32_t width, uint32_t height) {
  virtio_gpu_set_scanout request{};
  request.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT;
  request.scanout_id = scanout;
  request.resource_id = id;
  request.r.width = width;
  request.r.height = height;
  return run(request);
}

uint32_t VirtioRig::unref(uint32_t id) {
  virtio_gpu_resource_unref request{};
  request.hdr.type = VIRTIO_GPU_CMD_RESOURCE_UNREF;
  request.resource_id = id;
  return run(request);
}

uint32_t VirtioRig::flush(uint32_t id, uint64_t fence) {
  virtio_gpu_resource_flush request{};
  request.hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH;
  request.hdr.flags = VIRTIO_GPU_FLAG_FENCE;
  request.hdr.fence_id = fence;
  request.resource_id = id;
  request.r.width = request.r.height = side;
  const uint32_t number = offer(&request, sizeof request);
  kick();
  return number;
}

void VirtioRig::make_two() {
  for (const uint32_t id : {1u, 2u}) {
    CHECK_EQ(create(id), VIRTIO_GPU_RESP_OK_NODATA);
    CHECK_EQ(attach(id, pixels_at + uint64_t{bytes} * id), VIRTIO_GPU_RESP_OK_NODATA);
  }
}

bool VirtioRig::work() {
  const auto notice = gpu->notice();
  if (!notice) return false;
  switch (notice->what) {
  case GpuNotice::What::back:
  case GpuNotice::What::import:
  case GpuNotice::What::transfer: {
    if (jobs_wait) return true;
    guests::GpuJobResult result{.done = true, .fb_id = 1000 + static_cast<uint32_t>(++backed)};
    if (notice->what == GpuNotice::What::back) {
      try {
        const guests::GpuBacking backing(*vhost->memory(), gpu->job_chain(), gpu->job_entries_at(),
                                         gpu->job_entries());
        state->write_pieces(notice->resource, backing.parts());
        result.done = backing.size() >= uint64_t{notice->layout.stride} * notice->layout.height;
      } catch (const base::SystemError&) {
        result.done = false;
      }
    }
    rig.call([this, result](flip::Engine&) { return gpu->finish_job(result), 0; });
    return true;
  }
  case GpuNotice::What::release_buffer:
    ++released_buffers;
    rig.call([this, &notice](flip::Engine&) { return gpu->buffer_released(notice->buffer), 0; });
    return true;
  case GpuNotice::What::release_resource:
    ++released_resources;
    rig.call([this, &notice](flip::Engine&) { return gpu->resource_released(notice->resource), 0; });
    return true;
  case GpuNotice::What::broken:
    broken.emplace_back(notice->text);
    return true;
  }
  return true;
}

} // namespace scanout::test
