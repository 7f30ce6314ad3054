#include "guests/vhost_rings.h"

#include <utility>

namespace scanout::guests {

VhostRings::VhostRings(std::shared_ptr<const InflightMemory> records, uint32_t count, RingUser& user,
                       base::Epoll& epoll, base::EventfdSignaller& signaller)
    : user_(user), epoll_(epoll), signaller_(signaller), own_records_(std::move(records)) {
  for (uint32_t i = 0; i < count; ++i) {
    rings_.push_back(std::make_unique<Ring>());
    rings_.back()->rings = this;
    rings_.back()->index = i;
  }
}

void VhostRings::Ring::on_ready(uint32_t) noexcept {
  // An event that was fetched before a stop of the same round finds the ring stopped.
  if (serves()) rings->user_.on_kick(index);
}

bool VhostRings::pop(uint32_t index, DescriptorChain& chain) noexcept {
  Ring& ring = *rings_[index];
  if (!ring.serves()) return false;
  switch (ring.queue.pop(chain)) {
  case Virtqueue::Pop::taken:
    return true;
  case Virtqueue::Pop::broken:
    break_ring(ring, ring.queue.why());
    return false;
  case Virtqueue::Pop::empty:
    break;
  }
  return false;
}

void VhostRings::push(uint32_t ring, uint16_t head, uint32_t written) noexcept {
  if (rings_[ring]->started && !rings_[ring]->broken) rings_[ring]->queue.push(head, written);
}

bool VhostRings::rest(uint32_t ring, uint16_t ahead) noexcept {
  return rings_[ring]->serves() && rings_[ring]->queue.ask_for_kick(ahead);
}

void VhostRings::call(uint32_t index) noexcept {
  Ring& ring = *rings_[index];
  if (!ring.started || ring.broken || !ring.queue.wants_call()) return;
  if (ring.call) signaller_.add(ring.call.get());
}

void VhostRings::break_ring(Ring& ring, const char* why) noexcept {
  ring.broken = true;
  if (ring.error) signaller_.add(ring.error.get());
  user_.on_broken(ring.index, why);
}

void VhostRings::stop(Ring& ring) noexcept {
  if (!ring.started) return;
  if (!ring.broken) user_.on_stop(ring.index);
  ring.queue.forget_held();
  leave(ring);
}

void VhostRings::leave(Ring& ring) noexcept {
  if (!ring.started) return;
  // The descriptor may be closed as soon as this is run, and with it every signal that waits in the batch.
  signaller_.flush();
  epoll_.remove(ring.kick.get());
  ring.started = false;
}

void RingChange::run(VhostRings& rings) noexcept {
  VhostRings::Ring& target = *rings.rings_[ring];
  switch (what) {
  case What::memory:
    swap_memory(rings);
    return;
  case What::start:
    start(rings);
    return;
  case What::stop:
    rings.stop(target);
    base = target.queue.next_available();
    fd = std::move(target.kick);
    return;
  case What::enable:
    target.enabled = on;
    if (on && target.serves()) rings.user_.on_kick(ring);
    return;
  case What::call:
  case What::error_fd: {
    rings.signaller_.flush(); // it may hold the former one
    base::UniqueFd& place = what == What::call ? target.call : target.error;
    std::swap(place, fd);
    // The driver may wait for what was pushed while nobody could call it.
    if (what == What::call && place && target.started) rings.signaller_.add(place.get());
    return;
  }
  case What::inflight:
    std::swap(rings.records_, records);
    return;
  case What::stop_all:
    for (const auto& one : rings.rings_) {
      rings.stop(*one);
      one->enabled = false;
    }
    std::swap(rings.memory_, memory);
    std::swap(rings.records_, records);
    return;
  case What::suspend:
    for (const auto& one : rings.rings_)
      rings.leave(*one);
    std::swap(rings.memory_, memory);
    return;
  }
}

void RingChange::start(VhostRings& rings) noexcept {
  VhostRings::Ring& target = *rings.rings_[ring];
  if (rings.memory_ == nullptr) {
    error = EFAULT;
    return;
  }
  rings.stop(target);
  const InflightMemory& held = rings.records_ ? *rings.records_ : *rings.own_records_;
  error = target.queue.set(*rings.memory_, setup, held.ring(ring));
  if (error != 0) return;
  error = -rings.epoll_.try_add(fd.get(), EPOLLIN | EPOLLET, &target);
  if (error != 0) return;
  std::swap(target.kick, fd);
  target.started = true;
  target.broken = false;
  if (on) target.enabled = true;
  if (!setup.resume) rings.user_.on_start(ring, setup.base);
  // The former process may have died between an answer and its call.
  if (setup.resume && target.call) rings.signaller_.add(target.call.get());
  if (target.serves()) rings.user_.on_kick(ring);
}

void RingChange::swap_memory(VhostRings& rings) noexcept {
  std::swap(rings.memory_, memory);
  for (const auto& one : rings.rings_) {
    if (!one->started) continue;
    if (rings.memory_ == nullptr || one->queue.move(*rings.memory_) != 0)
      rings.break_ring(*one, "the ring is not in the new memory table");
  }
}

} // namespace scanout::guests
