// The virtual machine of the benchmark without a machine: the front end of vhost-user-gpu and a driver that
// flips as Linux's does, so that what is measured is the daemon and not an emulator.
//
//   bench_virtio --out FILE [--rate HZ] SOCKET:NAME:WIDTHxHEIGHT
//
// pace.h has the rest. Three resources in a memfd; a flip is TRANSFER_TO_HOST_2D, SET_SCANOUT and a fenced
// RESOURCE_FLUSH, each with an indirect table, and one kick, which is stamped right before the write. A frame
// counts as presented when its flush is answered, at the time when the call eventfd woke us.
#include <fcntl.h>
#include <linux/virtio_gpu.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <initializer_list>

#include "guests/vhost_user_protocol.h"
#include "pace.h"

namespace {

namespace vhost = scanout::guests::vhost;
using vhost::Request;

constexpr uint32_t resources = 3, commands_a_flip = 3, ring_size = 64;
constexpr uint64_t guest_base = 0x100000, user_base = 0x7f0000000000;
constexpr uint64_t ring_bytes = 0x4000, commands_at = 2 * ring_bytes, command_bytes = 512,
                   pixels_at = commands_at + ring_size * command_bytes;
constexpr uint16_t writable = 2, has_next = 1, indirect = 4;
constexpr int answer_ms = 20000, connect_tries = 400;

struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags, next;
};

int front = -1, kick_fds[2], call_fds[2], memory_fd = -1;
uint8_t* memory;
uint64_t memory_size;
uint32_t width, height;
uint16_t offered, taken; // of the control ring
uint64_t fence;          // of the newest flush
uint64_t flips;

template <typename T> T& at(uint64_t offset) {
  return *reinterpret_cast<T*>(memory + offset);
}

std::atomic_ref<uint16_t> word(uint64_t offset) {
  return std::atomic_ref<uint16_t>(at<uint16_t>(offset));
}

int check(int result, const char* what) {
  if (result < 0) die(what, errno);
  return result;
}

// ---- the front end

void send(Request request, const void* payload, size_t size, std::initializer_list<int> fds, uint32_t flags) {
  vhost::Header header{static_cast<uint32_t>(request), vhost::version | flags, static_cast<uint32_t>(size)};
  iovec parts[2]{{&header, sizeof header}, {const_cast<void*>(payload), size}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  if (fds.size() == 1) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), fds.begin(), sizeof(int));
  }
  check(static_cast<int>(sendmsg(front, &message, MSG_NOSIGNAL)), "vhost-user request");
}

uint64_t reply() {
  vhost::Header header{};
  uint64_t value = 0;
  if (recv(front, &header, sizeof header, MSG_WAITALL) != sizeof header || header.size != sizeof value ||
      recv(front, &value, sizeof value, MSG_WAITALL) != sizeof value)
    die("vhost-user reply", EPROTO);
  return value;
}

uint64_t ask(Request request) {
  send(request, nullptr, 0, {}, 0);
  return reply();
}

template <typename T> void tell(Request request, const T& value, std::initializer_list<int> fds = {}) {
  send(request, &value, sizeof value, fds, vhost::flag_need_reply);
  if (reply() != 0) die("vhost-user request refused", EPROTO);
}

void start_ring(uint32_t index) {
  const uint64_t ring = user_base + index * ring_bytes;
  tell(Request::set_vring_num, vhost::VringState{index, ring_size});
  tell(Request::set_vring_base, vhost::VringState{index, 0});
  tell(Request::set_vring_addr, vhost::VringAddress{index, 0, ring, ring + 8192, ring + 4096, 0});
  tell(Request::set_vring_kick, uint64_t{index}, {kick_fds[index]});
  tell(Request::set_vring_call, uint64_t{index}, {call_fds[index]});
  tell(Request::set_vring_enable, vhost::VringState{index, 1});
}

