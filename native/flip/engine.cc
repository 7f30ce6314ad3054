#include "flip/engine.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/clock.h"
#include "base/error.h"

namespace scanout::flip {

Engine::Engine(int drm_fd, int priority)
    : drm_fd_(drm_fd), wake_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      notify_(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  // The watchdog looks for events that may not be there.
  const int flags = base::check(fcntl(drm_fd_, F_GETFL), "fcntl(F_GETFL)");
  base::check(fcntl(drm_fd_, F_SETFL, flags | O_NONBLOCK), "fcntl(F_SETFL)");
  modesets_.reserve(most_commands);
  leaving_.reserve(most_commands);
  lending_.reserve(most_commands);
  sinks_.reserve(most_sinks);
  drm_source_.engine = this;
  drm_source_.action = &Engine::drain_events;
  capture_source_.engine = this;
  capture_source_.action = &Engine::capture_ready;
  epoll_.add(wake_.get(), EPOLLIN | EPOLLET, this);
  epoll_.add(drm_fd_, EPOLLIN, &drm_source_);
  worker_.emplace(drm_fd_, wake_.get());
  thread_.emplace("scanoutd-flip", priority, [this] { run(); });
}

void Engine::stop() noexcept {
  stop_ = true;
  wake();
  thread_->join();
  worker_.reset();
}

Engine::~Engine() {
  stop();
  while (std::optional<Command*> command = commands_.pop())
    delete *command;
  while (std::optional<Command*> command = finished_.pop())
    delete *command;
  for (Command* command : modesets_)
    delete command;
  for (Command* command : leaving_)
    delete command;
  for (Command* command : lending_)
    delete command;
  delete capture_;
}

bool Engine::post(std::unique_ptr<Command> command) noexcept {
  if (stop_) return false;
  // Never refused for lack of room: with the command would go the producer that it takes out of use.
  backlog_.push_back(std::move(command));
  push_backlog();
  return true;
}

void Engine::push_backlog() noexcept {
  // Bounded here, so that the ring of finished commands, of the same size, can never be full.
  while (!backlog_.empty() && under_way_ < most_commands && commands_.push(backlog_.front().get())) {
    (void)backlog_.front().release();
    backlog_.pop_front();
    ++under_way_;
    wake();
  }
}

std::unique_ptr<Command> Engine::finished() noexcept {
  const std::optional<Command*> command = finished_.pop();
  if (!command) return nullptr;
  --under_way_;
  push_backlog();
  return std::unique_ptr<Command>(*command);
}

const CrtcStats* Engine::stats(uint32_t crtc_id) const noexcept {
  const uint32_t count = crtc_count_.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < count; ++i) {
    if (crtcs_[i]->id() == crtc_id) return &crtcs_[i]->stats;
  }
  return nullptr;
}

[[gnu::hot, gnu::noinline]] void Engine::run() noexcept {
  int64_t next = 0;
  while (!stop_.load(std::memory_order_acquire)) {
    epoll_.wait(next == std::numeric_limits<int64_t>::max() ? -1 : next);
    heartbeat_.fetch_add(1, std::memory_order_release);
    next = service();
    signaller_.flush();
  }
}

[[gnu::hot]] int64_t Engine::service() noexcept {
  // Commands come after the round's events: what they remove can then no longer be meant by one of these.
  run_commands();
  reap_jobs();
  if (pause_asked_.load(std::memory_order_acquire)) take_pause();
  int64_t next = std::numeric_limits<int64_t>::max();
  const uint32_t count = crtc_count_.load(std::memory_order_relaxed);
  int64_t now = epoll_.woke_ns();
  for (uint32_t i = 0; i < count; ++i) {
    next = std::min(next, crtcs_[i]->service(now));
    now = std::max(now, crtcs_[i]->commit_return_ns()); // commits take long, all the rest does not
  }
  if (!modesets_.empty()) start_modesets();
  if (!lending_.empty()) finish_lending();
  if (!leaving_.empty()) {
    signaller_.flush(); // a producer that is given back closes its descriptors
    finish_leaving();
  }
  return next;
}

void Engine::on_ready(uint32_t) noexcept {} // edge-triggered; the work is found in the rings

[[gnu::hot]] void Engine::drain_events() noexcept {
  kms::read_events(drm_fd_, *this);
}

