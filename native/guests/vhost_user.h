// The back end's half of a vhost-user connection: a device that a VMM lets another process have.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "guests/vhost_record.h"
#include "guests/vhost_rings.h"
#include "guests/vhost_user_protocol.h"

namespace scanout::guests {

/// Descriptors of a message. What nobody takes is closed by a thread that may hang: it may be anything.
class ReceivedFds {
public:
  ReceivedFds() = default;
  ReceivedFds(const ReceivedFds&) = delete;
  ReceivedFds& operator=(const ReceivedFds&) = delete;
  ~ReceivedFds() { clear(); }
  void add(int fd);
  void clear() noexcept;
  [[nodiscard]] size_t size() const noexcept { return fds_.size(); }
  [[nodiscard]] int peek(size_t index) const { return fds_[index].get(); }
  base::UniqueFd take(size_t index) { return std::move(fds_[index]); }

private:
  std::vector<base::UniqueFd> fds_;
};

/// A request that cannot be done. The front end is told where it asks for an answer; else the connection
/// ends.
class VhostRefusal : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// Speaks vhost-user for any device. Not of the device's thread: it checks messages, maps memory, and has
/// each change of the rings made there (`Owner::apply`) before it reads on. One thread; never blocks.
///
/// A message stays in the socket until it is carried out, and what it brought about is in the record before
/// it is answered: a process that has the socket, the record and the kept descriptors goes on where this one
/// died (`restore`).
///
/// Migration is refused: VHOST_F_LOG_ALL is not offered, and requests about the log are answered with an
/// error.
class VhostUser {
public:
  struct Traits {
    uint64_t features = 0;          // of the device; the transport's own are added
    uint64_t protocol_features = 0; // further ones that the device wants, such as CONFIG
    uint32_t rings = 0;
  };

  class Owner {
  public:
    /// Has the change run by the device's thread, then calls `finished`; not from within this call.
    virtual void apply(std::unique_ptr<RingChange> change) = 0;
    virtual void features_set(uint64_t features) = 0;
    /// Fills `config` with the device's configuration from `offset` on. False: there is no such part.
    virtual bool get_config(uint32_t offset, std::span<uint8_t> config) = 0;
    virtual bool set_config(uint32_t offset, std::span<const uint8_t> config) = 0;
    /// A request of the device's kind. False when it has none like it. May throw VhostRefusal.
    virtual bool other(vhost::Request request, std::span<const uint8_t> payload, ReceivedFds& fds) = 0;
    /// A descriptor that a successor needs, to be kept (a copy of it, whatever was kept under that name
    /// before), and one that it does not need any more.
    virtual void keep(const std::string& name, int fd) = 0;
    virtual void drop(const std::string& name) = 0;
    /// A request was refused; the connection goes on. For the log.
    virtual void refused(const std::string& why) = 0;

  protected:
    ~Owner() = default;
  };

  /// `owner` and `record` outlive it. The socket is connected and non-blocking.
  VhostUser(base::UniqueFd socket, const Traits& traits, Owner& owner, VhostRecord& record);
  VhostUser(const VhostUser&) = delete;
  VhostUser& operator=(const VhostUser&) = delete;
  ~VhostUser() = default;

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

  /// By the names of `Owner::keep`.
  using Kept = std::map<std::string, base::UniqueFd>;
  /// Before anything else: goes on where the record says that another process was. Gives the changes that
  /// make the rings again, to be run in their order by the device's thread, and destroyed afterwards. Throws
  /// VhostRefusal or SystemError when that cannot be.
  std::vector<std::unique_ptr<RingChange>> restore(Kept kept);
  /// Ends the connection: the front end sees it at once, whoever else has the socket.
  void hang_up() noexcept;

  enum class State {
    open,    // read on when there is something
    waiting, // for `finished`; nothing is read meanwhile
    ended,   // see `why_ended`
  };
  [[nodiscard]] State state() const noexcept { return state_; }
  /// `why_ended` of one that just ended.
  static constexpr const char* closed = "the front end closed the connection";
  /// The end as a text: the front end closed, or what it did wrong.
  [[nodiscard]] const std::string& why_ended() const noexcept { return why_ended_; }

  /// Handles what has come, a bounded number of messages. Call it when the socket is readable and `state`
  /// open.
  State receive();
  /// A change that was applied is run.
  void finished(std::unique_ptr<RingChange> change);
  /// Tells the driver that the configuration changed, where the front end has a way for that. False: it has
  /// none.
  bool config_changed();
  /// The memory table in force, or null. Other threads may read in it as long as they keep it.
  [[nodiscard]] const std::shared_ptr<const GuestMemory>& memory() const noexcept { return memory_; }

private:
  struct Ring {
    VirtqueueSetup setup;
    bool has_size = false, has_addresses = false, started = false, enabled = false;
  };
  struct Message {
    vhost::Request request;
    bool need_reply;
    std::span<const uint8_t> payload;
  };

  bool look();
  bool read_some();
  bool read_bytes(uint8_t* target, size_t wanted);
  ssize_t take(uint8_t* target, size_t size, bool with_fds, int flags);
  bool check_size();
  void settle();
  void consume();
  void write_record() noexcept;
  void handle();
  void dispatch(const Message& message);
  void dispatch_ring(const Message& message);
  void set_features(uint64_t features);
  void set_memory(const Message& message);
  void set_ring_fd(const Message& message);
  void get_inflight(const Message& message);
  void set_inflight(const Message& message);
  void keep_memory(const vhost::MemoryTable& table, const GuestMemory& memory);
  void restore_memory(Kept& kept);
  std::unique_ptr<RingChange> restored_ring(uint32_t index);
  void config(const Message& message);
  void apply(std::unique_ptr<RingChange> change);
  void acknowledge(bool done);
  void reply(const void* payload, size_t size, base::UniqueFd fd = {});
  void reply_u64(uint64_t value) { reply(&value, sizeof value); }
  void end(const std::string& why);
  Ring& ring_of(uint64_t index);
  static std::string fd_name(RingChange::What what, uint32_t ring);
  template <typename T> T payload_of(const Message& message);

  base::UniqueFd socket_;
  base::UniqueFd backend_; // our own channel, when there is one
  Traits traits_;
  Owner& owner_;
  VhostRecord& record_;
  State state_ = State::open;
  std::string why_ended_;
  uint64_t features_ = 0, protocol_features_ = 0;
  std::vector<Ring> rings_;
  std::shared_ptr<const GuestMemory> memory_;
  vhost::MemoryTable table_{};
  std::array<uint64_t, GuestMemory::max_regions> inodes_{};
  vhost::Inflight inflight_{};

  // The message that is being read, or waits for its change.
  alignas(8) std::array<uint8_t, sizeof(vhost::Header) + vhost::max_payload> buffer_;
  size_t received_ = 0;
  bool looked_at_ = false; // it is in the socket still
  ReceivedFds fds_;
  vhost::Header header_{};
  std::vector<uint8_t> answer_;
  base::UniqueFd answer_fd_;
};

} // namespace scanout::guests
