#include "kms/events.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xf86drm.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "check.h"

using namespace scanout::kms;
using scanout::base::UniqueFd;

namespace {

struct Recorder final : EventHandler {
  virtual ~Recorder() = default;
  void on_event(const Event& event) noexcept override { events.push_back(event); }
  std::vector<Event> events;
};

using Bytes = std::vector<std::byte>;

template <typename T> void append(Bytes& bytes, const T& value) {
  const auto* data = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), data, data + sizeof value);
}

drm_event_vblank flip(uint32_t crtc, uint64_t user_data) {
  drm_event_vblank event{};
  event.base = {.type = DRM_EVENT_FLIP_COMPLETE, .length = sizeof event};
  event.user_data = user_data;
  event.tv_sec = 4'000'000'000u; // beyond 31 bits
  event.tv_usec = 999'999;
  event.sequence = UINT32_MAX;
  event.crtc_id = crtc;
  return event;
}

drm_event_crtc_sequence sequence(uint64_t number) {
  drm_event_crtc_sequence event{};
  event.base = {.type = DRM_EVENT_CRTC_SEQUENCE, .length = sizeof event};
  event.user_data = 5;
  event.time_ns = 123'456'789'012;
  event.sequence = number;
  return event;
}

} // namespace

TEST(events_of_every_type_are_told) {
  Bytes bytes;
  append(bytes, flip(31, UINT64_MAX));
  append(bytes, sequence(1ull << 40));
  auto vblank = flip(32, 1);
  vblank.base.type = DRM_EVENT_VBLANK;
  append(bytes, vblank);
  Recorder recorder;
  CHECK_EQ(parse_events(bytes.data(), bytes.size(), recorder), 3);
  REQUIRE(recorder.events.size() == 3);
  CHECK_EQ(recorder.events[0].type, Event::Type::flip);
  CHECK_EQ(recorder.events[0].crtc_id, 31u);
  CHECK_EQ(recorder.events[0].user_data, UINT64_MAX);
  CHECK_EQ(recorder.events[0].sequence, uint64_t{UINT32_MAX});
  CHECK_EQ(recorder.events[0].time_ns, 4'000'000'000'999'999'000);
  CHECK_EQ(recorder.events[1].type, Event::Type::sequence);
  CHECK_EQ(recorder.events[1].sequence, 1ull << 40);
  CHECK_EQ(recorder.events[1].time_ns, 123'456'789'012);
  CHECK_EQ(recorder.events[2].type, Event::Type::vblank);
}

TEST(events_of_unknown_type_are_passed_over) {
  Bytes bytes;
  append(bytes, drm_event{.type = 0x80000001, .length = 24});
  bytes.resize(24);
  append(bytes, flip(31, 7));
  Recorder recorder;
  CHECK_EQ(parse_events(bytes.data(), bytes.size(), recorder), 1);
  REQUIRE(recorder.events.size() == 1);
  CHECK_EQ(recorder.events[0].user_data, 7u);
}

TEST(events_longer_than_known_are_read) {
  auto event = flip(31, 7);
  event.base.length += 16; // a later kernel may append fields
  Bytes bytes;
  append(bytes, event);
  bytes.resize(bytes.size() + 16);
  append(bytes, flip(31, 8));
  Recorder recorder;
  CHECK_EQ(parse_events(bytes.data(), bytes.size(), recorder), 2);
}

TEST(events_with_false_lengths_are_refused) {
  for (const uint32_t length : {0u, 7u, 16u, 31u, 33u, UINT32_MAX}) {
    auto event = flip(31, 7);
    event.base.length = length;
    Bytes bytes;
    append(bytes, event);
    Recorder recorder;
    CHECK_EQ(parse_events(bytes.data(), bytes.size(), recorder), -EBADMSG);
    CHECK(recorder.events.empty());
  }
}

TEST(events_truncated_anywhere_read_no_further) {
  Bytes bytes;
  append(bytes, flip(31, 1));
  append(bytes, sequence(2));
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy of that size exactly, so that a sanitizer sees any step beyond it.
    const Bytes part(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    Recorder recorder;
    const int result = parse_events(part.data(), part.size(), recorder);
    CHECK_EQ(recorder.events.size(), size >= 32 ? 1u : 0u);
    // A rest that is shorter than a header is no record yet.
    CHECK_EQ(result, size % 32 < sizeof(drm_event) ? static_cast<int>(size / 32) : -EBADMSG);
  }
}

TEST(events_are_read_without_blocking) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  Recorder recorder;
  CHECK_EQ(read_events(in.get(), recorder), 0);
  const auto event = flip(31, 3);
  REQUIRE(write(out.get(), &event, sizeof event) == sizeof event);
  CHECK_EQ(read_events(in.get(), recorder), 1);
  CHECK_EQ(read_events(in.get(), recorder), 0);
  out.reset();
  CHECK_EQ(read_events(in.get(), recorder), 0); // end of file
  CHECK_EQ(read_events(-1, recorder), -EBADF);
}
