// A daemon that sends anything: the client neither crashes nor leaks, whatever comes.
#include <chrono>
#include <random>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

namespace {

constexpr uint32_t types[] = {SCANOUTD_WELCOME, SCANOUTD_CONFIGURE, SCANOUTD_FORMATS, SCANOUTD_STATE,
                              SCANOUTD_DONE,    SCANOUTD_ERROR,     SCANOUTD_HELLO,   0xffffffff};
constexpr size_t sizes[] = {sizeof(scanoutd_welcome), sizeof(scanoutd_configure), 24, sizeof(scanoutd_state),
                            sizeof(scanoutd_done),    sizeof(scanoutd_error),     16, 16};

class Babble {
public:
  explicit Babble(uint32_t seed) : random_(seed) {}

  /// A packet between noise and a nearly right message.
  std::vector<uint8_t> packet(uint32_t serial) {
    const size_t kind = random_() % std::size(types);
    size_t size = below(3) == 0 ? below(3000) : sizes[kind];
    const uint32_t count = static_cast<uint32_t>(below(140));
    if (types[kind] == SCANOUTD_FORMATS && below(4) != 0) size = 24 + count * sizeof(scanoutd_format);
    std::vector<uint8_t> bytes(size);
    if (below(2) == 0)
      for (auto& byte : bytes)
        byte = static_cast<uint8_t>(random_());
    auto* words = reinterpret_cast<uint32_t*>(bytes.data());
    if (size >= 16 && below(8) != 0) {
      words[0] = types[kind];
      words[1] = static_cast<uint32_t>(size);
      words[2] = below(2) == 0 ? 0 : serial;
      words[3] = 0;
    }
    if (types[kind] == SCANOUTD_FORMATS && size >= 24) {
      words[4] = static_cast<uint32_t>(below(5));
      words[5] = count;
    }
    for (size_t flips = below(3); flips > 0 && size > 0; flips--)
      bytes[below(size)] ^= 1u << below(8);
    return bytes;
  }
  size_t below(size_t limit) { return random_() % limit; }

private:
  std::mt19937 random_;
};

/// Everything that reads what the daemon sent.
void look_at(const Guest& guest) {
  scanoutd_event event{};
  for (int i = 0; i < 64 && scanoutd_client_dispatch(guest, &event) == 1; i++) {
    if (event.error != nullptr) CHECK(::strnlen(event.error->text, SCANOUTD_TEXT_SIZE) < SCANOUTD_TEXT_SIZE);
  }
  for (uint32_t plane = 0; plane < SCANOUTD_MAX_PLANES; plane++) {
    if (const auto* formats = scanoutd_client_formats(guest, plane))
      CHECK(formats->count <= SCANOUTD_MAX_FORMATS);
    if (const auto* state = scanoutd_client_state(guest, plane))
      CHECK(::strnlen(state->text, SCANOUTD_TEXT_SIZE) < SCANOUTD_TEXT_SIZE);
  }
}

/// One connection, babbled at before or after its welcome, with a page that changes under the client's feet.
void session(FakeDaemon& daemon, const Guest& guest, Babble& babble) {
  if (scanoutd_client_connect(guest, 0) != 0) return;
  daemon.accept();
  if (!daemon.hello()) return;
  const bool welcomed = babble.below(8) != 0 && daemon.answer_hello();
  look_at(guest);
  for (size_t i = babble.below(40); i > 0; i--) {
    const Packet request = daemon.receive(0);
    const std::vector<uint8_t> bytes =
        babble.packet(request.bytes.empty() ? daemon.greeting.header.serial : request.serial());
    std::vector<int> fds;
    if (babble.below(6) == 0) fds.resize(1 + babble.below(6), daemon.page_fd.get());
    daemon.send_raw(bytes.data(), bytes.size(), fds);
    if (babble.below(4) == 0)
      reinterpret_cast<uint8_t*>(daemon.page)[babble.below(SCANOUTD_FLIP_PAGE_SIZE)] ^= 1u << babble.below(8);
    look_at(guest);
    submit(guest, static_cast<uint32_t>(babble.below(3)));
    scanoutd_client_acquire(guest, 7, 0);
    scanoutd_flip_feedback feedback;
    scanoutd_client_feedback(guest, 0, &feedback);
    if (babble.below(8) == 0)
      scanoutd_client_remove_buffer(guest, static_cast<uint32_t>(babble.below(3)), nullptr);
    if (babble.below(8) == 0)
      scanoutd_client_set_present(guest, 0, static_cast<uint32_t>(babble.below(3)), nullptr);
  }
  if (welcomed && babble.below(2) == 0) scanoutd_client_bye(guest, 0);
  look_at(guest);
  daemon.hang_up();
  look_at(guest);
  scanoutd_client_disconnect(guest);
}

} // namespace

TEST(client_survives_a_daemon_that_babbles) {
  FakeDaemon daemon;
  daemon.listen();
  Babble babble(static_cast<uint32_t>(std::random_device{}()));
  const base::UniqueFd memory = sealed_memfd(4096);
  const int fd = memory.get();
  const scanoutd_layout layout = small_layout();
  const size_t before = open_fds();
  {
    const Guest guest(daemon.path());
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(700);
    while (std::chrono::steady_clock::now() < end) {
      for (uint32_t id = 0; id < 3; id++)
        scanoutd_client_add_buffer(guest, id, &layout, &fd, 1, nullptr);
      session(daemon, guest, babble);
    }
  }
  daemon.kick.reset();
  daemon.release_signal.reset();
  daemon.page_fd.reset();
  CHECK_EQ(open_fds(), before);
}

} // namespace scanout::test
