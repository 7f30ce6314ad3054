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
                                        vhost::protocol_backend_req | vhost::protocol_reset_device |
                                        vhost::protocol_inflight;
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

VhostUser::VhostUser(base::UniqueFd socket, const Traits& traits, Owner& owner, VhostRecord& record)
    : socket_(std::move(socket)), traits_(traits), owner_(owner), record_(record), rings_(traits.rings) {
  traits_.features |= transport_features;
  traits_.protocol_features |= transport_protocol;
}

void VhostUser::end(const std::string& why) {
  if (state_ == State::ended) return;
  state_ = State::ended;
  why_ended_ = why;
}

void VhostUser::hang_up() noexcept {
  shutdown(socket_.get(), SHUT_RDWR);
}

VhostUser::State VhostUser::receive() {
  for (int i = 0; i < messages_a_turn && state_ == State::open; ++i) {
    if (!look() && !read_some()) break;
    handle();
  }
  return state_;
}

/// True when a whole message is there, which stays where it is.
bool VhostUser::look() {
  if (received_ > 0 || state_ == State::ended) return false; // it comes in pieces
  const ssize_t head = take(buffer_.data(), sizeof(vhost::Header), false, MSG_PEEK);
  if (head != sizeof(vhost::Header)) return false;
  std::memcpy(&header_, buffer_.data(), sizeof header_);
  if (!check_size()) return false;
  const size_t wanted = sizeof(vhost::Header) + header_.size;
  looked_at_ = take(buffer_.data(), wanted, true, MSG_PEEK) == static_cast<ssize_t>(wanted);
  if (!looked_at_) fds_.clear(); // they come again
  return looked_at_ && state_ == State::open;
}

/// One recvmsg; -1 when there is nothing now, or the connection has ended.
ssize_t VhostUser::take(uint8_t* target, size_t size, bool with_fds, int flags) {
  iovec part{.iov_base = target, .iov_len = size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * vhost::max_fds)];
  msghdr message{.msg_iov = &part, .msg_iovlen = 1};
  if (with_fds) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
  }
  ssize_t got = -1;
  do
    got = recvmsg(socket_.get(), &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno != EAGAIN) end("recvmsg: " + base::errno_name(errno));
    return -1;
  }
  if (with_fds) {
    for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
      if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
      for (size_t at = 0; at + sizeof(int) <= one->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(one) + at, sizeof fd);
        fds_.add(fd);
      }
    }
  }
  if (got == 0) {
    end(closed);
    return -1;
  }
  if (with_fds && ((message.msg_flags & MSG_CTRUNC) != 0 || fds_.size() > vhost::max_fds)) {
    end("a message has more descriptors than any may have");
    return -1;
  }
  return got;
}

bool VhostUser::check_size() {
  if (header_.size <= vhost::max_payload) return true;
  end(number(static_cast<Request>(header_.request)) + ": " + std::to_string(header_.size) +
      " bytes are longer than any message");
  return false;
}

/// Reads a message that comes in pieces; true when it is whole.
bool VhostUser::read_some() {
  if (state_ == State::ended) return false;
  if (received_ < sizeof(vhost::Header)) {
    if (!read_bytes(buffer_.data(), sizeof(vhost::Header))) return false;
    std::memcpy(&header_, buffer_.data(), sizeof header_);
    if (!check_size()) return false;
  }
  return read_bytes(buffer_.data(), sizeof(vhost::Header) + header_.size);
}

/// Reads until `wanted` bytes of the message are there; false when that is not now.
bool VhostUser::read_bytes(uint8_t* target, size_t wanted) {
  while (received_ < wanted) {
    const ssize_t got = take(target + received_, wanted - received_, true, 0);
    if (got < 0) return false;
    record_.unfinished = 1;
    received_ += static_cast<size_t>(got);
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
  if (state_ != State::waiting) settle();
}

/// The message in hand is dealt with: writes that down, takes it from the socket, and answers it.
void VhostUser::settle() {
  fds_.clear();
  if (state_ == State::ended) return;
  record_.unfinished = 1;
  write_record();
  consume();
  if (!answer_.empty()) {
    iovec part{.iov_base = answer_.data(), .iov_len = answer_.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
    msghdr message{.msg_iov = &part, .msg_iovlen = 1};
    if (const int fd = answer_fd_.get(); answer_fd_) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof fd);
      std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    const ssize_t sent = sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(answer_.size())) end("the front end does not read its answers");
  }
  record_.unfinished = 0;
  answer_.clear();
  answer_fd_.reset();
}

void VhostUser::consume() {
  if (!looked_at_) return;
  looked_at_ = false;
  std::array<uint8_t, sizeof(vhost::Header) + vhost::max_payload> gone;
  for (size_t left = sizeof(vhost::Header) + header_.size; left > 0;) {
    const ssize_t got = take(gone.data(), left, false, 0);
    if (got < 0) return;
    left -= static_cast<size_t>(got);
  }
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
    const bool start = change->what == RingChange::What::start;
    if (start) rings_[change->ring].started = false;
    const std::string why = number(static_cast<Request>(header_.request)) + ": ring " +
                            std::to_string(change->ring) + ": " + base::errno_name(change->error);
    owner_.refused(why);
    acknowledge(false);
  } else {
    acknowledge(true);
  }
  settle();
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

void VhostUser::reply(const void* payload, size_t size, base::UniqueFd fd) {
  const vhost::Header header{.request = header_.request,
                             .flags = vhost::version | vhost::flag_reply,
                             .size = static_cast<uint32_t>(size)};
  answer_.resize(sizeof header + size);
  std::memcpy(answer_.data(), &header, sizeof header);
  if (size > 0) std::memcpy(answer_.data() + sizeof header, payload, size);
  answer_fd_ = std::move(fd);
}

bool VhostUser::config_changed() {
  if (!backend_) return false;
  const vhost::Header header{.request = vhost::backend_config_change, .flags = vhost::version, .size = 0};
  return send(backend_.get(), &header, sizeof header, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof header;
}

} // namespace scanout::guests
