#include "guests/socket.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace scanout::guests {

namespace {

constexpr uint32_t known_flags = SCANOUTD_FLIP_FENCED | SCANOUTD_FLIP_HIDE;
constexpr uint64_t largest_sequence = (uint64_t{1} << 62) - 1;
constexpr int32_t farthest = 1 << 20; // pixels; far beyond any display, far from overflow

template <typename T> std::atomic_ref<T> shared(T& word) noexcept {
  return std::atomic_ref<T>(word);
}

} // namespace

FlipPage::FlipPage(uint32_t plane_count)
    : fd_(base::check(memfd_create("scanoutd-flip-page", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create")) {
  base::check(ftruncate(fd_.get(), SCANOUTD_FLIP_PAGE_SIZE), "ftruncate", "flip page");
  // Without the seal a guest could cut the memory off under the flip thread.
  base::check(fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "fcntl(F_ADD_SEALS)",
              "flip page");
  void* memory =
      mmap(nullptr, SCANOUTD_FLIP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(), 0);
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap", "flip page");
  page_ = static_cast<scanoutd_flip_page*>(memory);
  page_->magic = SCANOUTD_FLIP_PAGE_MAGIC;
  page_->version_major = SCANOUTD_VERSION_MAJOR;
  page_->version_minor = SCANOUTD_VERSION_MINOR;
  page_->plane_count = plane_count;
}

FlipPage::~FlipPage() {
  munmap(page_, SCANOUTD_FLIP_PAGE_SIZE);
}

SocketGuest::SocketGuest(uint32_t first_stream, uint32_t plane_count, Descriptors descriptors,
                         flip::Engine& engine)
    : engine_(engine), page_(plane_count), fences_(std::move(descriptors.fence_socket)),
      kick_(std::move(descriptors.kick)), release_(std::move(descriptors.release)),
      plane_count_(plane_count) {
  for (uint32_t i = 0; i < plane_count; ++i) {
    streams_[i] = std::make_unique<flip::Stream>(first_stream + i, *this, engine.epoll());
  }
}

SocketGuest::~SocketGuest() {
  // The engine was stopped before the buffers were free.
  for (Buffer& buffer : buffers_)
    for (flip::Command** command : {&buffer.retire, &buffer.former})
      delete std::exchange(*command, nullptr);
}

int SocketGuest::on_enter(flip::Engine& engine) noexcept {
  // Edge-triggered and never read: each write wakes us, a storm of them costs one wake-up a round, and there
  // is no read that the guest could make block.
  return engine.epoll().try_add(kick_.get(), EPOLLIN | EPOLLET, this);
}

void SocketGuest::on_leave(flip::Engine& engine) noexcept {
  engine.epoll().remove(kick_.get());
}

void SocketGuest::set_area(const flip::Rect& area) noexcept {
  area_ = area;
  for (uint32_t plane = 0; plane < plane_count_; ++plane) {
    // Its newest frame once more, at its new place, while the engine has it still.
    if (!shows(plane)) continue;
    flip::Frame frame;
    make_frame(last_entry_[plane], frame);
    if (!streams_[plane]->move_newest(frame.place, frame.off)) show_again(plane);
  }
}

// The newest frame, which does not wait for its turn or its fence any more.
void SocketGuest::show_again(uint32_t plane) noexcept {
  flip::Frame frame;
  make_frame(last_entry_[plane], frame);
  frame.damage_count = 0;
  frame.kick_ns = frame.ready_ns = base::now_ns();
  Buffer& buffer = buffers_[frame.buffer];
  ++buffer.uses;
  streams_[plane]->submit(frame, buffer.fences.pending({}));
}

bool SocketGuest::shows(uint32_t plane) const noexcept {
  const scanoutd_flip_entry& entry = last_entry_[plane];
  if (entry.sequence == 0 || (entry.flags & SCANOUTD_FLIP_HIDE) != 0) return false;
  return buffers_[entry.buffer].registered && buffers_[entry.buffer].uses > 0;
}

void SocketGuest::set_mode(uint32_t plane, flip::PresentMode mode) noexcept {
  streams_[plane]->set_mode(mode);
  take(plane, base::now_ns()); // a frame that had no room in a fifo
}

int SocketGuest::add_buffer(uint32_t id, uint32_t fb_id, uint32_t width, uint32_t height,
                            kms::ImplicitFences fences) noexcept {
  if (id >= SCANOUTD_MAX_BUFFERS) return EINVAL;
  Buffer& buffer = buffers_[id];
  if (buffer.registered || buffer.uses > 0) return EEXIST;
  buffer = {.registered = true,
            .fb_id = fb_id,
            .width = width,
            .height = height,
            .fences = std::move(fences),
            .newest_use = buffer.newest_use}; // what was released stays so
  return 0;
}

int SocketGuest::renew_buffer(uint32_t id, uint32_t fb_id, kms::ImplicitFences fences) noexcept {
  if (id >= SCANOUTD_MAX_BUFFERS || !buffers_[id].registered) return ENOENT;
  Buffer& buffer = buffers_[id];
  if (buffer.former_uses > 0) return EBUSY;
  buffer.fb_id = fb_id;
  buffer.fences = std::move(fences);
  ++buffer.generation;
  buffer.former_uses = buffer.uses;
  for (uint32_t plane = 0; plane < plane_count_; ++plane)
    buffer.former_uses -= streams_[plane]->renew_buffer(id, fb_id, buffer.generation, buffer.fences);
  // What is on the screen shows the former memory, until this replaces it.
  for (uint32_t plane = 0; plane < plane_count_; ++plane) {
    if (shows(plane) && last_entry_[plane].buffer == id && streams_[plane]->newest() == nullptr)
      show_again(plane);
  }
  return 0;
}

void SocketGuest::await_former(uint32_t id, flip::Command& command) noexcept {
  Buffer& buffer = buffers_[id];
  if (buffer.former_uses == 0 || buffer.former != nullptr) {
    command.error = buffer.former_uses == 0 ? 0 : EALREADY;
    engine_.finish(command);
    return;
  }
  buffer.former = &command;
}

void SocketGuest::retire_buffer(uint32_t id, flip::Command& command) noexcept {
  Buffer& buffer = buffers_[id];
  if (buffer.retire != nullptr) {
    command.error = EALREADY;
    engine_.finish(command);
    return;
  }
  buffer.registered = false;
  // A frame that only waits for its turn need not be shown any more; what is on the screen stays.
  for (uint32_t i = 0; i < plane_count_; ++i) {
    streams_[i]->drop_buffer(id);
    if (last_entry_[i].buffer == id) last_entry_[i].sequence = 0;
  }
  buffer.fences = {};
  if (buffer.uses == 0) {
    engine_.finish(command);
  } else {
    buffer.retire = &command;
  }
  for (uint32_t i = 0; i < plane_count_; ++i)
    take(i, base::now_ns()); // a fifo may have room now
}

[[gnu::hot]] void SocketGuest::on_ready(uint32_t) noexcept {
  for (uint32_t plane = 0; plane < plane_count_; ++plane)
    take(plane, engine_.round_ns());
}

[[gnu::hot]] void SocketGuest::on_room(flip::Stream& stream) noexcept {
  take(plane_of(stream), base::now_ns()); // a commit came between, and took its time
}

[[gnu::hot]] void SocketGuest::take(uint32_t plane, int64_t now) noexcept {
  flip::Stream& stream = *streams_[plane];
  const bool fifo = stream.mode() == flip::PresentMode::fifo;
  if (fifo && !stream.has_room()) return;
  scanoutd_flip_slot& slot = page_.get().slots[plane];
  if (shared(slot.pending).load(std::memory_order_relaxed) == 0) return;
  const uint64_t word = shared(slot.pending).exchange(0, std::memory_order_acq_rel);
  if (word == 0) return;

  const uint32_t index = static_cast<uint32_t>(word & 3);
  const uint64_t announced = word >> 2;
  if (index == 0) {
    refuse(plane, announced, SCANOUTD_BAD_SEQUENCE, 0);
    return;
  }
  scanoutd_flip_entry entry; // the copy; the guest may write on into its own
  std::memcpy(&entry, &slot.entries[index - 1], sizeof entry);
  // From here on the compiler may not go back to the page for what is in the copy.
  std::atomic_thread_fence(std::memory_order_acquire);

  scanoutd_code code = check(plane, entry, announced);
  flip::Frame frame;
  if (code == SCANOUTD_OK) code = make_frame(entry, frame);
  base::UniqueFd fence;
  if (code == SCANOUTD_OK && (entry.flags & SCANOUTD_FLIP_FENCED) != 0) {
    fence = fences_.take(plane, entry.sequence);
    if (!fence) code = SCANOUTD_BAD_FENCE;
  }
  if (code != SCANOUTD_OK) {
    refuse(plane, announced, code, 0);
    if ((entry.flags & SCANOUTD_FLIP_HIDE) == 0) done_with(entry.buffer, announced);
    return;
  }
  last_sequence_[plane] = entry.sequence;
  last_entry_[plane] = entry;
  frame.kick_ns = frame.ready_ns = now;
  stats_[plane].taken.fetch_add(1, std::memory_order_relaxed);
  feedback_[plane].taken = entry.sequence;
  if (frame.has_buffer) {
    Buffer& buffer = buffers_[frame.buffer];
    ++buffer.uses;
    buffer.newest_use = std::max(buffer.newest_use, entry.sequence);
    stats_[plane].newest_buffer.store(static_cast<int32_t>(frame.buffer), std::memory_order_relaxed);
    if (!buffer.fences.empty()) fence = buffer.fences.pending(std::move(fence));
  }
  publish(plane);
  if (fifo) engine_.signaller().add(release_.get()); // the slot is free: the guest may go on
  stream.submit(frame, std::move(fence));
}

[[gnu::hot]] scanoutd_code SocketGuest::check(uint32_t plane, const scanoutd_flip_entry& entry,
                                              uint64_t announced) noexcept {
  if (entry.sequence != announced || entry.sequence > largest_sequence) return SCANOUTD_BAD_SEQUENCE;
  if (entry.sequence <= last_sequence_[plane]) return SCANOUTD_BAD_SEQUENCE;
  if ((entry.flags & ~known_flags) != 0 || entry.reserved != 0) return SCANOUTD_BAD_MESSAGE;
  if ((entry.flags & SCANOUTD_FLIP_HIDE) != 0) return SCANOUTD_OK;
  if (entry.buffer >= SCANOUTD_MAX_BUFFERS || !buffers_[entry.buffer].registered) return SCANOUTD_BAD_BUFFER;
  const Buffer& buffer = buffers_[entry.buffer];
  if (entry.src_w == 0 || entry.src_h == 0) return SCANOUTD_BAD_RECT;
  if (uint64_t{entry.src_x} + entry.src_w > uint64_t{buffer.width} << 16) return SCANOUTD_BAD_RECT;
  if (uint64_t{entry.src_y} + entry.src_h > uint64_t{buffer.height} << 16) return SCANOUTD_BAD_RECT;
  if (entry.dst_w == 0 || entry.dst_h == 0) return SCANOUTD_BAD_RECT;
  if (entry.dst_w > SCANOUTD_MAX_SIZE || entry.dst_h > SCANOUTD_MAX_SIZE) return SCANOUTD_BAD_RECT;
  const auto far = [](int32_t value) { return value < -farthest || value > farthest; };
  if (far(entry.dst_x) || far(entry.dst_y) || far(entry.hot_x) || far(entry.hot_y)) return SCANOUTD_BAD_RECT;
  return entry.damage_count > SCANOUTD_MAX_DAMAGE ? SCANOUTD_BAD_RECT : SCANOUTD_OK;
}

[[gnu::hot]] scanoutd_code SocketGuest::make_frame(const scanoutd_flip_entry& entry,
                                                   flip::Frame& frame) noexcept {
  frame.sequence = entry.sequence;
  if ((entry.flags & SCANOUTD_FLIP_HIDE) != 0) {
    frame.has_buffer = false;
    frame.off = true;
    return SCANOUTD_OK;
  }
  const Buffer& buffer = buffers_[entry.buffer];
  frame.buffer = entry.buffer;
  frame.fb_id = buffer.fb_id;
  frame.generation = buffer.generation;
  frame.place = {.src_x = entry.src_x,
                 .src_y = entry.src_y,
                 .src_w = entry.src_w,
                 .src_h = entry.src_h,
                 .x = entry.dst_x + area_.x1,
                 .y = entry.dst_y + area_.y1,
                 .w = entry.dst_w,
                 .h = entry.dst_h,
                 .hot_x = entry.hot_x,
                 .hot_y = entry.hot_y};
  // What lies beyond the guest's area is another's. Nothing left of it: the plane is off for this frame.
  frame.off = !clip(frame.place, area_);
  // What lies beyond the buffer is left out; when nothing is left, everything counts as changed.
  const auto width = static_cast<int32_t>(buffer.width);
  const auto height = static_cast<int32_t>(buffer.height);
  for (uint32_t i = 0; i < entry.damage_count; ++i) {
    const scanoutd_rect& given = entry.damage[i];
    const flip::Rect rect{std::max(given.x1, 0), std::max(given.y1, 0), std::min(given.x2, width),
                          std::min(given.y2, height)};
    if (rect.x1 < rect.x2 && rect.y1 < rect.y2) frame.damage[frame.damage_count++] = rect;
  }
  return SCANOUTD_OK;
}

[[gnu::cold]] void SocketGuest::refuse(uint32_t plane, uint64_t sequence, scanoutd_code code,
                                       int error) noexcept {
  stats_[plane].refused.fetch_add(1, std::memory_order_relaxed);
  scanoutd_flip_feedback& feedback = feedback_[plane];
  feedback.refused = sequence;
  feedback.refused_code = code;
  feedback.refused_errno = static_cast<uint32_t>(error);
  publish(plane);
  engine_.signaller().add(release_.get());
}

// An entry that was taken and refused: its buffer is the guest's again, once no other frame has it.
[[gnu::cold]] void SocketGuest::done_with(uint32_t id, uint64_t sequence) noexcept {
  if (id >= SCANOUTD_MAX_BUFFERS || sequence > largest_sequence) return;
  Buffer& buffer = buffers_[id];
  buffer.newest_use = std::max(buffer.newest_use, sequence);
  if (buffer.uses == 0) shared(page_.get().released[id]).store(buffer.newest_use, std::memory_order_release);
}

[[gnu::hot]] void SocketGuest::publish(uint32_t plane) noexcept {
  scanoutd_flip_feedback& feedback = feedback_[plane];
  scanoutd_flip_feedback& there = page_.get().slots[plane].feedback;
  // A seqlock with our own counter: the guest can scribble on its copy, never on our idea of it.
  feedback.lock += 2;
  shared(there.lock).store(feedback.lock - 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  std::memcpy(&there.flags, &feedback.flags, sizeof feedback - offsetof(scanoutd_flip_feedback, flags));
  shared(there.lock).store(feedback.lock, std::memory_order_release);
}

[[gnu::hot]] void SocketGuest::on_presented(flip::Stream& stream, const flip::Frame& frame,
                                            const flip::Presented& how) noexcept {
  const uint32_t plane = plane_of(stream);
  scanoutd_flip_feedback& feedback = feedback_[plane];
  feedback.flags =
      how.flags & (SCANOUTD_PRESENTED_VSYNC | SCANOUTD_PRESENTED_HW_CLOCK | SCANOUTD_PRESENTED_DIRECT);
  feedback.presented = frame.sequence;
  feedback.presented_ns = static_cast<uint64_t>(how.time_ns);
  feedback.vblank = how.vblank;
  feedback.refresh_ns = how.refresh_ns;
  feedback.flips += 1;
  feedback.missed += how.missed;
  stats_[plane].flips.fetch_add(1, std::memory_order_relaxed);
  stats_[plane].missed.fetch_add(how.missed, std::memory_order_relaxed);
  constexpr uint32_t uncopied = flip::presented_direct | flip::presented_synthetic;
  if ((how.flags & uncopied) == 0) stats_[plane].copied.fetch_add(1, std::memory_order_relaxed);
  publish(plane);
  engine_.signaller().add(release_.get());
}

[[gnu::hot]] void SocketGuest::on_retained(flip::Stream&, const flip::Frame& frame) noexcept {
  if (!frame.has_buffer) return;
  Buffer& buffer = buffers_[frame.buffer];
  ++buffer.uses;
  if (frame.generation != buffer.generation) ++buffer.former_uses;
}

[[gnu::hot]] void SocketGuest::on_released(flip::Stream& stream, const flip::Frame& frame,
                                           bool superseded) noexcept {
  const uint32_t plane = plane_of(stream);
  if (superseded && frame.sequence != last_sequence_[plane]) {
    ++feedback_[plane].superseded;
    stats_[plane].superseded.fetch_add(1, std::memory_order_relaxed);
    publish(plane);
  }
  if (!frame.has_buffer) return;
  Buffer& buffer = buffers_[frame.buffer];
  if (frame.generation != buffer.generation && --buffer.former_uses == 0 && buffer.former != nullptr)
    engine_.finish(*std::exchange(buffer.former, nullptr));
  if (--buffer.uses > 0) return;
  shared(page_.get().released[frame.buffer]).store(buffer.newest_use, std::memory_order_release);
  engine_.signaller().add(release_.get());
  if (buffer.retire != nullptr) engine_.finish(*std::exchange(buffer.retire, nullptr));
}

void SocketGuest::on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept {
  refuse(plane_of(stream), frame.sequence, SCANOUTD_COMMIT_FAILED, error);
}

void SocketGuest::on_unrouted(flip::Stream& stream) noexcept {
  const flip::Frame& frame = *stream.pending();
  engine_.tell({flip::Notice::Type::unrouted, 0, 0, stream.id(), 0, 1, frame.sequence});
}

[[gnu::hot]] uint32_t SocketGuest::plane_of(const flip::Stream& stream) const noexcept {
  return stream.id() - streams_[0]->id();
}

} // namespace scanout::guests
