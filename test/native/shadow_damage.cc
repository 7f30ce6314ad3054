// A copy by damage must equal a copy of the whole.
#include <drm_fourcc.h>

#include <cstring>
#include <random>

#include "check.h"
#include "guests/damage.h"
#include "pixels/compose.h"

using namespace scanout;
using flip::Placement;
using flip::Rect;
using guests::DamageSet;

namespace {

bool covers(std::span<const Rect> rects, int32_t x, int32_t y) {
  for (const Rect& rect : rects) {
    if (x >= rect.x1 && x < rect.x2 && y >= rect.y1 && y < rect.y2) return true;
  }
  return false;
}

Rect random_rect(std::mt19937& random, int32_t size) {
  const int32_t x = static_cast<int32_t>(random() % static_cast<uint32_t>(size));
  const int32_t y = static_cast<int32_t>(random() % static_cast<uint32_t>(size));
  return {x, y, x + static_cast<int32_t>(random() % 20), y + static_cast<int32_t>(random() % 20)};
}

constexpr int32_t side = 96; // of the canvas

struct Canvas {
  std::vector<uint32_t> pixels = std::vector<uint32_t>(size_t{side} * side);
  void draw(const pixels::Layer& layer, const pixels::Region& region) {
    pixels::Composer composer;
    composer.draw({reinterpret_cast<std::byte*>(pixels.data()), side * 4, side, side, true}, {&layer, 1},
                  region);
  }
};

} // namespace

TEST(damage_set_holds_at_least_what_was_added) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    DamageSet set;
    std::vector<Rect> added;
    const uint32_t count = random() % 60;
    for (uint32_t i = 0; i < count; ++i) {
      added.push_back(random_rect(random, 100));
      set.add(added.back());
    }
    CHECK(set.rects().size() <= DamageSet::most);
    bool missing = false;
    for (int32_t y = 0; y < 120; ++y) {
      for (int32_t x = 0; x < 120; ++x)
        missing = missing || (covers(added, x, y) && !covers(set.rects(), x, y));
    }
    CHECK(!missing);
  }
}

TEST(damage_set_stays_small) {
  DamageSet set;
  set.add({5, 5, 5, 9});
  CHECK(set.empty());
  set.add({0, 0, 10, 10});
  set.add({2, 2, 4, 4}); // within
  CHECK_EQ(set.rects().size(), 1u);
  set.add({20, 20, 30, 30});
  set.add({-1, -1, 40, 40}); // around all
  CHECK_EQ(set.rects().size(), 1u);
  set.clear();
  CHECK(set.empty());
}

TEST(damage_of_an_unscaled_layer_is_exact) {
  const Placement place{.src_x = 10 << 16,
                        .src_y = 20 << 16,
                        .src_w = 50 << 16,
                        .src_h = 40 << 16,
                        .x = -5,
                        .y = 7,
                        .w = 50,
                        .h = 40};
  const auto same = [](const Rect& a, const Rect& b) {
    return a.x1 == b.x1 && a.y1 == b.y1 && a.x2 == b.x2 && a.y2 == b.y2;
  };
  CHECK(same(guests::damaged({12, 25, 20, 30}, place), {-3, 12, 5, 17}));
  CHECK(same(guests::damaged({0, 0, 1000, 1000}, place), guests::bounds(place)));
  CHECK(guests::is_empty(guests::damaged({0, 0, 10, 100}, place)));
  CHECK(guests::is_empty(guests::damaged({60, 20, 61, 21}, place)));
  CHECK(guests::is_empty(guests::damaged({INT32_MAX, 0, INT32_MIN, 10}, place)));
  CHECK(same(guests::damaged({INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX}, place), guests::bounds(place)));
}

TEST(copied_by_damage_equals_copied_whole) {
  std::mt19937 random(17);
  for (int round = 0; round < 400; ++round) {
    const uint32_t width = 8 + random() % 90;
    const uint32_t height = 8 + random() % 90;
    std::vector<uint32_t> memory(size_t{width} * height);
    for (uint32_t& pixel : memory)
      pixel = random();
    Placement place;
    const uint32_t left = random() % (width - 4);
    const uint32_t top = random() % (height - 4);
    const uint32_t fraction = random() % 2 == 0 ? 0 : random() & 0xffff;
    place.src_x = (left << 16) + fraction;
    place.src_y = (top << 16) + fraction;
    place.src_w = ((1 + random() % (width - left - 1)) << 16) - (random() % 2 == 0 ? 0 : fraction / 2);
    place.src_h = ((1 + random() % (height - top - 1)) << 16);
    const bool scaled = random() % 3 > 0;
    place.w = scaled ? 1 + random() % 150 : std::max(1u, place.src_w >> 16);
    place.h = scaled ? 1 + random() % 150 : place.src_h >> 16;
    if (!scaled) place.src_w = place.w << 16;
    place.x = static_cast<int32_t>(random() % side) - side / 3;
    place.y = static_cast<int32_t>(random() % side) - side / 3;
    const pixels::Layer layer{.picture = {.format = pixels::find_format(DRM_FORMAT_XRGB8888),
                                          .width = width,
                                          .height = height,
                                          .planes = {reinterpret_cast<const std::byte*>(memory.data())},
                                          .strides = {width * 4}},
                              .src_x = place.src_x,
                              .src_y = place.src_y,
                              .src_w = place.src_w,
                              .src_h = place.src_h,
                              .x = place.x,
                              .y = place.y,
                              .w = place.w,
                              .h = place.h,
                              .filter =
                                  random() % 2 == 0 ? pixels::Filter::bilinear : pixels::Filter::nearest};
    CHECK(pixels::is_drawable(layer));
    const pixels::Region everything(pixels::Box{0, 0, side, side});
    Canvas canvas;
    canvas.draw(layer, everything);

    DamageSet damage;
    for (uint32_t i = 1 + random() % 4; i > 0; --i) {
      const Rect rect = random_rect(random, static_cast<int32_t>(std::max(width, height)));
      for (int32_t y = rect.y1; y < std::min(rect.y2, static_cast<int32_t>(height)); ++y) {
        for (int32_t x = rect.x1; x < std::min(rect.x2, static_cast<int32_t>(width)); ++x)
          memory[static_cast<size_t>(y) * width + static_cast<size_t>(x)] = random();
      }
      damage.add(guests::damaged(rect, place));
    }
    pixels::Region region;
    for (const Rect& rect : damage.rects())
      region.add({rect.x1, rect.y1, rect.x2, rect.y2});
    canvas.draw(layer, region);
    Canvas whole;
    whole.draw(layer, everything);
    CHECK(std::memcmp(canvas.pixels.data(), whole.pixels.data(), whole.pixels.size() * 4) == 0);
  }
}
