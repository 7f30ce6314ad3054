// A seat of logind or seatd, by libseat: devices that it opens, and when they may be used.
#pragma once

// Its header is for C alone.
extern "C" {
#include <libseat.h>
}

#include <map>
#include <memory>
#include <string>

#include "base/unique_fd.h"

namespace scanout::session {

/// Told from within the calls of Seat that may dispatch: `dispatch`, `open_device`, `close_device`. Must not
/// throw.
class SeatListener {
public:
  /// The devices may be used. The descriptors of input devices that were open before are of no use any more.
  virtual void on_enabled() noexcept = 0;
  /// The devices are about to be taken away, or are already. `Seat::acknowledge` has to follow. logind goes
  /// on as soon as this returns, seatd only after the acknowledgement.
  virtual void on_disabled() noexcept = 0;

protected:
  ~SeatListener() = default;
};

/// Control of the seat of this process's session. Not thread-safe. DRM master is the seat manager's to give
/// and take: never SET_MASTER or DROP_MASTER on a descriptor from here.
class Seat {
public:
  /// Blocks for the answer of the seat manager. `listener` outlives the seat. Which manager is asked is said
  /// by LIBSEAT_BACKEND, else libseat tries one after the other. Throws SystemError, with what libseat has
  /// logged as its detail.
  explicit Seat(SeatListener& listener);
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;
  ~Seat();

  /// Readable when there is something to dispatch.
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] std::string name() const { return libseat_seat_name(seat_.get()); }
  /// Calls the listener for what has come, without blocking. To be called once after the seat was opened and
  /// after each other call, as well: an answer that was waited for may have had others before it, which the
  /// descriptor then does not announce. Throws SystemError (ECONNRESET) when the seat manager is gone.
  void dispatch();
  /// The answer to `on_disabled`: nothing uses the devices any more. Throws SystemError.
  void acknowledge();

  struct Device {
    int id;
    base::UniqueFd fd; ///< a descriptor of our own, of the open file that the seat manager has
  };
  /// Any device of the seat: a card, or an input device. Blocks for the answer. Throws SystemError: EPERM
  /// where the seat is not enabled or the device is not one of it, EBUSY when another is DRM master.
  Device open_device(const std::string& path);
  void close_device(int id) noexcept;
  /// Asks for another session, which is the number of a VT where the seat has VTs. Throws SystemError.
  void switch_session(int session);

private:
  struct Close {
    void operator()(libseat* seat) const noexcept { libseat_close_seat(seat); }
  };

  libseat_seat_listener callbacks_;
  std::unique_ptr<libseat, Close> seat_;
  /// What libseat gave, by id: it wants to find these open when a device is closed.
  std::map<int, base::UniqueFd> devices_;
  int fd_ = -1;
};

} // namespace scanout::session
