#include "guests/virtqueue.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace scanout::guests {

namespace {

// Rings are little-endian (Virtio 1.2, 1.4), as every machine is that the daemon runs on.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

constexpr size_t available_header = 4, used_header = 4; // flags and idx
constexpr size_t used_element = 8;

// <linux/virtio_ring.h>, which is no C++.
constexpr uint16_t descriptor_next = 1, descriptor_write = 2, descriptor_indirect = 4;
constexpr uint16_t available_no_interrupt = 1;
constexpr uint16_t used_no_notify = 1;

// Whether `event` was passed on the way from `former` to `now` (Virtio 1.2, 2.7.7.1).
bool passed(uint16_t event, uint16_t now, uint16_t former) noexcept {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - former);
}

std::atomic_ref<uint16_t> word(uint8_t* at) noexcept {
  return std::atomic_ref<uint16_t>(*reinterpret_cast<uint16_t*>(at));
}

bool aligned(const uint8_t* at, uintptr_t to) noexcept {
  return reinterpret_cast<uintptr_t>(at) % to == 0;
}

} // namespace

int Virtqueue::set(const GuestMemory& memory, const VirtqueueSetup& setup, InflightRing record) noexcept {
  if (setup.size == 0 || setup.size > max_queue_size || (setup.size & (setup.size - 1)) != 0) return EINVAL;
  if (record && record.entries() < setup.size) return EINVAL;
  setup_ = setup;
  record_ = record;
  if (const int error = move(memory); error != 0) return error;
  next_available_ = setup.base;
  next_used_ = told_used_ = word(used_ + 2).load(std::memory_order_relaxed);
  // What was taken is what was given back, and what is held still.
  held_count_ = record_.recover(next_used_, held_);
  resubmitted_ = 0;
  if (held_count_ > 0 || setup.resume) next_available_ = static_cast<uint16_t>(next_used_ + held_count_);
  return 0;
}

int Virtqueue::move(const GuestMemory& memory) noexcept {
  memory_ = &memory;
  descriptors_ = memory.at_user(setup_.descriptors, uint64_t{16} * setup_.size);
  available_ = memory.at_user(setup_.available, available_header + uint64_t{2} * setup_.size + 2);
  used_ = memory.at_user(setup_.used, used_header + uint64_t{used_element} * setup_.size + 2);
  if (descriptors_ == nullptr || available_ == nullptr || used_ == nullptr) return EFAULT;
  return aligned(descriptors_, 16) && aligned(available_, 2) && aligned(used_, 4) ? 0 : EFAULT;
}

Virtqueue::Pop Virtqueue::broken(const char* why) noexcept {
  why_ = why;
  return Pop::broken;
}

Virtqueue::Pop Virtqueue::pop(DescriptorChain& chain) noexcept {
  if (resubmits()) {
    const uint16_t held = held_[resubmitted_++].head;
    if (held >= setup_.size) return broken("a head that is in flight is not in the descriptor table");
    return take(held, true, chain) ? Pop::taken : Pop::broken;
  }
  const uint16_t available = word(available_ + 2).load(std::memory_order_acquire);
  const auto waiting = static_cast<uint16_t>(available - next_available_);
  if (waiting == 0) return Pop::empty;
  if (waiting > setup_.size) return broken("more entries are available than the ring has");
  const size_t entry = available_header + size_t{2} * (next_available_ & (setup_.size - 1));
  const uint16_t head = word(available_ + entry).load(std::memory_order_relaxed);
  if (head >= setup_.size) return broken("a head is not in the descriptor table");
  if (!take(head, false, chain)) return Pop::broken;
  record_.taken(head);
  ++next_available_;
  return Pop::taken;
}

bool Virtqueue::take(uint16_t head, bool again, DescriptorChain& chain) noexcept {
  chain.head = head;
  chain.again = again;
  chain.readable = chain.count = 0;
  return walk(descriptors_, setup_.size, head, false, chain);
}

