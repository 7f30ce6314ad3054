// The picture: buffers and what is flipped when.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "guests/qemu_listener.h"
#include "guests/qemu_mirror.h"

namespace scanout::guests {

namespace {

using Kind = QemuLayout::Kind;

// A scanout that no update follows is shown even so: nothing is about to be drawn into it.
constexpr int64_t settle_ns = 100'000'000;
// A Disable that nothing follows for so long is believed.
constexpr int64_t quiet_ns = 1'000'000'000;
// Imported dma-bufs of a console, beyond which those that were not shown for longest are let go. Guests have
// two or three, QEMU itself keeps five of a vGPU's; firmware and desktop make new ones with every mode.
constexpr uint32_t most_kept = 6;
// Imports that the JS thread is asked for at one time.
constexpr uint32_t most_wanted = 8;

flip::Rect clipped(const QemuCall& call, const QemuLayout& layout) noexcept {
  const auto axis = [](int64_t at, int64_t size, int64_t most) {
    const int64_t begin = std::clamp<int64_t>(at, 0, most);
    const int64_t end = std::clamp<int64_t>(at + size, 0, most);
    return std::pair{static_cast<int32_t>(begin), static_cast<int32_t>(end)};
  };
  const auto [x1, x2] = axis(call.x, call.w, layout.width);
  auto [y1, y2] = axis(call.y, call.h, layout.height);
  if (layout.y0_top != 0) {
    const auto height = static_cast<int32_t>(layout.height);
    y1 = std::exchange(y2, height - y1);
    y1 = height - y1;
  }
  const auto x = static_cast<int32_t>(layout.x);
  const auto y = static_cast<int32_t>(layout.y);
  return {x1 + x, y1 + y, x2 + x, y2 + y};
}

} // namespace

// ---- scanouts

[[gnu::hot]] bool QemuListener::identify(Identity& identity) noexcept {
  QemuFds& fds = reader_.fds();
  for (uint32_t i = 0; i < fds.count(); ++i) {
    // Whatever it is, nobody is asked but the kernel: a file system in user space could let us wait.
    struct statx file{};
    if (statx(fds.at(i), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &file) < 0) return false;
    identity.device = uint64_t{file.stx_dev_major} << 32 | file.stx_dev_minor;
    identity.inode = identity.inode * 0x9e3779b97f4a7c15 + file.stx_ino;
  }
  return true;
}

[[gnu::hot]] int QemuListener::find(const QemuLayout& layout, const Identity& identity) const noexcept {
  const std::span<const Slot> used = slots();
  const auto found = std::find_if(used.begin(), used.end(), [&](const Slot& slot) {
    return slot.state != Slot::State::free && slot.state != Slot::State::idle && slot.layout == layout &&
           slot.identity == identity;
  });
  return found == used.end() ? -1 : static_cast<int>(found - used.begin());
}

// Asks the JS thread for a buffer of the descriptors that came. -1: there is no room at the moment.
int QemuListener::want(const QemuLayout& layout, const Identity& identity) noexcept {
  const auto is_wanted = [](const Slot& slot) { return slot.state == Slot::State::wanted; };
  const auto is_free = [](const Slot& slot) { return slot.state == Slot::State::free; };
  const auto free = std::find_if(slots_.begin(), slots_.end(), is_free);
  if (free == slots_.end() || std::count_if(slots_.begin(), slots_.end(), is_wanted) >= most_wanted)
    return -1;
  const auto slot = static_cast<uint32_t>(free - slots_.begin());
  slot_end_ = std::max(slot_end_, slot + 1);
  *free = {.state = Slot::State::wanted, .layout = layout, .identity = identity};
  QemuEvent event{};
  event.type = QemuEvent::Type::wanted;
  event.slot = slot;
  event.layout = layout;
  QemuFds& fds = reader_.fds();
  event.fd_count = std::min(fds.count(), max_qemu_planes);
  for (uint32_t i = 0; i < event.fd_count; ++i)
    event.fds[i] = fds.take(i);
  stats_.imports.fetch_add(1, std::memory_order_relaxed);
  tell(event);
  return static_cast<int>(slot);
}

[[gnu::hot]] void QemuListener::choose(uint32_t slot) noexcept {
  current_ = static_cast<int>(slot);
  slots_[slot].shown_at = ++scanouts_;
  fresh_ = true;
  hide_at_ns_ = 0;
  show_at_ns_ = now_ns_ + settle_ns;
  arm(show_at_ns_);
  sweep();
}

[[gnu::hot]] bool QemuListener::begin_dmabuf(const QemuCall& call) noexcept {
  Identity identity;
  if (!identify(identity)) {
    end(QemuFault::bad_fds, 0);
    return true;
  }
  int slot = find(call.layout, identity);
  if (slot < 0) slot = want(call.layout, identity);
  if (slot < 0) return false;
  choose(static_cast<uint32_t>(slot));
  return true;
}

bool QemuListener::begin_map(const QemuCall& call) noexcept {
  Identity identity;
  // Checked now, for the answer says what comes of it (QEMU is known to send its stdin).
  map_refused_ = !is_qemu_map(reader_.fds().at(0), call.layout) || !identify(identity);
  if (map_refused_) {
    stats_.untimely.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  int slot = find(call.layout, identity);
  if (slot < 0) slot = want(call.layout, identity);
  if (slot < 0) return false;
  choose(static_cast<uint32_t>(slot));
  return true;
}

bool QemuListener::begin_scanout(const QemuCall& call) noexcept {
  receiving_ = find(call.layout, {});
  if (receiving_ < 0) {
    want(call.layout, {});
    return false;
  }
  const Slot& slot = slots_[static_cast<size_t>(receiving_)];
  if (slot.state == Slot::State::wanted) return false;
  if (slot.state == Slot::State::failed) {
    receiving_ = -1;
    return true;
  }
  const pixels::Picture& picture = slot.mirror->picture();
  const uint32_t row = pixels::plane_size(*picture.format, 0, picture.width, picture.height).min_stride;
  array_.begin(call.data_bytes, call.layout.strides[0],
               {slot.mirror->memory(), slot.mirror->stride(), row, picture.height});
  return true;
}

void QemuListener::end_scanout() noexcept {
  if (receiving_ < 0) return;
  choose(static_cast<uint32_t>(std::exchange(receiving_, -1)));
  flip(nullptr);
}

void QemuListener::begin_update(const QemuCall& call) noexcept {
  receiving_ = -1;
  const Slot* slot = current_ < 0 ? nullptr : &slots_[static_cast<size_t>(current_)];
  // Of a picture that is not there (any more): nothing is wrong with that, and nothing to be done about it.
  const bool timely = slot != nullptr && slot->layout.kind == Kind::pixels && slot->mirror != nullptr &&
                      slot->layout.fourcc == call.layout.fourcc &&
                      call.x + call.w <= static_cast<int32_t>(slot->layout.width) &&
                      call.y + call.h <= static_cast<int32_t>(slot->layout.height);
  if (!timely) {
    stats_.untimely.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  receiving_ = current_;
  const pixels::Format& format = *slot->mirror->picture().format;
  const size_t pixel = format.planes[0].block_bytes;
  std::byte* at = slot->mirror->memory() + static_cast<size_t>(call.y) * slot->mirror->stride() +
                  static_cast<size_t>(call.x) * pixel;
  array_.begin(call.data_bytes, call.layout.strides[0],
               {at, slot->mirror->stride(), static_cast<uint32_t>(static_cast<size_t>(call.w) * pixel),
                call.layout.height});
}

void QemuListener::end_update(const QemuCall& call) noexcept {
  if (std::exchange(receiving_, -1) >= 0) update(call);
}

// ---- flips

// What was not said since the newest scanout, an update means the one before it.
[[gnu::hot]] void QemuListener::update(const QemuCall& call) noexcept {
  hide_at_ns_ = 0;
  if (current_ < 0) return;
  const flip::Rect damage = clipped(call, slots_[static_cast<size_t>(current_)].layout);
  flip(damage.x1 < damage.x2 && damage.y1 < damage.y2 ? &damage : nullptr);
}

[[gnu::hot]] void QemuListener::flip(const flip::Rect* damage) noexcept {
  fresh_ = false;
  if (current_ < 0) return;
  Slot& slot = slots_[static_cast<size_t>(current_)];
  if (slot.state == Slot::State::ready) submit(static_cast<uint32_t>(current_), damage, now_ns_);
  if (slot.state == Slot::State::wanted) slot.flip_wanted = true;
}

// QEMU says so with nearly every flip, when it lets the former buffer go (ui/dbus-listener.c,
// dbus_release_dmabuf), and goes on with the flip's update at once.
void QemuListener::disable() noexcept {
  stats_.disables.fetch_add(1, std::memory_order_relaxed);
  if (current_ < 0 || hidden_) return;
  hide_at_ns_ = now_ns_ + quiet_ns;
  arm(hide_at_ns_);
}

// The plane goes off and is planned anew: on a primary plane the idle picture takes its place. The next
// update brings the picture back.
void QemuListener::hide(int64_t now) noexcept {
  hide_at_ns_ = 0;
  hidden_ = true;
  flip::Frame frame;
  frame.has_buffer = false;
  frame.off = true;
  frame.sequence = ++sequence_;
  frame.kick_ns = frame.ready_ns = now;
  plane_stats_[0].taken.fetch_add(1, std::memory_order_relaxed);
  picture_.submit(frame);
  engine_.tell({flip::Notice::Type::unrouted, 0, 0, picture_.id(), 0, 1, frame.sequence});
  point();
}

[[gnu::hot]] void QemuListener::submit(uint32_t index, const flip::Rect* damage, int64_t kick_ns) noexcept {
  Slot& slot = slots_[index];
  if (std::exchange(hidden_, false)) point();
  flip::Frame frame;
  frame.fb_id = slot.fb_id;
  frame.buffer = index;
  frame.sequence = ++sequence_;
  frame.place = place_of(slot.layout);
  frame.off = frame.place.w == 0 || frame.place.h == 0;
  frame.kick_ns = frame.ready_ns = kick_ns;
  if (damage != nullptr) frame.damage[frame.damage_count++] = *damage;
  ++slot.uses;
  plane_stats_[0].taken.fetch_add(1, std::memory_order_relaxed);
  plane_stats_[0].newest_buffer.store(static_cast<int32_t>(index), std::memory_order_relaxed);
  picture_.submit(frame, slot.fences.pending({}));
}

[[gnu::hot]] flip::Placement QemuListener::place_of(const QemuLayout& layout) const noexcept {
  const uint64_t width = static_cast<uint64_t>(std::max(area_.x2 - area_.x1, 0));
  const uint64_t height = static_cast<uint64_t>(std::max(area_.y2 - area_.y1, 0));
  uint64_t w = layout.width;
  uint64_t h = layout.height;
  flip::Placement place;
  if (scale_ == QemuScale::fit && w > 0 && h > 0) {
    // As large as it can be with its proportions kept.
    const bool wide = w * height >= h * width;
    w = wide ? width : (layout.width * height + layout.height / 2) / layout.height;
    h = wide ? (layout.height * width + layout.width / 2) / layout.width : height;
    place.src_w = layout.width << 16;
    place.src_h = layout.height << 16;
  } else {
    w = std::min(w, width);
    h = std::min(h, height);
    place.src_w = static_cast<uint32_t>(w) << 16;
    place.src_h = static_cast<uint32_t>(h) << 16;
  }
  place.reflect_y = layout.y0_top != 0;
  place.src_x = layout.x << 16;
  // The upper end of the picture is at the end of memory when its first row there is the lowest.
  place.src_y = (layout.y << 16) + (place.reflect_y ? (layout.height << 16) - place.src_h : 0);
  place.w = static_cast<uint32_t>(w);
  place.h = static_cast<uint32_t>(h);
  place.x = area_.x1 + static_cast<int32_t>((width - w) / 2);
  place.y = area_.y1 + static_cast<int32_t>((height - h) / 2);
  return place;
}

// ---- what the JS thread answers

int QemuListener::ready(uint32_t index, uint32_t fb_id, std::shared_ptr<QemuMirror>& mirror,
                        kms::ImplicitFences& fences) noexcept {
  if (index >= qemu_slots || slots_[index].state != Slot::State::wanted) return ENOENT;
  Slot& slot = slots_[index];
  slot.state = Slot::State::ready;
  slot.fb_id = fb_id;
  slot.mirror = std::move(mirror);
  slot.fences = std::exchange(fences, {});
  if (std::exchange(slot.flip_wanted, false) && current_ == static_cast<int>(index)) {
    submit(index, nullptr, base::now_ns());
    for (uint32_t i = 0; i < reply_count_; ++i)
      if (replies_[i].sequence == unsent) replies_[i].sequence = sequence_;
  }
  resume();
  sweep();
  return 0;
}

int QemuListener::failed(uint32_t index) noexcept {
  if (index >= qemu_slots || slots_[index].state != Slot::State::wanted) return ENOENT;
  slots_[index].state = Slot::State::failed;
  if (current_ == static_cast<int>(index)) pay(unsent, base::now_ns());
  resume();
  sweep();
  return 0;
}

int QemuListener::freed(uint32_t index, std::shared_ptr<QemuMirror>& mirror,
                        kms::ImplicitFences& fences) noexcept {
  if (index >= qemu_slots || slots_[index].state != Slot::State::idle) return ENOENT;
  mirror = std::move(slots_[index].mirror);
  fences = std::exchange(slots_[index].fences, {});
  slots_[index] = {};
  while (slot_end_ > 0 && slots_[slot_end_ - 1].state == Slot::State::free)
    --slot_end_;
  resume();
  return 0;
}

void QemuListener::set_area(const flip::Rect& area, bool whole, QemuScale scale) noexcept {
  area_ = area;
  whole_ = whole;
  scale_ = scale;
  const bool shown = current_ >= 0 && slots_[static_cast<size_t>(current_)].state == Slot::State::ready;
  if (shown && !hidden_ && plane_stats_[0].taken.load(std::memory_order_relaxed) > 0)
    submit(static_cast<uint32_t>(current_), nullptr, base::now_ns());
  point();
}

// Lets buffers go that no frame holds and that are not about to come back.
[[gnu::hot]] void QemuListener::sweep() noexcept {
  const auto is_kept = [](const Slot& slot) {
    return slot.state == Slot::State::ready && slot.layout.kind == Kind::dmabuf;
  };
  auto kept = std::count_if(slots().begin(), slots().end(), is_kept);
  for (;;) {
    int oldest = -1;
    for (size_t i = 0; i < slot_end_; ++i) {
      const Slot& slot = slots_[i];
      const bool over = slot.state == Slot::State::ready || slot.state == Slot::State::failed;
      const auto index = static_cast<int>(i);
      if (!over || slot.uses > 0 || index == current_ || index == receiving_) continue;
      if (is_kept(slot) && kept <= most_kept) continue;
      if (oldest < 0 || slot.shown_at < slots_[static_cast<size_t>(oldest)].shown_at) oldest = index;
    }
    if (oldest < 0) return;
    Slot& slot = slots_[static_cast<size_t>(oldest)];
    if (is_kept(slot)) --kept;
    slot.state = Slot::State::idle;
    QemuEvent event{};
    event.type = QemuEvent::Type::idle;
    event.slot = static_cast<uint32_t>(oldest);
    tell(event);
  }
}

} // namespace scanout::guests
