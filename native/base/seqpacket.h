// Messages with descriptors over a connected SOCK_SEQPACKET socket.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/unique_fd.h"

namespace scanout::base {

/// One end of a connection. Never blocks. Not thread-safe.
class SeqPacket {
public:
  static constexpr size_t max_fds_of_kernel = 253; ///< SCM_MAX_FD

  /// Throws UsageError when `fd` (borrowed) is no unix seqpacket socket, SystemError.
  static void require_kind(int fd);

  /// Takes over a socket of that kind. Longer messages than `max_bytes` and descriptors beyond `max_fds` are
  /// cut off on receipt. Throws UsageError when a limit is out of range.
  SeqPacket(UniqueFd socket, size_t max_bytes, size_t max_fds);

  enum class Sent { sent, full };
  /// One message, with copies of `fds` (borrowed). `full`: nothing was sent, since the peer does not read.
  /// Throws SystemError; EPIPE and ECONNRESET when the peer is gone.
  Sent send(std::span<const uint8_t> data, std::span<const int> fds);

  struct Received {
    enum class What { message, nothing, end } what = What::nothing;
    std::span<const uint8_t> data; ///< until the next call; empty when the message is
    std::vector<UniqueFd> fds;
    bool truncated = false;         ///< the message was longer
    bool control_truncated = false; ///< descriptors are missing: too many, or none was free here
  };
  /// The next message. `nothing`: none is there yet. `end`: the peer has closed and everything was read.
  /// Throws SystemError.
  Received receive();

  /// True when the peer closed with messages of ours unread.
  [[nodiscard]] bool was_reset() const noexcept { return reset_; }
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  void close() noexcept { socket_.reset(); }

private:
  ssize_t receive_raw(msghdr& header);
  [[nodiscard]] bool hung_up() const;

  UniqueFd socket_;
  size_t max_fds_;
  bool reset_ = false;
  std::vector<uint8_t> buffer_;
  std::vector<uint64_t> control_; // words, for the alignment of cmsghdr
};

} // namespace scanout::base
