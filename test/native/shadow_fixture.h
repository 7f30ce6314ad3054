// A shadow copy on a display in virtual time, with guests whose buffers lie in memory.
#pragma once

#include <deque>
#include <map>
#include <random>
#include <set>

#include "check.h"
#include "flip/engine.h"
#include "flip_sim.h"
#include "guests/shadow.h"

namespace scanout::test {

/// Takes drawings and makes them when the test says.
class ShadowDesk final : public guests::ShadowHost {
public:
  bool draw(guests::ShadowJob& job) noexcept override;
  void tell(const flip::Notice& notice) noexcept override { notices.push_back(notice); }
  void finish(flip::Command& command) noexcept override { finished.push_back(&command); }
  int enter() noexcept override { return 0; }
  void leave() noexcept override { left = true; }
  void stop() noexcept override { jobs.clear(); }

  /// Draws the oldest job, or fails it: as a layer that cannot be read, max_shadow_layers for none.
  void finish_one(int error = 0, uint32_t failed_layer = guests::max_shadow_layers);
  [[nodiscard]] bool reads(const pixels::MappedBuffer* buffer) const;

  std::deque<guests::ShadowJob*> jobs;
  std::vector<flip::Notice> notices;
  std::vector<flip::Command*> finished;
  std::vector<guests::DamageSet> drawn; // what each finished job drew
  bool refuses = false;
  bool left = false;

private:
  static void spoil(const guests::ShadowJob& job);
  pixels::Composer composer_;
};

/// A guest with five buffers that draws noise into a free one, and checks what it is told.
class ShadowGuest final : public flip::StreamOwner {
public:
  static constexpr uint32_t buffer_count = 5;

  ShadowGuest(uint32_t stream_id, uint32_t width, uint32_t height, uint32_t fourcc, Sim& sim,
              ShadowDesk& desk, base::Epoll& epoll);

  /// Makes the buffers known to the shadow.
  void map(guests::Shadow& shadow);
  /// Draws a new picture, new in `rects` random rectangles (0: everywhere), and submits it. False when no
  /// buffer is free.
  bool submit(uint32_t rects = 0);
  void hide();
  /// The picture that the guest was told is shown, for the reference; no pixels when it is hidden.
  [[nodiscard]] const std::vector<uint32_t>& shown_pixels() const { return shown_; }
  [[nodiscard]] pixels::Layer layer() const;

  void on_presented(flip::Stream& stream, const flip::Frame& frame,
                    const flip::Presented& how) noexcept override;
  void on_retained(flip::Stream& stream, const flip::Frame& frame) noexcept override;
  void on_released(flip::Stream& stream, const flip::Frame& frame, bool superseded) noexcept override;
  void on_refused(flip::Stream& stream, const flip::Frame& frame, int error) noexcept override;
  void on_room(flip::Stream& stream) noexcept override {
    ++rooms;
    if (room) room(stream);
  }

  flip::Stream stream;
  flip::Placement place; // of the next frame
  uint32_t buffer_base = 0;
  std::array<std::vector<uint32_t>, buffer_count> buffers;
  std::array<int, buffer_count> uses{};
  std::vector<const pixels::MappedBuffer*> mapped;
  std::map<uint64_t, int> held; // uses by sequence
  std::vector<uint64_t> presented, superseded;
  std::vector<std::pair<uint64_t, int>> refused;
  std::vector<uint32_t> flags;
  flip::Frame last; // the newest one that was submitted
  int rooms = 0;
  std::function<void(flip::Stream&)> room;

private:
  friend class ShadowFixture;
  Sim& sim_;
  ShadowDesk& desk_;
  const pixels::Format& format_;
  uint32_t width_, height_;
  std::mt19937 random_;
  std::vector<uint32_t> newest_; // what is drawn next starts from here
  std::map<uint64_t, std::vector<uint32_t>> pictures_;
  std::vector<uint32_t> shown_;
  flip::Placement shown_place_;
  uint64_t sequence_ = 0;
};

struct ShadowSetup {
  flip::Rect area{0, 0, 160, 120};
  bool alpha = false;
  bool follows_layer = false;
};

/// One shadow with its own stream on plane 31 of CRTC 50.
class ShadowFixture {
public:
  explicit ShadowFixture(const ShadowSetup& setup = {});
  ~ShadowFixture();

  /// A guest whose picture is as large as `place`, attached at height `z`.
  ShadowGuest& guest(uint32_t stream_id, const flip::Placement& place, int32_t z,
                     uint32_t fourcc = 0x34325258);
  static flip::Placement at(int32_t x, int32_t y, uint32_t width, uint32_t height);
  /// Runs the display; each drawing takes `draw_ms`.
  void run(int milliseconds);
  /// Runs to the next vblank and a little more, with all drawings made before it.
  void vblank();
  /// Switches the output off and on again.
  void relight();
  /// Compares what is scanned out with what the guests were told is shown.
  void check_screen();
  [[nodiscard]] uint64_t scanned() { return sim.screen[31].fb; }

  Sim sim;
  base::Epoll epoll;
  base::UniqueFd drm; // a stand-in: the engine is only asked for its list of sinks
  flip::Engine engine;
  std::shared_ptr<ShadowDesk> desk = std::make_shared<ShadowDesk>();
  ShadowSetup setup;
  std::array<std::vector<uint32_t>, 2> memory;
  std::vector<std::unique_ptr<ShadowGuest>> guests;
  flip::Crtc& crtc;
  std::unique_ptr<guests::Shadow> shadow;
  int draw_ms = 2;
  bool entered = false;

private:
  void check_own_damage();
  std::map<guests::ShadowJob*, int64_t> started_;
};

} // namespace scanout::test
