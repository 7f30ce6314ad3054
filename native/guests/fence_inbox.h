// Acquire fences of a guest, as they come over its fence socket.
#pragma once

#include <array>
#include <cstdint>

#include "base/unique_fd.h"
#include "guests/protocol.h"

namespace scanout::guests {

/// Finds the fence of a frame. Flip thread only; never blocks, whatever the guest sends.
class FenceInbox {
public:
  /// `socket` may be none: there are no fences then.
  explicit FenceInbox(base::UniqueFd socket) noexcept : socket_(std::move(socket)) {}

  /// The sync_file that was sent for a frame, or none. Fences of older frames of that plane are closed.
  base::UniqueFd take(uint32_t plane, uint64_t sequence) noexcept;

private:
  struct Message {
    bool good = false; // one sync_file, for a plane that can be
    uint32_t plane = 0;
    uint64_t sequence = 0;
    base::UniqueFd fence;
  };
  struct Kept {
    uint64_t sequence = 0; // 0: none
    base::UniqueFd fence;
  };

  bool receive(Message& message) noexcept;
  void keep(Message& message) noexcept;

  base::UniqueFd socket_;
  // All planes share the socket, so that looking for one plane's fence finds the others'. A guest is at most
  // one fence ahead of what it submitted; the oldest go when there are more.
  std::array<std::array<Kept, 4>, SCANOUTD_MAX_PLANES> kept_;
};

} // namespace scanout::guests
