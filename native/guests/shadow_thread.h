// The thread that draws the shadow copies of one engine.
#pragma once

#include <atomic>

#include "base/epoll.h"
#include "base/spsc_ring.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "flip/engine.h"
#include "guests/shadow_job.h"

namespace scanout::guests {

/// Runs with normal priority, so that copying pixels delays no flip. Shared by the shadows of an engine, and
/// outlives them.
class ShadowThread final : public ShadowHost, private base::Pollable {
public:
  /// The engine is used as long as shadows are in use. Throws SystemError.
  explicit ShadowThread(flip::Engine& engine);
  ShadowThread(const ShadowThread&) = delete;
  ShadowThread& operator=(const ShadowThread&) = delete;
  ~ShadowThread() { stop(); }

  bool draw(ShadowJob& job) noexcept override;
  void tell(const flip::Notice& notice) noexcept override { engine_.tell(notice); }
  void finish(flip::Command& command) noexcept override { engine_.finish(command); }
  int enter() noexcept override;
  void leave() noexcept override;
  void stop() noexcept override;

private:
  void on_ready(uint32_t events) noexcept override; // something is drawn
  void run() noexcept;

  flip::Engine& engine_;
  base::UniqueFd wake_, done_event_;
  std::atomic<bool> stop_{false};
  uint32_t users_ = 0;
  base::SpscRing<ShadowJob*, 64> jobs_;
  base::SpscRing<ShadowJob*, 64> done_;
  pixels::Composer composer_;
  base::Thread thread_;
};

} // namespace scanout::guests