void connect_device(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  // The former one's planes may not have been given back yet.
  for (int tries = 0;; ++tries) {
    front = check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    if (connect(front, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) break;
    if (tries == connect_tries) die(path, errno);
    close(front);
    usleep(50'000);
  }
  const uint64_t features = ask(Request::get_features);
  const uint64_t protocol = ask(Request::get_protocol_features);
  constexpr uint64_t wanted = vhost::feature_version_1 | vhost::feature_indirect | vhost::feature_event_idx;
  if ((features & wanted) != wanted || (protocol & vhost::protocol_reply_ack) == 0)
    die("the device lacks features", EPROTO);
  send(Request::set_protocol_features, &protocol, sizeof protocol, {}, 0);
  tell(Request::set_features, wanted | vhost::feature_protocol);
}

void share_memory() {
  vhost::MemoryTable table{};
  table.count = 1;
  table.regions[0] = {guest_base, memory_size, user_base, 0};
  constexpr size_t size = offsetof(vhost::MemoryTable, regions) + sizeof(vhost::MemoryRegion);
  send(Request::set_mem_table, &table, size, {memory_fd}, vhost::flag_need_reply);
  if (reply() != 0) die("memory table refused", EPROTO);
}

void make_memory() {
  memory_size = (pixels_at + uint64_t{resources} * width * height * 4 + 4095) / 4096 * 4096;
  memory_fd = check(memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create");
  check(ftruncate(memory_fd, static_cast<off_t>(memory_size)), "ftruncate");
  check(fcntl(memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "F_ADD_SEALS");
  void* mapped = mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory_fd, 0);
  if (mapped == MAP_FAILED) die("mmap", errno);
  memory = static_cast<uint8_t*>(mapped);
  for (uint32_t i = 0; i < resources; ++i)
    std::memset(memory + pixels_at + uint64_t{i} * width * height * 4, 0x40 * static_cast<int>(i + 1),
                size_t{width} * height * 4);
  for (int i = 0; i < 2; ++i) {
    kick_fds[i] = check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    call_fds[i] = check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  }
}

// ---- the driver

// A command in its place: the indirect table, the request, the answer.
void offer(const void* request, size_t size) {
  const uint32_t slot = offered % ring_size;
  const uint64_t place = commands_at + slot * command_bytes;
  const uint64_t guest = guest_base + place;
  std::memcpy(memory + place + 64, request, size);
  std::memset(memory + place + 256, 0, sizeof(virtio_gpu_ctrl_hdr));
  at<Descriptor>(place) = {guest + 64, static_cast<uint32_t>(size), has_next, 1};
  at<Descriptor>(place + 16) = {guest + 256, sizeof(virtio_gpu_ctrl_hdr), writable, 0};
  at<Descriptor>(16 * slot) = {guest, 32, indirect, 0};
  at<uint16_t>(4096 + 4 + 2 * slot) = static_cast<uint16_t>(slot);
  word(4096 + 2).store(++offered, std::memory_order_release);
}

int64_t kick() {
  const uint64_t one = 1;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const int64_t stamp = now_ns();
  check(static_cast<int>(write(kick_fds[0], &one, sizeof one)), "kick");
  return stamp;
}

// Takes what was answered, and asks to be called at the next answer.
void take() {
  for (;;) {
    const uint16_t used = word(8192 + 2).load(std::memory_order_acquire);
    for (; taken != used; ++taken) {
      const uint32_t slot = at<uint32_t>(8192 + 4 + 8 * (taken % ring_size)) % ring_size;
      const auto& answer = at<virtio_gpu_ctrl_hdr>(commands_at + slot * command_bytes + 256);
      if (answer.type != VIRTIO_GPU_RESP_OK_NODATA) die("a command was refused", EPROTO);
    }
    word(4096 + 4 + 2 * ring_size).store(taken, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (word(8192 + 2).load(std::memory_order_acquire) == taken) return;
  }
}

template <typename T> void command(T& request, uint32_t type) {
  request.hdr.type = type;
  offer(&request, sizeof request);
}

void drain(int fd) {
  uint64_t count;
  (void)!read(fd, &count, sizeof count);
}

void wait_all() {
  const int64_t end = now_ns() + int64_t{answer_ms} * 1'000'000;
  for (take(); taken != offered; take()) {
    if (now_ns() > end) die("no answer", ETIMEDOUT);
    pollfd state{call_fds[0], POLLIN, 0};
    poll(&state, 1, 100);
    drain(call_fds[0]);
  }
}

void create_resource(uint32_t id) {
  virtio_gpu_resource_create_2d create{};
  create.resource_id = id;
  create.format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM;
  create.width = width;
  create.height = height;
  command(create, VIRTIO_GPU_CMD_RESOURCE_CREATE_2D);
  struct {
    virtio_gpu_ctrl_hdr hdr;
    uint32_t resource, count;
    virtio_gpu_mem_entry entry;
  } attach{};
  attach.resource = id;
  attach.count = 1;
  attach.entry.addr = guest_base + pixels_at + uint64_t{id - 1} * width * height * 4;
  attach.entry.length = width * height * 4;
  command(attach, VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING);
  kick();
  wait_all();
}

void boot(char* text) {
  char* name = std::strchr(text, ':');
  char* size = name != nullptr ? std::strchr(name + 1, ':') : nullptr;
  if (size == nullptr || sscanf(size + 1, "%ux%u", &width, &height) != 2 || pace_count != 0)
    die(text, EINVAL);
  if (uint64_t{width} * height * 4 % 4096 != 0) die("a resource has to be made of whole pages", EINVAL);
  *name = '\0';
  make_memory();
  connect_device(text);
  share_memory();
  start_ring(0);
  start_ring(1);
  for (uint32_t id = 1; id <= resources; ++id)
    create_resource(id);
  paces[pace_count++].fd = call_fds[0];
}

} // namespace

static uint64_t pace_submit(int, int64_t* kicked_ns) {
  const uint32_t id = 1 + static_cast<uint32_t>(flips++ % resources);
  virtio_gpu_transfer_to_host_2d transfer{};
  transfer.resource_id = id;
  transfer.r = {0, 0, width, height};
  command(transfer, VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D);
  virtio_gpu_set_scanout scanout{};
  scanout.resource_id = id;
  scanout.r = {0, 0, width, height};
  command(scanout, VIRTIO_GPU_CMD_SET_SCANOUT);
  virtio_gpu_resource_flush flush{};
  flush.resource_id = id;
  flush.r = {0, 0, width, height};
  flush.hdr.flags = VIRTIO_GPU_FLAG_FENCE;
  flush.hdr.fence_id = ++fence;
  command(flush, VIRTIO_GPU_CMD_RESOURCE_FLUSH);
  *kicked_ns = kick();
  return fence;
}

// The flush is the last of its flip, and answers come in the order of commands with a fence.
static int pace_settle(int, int64_t now, struct news* news) {
  drain(call_fds[0]);
  take();
  news->presented_ns = now;
  return taken == offered;
}

int main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  for (int i = 1; i < argc; i++)
    if (!pace_option(argc, argv, &i)) boot(argv[i]);
  if (pace_out == nullptr || pace_count == 0)
    die("usage: bench_virtio --out FILE [--rate HZ] SOCKET:NAME:WxH", EINVAL);
  pace_serve();
  return fclose(pace_out) == 0 ? 0 : 1;
}
