#include "guests/vhost_user.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/fd_kind.h"
#include "base/unix_socket.h"

namespace scanout::guests {

using vhost::Request;

namespace {

constexpr uint64_t transport_features =
    vhost::feature_version_1 | vhost::feature_indirect | vhost::feature_event_idx | vhost::feature_protocol;
constexpr uint64_t transport_protocol = vhost::protocol_mq | vhost::protocol_reply_ack |
                                        vhost::protocol_backend_req | vhost::protocol_reset_device;
constexpr int messages_a_turn = 32;

std::string number(Request request) {
  return "request " + std::to_string(static_cast<uint32_t>(request));
}

} // namespace

void ReceivedFds::add(int fd) {
  fds_.emplace_back(fd);
}

void ReceivedFds::clear() noexcept {
  for (base::UniqueFd& fd : fds_) {
    if (fd) base::close_untrusted(fd.release());
  }
  fds_.clear();
}

VhostUser::VhostUser(base::UniqueFd socket, const Traits& traits, Owner& owner)
    : socket_(std::move(socket)), traits_(traits), owner_(owner), rings_(traits.rings) {
  traits_.features |= transport_features;
  traits_.protocol_features |= transport_protocol;
}

void VhostUser::end(const std::string& why) {
  if (state_ == State::ended) return;
  state_ = State::ended;
  why_ended_ = why;
}

VhostUser::State VhostUser::receive() {
  for (int i = 0; i < messages_a_turn && state_ == State::open; ++i) {
    if (!read_some()) break;
    handle();
  }
  return state_;
}

/// True when a whole message is there.
bool VhostUser::read_some() {
  if (received_ < sizeof(vhost::Header)) {
    if (!read_bytes(buffer_.data(), sizeof(vhost::Header))) return false;
    std::memcpy(&header_, buffer_.data(), sizeof header_);
    if (header_.size > vhost::max_payload) {
      end(number(static_cast<Request>(header_.request)) + ": " + std::to_string(header_.size) +
          " bytes are longer than any message");
      return false;
    }
  }
  return read_bytes(buffer_.data(), sizeof(vhost::Header) + header_.size);
}

/// Reads until `wanted` bytes of the message are there; false when that is not now.
bool VhostUser::read_bytes(uint8_t* target, size_t wanted) {
  while (received_ < wanted) {
    iovec part{.iov_base = target + received_, .iov_len = wanted - received_};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * vhost::max_fds)];
    msghdr message{
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const ssize_t size = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) end("recvmsg: " + base::errno_name(errno));
      return false;
    }
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
      if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
      for (size_t at = 0; at + sizeof(int) <= one->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(one) + at, sizeof fd);
        fds_.add(fd);
      }
    }
    if (size == 0) {
      end("the front end closed the connection");
      return false;
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds_.size() > vhost::max_fds) {
      end("a message has more descriptors than any may have");
      return false;
    }
    received_ += static_cast<size_t>(size);
  }
  return true;
}

void VhostUser::handle() {
  received_ = 0;
  if ((header_.flags & vhost::version_mask) != vhost::version || (header_.flags & vhost::flag_reply) != 0) {
    end("a message has flags " + std::to_string(header_.flags));
    return;
  }
  const Message message{.request = static_cast<Request>(header_.request),
                        .need_reply = (header_.flags & vhost::flag_need_reply) != 0 &&
                                      (protocol_features_ & vhost::protocol_reply_ack) != 0,
                        .payload = {buffer_.data() + sizeof(vhost::Header), header_.size}};
  try {
    dispatch(message);
  } catch (const std::runtime_error& error) { // VhostRefusal, SystemError
    const std::string why = number(message.request) + ": " + error.what();
    if (message.need_reply) {
      owner_.refused(why);
      reply_u64(1);
    } else {
      end(why);
    }
  }
  if (state_ != State::waiting) fds_.clear();
}

void VhostUser::apply(std::unique_ptr<RingChange> change) {
  state_ = State::waiting;
  owner_.apply(std::move(change));
}

void VhostUser::finished(std::unique_ptr<RingChange> change) {
  if (state_ != State::waiting) return;
  state_ = State::open;
  if (change->what == RingChange::What::stop) {
    const vhost::VringState answer{.index = change->ring, .number = change->base};
    rings_[change->ring].setup.base = change->base;
    reply(&answer, sizeof answer);
  } else if (change->error != 0) {
    rings_[change->ring].started = false;
    const std::string why = number(static_cast<Request>(header_.request)) + ": ring " +
                            std::to_string(change->ring) + ": " + base::errno_name(change->error);
    owner_.refused(why);
    acknowledge(false);
  } else {
    acknowledge(true);
  }
  fds_.clear();
}

/// Answers a request that has no answer of its own, if the front end asks for one.
void VhostUser::acknowledge(bool done) {
  const bool wanted =
      (header_.flags & vhost::flag_need_reply) != 0 && (protocol_features_ & vhost::protocol_reply_ack) != 0;
  if (wanted)
    reply_u64(done ? 0 : 1);
  else if (!done)
    end(number(static_cast<Request>(header_.request)) + " failed");
}

void VhostUser::reply(const void* payload, size_t size) {
  std::array<uint8_t, sizeof(vhost::Header) + vhost::max_payload> bytes{};
  const vhost::Header header{.request = header_.request,
                             .flags = vhost::version | vhost::flag_reply,
                             .size = static_cast<uint32_t>(size)};
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, payload, size);
  const size_t all = sizeof header + size;
  const ssize_t sent = send(socket_.get(), bytes.data(), all, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(all)) end("the front end does not read its answers");
}

bool VhostUser::config_changed() {
  if (!backend_) return false;
  const vhost::Header header{.request = vhost::backend_config_change, .flags = vhost::version, .size = 0};
  return send(backend_.get(), &header, sizeof header, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof header;
}

} // namespace scanout::guests
