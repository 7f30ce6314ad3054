#include "input/engine.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/error.h"

namespace scanout::input {

namespace {

// Our own eventfd, non-blocking: a full counter is as good as one more.
void signal(int fd) noexcept {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

base::UniqueFd make_eventfd() {
  return base::UniqueFd(base::check(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"));
}

Attachment& attachment_of(Sink& sink) noexcept {
  return *static_cast<Attachment*>(sink.tag);
}

} // namespace

Engine::Engine(int priority) : router_(*this), wake_(make_eventfd()), notify_(make_eventfd()) {
  seats_.reserve(max_seats);
  epoll_.add(wake_.get(), EPOLLIN | EPOLLET, this);
  thread_ = std::make_unique<base::Thread>("scanoutd-input", priority, [this] { run(); });
}

Engine::~Engine() {
  stop();
  while (const auto command = commands_.pop())
    delete *command;
  while (const auto command = finished_.pop())
    delete *command;
}

void Engine::stop() noexcept {
  stop_ = true;
  wake();
  thread_->join();
}

void Engine::wake() noexcept {
  signal(wake_.get());
}

bool Engine::post(std::unique_ptr<Command> command) noexcept {
  if (!has_room() || !commands_.push(command.get())) return false;
  static_cast<void>(command.release()); // the ring's now
  ++waiting_;
  wake();
  return true;
}

std::unique_ptr<Command> Engine::finished() noexcept {
  const auto command = finished_.pop();
  if (!command) return nullptr;
  --waiting_;
  return std::unique_ptr<Command>(*command);
}

// ---- the thread

void Engine::on_ready(uint32_t) noexcept {
  woken_ = true;
}

[[gnu::hot]] void Engine::run() noexcept {
  while (!stop_) {
    epoll_.wait(-1);
    // Not from within the wait: what a command removes may be in the same batch of events.
    settle_ended();
    if (std::exchange(woken_, false)) run_commands();
    unflushed_.flush();
    signaller_.flush();
    if (std::exchange(tell_, false)) signal(notify_.get());
    heartbeat_.fetch_add(1, std::memory_order_release);
  }
  release_all();
  unflushed_.flush();
  signaller_.flush();
}

void Engine::run_commands() noexcept {
  while (const auto command = commands_.pop()) {
    (*command)->run(*this);
    finished_.push(*command); // has room for all that may wait
    tell_ = true;
  }
}

void Engine::release_all() noexcept {
  for (Seat* seat : seats_)
    router_.forget(*seat);
}

void Engine::tell(const Notice& notice) noexcept {
  if (!notices_.push(notice)) lost_notices_.fetch_add(1, std::memory_order_relaxed);
  tell_ = true;
}

// ---- what it has

int Engine::add(Device& device) noexcept {
  return device.enter(epoll_, *this);
}

void Engine::remove(Device& device) noexcept {
  for (Source* source : device.sources())
    router_.forget(*source);
  device.leave();
}

int Engine::add(Seat& seat) noexcept {
  if (seats_.size() == max_seats) return ENOSPC;
  seats_.push_back(&seat);
  return 0;
}

void Engine::remove(Seat& seat) noexcept {
  router_.forget(seat);
  std::erase(seats_, &seat);
}

int Engine::add(Attachment& attachment) noexcept {
  if (const int error = attachment.sink->enter(epoll_, *this); error != 0) return error;
  attachment.traffic.unflushed = &unflushed_;
  offer(attachment);
  return 0;
}

void Engine::offer(Attachment& attachment) noexcept {
  for (const auto& port : attachment.ports) {
    port->open = !attachment.ended;
    Port*& place = attachment.guest.ports[static_cast<size_t>(port->of)];
    if (place != nullptr) router_.forget(*place, seats_);
    place = port.get();
  }
  router_.refresh(attachment.guest, seats_);
}

void Engine::withdraw(Attachment& attachment) noexcept {
  for (const auto& port : attachment.ports) {
    router_.forget(*port, seats_);
    Port*& place = attachment.guest.ports[static_cast<size_t>(port->of)];
    if (place == port.get()) place = nullptr;
  }
}

void Engine::remove(Attachment& attachment) noexcept {
  withdraw(attachment);
  unflushed_.flush();
  signaller_.flush(); // what it signals is borrowed until then
  settle_ended();     // it may be among them, by a frame of just now
  attachment.sink->leave();
}

// ---- what is told

[[gnu::hot]] void Engine::frame(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept {
  router_.frame(source, events, kernel_ns);
}

[[gnu::hot]] void Engine::read_done() noexcept {
  unflushed_.flush();
}

void Engine::resync(Source& source, std::span<const Event> events, int64_t kernel_ns) noexcept {
  router_.resync(source, events, kernel_ns);
}

void Engine::dropped(uint32_t device) noexcept {
  tell({.what = Notice::What::dropped, .id = device});
}

void Engine::said(uint32_t device) noexcept {
  tell({.what = Notice::What::said, .id = device});
}

void Engine::gone(uint32_t device, int error) noexcept {
  for (Seat* seat : seats_)
    router_.forget_device(*seat, device);
  tell({.what = Notice::What::device_gone, .id = device, .error = error});
}

void Engine::hotkey(const Seat& seat, uint32_t id, const Guest* guest) noexcept {
  tell({.what = Notice::What::hotkey,
        .id = id,
        .seat = seat.id,
        .guest = guest == nullptr ? 0 : guest->id,
        .switches = seat.switches});
}

void Engine::leds_set(Sink& sink, uint32_t leds) noexcept {
  Attachment& attachment = attachment_of(sink);
  router_.leds(attachment.guest, leds, seats_);
  if (notices_.size() < max_led_notices)
    tell({.what = Notice::What::leds, .id = attachment.id, .leds = leds});
}

[[gnu::hot]] void Engine::delivered(Sink& sink, std::span<const int64_t> kernel_ns) noexcept {
  base::Histogram& latency = *attachment_of(sink).traffic.latency;
  const int64_t now = base::now_ns();
  for (const int64_t of : kernel_ns)
    latency.add(now - of);
}

void Engine::renewed(Sink& sink) noexcept {
  for (const auto& port : attachment_of(sink).ports)
    router_.renewed(*port, seats_);
}

/// Told in the middle of a frame, perhaps: what was pressed is forgotten at the end of the turn.
void Engine::ended(Sink& sink, int error, const char* why) noexcept {
  Attachment& attachment = attachment_of(sink);
  if (std::exchange(attachment.ended, true)) return;
  for (const auto& port : attachment.ports)
    port->open = false;
  attachment.next_ended = std::exchange(ended_, &attachment);
  tell({.what = Notice::What::sink_ended, .id = attachment.id, .error = error, .why = why});
}

void Engine::settle_ended() noexcept {
  while (ended_ != nullptr) {
    const Attachment& attachment = *std::exchange(ended_, ended_->next_ended);
    for (const auto& port : attachment.ports)
      router_.forget(*port, seats_);
  }
}

} // namespace scanout::input
