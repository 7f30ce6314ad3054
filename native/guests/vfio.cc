#include "guests/vfio.h"

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "guests/socket.h" // clip
#include "guests/vfio_info.h"

namespace scanout::guests {

namespace {

// Half a second of them at 60 Hz: then the device is taken for gone.
constexpr uint32_t most_failures = 30;

// A device that tells of its flips is asked now and then all the same: whether it is there, and for an irq
// that was lost.
constexpr int64_t irq_patience_ns = 500'000'000;

// Where a picture that is smaller than its area begins, to stand in the middle of it.
int32_t middle(int32_t begin, int32_t end, uint32_t size) noexcept {
  return begin + static_cast<int32_t>(std::max<int64_t>(0, int64_t{end} - begin - size) / 2);
}

bool is_gone(int error) noexcept {
  return error == ENODEV || error == ENXIO || error == EBADF || error == ENOTTY;
}

} // namespace

VfioGuest::VfioGuest(const Options& options, std::shared_ptr<const VfioDevice> device, flip::Engine& engine)
    : options_(options), device_(std::move(device)), engine_(engine),
      timer_(base::check(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create")),
      news_event_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")), clock_(options.period_ns),
      margin_(options.period_ns) {
  constexpr std::array<uint32_t, vfio_planes> types{vfio_primary, vfio_cursor};
  for (uint32_t i = 0; i < options.plane_count; ++i) {
    planes_[i].type = types[i];
    planes_[i].stream = std::make_unique<flip::Stream>(options.first_stream + i, *this, engine.epoll());
  }
  find_irq();
}

// Nobody tells of what is drawn into a region.
void VfioGuest::find_irq() {
  if (options_.kind == VfioPlaneKind::region) return;
  try {
    const std::optional<uint32_t> index = device_->display_irq();
    if (!index) return;
    irq_event_.reset(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
    irq_error_ = set_vfio_irq(device_->fd(), *index, irq_event_.get());
    if (irq_error_ == 0) irq_ = index;
  } catch (const base::SystemError& error) {
    irq_error_ = error.error();
  }
}

VfioGuest::~VfioGuest() {
  if (irq_) set_vfio_irq(device_->fd(), *irq_, -1);
  // The engine was stopped before the buffers were free.
  for (Buffer& buffer : buffers_)
    delete std::exchange(buffer.retire, nullptr);
}

int VfioGuest::on_enter(flip::Engine& engine) noexcept {
  int error = engine.epoll().try_add(timer_.get(), EPOLLIN, this);
  if (error == 0 && irq_) {
    error = engine.epoll().try_add(irq_event_.get(), EPOLLIN | EPOLLET, &irq_entry_);
    if (error != 0) engine.epoll().remove(timer_.get());
  }
  if (error == 0) arm(base::now_ns());
  return error;
}

void VfioGuest::on_leave(flip::Engine& engine) noexcept {
  engine.epoll().remove(timer_.get());
  if (irq_) engine.epoll().remove(irq_event_.get());
  if (region_) region_->leave(engine.epoll());
}

// ---- what the JS thread says

void VfioGuest::set_area(const flip::Rect& area, uint32_t crtc_id, int64_t period_ns) noexcept {
  area_ = area;
  crtc_id_ = crtc_id;
  if (period_ns != clock_.period_ns()) {
    clock_ = flip::VblankClock(period_ns);
    margin_ = flip::Margin(period_ns);
  }
  for (Plane& plane : planes_)
    plane.fresh = true;
  soon_ = true;
  arm(base::now_ns());
}

int VfioGuest::add_buffer(uint32_t index, uint32_t slot, const VfioPlane& plane, uint32_t fb_id,
                          kms::ImplicitFences fences) noexcept {
  if (slot >= vfio_buffers || index >= options_.plane_count) return EINVAL;
  Buffer& buffer = buffers_[slot];
  if (buffer.registered || buffer.uses > 0) return EEXIST;
  buffer = {.registered = true, .index = index, .plane = plane, .fb_id = fb_id, .fences = std::move(fences)};
  ask_soon();
  return 0;
}

void VfioGuest::retire_buffer(uint32_t slot, flip::Command& command) noexcept {
  Buffer& buffer = buffers_[slot];
  if (!buffer.registered || buffer.retire != nullptr) {
    command.error = ENOENT;
    engine_.finish(command);
    return;
  }
  buffer.registered = false;
  Plane& plane = planes_[buffer.index];
  plane.stream->drop_buffer(slot); // what is on the screen stays
  if (plane.slot == slot) plane.fresh = true;
  plane.announced = {}; // it may come again
  buffer.fences = {};
  ask_soon();
  if (buffer.uses == 0) {
    engine_.finish(command);
  } else {
    buffer.retire = &command;
  }
}

int VfioGuest::set_region(std::unique_ptr<VfioRegion>& region) noexcept {
  const int error = region->enter(engine_.epoll());
  if (error != 0) return -error;
  if (region_) region_->leave(engine_.epoll());
  std::swap(region_, region);
  former_canvas_ = -1;
  planes_[0].announced = {};
  return 0;
}

// ---- the question

// As late as the answer can still be committed: a CRTC that commits at a deadline of its own wants it before
// that.
void VfioGuest::arm(int64_t now) noexcept {
  if (gone_) return;
  if (waits_for_irq()) {
    arm_at(now + irq_patience_ns);
    return;
  }
  const flip::CrtcStats* crtc = crtc_id_ == 0 ? nullptr : engine_.stats(crtc_id_);
  const int64_t theirs = crtc == nullptr ? 0 : crtc->margin_ns.load(std::memory_order_relaxed);
  const int64_t lead = std::min(margin_.ns() + theirs, clock_.period_ns() - 1);
  int64_t due = clock_.next_after(now) - lead;
  // That one is over, or it was for this one that we are awake.
  while (due <= now + clock_.period_ns() / 4)
    due += clock_.period_ns();
  arm_at(due);
}

void VfioGuest::arm_at(int64_t due) noexcept {
  const itimerspec at{.it_interval = {},
                      .it_value = {.tv_sec = due / 1'000'000'000, .tv_nsec = due % 1'000'000'000}};
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
}

void VfioGuest::on_ready(uint32_t) noexcept {
  uint64_t count = 0;
  if (read(timer_.get(), &count, sizeof count) < 0) return;
  ask(base::now_ns());
}

// The eventfd is edge-triggered and never read.
void VfioGuest::on_flip() noexcept {
  const int64_t now = base::now_ns();
  // A guest that flips without pause is asked once a refresh, like one that is not heard.
  if (now - asked_at_ns_ >= clock_.period_ns() / 4) {
    ask(now);
  } else {
    ask_soon();
  }
}

void VfioGuest::ask(int64_t now) noexcept {
  soon_ = false;
  asked_at_ns_ = now;
  for (uint32_t i = 0; i < options_.plane_count && !gone_; ++i)
    look(i, now);
  asked_ns_ = base::now_ns() - now;
  arm(now);
}

void VfioGuest::ask_soon() noexcept {
  if (!irq_ || soon_) return; // at the time that is set
  soon_ = true;
  arm(base::now_ns());
}

// What is copied is drawn into without a flip; a question that failed is asked again.
bool VfioGuest::waits_for_irq() const noexcept {
  if (!irq_ || soon_) return false;
  return std::none_of(planes_.begin(), planes_.end(),
                      [](const Plane& plane) { return plane.copied || plane.failures > 0; });
}

void VfioGuest::look(uint32_t index, int64_t now) noexcept {
  Plane& plane = planes_[index];
  stats_[index].queries.fetch_add(1, std::memory_order_relaxed);
  VfioPlane seen;
  const int error = query_plane(device_->fd(), plane.type, options_.kind, seen);
  if (error != 0) {
    failed(index, error);
    return;
  }
  plane.failures = 0;
  if (seen.fourcc == 0) {
    hide(plane, now);
    return;
  }
  if (options_.kind == VfioPlaneKind::region && index == 0) {
    look_at_region(seen);
    return;
  }
  const int32_t slot = find(index, seen);
  if (slot < 0) {
    announce(index, seen);
    return;
  }
  const bool same = plane.shown && plane.slot == static_cast<uint32_t>(slot) && plane.newest == seen;
  if (same && !plane.fresh && !plane.copied) return;
  // A copy that waits for its turn would be of the same pixels.
  if (same && plane.stream->newest() != nullptr) return;
  show(index, static_cast<uint32_t>(slot), seen, nullptr, now);
}

void VfioGuest::look_at_region(const VfioPlane& seen) noexcept {
  if (region_ == nullptr || !region_->plane().same_buffer(seen)) {
    announce(0, seen);
    return;
  }
  if (region_->busy() || planes_[0].stream->newest() != nullptr) return;
  for (uint32_t canvas = 0; canvas < vfio_canvases; ++canvas) {
    const Buffer& buffer = buffers_[region_->slot(canvas)];
    if (!buffer.registered || buffer.uses > 0 || static_cast<int32_t>(canvas) == former_canvas_) continue;
    region_->copy(canvas, planes_[0].fresh ? -1 : former_canvas_);
    return;
  }
}

void VfioGuest::on_copied(uint32_t canvas, const flip::Rect& rows, int error) noexcept {
  if (error != 0) {
    failed(0, error);
    return;
  }
  if (rows.y1 == rows.y2 || gone_) return;
  former_canvas_ = static_cast<int32_t>(canvas);
  show(0, region_->slot(canvas), region_->plane(), &rows, base::now_ns());
}

void VfioGuest::hide(Plane& plane, int64_t now) noexcept {
  if (!plane.shown) return;
  plane.shown = false;
  flip::Frame frame;
  frame.has_buffer = false;
  frame.off = true;
  frame.sequence = ++plane.sequence;
  frame.kick_ns = frame.ready_ns = now;
  plane.stream->submit(frame);
}

void VfioGuest::show(uint32_t index, uint32_t slot, const VfioPlane& seen, const flip::Rect* damage,
                     int64_t now) noexcept {
  Plane& plane = planes_[index];
  Buffer& buffer = buffers_[slot];
  if (index == 0 && (plane.newest.width != seen.width || plane.newest.height != seen.height)) {
    // The pointer is where it was in a picture that stands elsewhere now.
    planes_[1].fresh = true;
    base_width_ = seen.width;
    base_height_ = seen.height;
  }
  flip::Frame frame;
  frame.sequence = ++plane.sequence;
  frame.buffer = slot;
  frame.fb_id = buffer.fb_id;
  frame.direct = options_.kind == VfioPlaneKind::dma_buf;
  frame.kick_ns = frame.ready_ns = now;
  frame.place = {.src_w = seen.width << 16,
                 .src_h = seen.height << 16,
                 .x = middle(area_.x1, area_.x2, base_width_) + seen.x,
                 .y = middle(area_.y1, area_.y2, base_height_) + seen.y,
                 .w = seen.width,
                 .h = seen.height,
                 .hot_x = seen.hot_x,
                 .hot_y = seen.hot_y};
  frame.off = !clip(frame.place, area_);
  if (damage != nullptr && plane.shown && !plane.fresh) {
    frame.damage[0] = *damage;
    frame.damage_count = 1;
  }
  plane.shown = true;
  plane.fresh = false;
  plane.slot = slot;
  plane.newest = seen;
  ++buffer.uses;
  stats_[index].taken.fetch_add(1, std::memory_order_relaxed);
  stats_[index].newest_buffer.store(static_cast<int32_t>(slot), std::memory_order_relaxed);
  plane.stream->submit(frame, buffer.fences.pending({}));
}

int32_t VfioGuest::find(uint32_t index, const VfioPlane& seen) const noexcept {
  for (uint32_t slot = 0; slot < vfio_buffers; ++slot) {
    const Buffer& buffer = buffers_[slot];
    if (buffer.registered && buffer.index == index && buffer.plane.same_buffer(seen))
      return static_cast<int32_t>(slot);
  }
  return -1;
}

void VfioGuest::announce(uint32_t index, const VfioPlane& seen) noexcept {
  Plane& plane = planes_[index];
  if (plane.announced.fourcc != 0 && plane.announced.same_buffer(seen)) return;
  plane.announced = seen;
  tell({VfioNews::Type::unknown, index, 0, seen});
}

void VfioGuest::failed(uint32_t index, int error) noexcept {
  Plane& plane = planes_[index];
  ++plane.failures;
  if (is_gone(error) || plane.failures >= most_failures) {
    gone_ = true;
    tell({VfioNews::Type::gone, index, error, {}});
  } else if (std::has_single_bit(plane.failures) && plane.failures > 1) {
    // One alone is how some drivers take a new mode in.
    tell({VfioNews::Type::failed, index, error, {}});
  }
}

void VfioGuest::tell(const VfioNews& news) noexcept {
  if (!news_.push(news)) planes_[news.index].announced = {}; // again at the next vblank
  flip::signal_own(news_event_.get());
}

// ---- what came of frames

void VfioGuest::on_presented(flip::Stream& stream, const flip::Frame&, const flip::Presented& how) noexcept {
  VfioStats& stats = stats_[index_of(stream)];
  stats.flips.fetch_add(1, std::memory_order_relaxed);
  stats.missed.fetch_add(how.missed, std::memory_order_relaxed);
  constexpr uint32_t uncopied = flip::presented_direct | flip::presented_synthetic;
  if ((how.flags & uncopied) == 0) stats.copied.fetch_add(1, std::memory_order_relaxed);
  if ((how.flags & (flip::presented_vsync | flip::presented_synthetic)) == 0) return;
  clock_.observe(how.time_ns, how.vblank);
  how.missed > 0 ? margin_.miss(asked_ns_) : margin_.hit(asked_ns_);
  arm(base::now_ns());
}

void VfioGuest::on_retained(flip::Stream&, const flip::Frame& frame) noexcept {
  if (frame.has_buffer) ++buffers_[frame.buffer].uses;
}

void VfioGuest::on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept {
  const uint32_t index = index_of(stream);
  if (superseded && frame.sequence != planes_[index].sequence)
    stats_[index].superseded.fetch_add(1, std::memory_order_relaxed);
  if (!frame.has_buffer) return;
  Buffer& buffer = buffers_[frame.buffer];
  if (--buffer.uses > 0 || buffer.retire == nullptr) return;
  engine_.finish(*std::exchange(buffer.retire, nullptr));
}

void VfioGuest::on_refused(flip::Stream& stream, const flip::Frame&, int) noexcept {
  stats_[index_of(stream)].refused.fetch_add(1, std::memory_order_relaxed);
}

void VfioGuest::on_unrouted(flip::Stream& stream) noexcept {
  const flip::Frame& frame = *stream.pending();
  engine_.tell({flip::Notice::Type::unrouted, 0, 0, stream.id(), 0, 1, frame.sequence});
}

uint32_t VfioGuest::index_of(const flip::Stream& stream) const noexcept {
  return stream.id() - planes_[0].stream->id();
}

} // namespace scanout::guests
