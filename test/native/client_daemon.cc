// The guest's side against the daemon's own hot half, on a CRTC that a timer paces: no part of the exchange
// is faked.
#include <sys/eventfd.h>

#include <array>
#include <memory>
#include <random>
#include <vector>

#include "base/clock.h"
#include "check.h"
#include "client_fake.h"
#include "flip/engine.h"
#include "guests/socket.h"

namespace scanout::test {

namespace {

constexpr uint32_t virtual_crtc = flip::first_virtual_crtc;
constexpr int64_t period_ns = 2'000'000;

/// The flip thread with one guest whose planes are all attached.
class HotHalf {
public:
  HotHalf(FakeDaemon& daemon, uint32_t planes) {
    guests::SocketGuest::Descriptors descriptors;
    descriptors.kick = std::move(daemon.kick);
    descriptors.release = std::move(daemon.release_signal);
    guest_ = std::make_unique<guests::SocketGuest>(1, planes, std::move(descriptors), engine_);
    daemon.page_fd.reset(::fcntl(guest_->page_fd(), F_DUPFD_CLOEXEC, 3));
    run([](flip::Engine& engine) {
      auto crtc = std::make_unique<flip::Crtc>(engine.host(), virtual_crtc, period_ns, flip::Policy::eager);
      return engine.add_crtc(crtc);
    });
    run([this, planes](flip::Engine& engine) {
      guest_->on_enter(engine);
      guest_->set_area({0, 0, 64, 48});
      for (uint32_t i = 0; i < planes; ++i) {
        const int index = engine.crtc(virtual_crtc)->add_plane(i + 1, {});
        engine.crtc(virtual_crtc)->attach(guest_->stream(i), static_cast<uint32_t>(index));
      }
      return 0;
    });
  }

  HotHalf(const HotHalf&) = delete;
  HotHalf& operator=(const HotHalf&) = delete;
  ~HotHalf() { engine_.stop(); } // the guest may be destroyed from then on

  template <typename Body> void run(Body body) {
    auto command = std::make_unique<flip::SimpleCommand<Body>>(std::move(body));
    CHECK(engine_.post(std::move(command)));
    std::unique_ptr<flip::Command> done;
    while ((done = engine_.finished()) == nullptr)
      ::usleep(200);
    CHECK_EQ(done->error, 0);
  }
  void add_buffer(uint32_t id) {
    run([this, id](flip::Engine&) { return guest_->add_buffer(id, 100 + id, 64, 48); });
  }
  void set_mode(uint32_t plane, flip::PresentMode mode) {
    run([this, plane, mode](flip::Engine&) {
      guest_->set_mode(plane, mode);
      return 0;
    });
  }

private:
  base::UniqueFd no_card_{::eventfd(0, EFD_CLOEXEC)};
  flip::Engine engine_{no_card_.get(), 0};
  std::unique_ptr<guests::SocketGuest> guest_;
};

/// Connected, with `buffers` registered on both sides.
struct Pair {
  Pair(scanoutd_client_options options, uint32_t buffers) : guest(daemon.path(), options) {
    daemon.listen();
    CHECK_EQ(scanoutd_client_connect(guest, 0), 0);
    daemon.accept();
    REQUIRE(daemon.hello());
    hot = std::make_unique<HotHalf>(daemon, daemon.greeting.plane_count);
    REQUIRE(daemon.answer_hello());
    REQUIRE(guest.until(SCANOUTD_EVENT_CONNECTED));
    const base::UniqueFd memory = sealed_memfd(4096);
    const int fd = memory.get();
    const scanoutd_layout layout = small_layout();
    for (uint32_t id = 0; id < buffers; id++) {
      uint32_t serial = 0;
      CHECK_EQ(scanoutd_client_add_buffer(guest, id, &layout, &fd, 1, &serial), 0);
      hot->add_buffer(id);
      CHECK_EQ(daemon.serve(), static_cast<uint32_t>(SCANOUTD_ADD_BUFFER));
      CHECK_EQ(scanoutd_client_wait_answer(guest, serial, 1000), 0);
    }
  }
  [[nodiscard]] scanoutd_flip_feedback feedback(uint32_t plane = 0) const {
    scanoutd_flip_feedback feedback{};
    CHECK_EQ(scanoutd_client_feedback(guest, plane, &feedback), 0);
    return feedback;
  }
  /// Waits until frame `sequence` was presented; false after two seconds.
  [[nodiscard]] bool presented(uint64_t sequence, uint32_t plane = 0) const {
    const int64_t end = base::now_ns() + 2'000'000'000;
    while (feedback(plane).presented < sequence) {
      if (base::now_ns() > end) return false;
      scanoutd_client_wait(guest, 100);
      while (guest.next().type != SCANOUTD_EVENT_NONE)
        continue;
    }
    return true;
  }

