// The input thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/epoll.h"
#include "base/eventfd_signal.h"
#include "base/spsc_ring.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "input/attachment.h"
#include "input/device.h"
#include "input/router.h"
#include "input/sink.h"

namespace scanout::input {

class Engine;

/// What the JS thread asks. Allocated and freed there, run once on the input thread, and given back.
class Command {
public:
  Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  virtual ~Command() = default;
  virtual void run(Engine& engine) noexcept = 0;

  int error = 0;       // a positive errno, or 0
  void* tag = nullptr; // the asker's
};

/// Wraps a callable that takes the engine and gives a positive errno or 0.
template <typename Body> class BodyCommand final : public Command {
public:
  explicit BodyCommand(Body body) : body_(std::move(body)) {}
  void run(Engine& engine) noexcept override { error = body_(engine); }

private:
  Body body_;
};

struct Notice {
  enum class What : uint8_t {
    hotkey,      // seat, id, guest (0: none), switches of the seat so far
    device_gone, // id, error
    dropped,     // id
    said,        // id; see DeviceOwner
    sink_ended,  // id, error, why
    leds,        // id of the sink, leds
  };
  What what;
  uint32_t id = 0, seat = 0, guest = 0, switches = 0, leds = 0;
  int error = 0;
  const char* why = ""; // a literal
};

/// Reads every input device of every seat on one thread, and hands their events to guests. It allocates
/// nothing after its start but what a library that reads a device does.
///
/// The JS thread talks to it by commands through a ring without locks, and reads what happened from others.
class alignas(4096) Engine final : private DeviceOwner,
                                   private RouterOwner,
                                   private SinkOwner,
                                   private base::Pollable {
public:
  /// `priority` as in base::Thread. Throws SystemError.
  explicit Engine(int priority);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  /// Commands that were not run are deleted.
  ~Engine();
  /// Releases everything that is held in guests, and joins the thread. Everything that it was given may be
  /// destroyed from then on.
  void stop() noexcept;

  // JS thread.
  /// Takes ownership. False when the engine was stopped, or so much waits already that there is no room.
  bool post(std::unique_ptr<Command> command) noexcept;
  /// `post` would take a command.
  [[nodiscard]] bool has_room() const noexcept { return !stop_ && waiting_ < max_waiting; }
  std::unique_ptr<Command> finished() noexcept;
  std::optional<Notice> notice() noexcept { return notices_.pop(); }
  std::optional<Watched> watched() noexcept { return router_.watched(); }
  /// Readable when there is something finished or noticed. Reset it by reading.
  [[nodiscard]] int notify_fd() const noexcept { return notify_.get(); }
  /// Advances whenever the thread turns; `wake` makes it turn once.
  [[nodiscard]] uint64_t heartbeat() const noexcept { return heartbeat_.load(std::memory_order_acquire); }
  void wake() noexcept;
  [[nodiscard]] const base::Thread& thread() const noexcept { return *thread_; }
  [[nodiscard]] uint64_t lost_notices() const noexcept {
    return lost_notices_.load(std::memory_order_relaxed);
  }

  // Input thread, by commands. What is added is borrowed until it is removed. 0 or a positive errno.
  base::Epoll& epoll() noexcept { return epoll_; }
  base::EventfdSignaller& signaller() noexcept { return signaller_; }
  Router& router() noexcept { return router_; }
  int add(Device& device) noexcept;
  void remove(Device& device) noexcept;
  int add(Seat& seat) noexcept;
  void remove(Seat& seat) noexcept;
  /// A guest's port of the same class that was there before is not used any more.
  int add(Attachment& attachment) noexcept;
  void remove(Attachment& attachment) noexcept;
  /// Takes its ports from the guest, and gives its guest the ports that it has then: for a sink that stays
  /// while its devices become others.
  void withdraw(Attachment& attachment) noexcept;
  void offer(Attachment& attachment) noexcept;
  /// Its attachments are removed already.
  void remove(Guest& guest) noexcept { router_.forget(guest, seats_); }
  void tell(const Notice& notice) noexcept;

private:
  static constexpr size_t max_seats = 1024;
  static constexpr size_t max_waiting = 4096; // commands in either ring
  /// Of the ring of notices: the rest is for those that nothing replaces.
  static constexpr size_t max_led_notices = 1024;

  // RouterOwner
  void hotkey(const Seat& seat, uint32_t id, const Guest* guest) noexcept override;
  // DeviceOwner
  void frame(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept override;
  void resync(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept override;
  void read_done() noexcept override;
  void dropped(uint32_t device) noexcept override;
  void said(uint32_t device) noexcept override;
  void gone(uint32_t device, int error) noexcept override;
  // SinkOwner
  void leds_set(Sink& sink, uint32_t leds) noexcept override;
  void delivered(Sink& sink, std::span<const int64_t> kernel_ns) noexcept override;
  void renewed(Sink& sink) noexcept override;
  void ended(Sink& sink, int error, const char* why) noexcept override;

  void on_ready(uint32_t events) noexcept override; // the wake-up eventfd
  void run() noexcept;
  void run_commands() noexcept;
  void settle_ended() noexcept;
  void release_all() noexcept;

  // What a frame needs comes first, on the object's first page; the router ends in what is seldom needed.
  Unflushed unflushed_;
  Attachment* ended_ = nullptr; // in this turn
  bool woken_ = false, tell_ = false;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> heartbeat_{0}, lost_notices_{0};
  base::Epoll epoll_;
  Router router_;
  base::EventfdSignaller signaller_;
  std::vector<Seat*> seats_;
  base::UniqueFd wake_, notify_;
  size_t waiting_ = 0; // JS thread: commands that are posted and not given back
  base::SpscRing<Command*, 4096> commands_, finished_;
  base::SpscRing<Notice, 4096> notices_;
  std::unique_ptr<base::Thread> thread_;
};

} // namespace scanout::input
