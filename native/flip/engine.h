// The flip thread of one card.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <semaphore>
#include <vector>

#include "base/epoll.h"
#include "base/eventfd_signal.h"
#include "base/spsc_ring.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "flip/commands.h"
#include "flip/crtc.h"
#include "flip/producer.h"
#include "flip/worker.h"
#include "kms/events.h"

namespace scanout::flip {

/// Runs every CRTC of a card on one thread.
///
/// The JS thread talks to it by commands through a ring without locks, and reads what happened from three
/// more: finished commands, notices, records. The flip thread allocates nothing after its start.
class Engine final : private CrtcHost, private kms::EventHandler, private base::Pollable {
public:
  /// `drm_fd` is borrowed and outlives the engine; it is read here only, and made O_NONBLOCK. `priority` as
  /// in base::Thread. Throws SystemError.
  Engine(int drm_fd, int priority);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  /// Commands that were not finished are deleted.
  ~Engine();
  /// Stops and joins the threads. What is on the screen stays there. Producers may be destroyed from then on.
  void stop() noexcept;
  [[nodiscard]] bool stopped() const noexcept { return stop_; }

  // JS thread.
  /// Takes ownership. False when the engine was stopped.
  bool post(std::unique_ptr<Command> command) noexcept;
  std::unique_ptr<Command> finished() noexcept;
  std::optional<Notice> notice() noexcept { return notices_.pop(); }
  std::optional<Record> record() noexcept { return records_.pop(); }
  /// Readable when there is something finished or noticed. Reset it by reading.
  [[nodiscard]] int notify_fd() const noexcept { return notify_.get(); }
  /// Advances whenever the thread turns; `wake` makes it turn once.
  [[nodiscard]] uint64_t heartbeat() const noexcept { return heartbeat_.load(std::memory_order_acquire); }
  void wake() noexcept { signal_own(wake_.get()); }
  [[nodiscard]] const base::Thread& thread() const noexcept { return *thread_; }
  [[nodiscard]] uint64_t lost_notices() const noexcept {
    return lost_notices_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] uint64_t lost_records() const noexcept {
    return lost_records_.load(std::memory_order_relaxed);
  }
  /// Counters of a CRTC that was added, or null.
  [[nodiscard]] const CrtcStats* stats(uint32_t crtc_id) const noexcept;
  /// Commits nothing from now on, until `resume` on the flip thread: master is about to be taken away. Flips
  /// are completed by a timer meanwhile. Waits for what the threads are just committing, at most so long;
  /// false when that was not enough, and it goes on once they are done.
  bool pause(std::chrono::milliseconds longest) noexcept;
  /// True while nothing is committed for lack of master.
  [[nodiscard]] bool is_paused() const noexcept { return paused_.load(std::memory_order_relaxed); }

  // Flip thread: for commands and producers.
  base::Epoll& epoll() noexcept { return epoll_; }
  base::EventfdSignaller& signaller() noexcept { return signaller_; }
  /// When this round of the flip thread began, CLOCK_MONOTONIC: the time of what woke it.
  [[nodiscard]] int64_t round_ns() const noexcept { return epoll_.woke_ns(); }
  int add_crtc(std::unique_ptr<Crtc>& crtc) noexcept;
  /// Sinks other than CRTCs (shadow copies): borrowed between the two calls. 0 or a positive errno.
  int add_sink(StreamSink& sink) noexcept;
  void remove_sink(StreamSink& sink) noexcept { std::erase(sinks_, &sink); }
  /// Gives a command back whose `run` said `later`.
  void finish(Command& command) noexcept;
  /// Tells the JS thread.
  void tell(const Notice& notice) noexcept { notify(notice); }
  /// Null when unknown.
  Crtc* crtc(uint32_t id) noexcept;
  CrtcHost& host() noexcept { return *this; }
  void resume() noexcept;

private:
  friend class ModesetCommand;
  friend class LendCommand;
  friend class CaptureCommand;
  friend class LeaveCommand;

  // CrtcHost
  [[nodiscard, gnu::hot]] int drm_fd() const noexcept override { return drm_fd_; }
  [[gnu::hot]] kms::AtomicRequest& request() noexcept override { return request_; }
  [[gnu::hot]] uint64_t next_commit_id() noexcept override { return ++commit_id_; }
  void notify(const Notice& notice) noexcept override;
  void record(const Record& record) noexcept override;
  void drain_events() noexcept override;
  void recover(Crtc& crtc) noexcept override;
  [[nodiscard, gnu::hot]] bool paused() const noexcept override { return is_paused(); }
  void pause() noexcept override { paused_.store(true, std::memory_order_relaxed); }
  void take_pause() noexcept;
  void capture_committed(Crtc& crtc, int error) noexcept override;
  [[nodiscard]] bool plane_is_elsewhere(uint32_t plane_id, const Crtc& asker) const noexcept override;

  void on_event(const kms::Event& event) noexcept override;
  void on_ready(uint32_t events) noexcept override; // the wake-up eventfd

  /// The other descriptors that wake the thread.
  struct Source final : base::Pollable {
    Engine* engine = nullptr;
    void (Engine::*action)() noexcept = nullptr;
    void on_ready(uint32_t) noexcept override { (engine->*action)(); }
  };

  void push_backlog() noexcept;
  void run() noexcept;
  void run_commands() noexcept;
  void start_modesets() noexcept;
  void reap_jobs() noexcept;
  void finish_modeset(ModesetCommand& command, int error) noexcept;
  void finish_leaving() noexcept;
  void finish_lending() noexcept;
  [[nodiscard]] bool holds(Producer& producer) const noexcept;
  void capture_ready() noexcept;
  int64_t service() noexcept;

  int drm_fd_;
  base::Epoll epoll_;
  base::UniqueFd wake_;
  base::UniqueFd notify_;
  kms::AtomicRequest request_{128, 1024};
  uint64_t commit_id_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<bool> paused_{false};
  std::atomic<bool> pause_asked_{false};
  std::binary_semaphore pause_taken_{0};
  std::atomic<uint64_t> heartbeat_{0}, lost_notices_{0}, lost_records_{0};
  std::atomic<uint32_t> crtc_count_{0};
  std::array<std::unique_ptr<Crtc>, max_crtcs> crtcs_;

  static constexpr size_t most_sinks = 512;
  static constexpr size_t most_commands = 1024;
  base::SpscRing<Command*, most_commands> commands_;
  base::SpscRing<Command*, most_commands> finished_;
  base::SpscRing<Notice, 1024> notices_;
  base::SpscRing<Record, 8192> records_;
  base::EventfdSignaller signaller_;
  // JS thread
  size_t under_way_ = 0; // in the rings or at work
  std::deque<std::unique_ptr<Command>> backlog_;

  std::vector<ModesetCommand*> modesets_; // capacity reserved for all commands
  std::vector<LeaveCommand*> leaving_;
  std::vector<LendCommand*> lending_;
  std::vector<StreamSink*> sinks_;
  CaptureCommand* capture_ = nullptr;
  base::UniqueFd capture_fence_;
  Source drm_source_, capture_source_;

  std::optional<Worker> worker_;
  std::optional<base::Thread> thread_;
};

} // namespace scanout::flip