  FakeDaemon daemon;
  Guest guest;
  std::unique_ptr<HotHalf> hot;
};

} // namespace

TEST(client_and_flip_thread_share_three_buffers) {
  Pair pair({.name = "test"}, 3);
  const Guest& guest = pair.guest;
  std::mt19937 random(7);
  uint64_t submitted = 0, reclaimed = 0, last = 0;
  const int64_t end = base::now_ns() + 600'000'000;
  while (base::now_ns() < end) {
    const int id = scanoutd_client_acquire(guest, 7, 2000);
    REQUIRE(id >= 0);
    scanoutd_frame frame{};
    frame.buffer = static_cast<uint32_t>(id);
    scanoutd_submission submission{};
    REQUIRE(scanoutd_client_submit(guest, 0, &frame, &submission) == 0);
    submitted++;
    reclaimed += submission.reclaimed != 0 ? 1 : 0;
    last = submission.sequence;
    if (random() % 4 == 0) ::usleep(random() % 3000);
  }
  CHECK(pair.presented(last)); // the newest frame always wins
  const scanoutd_flip_feedback feedback = pair.feedback();
  CHECK_EQ(feedback.refused, 0u);
  CHECK_EQ(feedback.flips + feedback.superseded + reclaimed, submitted);
  CHECK(feedback.flips > 20);
  // All but the one on the screen come back.
  int held = 0;
  for (uint32_t id = 0; id < 3; id++)
    held += scanoutd_client_buffer_free(guest, id) ? 0 : 1;
  CHECK_EQ(held, 1);
}

TEST(client_shows_every_frame_in_fifo) {
  Pair pair({.name = "test"}, 3);
  pair.hot->set_mode(0, flip::PresentMode::fifo);
  CHECK_EQ(scanoutd_client_set_present(pair.guest, 0, SCANOUTD_PRESENT_FIFO, nullptr), 0);
  uint64_t last = 0;
  for (int i = 0; i < 100; i++) {
    const int id = scanoutd_client_acquire(pair.guest, 7, 2000);
    REQUIRE(id >= 0);
    REQUIRE(scanoutd_client_wait_taken(pair.guest, 0, 2000) == 0);
    last = submit(pair.guest, static_cast<uint32_t>(id));
    REQUIRE(last != 0);
  }
  CHECK(pair.presented(last));
  CHECK_EQ(pair.feedback().flips, 100u);
  CHECK_EQ(pair.feedback().superseded, 0u);
}

TEST(client_moves_a_cursor_on_the_flip_thread) {
  Pair pair(
      {.name = "test", .plane_count = 2, .plane_kinds = {SCANOUTD_PLANE_PRIMARY, SCANOUTD_PLANE_CURSOR}}, 2);
  uint64_t last = 0;
  for (int i = 0; i < 200; i++) {
    last = submit(pair.guest, 1, 1);
    REQUIRE(last != 0);
    CHECK(!scanoutd_client_buffer_free(pair.guest, 1));
    if (i % 10 == 0) CHECK(pair.presented(last, 1));
  }
  CHECK(pair.presented(last, 1));
  CHECK(!scanoutd_client_buffer_free(pair.guest, 1)); // shown still
  scanoutd_frame hide{};
  hide.flags = SCANOUTD_FLIP_HIDE;
  CHECK_EQ(scanoutd_client_submit(pair.guest, 1, &hide, nullptr), 0);
  CHECK_EQ(scanoutd_client_acquire(pair.guest, 2, 2000), 1);
}

} // namespace scanout::test
