#include "guests/shadow_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/clock.h"
#include "base/error.h"
#include "guests/shadow.h"

namespace scanout::guests {

namespace {

// A writer's fence signals within its frame; one that takes this long may never do so.
constexpr int longest_wait_ms = 500;

void draw_layers(ShadowJob& job, pixels::Composer& composer) {
  std::array<pixels::Reading, max_shadow_layers> readings;
  std::array<pixels::Layer, max_shadow_layers> layers;
  for (uint32_t i = 0; i < job.layer_count; ++i) {
    job.failed_layer = job.layers[i].index;
    readings[i] = pixels::Reading(*job.layers[i].buffer, longest_wait_ms);
    layers[i] = to_pixels(*job.layers[i].buffer, job.layers[i].place);
    for (const flip::Rect& rect : job.damage.rects()) {
      const flip::Rect part = source_of(rect, job.layers[i].place);
      job.layers[i].buffer->refresh({part.x1, part.y1, part.x2, part.y2});
    }
  }
  job.failed_layer = max_shadow_layers;
  pixels::Region region;
  for (const flip::Rect& rect : job.damage.rects())
    region.add({rect.x1, rect.y1, rect.x2, rect.y2});
  composer.draw(job.canvas, {layers.data(), job.layer_count}, region);
}

} // namespace

pixels::Layer to_pixels(const pixels::MappedBuffer& buffer, const flip::Placement& place) noexcept {
  pixels::Picture picture = buffer.picture();
  picture.bottom_up = place.reflect_y;
  // A layer's source is where it is in the upright picture.
  const uint64_t end = uint64_t{place.src_y} + place.src_h;
  const uint64_t above = std::max(uint64_t{picture.height} << 16, end) - end;
  return {.picture = picture,
          .src_x = place.src_x,
          .src_y = place.reflect_y ? static_cast<uint32_t>(above) : place.src_y,
          .src_w = place.src_w,
          .src_h = place.src_h,
          .x = place.x,
          .y = place.y,
          .w = place.w,
          .h = place.h};
}

void draw(ShadowJob& job, pixels::Composer& composer) noexcept {
  job.error = 0;
  job.began_ns = base::now_ns();
  try {
    draw_layers(job, composer);
  } catch (const base::SystemError& error) {
    job.error = error.error();
  } catch (const std::bad_alloc&) {
    job.error = ENOMEM;
  }
  job.done_ns = base::now_ns();
}

ShadowThread::ShadowThread(flip::Engine& engine)
    : engine_(engine), wake_(base::check(eventfd(0, EFD_CLOEXEC), "eventfd")),
      done_event_(base::check(eventfd(0, EFD_CLOEXEC), "eventfd")),
      thread_("scanoutd-copy", 0, [this] { run(); }) {}

void ShadowThread::stop() noexcept {
  stop_ = true;
  flip::signal_own(wake_.get());
  thread_.join();
}

int ShadowThread::enter() noexcept {
  // Each drawing has a place in both rings, so that neither can be full.
  if (users_ == 64) return ENOSPC;
  // Edge-triggered and never read.
  const int error = users_ == 0 ? -engine_.epoll().try_add(done_event_.get(), EPOLLIN | EPOLLET, this) : 0;
  if (error == 0) ++users_;
  return error;
}

void ShadowThread::leave() noexcept {
  if (--users_ == 0) engine_.epoll().remove(done_event_.get());
}

bool ShadowThread::draw(ShadowJob& job) noexcept {
  if (!jobs_.push(&job)) return false;
  flip::signal_own(wake_.get());
  return true;
}

void ShadowThread::on_ready(uint32_t) noexcept {
  while (const std::optional<ShadowJob*> job = done_.pop())
    (*job)->shadow->on_drawn();
}

void ShadowThread::run() noexcept {
  while (!stop_) {
    uint64_t count = 0;
    if (read(wake_.get(), &count, sizeof count) < 0 && errno != EINTR) return;
    while (const std::optional<ShadowJob*> job = stop_ ? std::nullopt : jobs_.pop()) {
      guests::draw(**job, composer_);
      done_.push(*job);
      flip::signal_own(done_event_.get());
    }
  }
}

} // namespace scanout::guests