[[gnu::hot]] void Engine::on_event(const kms::Event& event) noexcept {
  if (event.type != kms::Event::Type::flip) return;
  const uint32_t count = crtc_count_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    if (crtcs_[i]->id() != event.crtc_id || crtcs_[i]->is_virtual()) continue;
    crtcs_[i]->on_flip(event.user_data, event.time_ns, static_cast<uint32_t>(event.sequence));
  }
}

[[gnu::hot]] void Engine::run_commands() noexcept {
  while (const std::optional<Command*> command = commands_.pop()) {
    if ((*command)->run(*this) == Command::Result::done) finish(**command);
  }
}

void Engine::finish(Command& command) noexcept {
  finished_.push(&command);
  signal_own(notify_.get());
}

void Engine::notify(const Notice& notice) noexcept {
  if (!notices_.push(notice)) lost_notices_.fetch_add(1, std::memory_order_relaxed);
  signal_own(notify_.get());
}

[[gnu::hot]] void Engine::record(const Record& record) noexcept {
  if (!records_.push(record)) lost_records_.fetch_add(1, std::memory_order_relaxed);
}

int Engine::add_crtc(std::unique_ptr<Crtc>& crtc) noexcept {
  const uint32_t count = crtc_count_.load(std::memory_order_relaxed);
  if (this->crtc(crtc->id()) != nullptr) return EEXIST;
  if (count == max_crtcs) return ENOSPC;
  crtcs_[count] = std::move(crtc);
  sinks_.push_back(crtcs_[count].get());
  crtc_count_.store(count + 1, std::memory_order_release);
  return 0;
}

int Engine::add_sink(StreamSink& sink) noexcept {
  if (sinks_.size() == most_sinks) return ENOSPC;
  sinks_.push_back(&sink);
  return 0;
}

Crtc* Engine::crtc(uint32_t id) noexcept {
  const uint32_t count = crtc_count_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    if (crtcs_[i]->id() == id) return crtcs_[i].get();
  }
  return nullptr;
}

void Engine::resume() noexcept {
  paused_.store(false, std::memory_order_relaxed);
  const uint32_t count = crtc_count_.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i)
    crtcs_[i]->resume();
}

bool Engine::plane_is_elsewhere(uint32_t plane_id, const Crtc& asker) const noexcept {
  const uint32_t count = crtc_count_.load(std::memory_order_relaxed);
  return std::any_of(crtcs_.begin(), crtcs_.begin() + count, [&](const std::unique_ptr<Crtc>& crtc) {
    return crtc.get() != &asker && !crtc->is_virtual() && crtc->has_plane(plane_id);
  });
}

bool Engine::pause(std::chrono::milliseconds longest) noexcept {
  if (stop_) return true;
  (void)pause_taken_.try_acquire(); // of a former one that nobody waited for any more
  pause_asked_.store(true, std::memory_order_release);
  wake();
  return pause_taken_.try_acquire_for(longest);
}

[[gnu::cold]] void Engine::take_pause() noexcept {
  run_commands(); // those from before it was asked, a `resume` among them
  pause();
  // Those that wait for their CRTCs would be refused by the kernel later.
  for (size_t i = modesets_.size(); i-- > 0;) {
    if (!modesets_[i]->started && !modesets_[i]->retakes) finish_modeset(*modesets_[i], EACCES);
  }
  if (!worker_->idle()) return; // it wakes us
  pause_asked_.store(false, std::memory_order_relaxed);
  pause_taken_.release();
}

// ---- mode sets and recovery

void Engine::recover(Crtc& crtc) noexcept {
  // No room: as if it had been refused as busy, to be tried again.
  if (!worker_->push({&crtc.recovery(), 0, nullptr, &crtc, 0})) crtc.on_recovered(EBUSY);
}

void Engine::start_modesets() noexcept {
  std::erase_if(modesets_, [this](ModesetCommand* command) {
    if (command->started) return false;
    const bool parked = std::all_of(command->targets.begin(), command->targets.end(),
                                    [this](const auto& target) { return crtc(target.crtc_id)->parked(); });
    if (parked) command->started = worker_->push({&command->request, command->flags, command, nullptr, 0});
    return false;
  });
}

