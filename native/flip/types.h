// What the flip engine moves: frames, planes, CRTCs, records. Plain values, no ownership.
#pragma once

#include <array>
#include <cstdint>

namespace scanout::flip {

struct Rect {
  int32_t x1 = 0, y1 = 0, x2 = 0, y2 = 0; // pixels, x2 and y2 exclusive
};

constexpr size_t max_damage = 8;
constexpr size_t max_crtcs = 32;  // per card: the kernel's possible_crtcs masks have 32 bits
constexpr size_t max_planes = 64; // per CRTC

constexpr uint32_t first_virtual_crtc = 0xffff0000; // ids that no kernel object has

/// Where and what of a plane: everything of a frame that is not the buffer. SRC_* in 16.16, CRTC_* in pixels.
struct Placement {
  uint32_t src_x = 0, src_y = 0, src_w = 0, src_h = 0;
  int32_t x = 0, y = 0;
  uint32_t w = 0, h = 0;
  int32_t hot_x = 0, hot_y = 0;
  bool reflect_y = false; // the first row in memory is the lowest of the picture
  bool operator==(const Placement&) const = default;
};

/// One picture for one plane. The framebuffer belongs to whoever made the frame, until `released`.
struct Frame {
  uint32_t fb_id = 0; // 0: the display has none of it; it can only be copied
  uint32_t buffer = 0;
  uint32_t generation = 0; // of the buffer: which of its framebuffers that is; the owner's business
  bool has_buffer = true;  // false: the guest hides the plane
  bool off = false;        // nothing of it is visible: switch the plane off
  uint64_t sequence = 0;
  Placement place;
  int64_t kick_ns = 0;       // when its page-flip eventfd woke the flip thread
  int64_t ready_ns = 0;      // when it could be committed: kick_ns, or when its fence signalled
  bool direct = true;        // the guest's own buffer, not a copy of it
  uint32_t damage_count = 0; // 0: everything
  std::array<Rect, max_damage> damage;
};

/// Property ids of a hardware plane, looked up once; 0 where the driver has none.
struct PlaneProperties {
  uint32_t fb_id, crtc_id, src_x, src_y, src_w, src_h, crtc_x, crtc_y, crtc_w, crtc_h;
  uint32_t fb_damage_clips, hotspot_x, hotspot_y, rotation;
};

/// Property ids of a writeback connector.
struct WritebackProperties {
  uint32_t connector = 0; // 0: the CRTC has none attached
  uint32_t fb_id = 0, out_fence_ptr = 0;
};

enum class Policy : uint8_t {
  eager,    // commit as soon as nothing is in flight
  deadline, // commit just before the vblank, so that everybody's newest frame is in
};

enum class PresentMode : uint8_t { mailbox, fifo, async };

/// Flags of what came of a frame.
enum PresentedFlags : uint32_t {
  presented_vsync = 1u << 0,
  presented_hw_clock = 1u << 1, // the timestamp is the kernel's and is plausible
  presented_direct = 1u << 2,
  presented_recovered = 1u << 3, // its flip event never came; the watchdog's blocking commit showed it
  presented_synthetic = 1u << 4, // no output: paced by a timer
  presented_async = 1u << 5,
};

/// One frame's way to the screen. All times CLOCK_MONOTONIC nanoseconds.
struct Record {
  uint32_t crtc_id;
  uint32_t plane_id;
  uint32_t stream;
  uint32_t flags; // PresentedFlags
  uint64_t sequence;
  int64_t kick_ns;          // the eventfd woke the flip thread
  int64_t commit_enter_ns;  // before the ioctl
  int64_t commit_return_ns; // after it
  int64_t flip_ns;          // the event's timestamp
  uint64_t vblank;
  uint32_t missed;  // vblanks that it was in time for and did not make
  uint32_t retries; // commits that were refused before
};

/// What a frame's owner is told at its flip event.
struct Presented {
  int64_t time_ns;
  uint64_t vblank;
  uint32_t refresh_ns;
  uint32_t flags;
  uint32_t missed;
};

/// What TypeScript is told. Few and small; a full ring drops the newest and counts.
struct Notice {
  enum class Type : uint32_t {
    refused = 1,   // a plane's frame: the display said no. The stream is blocked until it is routed anew
    async_refused, // async flips do not work for this stream; it goes on in step with the vblank
    paused,        // commits are refused for lack of master (EACCES)
    gone,          // the object or the card is no more
    backing_off,   // ENOSPC, ENOMEM: trying again more slowly
    stalled,       // a flip event did not come; the watchdog recovers
    recovered,
    no_vblank,     // flips complete at once; paced by a timer from now on
    shadow_failed, // a shadow copy could not be drawn
    unrouted,      // a stream has a frame and no plane
    reshaped,      // a frame that is copied differs in size or format from the one before it
  } type;
  uint32_t crtc_id;
  uint32_t plane_id;
  uint32_t stream;
  int32_t error;  // errno
  uint32_t count; // how often in a row
  uint64_t sequence;
};

} // namespace scanout::flip