bool Virtqueue::walk(const uint8_t* table, uint32_t table_size, uint16_t first, bool indirect,
                     DescriptorChain& chain) noexcept {
  uint32_t index = first;
  // Each descriptor at most once: a chain with more of them is a loop.
  for (uint32_t seen = 0; seen < table_size; ++seen) {
    Descriptor descriptor; // the copy; the driver may write on
    std::memcpy(&descriptor, table + size_t{16} * index, sizeof descriptor);
    std::atomic_signal_fence(std::memory_order_acq_rel); // and is not read again
    if ((descriptor.flags & descriptor_indirect) != 0) {
      const uint32_t entries = descriptor.length / 16;
      if (indirect) return broken("an indirect table has an indirect descriptor"), false;
      if ((descriptor.flags & descriptor_next) != 0)
        return broken("an indirect descriptor has a successor"), false;
      if (descriptor.length % 16 != 0 || entries == 0 || entries > DescriptorChain::max_segments)
        return broken("an indirect table has a size that is not possible"), false;
      const uint8_t* inner = memory_->at(descriptor.address, descriptor.length);
      if (inner == nullptr) return broken("an indirect table is not in the guest's memory"), false;
      return walk(inner, entries, 0, true, chain);
    }
    const bool writable = (descriptor.flags & descriptor_write) != 0;
    if (!writable && chain.readable != chain.count)
      return broken("a chain has a readable part after a writable one"), false;
    if (chain.count == DescriptorChain::max_segments) return broken("a chain is too long"), false;
    chain.segments[chain.count++] = {descriptor.address, descriptor.length};
    if (!writable) ++chain.readable;
    if ((descriptor.flags & descriptor_next) == 0) return true;
    if (descriptor.next >= table_size) return broken("a chain leaves its descriptor table"), false;
    index = descriptor.next;
  }
  return broken("a chain is a loop"), false;
}

void Virtqueue::push(uint16_t head, uint32_t written) noexcept {
  const uint32_t element[2]{head, written};
  const size_t at = used_header + used_element * (next_used_ & (setup_.size - 1));
  record_.giving(head);
  std::memcpy(used_ + at, element, sizeof element);
  word(used_ + 2).store(++next_used_, std::memory_order_release);
  record_.given(head, next_used_);
}

bool Virtqueue::wants_call() noexcept {
  const uint16_t former = told_used_;
  told_used_ = next_used_;
  if (former == next_used_) return false;
  // The driver writes its wish, then reads the index; we wrote the index, then read its wish.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!setup_.event_idx)
    return (word(available_).load(std::memory_order_relaxed) & available_no_interrupt) == 0;
  const size_t used_event = available_header + size_t{2} * setup_.size;
  const uint16_t wanted = word(available_ + used_event).load(std::memory_order_relaxed);
  return passed(wanted, next_used_, former);
}

uint16_t Virtqueue::waiting() const noexcept {
  const uint16_t available = word(available_ + 2).load(std::memory_order_acquire);
  return static_cast<uint16_t>(available - next_available_);
}

bool Virtqueue::ask_for_kick(uint16_t ahead) noexcept {
  if (setup_.event_idx) {
    const size_t avail_event = used_header + used_element * setup_.size;
    const auto wanted = static_cast<uint16_t>(next_available_ + ahead);
    word(used_ + avail_event).store(wanted, std::memory_order_relaxed);
  } else {
    word(used_).store(0, std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return waiting() > ahead;
}

void Virtqueue::refuse_kicks() noexcept {
  // With event indices the driver kicks only at the one that was asked for.
  if (!setup_.event_idx) word(used_).store(used_no_notify, std::memory_order_relaxed);
}

uint64_t DescriptorChain::readable_size() const noexcept {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < readable; ++i)
    sum += segments[i].length;
  return sum;
}

size_t DescriptorChain::read(const GuestMemory& memory, uint64_t offset, void* target,
                             size_t size) const noexcept {
  auto* to = static_cast<uint8_t*>(target);
  size_t done = 0;
  for (uint32_t i = 0; i < readable && done < size; ++i) {
    const Segment& segment = segments[i];
    if (offset >= segment.length) {
      offset -= segment.length;
      continue;
    }
    const uint8_t* from = memory.at(segment.address, segment.length);
    if (from == nullptr) break;
    const size_t part = std::min<size_t>(size - done, segment.length - offset);
    std::memcpy(to + done, from + offset, part);
    done += part;
    offset = 0;
  }
  std::atomic_signal_fence(std::memory_order_acq_rel); // what was copied is not read again
  return done;
}

bool answer_place(const DescriptorChain& chain, size_t size, AnswerPlace& place) noexcept {
  place.head = chain.head;
  place.count = 0;
  size_t room = 0;
  for (uint32_t i = chain.readable; i < chain.count && room < size; ++i) {
    if (place.count == AnswerPlace::max_segments) return false;
    place.segments[place.count++] = chain.segments[i];
    room += chain.segments[i].length;
  }
  return true;
}

size_t write_answer(const GuestMemory& memory, const DescriptorChain::Segment* segments, size_t count,
                    const void* source, size_t size) noexcept {
  const auto* from = static_cast<const uint8_t*>(source);
  size_t done = 0;
  for (size_t i = 0; i < count && done < size; ++i) {
    const size_t part = std::min<size_t>(size - done, segments[i].length);
    uint8_t* to = memory.at(segments[i].address, part);
    if (to == nullptr) break;
    std::memcpy(to, from + done, part);
    done += part;
  }
  return done;
}

} // namespace scanout::guests
