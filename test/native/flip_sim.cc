#include "flip_sim.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "check.h"

namespace scanout::test {

namespace {

constexpr int64_t never = std::numeric_limits<int64_t>::max();

Commit decode(const drm_mode_atomic& atomic, int64_t now) {
  Commit commit{.flags = atomic.flags, .user_data = atomic.user_data, .time_ns = now, .values = {}};
  const auto* objects = user_pointer<const uint32_t>(atomic.objs_ptr);
  const auto* counts = user_pointer<const uint32_t>(atomic.count_props_ptr);
  const auto* properties = user_pointer<const uint32_t>(atomic.props_ptr);
  const auto* values = user_pointer<const uint64_t>(atomic.prop_values_ptr);
  size_t next = 0;
  for (uint32_t i = 0; i < atomic.count_objs; ++i) {
    for (uint32_t k = 0; k < counts[i]; ++k, ++next)
      commit.values.push_back({objects[i], properties[next], values[next]});
  }
  return commit;
}

} // namespace

std::optional<uint64_t> Commit::value(uint32_t object, uint32_t property) const {
  std::optional<uint64_t> found;
  for (const Value& v : values) {
    if (v.object == object && v.property == property) found = v.value;
  }
  return found;
}

bool Commit::names(uint32_t object) const {
  return std::any_of(values.begin(), values.end(), [&](const Value& v) { return v.object == object; });
}

Sim::Sim()
    : grid_ns(clock.now()),
      ioctl_([this](int, unsigned long request, void* argument) { return answer(request, argument); }) {}

flip::Crtc& Sim::add_crtc(uint32_t id, flip::Policy policy, int64_t period) {
  crtcs.push_back(std::make_unique<flip::Crtc>(*this, id, period, policy));
  return *crtcs.back();
}

void Sim::attach(flip::Crtc& crtc, flip::Stream& stream, uint32_t plane) {
  const int index = crtc.add_plane(plane, plane_properties);
  REQUIRE(index >= 0);
  crtc.attach(stream, static_cast<uint32_t>(index));
}

int64_t Sim::next_vblank() const {
  const int64_t since = clock.now() - grid_ns;
  return grid_ns + (since / period_ns + 1) * period_ns;
}

void Sim::run_vblanks(int count) {
  for (int i = 0; i < count; ++i)
    run_until(next_vblank() + 1000);
}

int64_t Sim::next_event() const {
  int64_t next = never;
  for (const Flip& flip : flips_)
    next = std::min(next, flip.time_ns);
  for (const Recovery& recovery : recoveries_)
    next = std::min(next, recovery.time_ns);
  return next;
}

int64_t Sim::service() {
  int64_t next = never;
  for (const auto& crtc : crtcs)
    next = std::min(next, crtc->service(clock.now()));
  return next;
}

void Sim::run_until(int64_t time_ns) {
  int idle_turns =
      0; // that moved nothing: a scheduler that asks again and again for nothing burns a processor
  for (;;) {
    if (before_turn) before_turn();
    deliver_due();
    finish_recoveries();
    const size_t before = commits.size() + records.size();
    const int64_t now = clock.now();
    const int64_t next = service();
    const int64_t due = std::min(next, next_event());
    if (due > time_ns) break;
    idle_turns = due > now || commits.size() + records.size() != before ? 0 : idle_turns + 1;
    if (idle_turns > 100) {
      fail(__FILE__, __LINE__, "the engine turns without moving");
      break;
    }
    if (due > clock.now()) clock.set(due);
  }
  if (clock.now() < time_ns) clock.set(time_ns);
}

std::set<uint32_t> Sim::crtcs_of(const Commit& commit) const {
  std::set<uint32_t> touched;
  for (const Commit::Value& v : commit.values) {
    if (const auto plane = next_screen.find(v.object); plane != next_screen.end() && plane->second.crtc != 0)
      touched.insert(plane->second.crtc);
    if (v.property == plane_properties.crtc_id && v.value != 0)
      touched.insert(static_cast<uint32_t>(v.value));
    if (v.object >= 1000) touched.insert(v.object - 1000); // a writeback connector
  }
  return touched;
}

int Sim::check(const Commit& commit) {
  if (verdict) {
    if (const int error = verdict(commit); error != 0) return error;
  }
  std::map<uint32_t, Scanned> state = next_screen;
  for (const Commit::Value& v : commit.values) {
    if (v.property == plane_properties.fb_id) state[v.object].fb = v.value;
    if (v.property == plane_properties.crtc_id) state[v.object].crtc = static_cast<uint32_t>(v.value);
  }
  for (const auto& [plane, scanned] : state) {
    if ((scanned.fb == 0) != (scanned.crtc == 0)) return EINVAL; // drm_atomic_plane_check
  }
  if (commit.test_only() || !commit.nonblocking()) return 0;
  const std::set<uint32_t> touched = crtcs_of(commit);
  if (touched.empty()) return EINVAL;
  return collides(touched) ? EBUSY : 0;
}

bool Sim::collides(const std::set<uint32_t>& touched) {
  const bool busy = std::any_of(flips_.begin(), flips_.end(), [&](const Flip& flip) {
    return flip.time_ns > clock.now() && touched.contains(flip.crtc);
  });
  collisions += busy ? 1 : 0;
  return busy;
}

int Sim::answer(unsigned long request, void* argument) {
  if (request != DRM_IOCTL_MODE_ATOMIC) return EINVAL;
  Commit commit = decode(*static_cast<drm_mode_atomic*>(argument), clock.now());
  commit.error = check(commit);
  commits.push_back(commit);
  clock.advance(commit.test_only() ? commit_ns / 4 : commit_ns);
  if (commit.error == 0 && !commit.test_only()) apply(commit);
  return commit.error;
}

void Sim::apply(const Commit& commit) {
  const std::set<uint32_t> touched = crtcs_of(commit);
  for (const Commit::Value& v : commit.values) {
    if (v.property == plane_properties.fb_id) next_screen[v.object].fb = v.value;
    if (v.property == plane_properties.crtc_id) next_screen[v.object].crtc = static_cast<uint32_t>(v.value);
  }
  if (!commit.nonblocking()) {
    screen = next_screen;
    return;
  }
  int64_t at = clock.now();
  if (vblanks && (commit.flags & DRM_MODE_PAGE_FLIP_ASYNC) == 0) {
    at = grid_ns + ((clock.now() + late_ns - grid_ns) / period_ns + 1) * period_ns;
  }
  for (const uint32_t crtc : touched)
    flips_.push_back({at, crtc, commit.user_data, static_cast<uint64_t>((at - grid_ns) / period_ns)});
}

void Sim::latch(uint32_t crtc) {
  for (auto& [plane, scanned] : next_screen) {
    if (scanned.crtc == crtc || screen[plane].crtc == crtc) screen[plane] = scanned;
  }
}

void Sim::deliver_due() {
  for (;;) {
    const auto due = std::find_if(flips_.begin(), flips_.end(),
                                  [&](const Flip& flip) { return flip.time_ns <= clock.now(); });
    if (due == flips_.end()) return;
    const Flip flip = *due;
    flips_.erase(due);
    latch(flip.crtc);
    if (deliver && !deliver(flip.crtc, flip.user_data)) continue;
    for (const auto& crtc : crtcs) {
      if (crtc->id() == flip.crtc)
        crtc->on_flip(flip.user_data, flip.time_ns, static_cast<uint32_t>(flip.sequence));
    }
  }
}

void Sim::recover(flip::Crtc& crtc) noexcept {
  recoveries_.push_back({clock.now() + recovery_ns, &crtc});
}

bool Sim::plane_is_elsewhere(uint32_t plane_id, const flip::Crtc& asker) const noexcept {
  return std::any_of(crtcs.begin(), crtcs.end(), [&](const auto& crtc) {
    return crtc.get() != &asker && !crtc->is_virtual() && crtc->has_plane(plane_id);
  });
}

void Sim::finish_recoveries() {
  while (!recoveries_.empty() && recoveries_.front().time_ns <= clock.now()) {
    flip::Crtc& crtc = *recoveries_.front().crtc;
    recoveries_.erase(recoveries_.begin());
    crtc.on_recovered(-crtc.recovery().commit(drm_fd(), 0, 0));
  }
}

size_t Sim::count(flip::Notice::Type type) const {
  return static_cast<size_t>(
      std::count_if(notices.begin(), notices.end(), [&](const auto& n) { return n.type == type; }));
}

std::vector<Commit> Sim::accepted() const {
  std::vector<Commit> list;
  for (const Commit& commit : commits) {
    if (commit.error == 0 && !commit.test_only()) list.push_back(commit);
  }
  return list;
}

bool Sim::in_use(uint64_t fb) const {
  const auto has = [&](const auto& state) {
    return std::any_of(state.begin(), state.end(), [&](const auto& entry) { return entry.second.fb == fb; });
  };
  return fb != 0 && (has(screen) || has(next_screen));
}

// ---- Lender

flip::Frame Lender::frame() {
  flip::Frame frame;
  frame.sequence = ++next_;
  frame.fb_id = static_cast<uint32_t>(frame.sequence);
  frame.buffer = static_cast<uint32_t>(frame.sequence);
  frame.place = {.src_w = 640 << 16, .src_h = 480 << 16, .w = 640, .h = 480};
  if (sim_ != nullptr) frame.kick_ns = frame.ready_ns = sim_->clock.now();
  return frame;
}

uint64_t Lender::submit(flip::Stream& stream, base::UniqueFd fence) {
  const flip::Frame made = frame();
  uses[made.sequence] = 1;
  stream.submit(made, std::move(fence));
  return made.sequence;
}

void Lender::on_presented(flip::Stream& stream, const flip::Frame& frame,
                          const flip::Presented& how) noexcept {
  expect(uses[frame.sequence] > 0, "what is presented is held");
  shown[stream.id()].push_back(frame.sequence);
  presented.push_back(how);
  if (flipped) flipped(stream);
}

void Lender::on_retained(flip::Stream&, const flip::Frame& frame) noexcept {
  expect(uses[frame.sequence] > 0, "what is retained is held");
  ++uses[frame.sequence];
}

void Lender::on_released(flip::Stream&, const flip::Frame& frame, bool was_superseded) noexcept {
  const int left = --uses[frame.sequence];
  expect(left >= 0, "no frame comes back twice");
  if (was_superseded) superseded.push_back(frame.sequence);
  if (left > 0) return;
  released.push_back(frame.sequence);
  // While it is paused, the screen is another master's.
  if (sim_ != nullptr && !sim_->paused_flag)
    expect(!sim_->in_use(frame.fb_id), "nothing on the screen comes back");
}

void Lender::expect(bool holds, const char* rule) {
  if (holds) return;
  ++violations;
  fail(__FILE__, __LINE__, rule);
}

void Lender::on_refused(flip::Stream&, const flip::Frame& frame, int error) noexcept {
  refused.emplace_back(frame.sequence, error);
}

// ---- Display

flip::Stream& Display::stream() {
  const auto id = static_cast<uint32_t>(streams.size());
  return *streams.emplace_back(std::make_unique<flip::Stream>(id, lender, epoll));
}

flip::Stream& Display::show(flip::Crtc& crtc) {
  const uint32_t id = plane(streams.size());
  flip::Stream& made = stream();
  Sim::attach(crtc, made, id);
  return made;
}

uint64_t Display::submit(flip::Stream& stream, flip::Frame frame) {
  lender.uses[frame.sequence] = 1;
  stream.submit(frame);
  return frame.sequence;
}

void Display::keep_flipping() {
  lender.flipped = [this](flip::Stream& stream) { lender.submit(stream); };
}

} // namespace scanout::test