[[gnu::hot]] void Engine::reap_jobs() noexcept {
  while (const std::optional<Job> job = worker_->pop()) {
    if (job->recovery != nullptr) job->recovery->on_recovered(job->error);
    if (job->modeset != nullptr) finish_modeset(*job->modeset, job->error);
  }
}

void Engine::finish_modeset(ModesetCommand& command, int error) noexcept {
  command.error = error;
  if (error == EACCES && command.started && !is_paused()) {
    pause();
    notify({Notice::Type::paused, 0, 0, 0, error, 1, 0});
  }
  for (const ModesetCommand::Target& target : command.targets) {
    Crtc& crtc = *this->crtc(target.crtc_id);
    if (error == 0 && target.period_ns == 0) crtc.on_off();
    if (error == 0 && target.period_ns != 0) crtc.on_modeset(target.primary_plane, target.period_ns);
    crtc.unpark();
  }
  std::erase(modesets_, &command);
  finish(command);
}

Command::Result ModesetCommand::run(Engine& engine) noexcept {
  for (const Target& target : targets) {
    if (engine.crtc(target.crtc_id) == nullptr) error = ENOENT;
  }
  if (engine.is_paused() && !retakes) error = EACCES;
  if (error != 0) return Result::done;
  for (const Target& target : targets)
    engine.crtc(target.crtc_id)->park();
  engine.modesets_.push_back(this);
  return Result::later;
}

// ---- lending

Command::Result LendCommand::run(Engine& engine) noexcept {
  if (engine.crtc(crtc_id) == nullptr) error = ENOENT;
  if (error != 0) return Result::done;
  engine.lending_.push_back(this);
  return Result::later;
}

void Engine::finish_lending() noexcept {
  std::erase_if(lending_, [this](LendCommand* command) {
    Crtc& crtc = *this->crtc(command->crtc_id);
    if (!crtc.settled()) return false;
    crtc.lend();
    finish(*command);
    return true;
  });
}

// ---- leaving

Command::Result LeaveCommand::run(Engine& engine) noexcept {
  producer->on_leave(engine);
  for (uint32_t i = 0; i < producer->stream_count(); ++i) {
    Stream& stream = producer->stream(i);
    stream.route(nullptr, 0);
    stream.drop();
  }
  engine.leaving_.push_back(this);
  return Result::later;
}

bool Engine::holds(Producer& producer) const noexcept {
  for (const StreamSink* sink : sinks_) {
    for (uint32_t s = 0; s < producer.stream_count(); ++s) {
      if (sink->held(producer.stream(s)) > 0) return true;
    }
  }
  return false;
}

void Engine::finish_leaving() noexcept {
  std::erase_if(leaving_, [this](LeaveCommand* command) {
    if (holds(*command->producer)) return false;
    command->producer->on_left(*this);
    finish(*command);
    return true;
  });
}

// ---- capture

Command::Result CaptureCommand::run(Engine& engine) noexcept {
  Crtc* crtc = engine.crtc(crtc_id);
  if (crtc == nullptr) error = ENOENT;
  if (engine.capture_ != nullptr) error = EBUSY;
  if (error == 0 && !crtc->request_capture(writeback, fb_id))
    error = engine.is_paused() ? EACCES : EOPNOTSUPP;
  if (error != 0) return Result::done;
  engine.capture_ = this;
  return Result::later;
}

void Engine::capture_committed(Crtc& crtc, int error) noexcept {
  CaptureCommand& command = *capture_;
  command.error = error;
  if (error == 0) {
    crtc.each_plane([&](const Plane& plane) {
      const Held& held = plane.in_commit ? plane.queued : plane.current;
      if (held.stream == nullptr || held.frame.off) return;
      command.shown[command.shown_count++] = {held.stream->id(), plane.id, held.frame.fb_id,
                                              held.frame.sequence, held.frame.place};
    });
    capture_fence_.reset(crtc.capture_fence());
    if (!capture_fence_) command.error = EIO;
    if (capture_fence_) command.error = -epoll_.try_add(capture_fence_.get(), EPOLLIN, &capture_source_);
  }
  if (command.error == 0) return;
  capture_ = nullptr;
  finish(command);
}

void Engine::capture_ready() noexcept {
  if (capture_ == nullptr) return;
  epoll_.remove(capture_fence_.get());
  capture_fence_.reset();
  CaptureCommand& command = *capture_;
  capture_ = nullptr;
  finish(command);
}

} // namespace scanout::flip
