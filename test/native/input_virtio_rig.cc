#include "input_virtio_rig.h"

namespace scanout::test {

using guests::RingChange;

void InputDriver::offer(uint16_t head, uint32_t length, uint16_t flags) {
  ring.descriptor(head) = {buffers_ + uint64_t{8} * head, length, flags, 0};
  ring.offer(head);
}

void InputDriver::post(uint32_t count, uint32_t length) {
  for (uint32_t i = 0; i < count; ++i)
    offer(static_cast<uint16_t>(next_++ % ring.size()), length, is_writable);
}

void InputDriver::send(const Event& event, uint32_t length) {
  const auto head = static_cast<uint16_t>(next_++ % ring.size());
  memory_.at<Event>(buffers_ + uint64_t{8} * head) = event;
  offer(head, length, 0);
}

Events InputDriver::take(bool repost) {
  Events events;
  for (const uint16_t used = ring.used(); seen_ != used; ++seen_) {
    const auto head = static_cast<uint16_t>(ring.used_head(seen_));
    events.push_back(memory_.at<Event>(buffers_ + uint64_t{8} * head));
    if (repost) offer(head, 8, is_writable);
  }
  return events;
}

void InputDriver::kick() const {
  const uint64_t one = 1;
  CHECK_EQ(write(kicks.get(), &one, sizeof one), 8);
}

InputVm::InputVm(Class of, const Description& description, uint32_t queue)
    : events(memory, FakeMemory::guest_base, queue), status(memory, FakeMemory::guest_base + 0x8000, queue),
      device(std::make_shared<VirtioDevice>(of, description, epoll, signaller)), sink(device), of(of) {
  CHECK_EQ(sink.enter(epoll, *this), 0);
}

int InputVm::run(RingChange change) {
  device->run(change);
  return change.error;
}

void InputVm::start(uint32_t ring, uint16_t base, bool event_idx) {
  const InputDriver& driver = ring == VirtioDevice::event_ring ? events : status;
  RingChange call(RingChange::What::call, ring);
  call.fd.reset(dup(driver.calls.get()));
  CHECK_EQ(run(std::move(call)), 0);
  RingChange begin(RingChange::What::start, ring);
  begin.setup = driver.ring.setup(event_idx);
  begin.setup.base = base;
  begin.fd.reset(dup(driver.kicks.get()));
  begin.on = true;
  CHECK_EQ(run(std::move(begin)), 0);
}

uint16_t InputVm::stop(uint32_t ring) {
  RingChange change(RingChange::What::stop, ring);
  device->run(change);
  return change.base;
}

void InputVm::boot(bool event_idx) {
  RingChange table(RingChange::What::memory);
  table.memory = memory.map();
  CHECK_EQ(run(std::move(table)), 0);
  start(VirtioDevice::event_ring, 0, event_idx);
  start(VirtioDevice::status_ring, 0, event_idx);
  events.post(events.ring.size());
}

void InputVm::reboot() {
  for (const uint32_t ring : {VirtioDevice::event_ring, VirtioDevice::status_ring})
    stop(ring);
  events.reset();
  status.reset();
  start(VirtioDevice::event_ring);
  start(VirtioDevice::status_ring);
  events.post(events.ring.size());
}

void InputVm::turn() {
  while (epoll.wait(0) > 0) {
  }
  signaller.flush();
}

Sink::Delivery InputVm::send(Events events_to_send) {
  return sink.frame(of, frame_of(std::move(events_to_send)), ++now);
}

} // namespace scanout::test
