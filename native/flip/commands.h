// What the JS thread asks of the flip thread. Allocated and freed by the JS thread, run by the flip thread.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "flip/crtc.h"
#include "flip/producer.h"
#include "kms/atomic.h"

namespace scanout::flip {

class Engine;

/// `run` is called once, on the flip thread. The command comes back to the JS thread when it is finished:
/// after `run`, or, where that said `later`, when the engine finishes it. `error` is then 0 or a positive
/// errno.
class Command {
public:
  enum class Result { done, later };
  virtual ~Command() = default;
  virtual Result run(Engine& engine) noexcept = 0;

  int error = 0;
  void* tag = nullptr; // the asker's
};

/// Wraps a callable; for everything that is done at once.
template <typename Body> class SimpleCommand final : public Command {
public:
  explicit SimpleCommand(Body body) : body_(std::move(body)) {}
  Result run(Engine& engine) noexcept override {
    error = body_(engine);
    return Result::done;
  }

private:
  Body body_;
};

/// Sets modes: a blocking commit without event, with the CRTCs concerned at rest meanwhile.
class ModesetCommand final : public Command {
public:
  struct Target {
    uint32_t crtc_id;
    uint32_t primary_plane; // shows the daemon's own picture afterwards
    int64_t period_ns;      // 0: the CRTC is switched off
  };
  Result run(Engine& engine) noexcept override;

  kms::AtomicRequest request{256, 4096};
  uint32_t flags = 0;
  std::vector<Target> targets;
  /// Made even while the engine is paused, which it stays: the one that takes the screen back. Others are
  /// refused with EACCES then.
  bool retakes = false;
  bool started = false;
};

/// Leaves a CRTC to somebody else: finished when nothing of ours is left to be committed to it, and nothing
/// is from then on, until its mode is set.
class LendCommand final : public Command {
public:
  explicit LendCommand(uint32_t id) : crtc_id(id) {}
  Result run(Engine& engine) noexcept override;
  uint32_t crtc_id;
};

/// Reads one CRTC's picture back through its writeback connector.
class CaptureCommand final : public Command {
public:
  struct Shown {
    uint32_t stream, plane_id, fb_id;
    uint64_t sequence;
    Placement place;
  };
  Result run(Engine& engine) noexcept override;

  uint32_t crtc_id = 0;
  uint32_t fb_id = 0;
  WritebackProperties writeback;
  std::array<Shown, max_planes> shown;
  uint32_t shown_count = 0;
};

/// Ends a producer's part; finished when no plane holds a frame of it.
class LeaveCommand final : public Command {
public:
  Result run(Engine& engine) noexcept override;
  Producer* producer = nullptr;
  /// Set by an asker that will not be there any more when the producer is free.
  std::unique_ptr<Producer> owned;
};

} // namespace scanout::flip
