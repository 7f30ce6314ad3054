#include "shadow_fixture.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

namespace scanout::test {

// ---- desk

bool ShadowDesk::draw(guests::ShadowJob& job) noexcept {
  if (refuses) return false;
  jobs.push_back(&job);
  return true;
}

void ShadowDesk::finish_one(int error, uint32_t failed_layer) {
  REQUIRE(!jobs.empty());
  guests::ShadowJob& job = *jobs.front();
  jobs.pop_front();
  guests::draw(job, composer_);
  CHECK_EQ(job.error, 0);
  drawn.push_back(job.damage);
  if (error != 0) spoil(job);
  job.error = error;
  job.failed_layer = failed_layer;
  job.shadow->on_drawn();
}

// A drawing that fails may have got anywhere.
void ShadowDesk::spoil(const guests::ShadowJob& job) {
  for (const flip::Rect& rect : job.damage.rects()) {
    for (int32_t y = rect.y1; y < rect.y2; ++y) {
      std::byte* row = job.canvas.memory + static_cast<size_t>(y) * job.canvas.stride;
      std::memset(row + rect.x1 * 4, 0x3c, static_cast<size_t>(rect.x2 - rect.x1) * 4);
    }
  }
}

bool ShadowDesk::reads(const pixels::MappedBuffer* buffer) const {
  for (const guests::ShadowJob* job : jobs) {
    for (uint32_t i = 0; i < job->layer_count; ++i) {
      if (job->layers[i].buffer == buffer) return true;
    }
  }
  return false;
}

// ---- guest

ShadowGuest::ShadowGuest(uint32_t stream_id, uint32_t width, uint32_t height, uint32_t fourcc, Sim& sim,
                         ShadowDesk& desk, base::Epoll& epoll)
    : stream(stream_id, *this, epoll), sim_(sim), desk_(desk), format_(*pixels::find_format(fourcc)),
      width_(width), height_(height), random_(stream_id), newest_(size_t{width} * height) {
  for (auto& buffer : buffers)
    buffer.resize(newest_.size());
}

void ShadowGuest::map(guests::Shadow& shadow) {
  for (uint32_t i = 0; i < buffer_count; ++i) {
    auto buffer = std::make_unique<pixels::MappedBuffer>(
        pixels::Picture{.format = &format_,
                        .width = width_,
                        .height = height_,
                        .planes = {reinterpret_cast<const std::byte*>(buffers[i].data())},
                        .strides = {width_ * 4}});
    mapped.push_back(buffer.get());
    CHECK_EQ(shadow.set_buffer(stream.id(), buffer_base + i, buffer, 0), 0);
  }
}

bool ShadowGuest::submit(uint32_t rects) {
  const auto free = std::find(uses.begin(), uses.end(), 0);
  if (free == uses.end()) return false;
  const uint32_t index = static_cast<uint32_t>(free - uses.begin());
  flip::Frame frame;
  frame.damage_count = rects;
  for (uint32_t i = 0; i < std::max(rects, 1u); ++i) {
    flip::Rect rect{0, 0, static_cast<int32_t>(width_), static_cast<int32_t>(height_)};
    if (rects > 0) {
      rect.x1 = static_cast<int32_t>(random_() % width_);
      rect.y1 = static_cast<int32_t>(random_() % height_);
      rect.x2 = std::min(rect.x2, rect.x1 + static_cast<int32_t>(random_() % 20));
      rect.y2 = std::min(rect.y2, rect.y1 + static_cast<int32_t>(random_() % 20));
      frame.damage[i] = rect;
    }
    for (int32_t y = rect.y1; y < rect.y2; ++y) {
      for (int32_t x = rect.x1; x < rect.x2; ++x)
        newest_[static_cast<size_t>(y) * width_ + static_cast<size_t>(x)] = static_cast<uint32_t>(random_());
    }
  }
  buffers[index] = newest_;
  frame.sequence = ++sequence_;
  frame.buffer = buffer_base + index;
  frame.place = place;
  frame.kick_ns = frame.ready_ns = sim_.clock.now();
  pictures_[sequence_] = newest_;
  ++uses[index];
  held[sequence_] = 1;
  last = frame;
  stream.submit(frame);
  return true;
}

void ShadowGuest::hide() {
  flip::Frame frame;
  frame.sequence = ++sequence_;
  frame.has_buffer = false;
  frame.off = true;
  frame.kick_ns = frame.ready_ns = sim_.clock.now();
  held[sequence_] = 1;
  last = frame;
  stream.submit(frame);
}

pixels::Layer ShadowGuest::layer() const {
  return {.picture = {.format = &format_,
                      .width = width_,
                      .height = height_,
                      .planes = {reinterpret_cast<const std::byte*>(shown_.data())},
                      .strides = {width_ * 4}},
          .src_x = shown_place_.src_x,
          .src_y = shown_place_.src_y,
          .src_w = shown_place_.src_w,
          .src_h = shown_place_.src_h,
          .x = shown_place_.x,
          .y = shown_place_.y,
          .w = shown_place_.w,
          .h = shown_place_.h};
}

void ShadowGuest::on_presented(flip::Stream&, const flip::Frame& frame, const flip::Presented& how) noexcept {
  CHECK(held[frame.sequence] > 0);
  CHECK(presented.empty() || frame.sequence > presented.back());
  presented.push_back(frame.sequence);
  flags.push_back(how.flags);
  shown_ = frame.has_buffer && !frame.off ? pictures_[frame.sequence] : std::vector<uint32_t>();
  shown_place_ = frame.place;
}

void ShadowGuest::on_retained(flip::Stream&, const flip::Frame& frame) noexcept {
  CHECK(held[frame.sequence] > 0);
  ++held[frame.sequence];
  if (frame.has_buffer) ++uses[frame.buffer - buffer_base];
}

void ShadowGuest::on_released(flip::Stream&, const flip::Frame& frame, bool was_superseded) noexcept {
  CHECK(--held[frame.sequence] >= 0);
  if (was_superseded) superseded.push_back(frame.sequence);
  if (!frame.has_buffer) return;
  const uint32_t index = frame.buffer - buffer_base;
  CHECK(--uses[index] >= 0);
  if (uses[index] > 0) return;
  // From now on the guest may draw into it.
  CHECK(mapped.empty() || !desk_.reads(mapped[index]));
  std::fill(buffers[index].begin(), buffers[index].end(), 0xdeaddead);
}

void ShadowGuest::on_refused(flip::Stream&, const flip::Frame& frame, int error) noexcept {
  CHECK(held[frame.sequence] > 0);
  refused.emplace_back(frame.sequence, error);
}

// ---- fixture

ShadowFixture::ShadowFixture(const ShadowSetup& chosen)
    : drm(eventfd(0, EFD_CLOEXEC)), engine(drm.get(), 0), setup(chosen), crtc(sim.add_crtc(50)) {
  const uint32_t width = static_cast<uint32_t>(setup.area.x2 - setup.area.x1);
  const uint32_t height = static_cast<uint32_t>(setup.area.y2 - setup.area.y1);
  std::array<guests::ShadowSurface, 2> surfaces;
  for (uint32_t i = 0; i < 2; ++i) {
    memory[i].assign(size_t{width} * height, 0x77777777); // whatever was there before
    surfaces[i] = {900 + i, reinterpret_cast<std::byte*>(memory[i].data()), width * 4, nullptr};
  }
  const guests::ShadowOptions options{99, setup.area, setup.alpha, setup.follows_layer};
  shadow = std::make_unique<guests::Shadow>(options, surfaces, desk, epoll);
  CHECK_EQ(shadow->on_enter(engine), 0);
  entered = true;
  Sim::attach(crtc, shadow->stream(0), 31);
}

ShadowFixture::~ShadowFixture() {
  engine.stop();
}

flip::Placement ShadowFixture::at(int32_t x, int32_t y, uint32_t width, uint32_t height) {
  return {.src_w = width << 16, .src_h = height << 16, .x = x, .y = y, .w = width, .h = height};
}

ShadowGuest& ShadowFixture::guest(uint32_t stream_id, const flip::Placement& place, int32_t z,
                                  uint32_t fourcc) {
  guests.push_back(std::make_unique<ShadowGuest>(stream_id, place.src_w >> 16, place.src_h >> 16, fourcc, sim,
                                                 *desk, epoll));
  ShadowGuest& made = *guests.back();
  made.place = place;
  made.map(*shadow);
  CHECK_EQ(shadow->attach(made.stream, z), 0);
  return made;
}

void ShadowFixture::run(int milliseconds) {
  for (int i = 0; i < milliseconds; ++i) {
    sim.run_for(ms);
    for (guests::ShadowJob* job : desk->jobs)
      started_.try_emplace(job, sim.clock.now());
    while (!desk->jobs.empty() && sim.clock.now() >= started_[desk->jobs.front()] + draw_ms * ms) {
      started_.erase(desk->jobs.front());
      desk->finish_one();
      check_own_damage();
    }
  }
}

// A display that is told of damage is sent no other pixels.
void ShadowFixture::check_own_damage() {
  const flip::Frame* frame = shadow->stream(0).pending();
  if (frame == nullptr || frame->off || frame->damage_count == 0) return;
  if (scanned() < 900 || scanned() == frame->fb_id) return;
  const std::vector<uint32_t>& shown = memory[scanned() - 900];
  const std::vector<uint32_t>& next = memory[frame->fb_id - 900];
  const int32_t width = setup.area.x2 - setup.area.x1;
  bool missing = false;
  for (size_t i = 0; i < shown.size(); ++i) {
    if (((shown[i] ^ next[i]) & 0xffffff) == 0) continue;
    const int32_t x = static_cast<int32_t>(i) % width;
    const int32_t y = static_cast<int32_t>(i) / width;
    bool told = false;
    for (uint32_t k = 0; k < frame->damage_count; ++k) {
      const flip::Rect& rect = frame->damage[k];
      told = told || (x >= rect.x1 && x < rect.x2 && y >= rect.y1 && y < rect.y2);
    }
    missing = missing || !told;
  }
  CHECK(!missing);
}

void ShadowFixture::relight() {
  crtc.on_off();
  sim.screen[31] = sim.next_screen[31] = {};
  run(3);
  crtc.on_modeset(30, period);
}

void ShadowFixture::vblank() {
  while (!desk->jobs.empty())
    desk->finish_one();
  sim.run_vblanks();
}

void ShadowFixture::check_screen() {
  const uint32_t width = static_cast<uint32_t>(setup.area.x2 - setup.area.x1);
  const uint32_t height = static_cast<uint32_t>(setup.area.y2 - setup.area.y1);
  REQUIRE(scanned() == 900 || scanned() == 901);
  std::vector<pixels::Layer> layers;
  for (const auto& guest : guests) {
    if (guest->shown_pixels().empty()) continue;
    layers.push_back(guest->layer());
    layers.back().x -= setup.area.x1;
    layers.back().y -= setup.area.y1;
  }
  std::vector<uint32_t> wanted(size_t{width} * height, 0);
  pixels::Composer composer;
  composer.draw({reinterpret_cast<std::byte*>(wanted.data()), width * 4, width, height, setup.alpha}, layers,
                pixels::Region(pixels::Box{0, 0, static_cast<int32_t>(width), static_cast<int32_t>(height)}));
  const std::vector<uint32_t>& got = memory[scanned() - 900];
  const uint32_t mask = setup.alpha ? 0xffffffff : 0xffffff;
  const auto differs = [&](uint32_t a, uint32_t b) { return ((a ^ b) & mask) != 0; };
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i)
    wrong += differs(got[i], wanted[i]) ? 1 : 0;
  CHECK_EQ(wrong, 0u);
}

} // namespace scanout::test
