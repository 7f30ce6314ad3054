#include "guest_rig.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "check.h"

namespace scanout::test {

static std::atomic<const char*> pretended{nullptr}; // what procfs says of an eventfd

FakeFiles::FakeFiles(const char* name) {
  pretended = name;
}
FakeFiles::~FakeFiles() {
  pretended = nullptr;
}

GuestRig::GuestRig(Rig& rig, uint32_t first_stream, uint32_t planes, uint32_t first_plane, uint32_t first_fb)
    : rig(rig), kick(base::check(eventfd(0, EFD_CLOEXEC), "eventfd")),
      release(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  int pair[2];
  base::check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
  fences.reset(pair[0]);
  guests::SocketGuest::Descriptors descriptors{base::UniqueFd(dup(kick.get())),
                                               base::UniqueFd(dup(release.get())), base::UniqueFd(pair[1])};
  guest = std::make_unique<guests::SocketGuest>(first_stream, planes, std::move(descriptors), rig.engine);
  void* mapped =
      mmap(nullptr, SCANOUTD_FLIP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, guest->page_fd(), 0);
  REQUIRE(mapped != MAP_FAILED);
  page = static_cast<scanoutd_flip_page*>(mapped);
  CHECK_EQ(rig.call([this](flip::Engine& engine) { return -guest->on_enter(engine); }), 0);
  CHECK_EQ(set_area({0, 0, guest_size, guest_size}), 0);
  for (uint32_t id = 0; id < 4; ++id) {
    CHECK_EQ(rig.call([this, id, first_fb](flip::Engine&) {
      return guest->add_buffer(id, first_fb + id, guest_size, guest_size);
    }),
             0);
  }
  for (uint32_t i = 0; i < planes; ++i)
    rig.attach(guest->stream(i), 1, first_plane + i);
}

GuestRig::~GuestRig() {
  if (!left_) leave();
  munmap(page, SCANOUTD_FLIP_PAGE_SIZE);
}

int GuestRig::leave() {
  left_ = true;
  return rig.leave(*guest);
}

int GuestRig::set_mode(uint32_t plane, flip::PresentMode mode) {
  return rig.call([this, plane, mode](flip::Engine&) { return guest->set_mode(plane, mode), 0; });
}

int GuestRig::set_area(const flip::Rect& area) {
  return rig.call([this, area](flip::Engine&) { return guest->set_area(area), 0; });
}

scanoutd_flip_entry GuestRig::entry(uint32_t buffer) {
  return {.sequence = ++sequence,
          .buffer = buffer,
          .src_w = guest_size << 16,
          .src_h = guest_size << 16,
          .dst_w = guest_size,
          .dst_h = guest_size};
}

uint64_t GuestRig::put(uint32_t plane, const scanoutd_flip_entry& entry) {
  const uint32_t index = next_entry_[plane]++ % SCANOUTD_FLIP_ENTRIES;
  page->slots[plane].entries[index] = entry;
  std::atomic_ref(page->slots[plane].pending).exchange(entry.sequence << 2 | (index + 1));
  return entry.sequence;
}

void GuestRig::kick_now() const {
  const uint64_t one = 1;
  CHECK_EQ(write(kick.get(), &one, sizeof one), 8);
}

uint64_t GuestRig::submit(uint32_t plane, const scanoutd_flip_entry& entry) {
  put(plane, entry);
  kick_now();
  return entry.sequence;
}

uint64_t GuestRig::submit(uint32_t plane, uint32_t buffer) {
  return submit(plane, entry(buffer));
}

void GuestRig::send_fence(uint32_t plane, uint64_t of, const std::vector<int>& fds, size_t size) const {
  scanoutd_fence message[2]{{.plane = plane, .sequence = of}, {}};
  iovec part{.iov_base = message, .iov_len = size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)]{};
  msghdr header{.msg_iov = &part, .msg_iovlen = 1};
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
  }
  CHECK(sendmsg(fences.get(), &header, MSG_DONTWAIT) >= 0);
}

scanoutd_flip_feedback GuestRig::feedback(uint32_t plane) const {
  scanoutd_flip_feedback& there = page->slots[plane].feedback;
  for (;;) {
    const uint32_t before = std::atomic_ref(there.lock).load(std::memory_order_acquire);
    scanoutd_flip_feedback copy = there;
    std::atomic_thread_fence(std::memory_order_acquire);
    if (before % 2 == 0 && std::atomic_ref(there.lock).load(std::memory_order_relaxed) == before) return copy;
  }
}

bool GuestRig::presented(uint32_t plane, uint64_t wanted) const {
  return eventually([&] { return feedback(plane).presented >= wanted; });
}

bool GuestRig::refused(uint32_t plane, uint64_t wanted) const {
  return eventually([&] { return feedback(plane).refused == wanted; });
}

uint64_t GuestRig::released(uint32_t buffer) const {
  return std::atomic_ref(page->released[buffer]).load(std::memory_order_acquire);
}

uint64_t GuestRig::signals() const {
  uint64_t count = 0;
  return read(release.get(), &count, sizeof count) == sizeof count ? count : 0;
}

} // namespace scanout::test

extern "C" __attribute__((visibility("default"))) ssize_t readlink(const char* path, char* target,
                                                                   size_t room) noexcept {
  const ssize_t size = syscall(SYS_readlink, path, target, room);
  constexpr char real[] = "anon_inode:[eventfd]";
  const char* wanted = scanout::test::pretended;
  if (wanted == nullptr || size < 0 || std::strncmp(target, real, sizeof real - 1) != 0) return size;
  const size_t length = std::min(std::strlen(wanted), room);
  std::memcpy(target, wanted, length);
  return static_cast<ssize_t>(length);
}
