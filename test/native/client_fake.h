// A daemon for the tests of the C client: speaks the guest protocol word by word, well or badly.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guests/protocol.h"
#include "scanoutd-client.h"

namespace scanout::test {

/// One packet with the descriptors that came with it. Empty at the end of the connection or after the wait.
struct Packet {
  std::vector<uint8_t> bytes;
  std::vector<base::UniqueFd> fds;

  /// The message, when its type and size are those of T.
  template <typename T> [[nodiscard]] const T* as(uint32_t type) const {
    const auto* header = reinterpret_cast<const scanoutd_header*>(bytes.data());
    if (bytes.size() != sizeof(T) || header->type != type || header->size != sizeof(T)) return nullptr;
    return reinterpret_cast<const T*>(bytes.data());
  }
  [[nodiscard]] uint32_t serial() const {
    return bytes.size() < sizeof(scanoutd_header)
               ? 0
               : reinterpret_cast<const scanoutd_header*>(bytes.data())->serial;
  }
};

template <typename T> T message(uint32_t type, uint32_t serial = 0) {
  T made{};
  made.header = {type, sizeof(T), serial, 0};
  return made;
}

inline base::UniqueFd sealed_memfd(size_t size, int seals = F_SEAL_SHRINK | F_SEAL_GROW) {
  base::UniqueFd memfd(
      base::check(::memfd_create("flip-page", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create"));
  base::check(::ftruncate(memfd.get(), static_cast<off_t>(size)), "ftruncate");
  base::check(::fcntl(memfd.get(), F_ADD_SEALS, seals), "F_ADD_SEALS");
  return memfd;
}

/// One listening socket and at most one guest. Everything runs on the caller's thread.
class FakeDaemon {
public:
  FakeDaemon() {
    char directory[] = "/tmp/scanoutd-test-XXXXXX";
    if (::mkdtemp(directory) == nullptr) throw base::SystemError(errno, "mkdtemp");
    directory_ = directory;
    path_ = directory_ + "/guest.sock";
  }
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;
  ~FakeDaemon() {
    hang_up();
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }

  [[nodiscard]] const std::string& path() const { return path_; }

  void listen() {
    ::unlink(path_.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_.reset(base::check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket"));
    base::check(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
    base::check(::listen(listener_.get(), 4), "listen");
  }

  void accept() {
    guest_.reset(base::check(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
  }

  [[nodiscard]] Packet receive(int timeout_ms = 2000) {
    Packet packet;
    pollfd readable{guest_.get(), POLLIN, 0};
    if (::poll(&readable, 1, timeout_ms) <= 0) return packet;
    packet.bytes.resize(8192);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)];
    iovec vec{packet.bytes.data(), packet.bytes.size()};
    msghdr header{};
    header.msg_iov = &vec;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t size = ::recvmsg(guest_.get(), &header, MSG_CMSG_CLOEXEC);
    packet.bytes.resize(size < 0 ? 0 : static_cast<size_t>(size));
    for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
      for (size_t i = 0; i < (part->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++)
        packet.fds.emplace_back(reinterpret_cast<const int*>(CMSG_DATA(part))[i]);
    }
    return packet;
  }

  /// False when the guest has gone.
  bool send_raw(const void* bytes, size_t size, const std::vector<int>& fds = {}) {
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)] = {};
    iovec vec{const_cast<void*>(bytes), size};
    msghdr header{};
    header.msg_iov = &vec;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
      header.msg_control = control;
      header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(part), fds.data(), sizeof(int) * fds.size());
    }
    return ::sendmsg(guest_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  }
  template <typename T> bool send(const T& body, const std::vector<int>& fds = {}) {
    return send_raw(&body, sizeof body, fds);
  }
  bool done(uint32_t serial) { return send(message<scanoutd_done>(SCANOUTD_DONE, serial)); }
  bool refuse(uint32_t serial, uint32_t code, const char* text, bool fatal = false) {
    auto error = message<scanoutd_error>(SCANOUTD_ERROR, serial);
    error.code = code;
    error.fatal = fatal ? 1 : 0;
    std::strncpy(error.text, text, sizeof error.text - 1);
    return send(error);
  }

  /// Reads the HELLO and makes a fresh page for it, without an answer. False when no proper HELLO came.
  bool hello() {
    Packet packet = receive();
    const auto* hello = packet.as<scanoutd_hello>(SCANOUTD_HELLO);
    if (hello == nullptr || packet.fds.size() != 2) return false;
    greeting = *hello;
    kick = std::move(packet.fds[0]);
    release_signal = std::move(packet.fds[1]);
    make_page();
    return true;
  }
  /// Accepts, reads the HELLO, answers WELCOME.
  bool welcome(uint64_t capabilities = 0) {
    accept();
    return hello() && answer_hello(capabilities);
  }
  bool answer_hello(uint64_t capabilities = 0) {
    auto welcome = message<scanoutd_welcome>(SCANOUTD_WELCOME, greeting.header.serial);
    welcome.version_major = SCANOUTD_VERSION_MAJOR;
    welcome.version_minor = version_minor;
    welcome.capabilities = capabilities;
    welcome.page_size = SCANOUTD_FLIP_PAGE_SIZE;
    if ((capabilities & SCANOUTD_CAP_FENCE) == 0) return send(welcome, {page_fd.get()});
    int pair[2];
    base::check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    fences.reset(pair[0]);
    const base::UniqueFd theirs(pair[1]);
    return send(welcome, {page_fd.get(), theirs.get()});
  }
  /// Answers the next request with DONE and returns its type, 0 when none came.
  uint32_t serve() {
    const Packet packet = receive();
    if (packet.bytes.size() < sizeof(scanoutd_header)) return 0;
    done(packet.serial());
    return reinterpret_cast<const scanoutd_header*>(packet.bytes.data())->type;
  }
  void hang_up() {
    guest_.reset();
    fences.reset();
    if (mapped_ != nullptr) ::munmap(mapped_, SCANOUTD_FLIP_PAGE_SIZE);
    mapped_ = page = nullptr;
  }

  /// Takes the pending entry by the rule: exchange with 0, then copy.
  std::optional<scanoutd_flip_entry> take(uint32_t plane) {
    std::atomic_ref<uint64_t> pending(page->slots[plane].pending);
    const uint64_t word = pending.exchange(0, std::memory_order_acq_rel);
    if (word == 0) return std::nullopt;
    return page->slots[plane].entries[(word & 3) - 1];
  }
  void release(uint32_t buffer, uint64_t sequence) const {
    std::atomic_ref(page->released[buffer]).store(sequence, std::memory_order_release);
    signal();
  }
  void signal() const {
    const uint64_t one = 1;
    (void)!::write(release_signal.get(), &one, sizeof one);
  }
  /// Publishes feedback under its seqlock.
  void present(uint32_t plane, scanoutd_flip_feedback feedback) const {
    scanoutd_flip_feedback& shared = page->slots[plane].feedback;
    std::atomic_ref lock(shared.lock);
    const uint32_t before = lock.load(std::memory_order_relaxed);
    lock.store(before + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    feedback.lock = before + 1;
    uint64_t words[sizeof feedback / 8];
    std::memcpy(words, &feedback, sizeof feedback);
    auto* to = reinterpret_cast<uint64_t*>(&shared);
    for (size_t i = 0; i < std::size(words); i++)
      std::atomic_ref(to[i]).store(words[i], std::memory_order_relaxed);
    lock.store(before + 2, std::memory_order_release);
  }

  uint32_t version_minor = SCANOUTD_VERSION_MINOR; // that it speaks
  scanoutd_hello greeting{};
  base::UniqueFd kick, release_signal, fences, page_fd;
  scanoutd_flip_page* page = nullptr;

private:
  void make_page() {
    if (mapped_ != nullptr) ::munmap(mapped_, SCANOUTD_FLIP_PAGE_SIZE);
    page_fd = sealed_memfd(SCANOUTD_FLIP_PAGE_SIZE);
    void* mapped =
        ::mmap(nullptr, SCANOUTD_FLIP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd.get(), 0);
    if (mapped == MAP_FAILED) throw base::SystemError(errno, "mmap");
    mapped_ = page = static_cast<scanoutd_flip_page*>(mapped);
    page->magic = SCANOUTD_FLIP_PAGE_MAGIC;
    page->version_major = SCANOUTD_VERSION_MAJOR;
    page->version_minor = SCANOUTD_VERSION_MINOR;
    page->plane_count = greeting.plane_count;
  }

  std::string directory_, path_;
  base::UniqueFd listener_, guest_;
  scanoutd_flip_page* mapped_ = nullptr;
};

/// A client that ends with its scope.
struct Guest {
  explicit Guest(const std::string& path, scanoutd_client_options options = {.name = "test"}) {
    if (const int result = scanoutd_client_create(path.c_str(), &options, &client); result < 0)
      throw base::SystemError(-result, "scanoutd_client_create");
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { scanoutd_client_close(client); }
  operator scanoutd_client*() const { return client; } // NOLINT(google-explicit-constructor)

  /// The next event, NONE when there is none.
  [[nodiscard]] scanoutd_event next() const {
    scanoutd_event event{};
    scanoutd_client_dispatch(client, &event);
    return event;
  }
  /// The next event of this type; others before it are dropped.
  [[nodiscard]] bool until(scanoutd_event_type type) const {
    for (scanoutd_event event = next(); event.type != SCANOUTD_EVENT_NONE; event = next())
      if (event.type == type) return true;
    return false;
  }
  scanoutd_client* client = nullptr;
};

inline scanoutd_layout small_layout() {
  scanoutd_layout layout{};
  layout.width = 64;
  layout.height = 48;
  layout.fourcc = 0x34325258; // XR24
  layout.plane_count = 1;
  layout.strides[0] = 256;
  return layout;
}

/// Connects and registers buffers 0 to `count` - 1. False when anything is refused.
inline bool join(FakeDaemon& daemon, const Guest& guest, uint32_t count, uint64_t capabilities = 0) {
  daemon.listen();
  if (scanoutd_client_connect(guest, 0) != 0 || !daemon.welcome(capabilities)) return false;
  if (!guest.until(SCANOUTD_EVENT_CONNECTED)) return false;
  const base::UniqueFd memory = sealed_memfd(4096);
  const int fd = memory.get();
  const scanoutd_layout layout = small_layout();
  for (uint32_t id = 0; id < count; id++) {
    uint32_t serial = 0;
    if (scanoutd_client_add_buffer(guest, id, &layout, &fd, 1, &serial) != 0) return false;
    if (daemon.serve() != SCANOUTD_ADD_BUFFER) return false;
    if (scanoutd_client_wait_answer(guest, serial, 1000) != 0) return false;
  }
  return true;
}

/// Submits `buffer` on `plane`; the sequence, 0 when refused.
inline uint64_t submit(const Guest& guest, uint32_t buffer, uint32_t plane = 0) {
  scanoutd_frame frame{};
  frame.buffer = buffer;
  scanoutd_submission submission{};
  return scanoutd_client_submit(guest, plane, &frame, &submission) == 0 ? submission.sequence : 0;
}

/// Open descriptors of this process: what a test of leaks compares.
size_t open_fds();

} // namespace scanout::test
