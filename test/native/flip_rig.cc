#include "flip_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "check.h"

namespace scanout::test {

namespace {

constexpr int patience_ms = 5000;
constexpr uint32_t fb_property = 1;

flip::Frame small_frame(uint32_t fb) {
  flip::Frame made;
  made.fb_id = fb;
  made.sequence = fb;
  made.place = {.src_w = 64 << 16, .src_h = 64 << 16, .w = 64, .h = 64};
  return made;
}

} // namespace

flip::PlaneProperties card_properties() {
  return {.fb_id = fb_property,
          .crtc_id = 2,
          .src_x = 3,
          .src_y = 4,
          .src_w = 5,
          .src_h = 6,
          .crtc_x = 7,
          .crtc_y = 8,
          .crtc_w = 9,
          .crtc_h = 10};
}

FakeCard::FakeCard()
    : ioctl_([this](int, unsigned long request, void* argument) { return answer(request, argument); }) {
  int ends[2];
  base::check(pipe2(ends, O_CLOEXEC), "pipe2"); // blocking, as a descriptor from elsewhere may be
  reader_.reset(ends[0]);
  writer_.reset(ends[1]);
}

void FakeCard::set_other(std::function<int(unsigned long, void*)> other) {
  const std::lock_guard lock(mutex_);
  other_ = std::move(other);
}

int FakeCard::answer(unsigned long request, void* argument) {
  if (request != DRM_IOCTL_MODE_ATOMIC) {
    std::function<int(unsigned long, void*)> other;
    {
      const std::lock_guard lock(mutex_);
      other = other_;
    }
    return other ? other(request, argument) : EINVAL;
  }
  const auto& atomic = *static_cast<const drm_mode_atomic*>(argument);
  std::function<int(uint32_t, const drm_mode_atomic&)> verdict;
  {
    const std::lock_guard lock(mutex_);
    flags_.push_back(atomic.flags);
    verdict = verdict_;
  }
  if (verdict) {
    if (const int error = verdict(atomic.flags, atomic); error != 0) return error;
  }
  if ((atomic.flags & DRM_MODE_ATOMIC_TEST_ONLY) != 0) return 0;
  const std::lock_guard lock(mutex_);
  const auto* objects = user_pointer<const uint32_t>(atomic.objs_ptr);
  const auto* counts = user_pointer<const uint32_t>(atomic.count_props_ptr);
  const auto* properties = user_pointer<const uint32_t>(atomic.props_ptr);
  const auto* values = user_pointer<const uint64_t>(atomic.prop_values_ptr);
  for (uint32_t i = 0, next = 0; i < atomic.count_objs; ++i) {
    for (uint32_t k = 0; k < counts[i]; ++k, ++next) {
      if (properties[next] == fb_property) framebuffers_[objects[i]] = values[next];
      if (properties[next] == card_writeback.out_fence_ptr)
        *user_pointer<int32_t>(values[next]) = fence_.release();
    }
  }
  if ((atomic.flags & DRM_MODE_PAGE_FLIP_EVENT) == 0 || atomic.count_objs == 0) return 0;
  const Event event{objects[0] / 100, atomic.user_data};
  hold_ ? held_.push_back(event) : write_event(event);
  return 0;
}

void FakeCard::write_event(const Event& event) {
  const int64_t now = base::now_ns();
  drm_event_vblank record{};
  record.base = {DRM_EVENT_FLIP_COMPLETE, sizeof record};
  record.user_data = event.user_data;
  record.tv_sec = static_cast<uint32_t>(now / 1'000'000'000);
  record.tv_usec = static_cast<uint32_t>(now % 1'000'000'000 / 1000);
  record.sequence = ++sequence_;
  record.crtc_id = event.crtc;
  CHECK_EQ(write(writer_.get(), &record, sizeof record), static_cast<ssize_t>(sizeof record));
}

void FakeCard::hold(bool wanted) {
  const std::lock_guard lock(mutex_);
  hold_ = wanted;
}

void FakeCard::land() {
  const std::lock_guard lock(mutex_);
  for (const Event& event : held_)
    write_event(event);
  held_.clear();
}

void FakeCard::set_verdict(std::function<int(uint32_t, const drm_mode_atomic&)> verdict) {
  const std::lock_guard lock(mutex_);
  verdict_ = std::move(verdict);
}

int FakeCard::commits(uint32_t flags_set) const {
  const std::lock_guard lock(mutex_);
  int count = 0;
  for (const uint32_t flags : flags_)
    count += (flags & flags_set) == flags_set ? 1 : 0;
  return count;
}

uint64_t FakeCard::framebuffer(uint32_t plane) const {
  const std::lock_guard lock(mutex_);
  const auto found = framebuffers_.find(plane);
  return found == framebuffers_.end() ? 0 : found->second;
}

void FakeCard::give_fence(base::UniqueFd fence) {
  const std::lock_guard lock(mutex_);
  fence_ = std::move(fence);
}

int Rig::run(std::unique_ptr<flip::Command> command) {
  flip::Command* const asked = command.get();
  REQUIRE(engine.post(std::move(command)));
  const std::unique_ptr<flip::Command> back = next();
  REQUIRE(back.get() == asked);
  return back->error;
}

std::unique_ptr<flip::Command> Rig::next() {
  const int64_t end = base::now_ns() + int64_t{patience_ms} * 1'000'000;
  while (base::now_ns() < end) {
    if (std::unique_ptr<flip::Command> command = engine.finished()) return command;
    pollfd state{.fd = engine.notify_fd(), .events = POLLIN, .revents = 0};
    poll(&state, 1, 100);
    uint64_t count = 0;
    if ((state.revents & POLLIN) != 0) CHECK_EQ(read(engine.notify_fd(), &count, sizeof count), 8);
  }
  return engine.finished();
}

int Rig::add_crtc(uint32_t id, int64_t period_ns, flip::Policy policy) {
  auto crtc = std::make_unique<flip::Crtc>(engine.host(), id, period_ns, policy);
  return call([crtc = std::move(crtc)](flip::Engine& e) mutable { return e.add_crtc(crtc); });
}

int Rig::attach(flip::Stream& stream, uint32_t crtc, uint32_t plane) {
  return call([&stream, crtc, plane](flip::Engine& e) {
    flip::Crtc& there = *e.crtc(crtc);
    there.attach(stream, static_cast<uint32_t>(there.add_plane(plane, card_properties())));
    return 0;
  });
}

int Rig::leave(flip::Producer& producer) {
  auto command = std::make_unique<flip::LeaveCommand>();
  command->producer = &producer;
  return run(std::move(command));
}

void Rig::settle() {
  for (int i = 0; i < 2; ++i) { // the first may have begun before
    const uint64_t before = engine.heartbeat();
    engine.wake();
    REQUIRE(eventually([&] { return engine.heartbeat() > before; }));
  }
}

std::vector<flip::Notice> Rig::notices() {
  std::vector<flip::Notice> list;
  while (const std::optional<flip::Notice> notice = engine.notice())
    list.push_back(*notice);
  return list;
}

int show(Rig& rig, flip::Producer& producer, uint32_t fb) {
  return rig.call([&producer, fb](flip::Engine&) {
    producer.stream(0).submit(small_frame(fb));
    return 0;
  });
}

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < patience_ms; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

} // namespace scanout::test
