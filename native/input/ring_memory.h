// What a socket guest and the input thread share: the ring of events, and the page of the guest's replies.
#pragma once

#include "base/unique_fd.h"
#include "guests/protocol.h"

namespace scanout::input {

/// Two memfds that nobody can resize. The guest can neither write the ring nor map it for writing; here the
/// reply page is mapped for reading only.
class RingMemory {
public:
  /// Throws SystemError.
  RingMemory();
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;
  ~RingMemory();

  [[nodiscard]] scanoutd_input_ring& ring() const noexcept { return *ring_; }
  /// The guest writes it at any time: atomic loads only.
  [[nodiscard]] const scanoutd_input_reply& reply() const noexcept { return *reply_; }
  /// For the guest; both are owned by the memory.
  [[nodiscard]] int ring_fd() const noexcept { return ring_fd_.get(); }
  [[nodiscard]] int reply_fd() const noexcept { return reply_fd_.get(); }

private:
  base::UniqueFd ring_fd_, reply_fd_;
  scanoutd_input_ring* ring_ = nullptr;
  const scanoutd_input_reply* reply_ = nullptr;
};

} // namespace scanout::input
