// What stands between a peer that may be hostile and sd-bus.
//
//   peer's socket --> Gate --> socketpair --> sd-bus
//   peer's socket <------------------------- sd-bus
//
// sd-bus buffers messages of up to 128 MiB, passes over malformed ones in silence, and loses the descriptors
// that come with those. So what a peer sends gets to it only as whole messages that were checked, one at a
// time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "bus/frame.h"

namespace scanout::bus {

/// Lets through what one peer sends: first the authentication, line by line, then messages. Not thread-safe.
class Gate {
public:
  struct Limits {
    size_t max_message; ///< bytes
    size_t max_fds;     ///< of one message
  };

  /// `socket` is a connected, non-blocking stream socket of a peer that runs as `uid`. Throws SystemError.
  Gate(base::UniqueFd socket, uid_t uid, Limits limits);

  /// The end that sd-bus reads. To be taken once.
  base::UniqueFd take_inner() { return std::move(inner_); }
  [[nodiscard]] int socket() const noexcept { return socket_.get(); }
  void close() noexcept {
    socket_.reset();
    outer_.reset();
    fds_.clear();
  }

  enum class Step {
    progress, ///< let sd-bus read, then call again
    waiting,  ///< the peer must send more
    ended,    ///< the peer closed
    refused,  ///< see `error`
  };
  /// To be called when sd-bus has read everything that was forwarded. `authenticated`: sd-bus takes messages.
  Step step(bool authenticated) noexcept;
  /// True when the last step completed a message.
  [[nodiscard]] bool has_forwarded_message() const noexcept { return whole_message_ && !forwarding_; }
  /// Positive errno: EBADMSG, EMSGSIZE, EPROTO, or what the socket said.
  [[nodiscard]] int error() const noexcept { return error_; }

private:
  Step read_line();
  Step complete_line();
  Step read_header();
  Step read_rest();
  Step forward() noexcept;
  Step refuse(int error) noexcept;
  Step after_read(ssize_t size) noexcept;
  ssize_t receive(std::span<uint8_t> into);

  base::UniqueFd socket_;
  base::UniqueFd outer_; ///< our end of the pair
  base::UniqueFd inner_;
  uid_t uid_;
  Limits limits_;
  size_t handshake_ = 0;        ///< bytes of it so far
  std::vector<uint8_t> buffer_; ///< the line or message that is being read or forwarded
  std::vector<base::UniqueFd> fds_;
  Frame frame_;
  size_t filled_ = 0;    ///< bytes of the message that were read
  size_t forwarded_ = 0; ///< bytes of the buffer that sd-bus can read
  bool forwarding_ = false;
  bool whole_message_ = false;
  int error_ = 0;
};

} // namespace scanout::bus
