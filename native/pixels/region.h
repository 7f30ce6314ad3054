// Sets of pixels: pixman's regions with an owner.
#pragma once

#include <pixman.h>

#include <span>

namespace scanout::pixels {

/// A rectangle; x2 and y2 are exclusive, and one with nothing between is empty.
struct Box {
  int32_t x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  bool operator==(const Box&) const = default;
};

/// May allocate; where memory runs out, pixman makes the result empty.
class Region {
public:
  Region() noexcept { pixman_region32_init(&region_); }
  explicit Region(const Box& box) noexcept {
    pixman_region32_init(&region_);
    add(box);
  }
  Region(const Region& other) noexcept : Region() { pixman_region32_copy(&region_, &other.region_); }
  Region& operator=(const Region& other) noexcept {
    pixman_region32_copy(&region_, &other.region_);
    return *this;
  }
  ~Region() { pixman_region32_fini(&region_); }

  void add(const Box& box) noexcept {
    if (box.x1 >= box.x2 || box.y1 >= box.y2) return;
    pixman_region32_union_rect(&region_, &region_, box.x1, box.y1, static_cast<unsigned>(box.x2 - box.x1),
                               static_cast<unsigned>(box.y2 - box.y1));
  }
  void add(const Region& other) noexcept { pixman_region32_union(&region_, &region_, &other.region_); }
  void keep(const Region& other) noexcept { pixman_region32_intersect(&region_, &region_, &other.region_); }
  void keep(const Box& box) noexcept { keep(Region(box)); }
  void remove(const Region& other) noexcept { pixman_region32_subtract(&region_, &region_, &other.region_); }
  void move(int32_t x, int32_t y) noexcept { pixman_region32_translate(&region_, x, y); }

  [[nodiscard]] bool empty() const noexcept { return !pixman_region32_not_empty(&region_); }
  /// The smallest box around it.
  [[nodiscard]] Box extents() const noexcept {
    const pixman_box32_t* box = pixman_region32_extents(&region_);
    return {box->x1, box->y1, box->x2, box->y2};
  }
  [[nodiscard]] std::span<const pixman_box32_t> boxes() const noexcept {
    int count = 0;
    const pixman_box32_t* first = pixman_region32_rectangles(&region_, &count);
    return {first, static_cast<size_t>(count)};
  }
  /// For pixman's own calls, none of which changes it.
  [[nodiscard]] const pixman_region32_t* get() const noexcept { return &region_; }

private:
  // pixman takes some of its inputs without const and does not change them.
  mutable pixman_region32_t region_;
};

} // namespace scanout::pixels
