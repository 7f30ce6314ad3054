// The mailbox under two threads: each frame is taken once or reclaimed once, whole, and no held buffer is
// drawn into.
#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <random>
#include <thread>

#include "check.h"
#include "client_fake.h"

namespace scanout::test {

namespace {

constexpr uint32_t buffers = 4;
constexpr size_t words = 256;

/// What buffers hold; plain memory, so that a race is a data race for ThreadSanitizer as well.
using Contents = std::array<std::array<uint64_t, words>, buffers>;

/// Every field of the entry follows from its sequence, so that a torn one is seen.
scanoutd_frame frame_of(uint64_t sequence, uint32_t buffer, std::array<scanoutd_rect, 8>& damage) {
  const auto low = static_cast<uint32_t>(sequence & 0xffff) + 1;
  damage.fill({static_cast<int32_t>(low), 1, 2, static_cast<int32_t>(low)});
  scanoutd_frame frame{};
  frame.buffer = buffer;
  frame.src_x = frame.src_w = frame.src_h = frame.dst_w = frame.dst_h = low;
  frame.dst_x = frame.dst_y = frame.hot_y = static_cast<int32_t>(low);
  frame.damage = damage.data();
  frame.damage_count = 8;
  return frame;
}

bool whole(const scanoutd_flip_entry& entry) {
  const auto low = static_cast<uint32_t>(entry.sequence & 0xffff) + 1;
  // With a frame that came back before it, the damage is more than fits: everything.
  const int32_t mark = entry.damage_count == 0 ? 0 : static_cast<int32_t>(low);
  const auto is_marked = [&](const scanoutd_rect& rect) { return rect.x1 == mark && rect.y2 == mark; };
  return entry.src_x == low && entry.src_h == low && entry.dst_w == low &&
         entry.dst_x == static_cast<int32_t>(low) && entry.hot_y == entry.dst_x &&
         (entry.damage_count == 8 || entry.damage_count == 0) && std::ranges::all_of(entry.damage, is_marked);
}

/// The daemon's half: takes at its own pace, holds up to three frames, releases the oldest.
class Taker {
public:
  Taker(FakeDaemon& daemon, scanoutd_flip_page* page, const Contents& contents, uint32_t seed)
      : daemon_(daemon), page_(page), contents_(contents), random_(seed) {}

  void run() {
    daemon_.page = page_;
    while (!stop.load(std::memory_order_acquire) || daemon_.page->slots[0].pending != 0)
      step();
    while (!held_.empty())
      release_oldest();
  }

  std::vector<uint64_t> taken;
  size_t torn = 0, disordered = 0, rewritten = 0;
  std::atomic<bool> stop{false};

private:
  void step() {
    if (const auto entry = daemon_.take(0)) {
      torn += whole(*entry) ? 0 : 1;
      disordered += !taken.empty() && entry->sequence <= taken.back() ? 1 : 0;
      taken.push_back(entry->sequence);
      held_.push_back({entry->sequence, entry->buffer});
      verify(held_.back());
    }
    if (held_.size() >= 3 || random_() % 4 == 0) release_oldest();
    if (random_() % 8 == 0) std::this_thread::yield();
  }
  void verify(const std::pair<uint64_t, uint32_t>& frame) {
    const auto& pixels = contents_[frame.second];
    rewritten += std::ranges::all_of(pixels, [&](uint64_t word) { return word == frame.first; }) ? 0 : 1;
  }
  void release_oldest() {
    if (held_.empty()) return;
    verify(held_.front()); // untouched for as long as it was held
    daemon_.release(held_.front().second, held_.front().first);
    held_.pop_front();
  }

  FakeDaemon& daemon_;
  scanoutd_flip_page* page_;
  const Contents& contents_;
  std::mt19937 random_;
  std::deque<std::pair<uint64_t, uint32_t>> held_;
};

constexpr auto run_time = std::chrono::milliseconds(400);

} // namespace

TEST(client_and_daemon_agree_on_the_fate_of_every_frame) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, buffers));
  // Both sides use one mapping: ThreadSanitizer knows addresses, not pages.
  auto* page = const_cast<scanoutd_flip_page*>(scanoutd_client_page(guest));
  Contents contents{};
  std::vector<uint64_t> submitted, reclaimed;
  std::array<scanoutd_rect, 8> damage{};
  std::mt19937 random(1);
  Taker taker(daemon, page, contents, 2);
  std::thread thread([&] { taker.run(); });
  int refused = 0;
  scanoutd_submission submission{};
  const auto end = std::chrono::steady_clock::now() + run_time;
  while (std::chrono::steady_clock::now() < end && refused == 0) {
    const int id = scanoutd_client_acquire(guest, (1 << buffers) - 1, 2000);
    if (id < 0) {
      refused = id;
      break;
    }
    const uint64_t next = submitted.empty() ? 1 : submitted.back() + 1;
    contents[static_cast<size_t>(id)].fill(next);
    const scanoutd_frame frame = frame_of(next, static_cast<uint32_t>(id), damage);
    refused = scanoutd_client_submit(guest, 0, &frame, &submission);
    submitted.push_back(submission.sequence);
    if (submission.reclaimed != 0) reclaimed.push_back(submission.reclaimed);
    if (random() % 16 == 0) {
      if (scanoutd_client_withdraw(guest, 0, &submission) == 1) reclaimed.push_back(submission.reclaimed);
    }
    if (random() % 8 == 0) std::this_thread::yield();
  }
  taker.stop.store(true, std::memory_order_release);
  thread.join();

  CHECK_EQ(refused, 0);
  CHECK_EQ(taker.torn, 0u);
  CHECK_EQ(taker.disordered, 0u);
  CHECK_EQ(taker.rewritten, 0u);
  CHECK(taker.taken.size() > 0 && reclaimed.size() > 0);
  std::vector<uint64_t> fates = taker.taken;
  fates.insert(fates.end(), reclaimed.begin(), reclaimed.end());
  std::ranges::sort(fates);
  CHECK(fates == submitted);
  for (uint32_t id = 0; id < buffers; id++)
    CHECK(scanoutd_client_buffer_free(guest, id));
}

TEST(client_never_reads_torn_feedback) {
  FakeDaemon daemon;
  const Guest guest(daemon.path());
  REQUIRE(join(daemon, guest, 0));
  daemon.page = const_cast<scanoutd_flip_page*>(scanoutd_client_page(guest));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t n = 1; !stop.load(std::memory_order_relaxed); n++) {
      scanoutd_flip_feedback feedback{};
      feedback.taken = feedback.presented = feedback.presented_ns = feedback.vblank = feedback.missed = n;
      daemon.present(0, feedback);
      // Pauses as a display does: a writer without any would starve every reader.
      if (n % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(5));
    }
  });
  size_t torn = 0, read = 0;
  uint64_t last = 0;
  const auto end = std::chrono::steady_clock::now() + run_time;
  while (std::chrono::steady_clock::now() < end) {
    scanoutd_flip_feedback got{};
    if (scanoutd_client_feedback(guest, 0, &got) != 0) continue;
    read++;
    torn +=
        got.taken == got.presented && got.taken == got.missed && got.vblank == got.taken && got.taken >= last
            ? 0
            : 1;
    last = got.taken;
  }
  stop.store(true);
  writer.join();
  CHECK_EQ(torn, 0u);
  CHECK(read > 100);
}

} // namespace scanout::test
