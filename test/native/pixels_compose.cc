#include "pixels/compose.h"

#include <drm_fourcc.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "check.h"

using namespace scanout::pixels;

namespace {

constexpr uint32_t untouched = 0x5a5a5a5a;

struct Target {
  Target(uint32_t width, uint32_t height, bool alpha) : pixels(size_t{width + 3} * height, untouched) {
    canvas = {reinterpret_cast<std::byte*>(pixels.data()), (width + 3) * 4, width, height, alpha};
  }
  [[nodiscard]] uint32_t at(uint32_t x, uint32_t y) const { return pixels[y * (canvas.width + 3) + x]; }
  [[nodiscard]] Region all() const {
    return Region(Box{0, 0, static_cast<int32_t>(canvas.width), static_cast<int32_t>(canvas.height)});
  }
  std::vector<uint32_t> pixels;
  Canvas canvas;
};

struct Source {
  Source(uint32_t fourcc, uint32_t width, uint32_t height, uint32_t seed, uint32_t shift = 0) {
    const Format* format = find_format(fourcc);
    picture = {.format = format, .width = width, .height = height};
    std::mt19937 random(seed);
    for (uint32_t i = 0; i < format->plane_count; ++i) {
      picture.strides[i] = plane_size(*format, i, width, height).min_stride + shift;
      memory[i].resize(plane_end(*format, i, width, height, picture.strides[i], shift));
      for (std::byte& value : memory[i])
        value = static_cast<std::byte>(random());
      picture.planes[i] = memory[i].data() + shift;
    }
  }
  [[nodiscard]] uint32_t at(uint32_t x, uint32_t y) const {
    uint32_t pixel = 0;
    convert_row(picture, x, y, 1, &pixel);
    return pixel;
  }
  void fill(uint32_t x1, uint32_t y1, uint32_t x2, uint32_t y2, uint32_t color) {
    for (uint32_t y = y1; y < y2; ++y) {
      for (uint32_t x = x1; x < x2; ++x)
        std::memcpy(memory[0].data() + y * picture.strides[0] + x * 4, &color, 4);
    }
  }
  [[nodiscard]] Layer whole(int32_t x, int32_t y) const {
    return {.picture = picture,
            .src_w = picture.width << 16,
            .src_h = picture.height << 16,
            .x = x,
            .y = y,
            .w = picture.width,
            .h = picture.height};
  }
  Picture picture;
  std::array<std::vector<std::byte>, max_memory_planes> memory;
};

uint32_t over(uint32_t source, uint32_t below) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 8) {
    const double kept = std::round((below >> shift & 0xff) * (255 - (source >> 24)) / 255.0);
    result |= std::min(255u, (source >> shift & 0xff) + static_cast<uint32_t>(kept)) << shift;
  }
  return result;
}

bool inside(const Region& region, int32_t x, int32_t y) {
  for (const pixman_box32_t& box : region.boxes()) {
    if (x >= box.x1 && x < box.x2 && y >= box.y1 && y < box.y2) return true;
  }
  return false;
}

// What an unscaled pixel of the canvas must be.
uint32_t reference(const Target& target, const std::vector<Layer>& layers, int32_t x, int32_t y) {
  uint32_t result = target.canvas.alpha ? 0 : 0xff000000;
  for (const Layer& layer : layers) {
    const int64_t column = int64_t{x} - layer.x;
    const int64_t row = int64_t{y} - layer.y;
    if (column < 0 || row < 0 || column >= layer.w || row >= layer.h) continue;
    uint32_t pixel = 0;
    convert_row(layer.picture, static_cast<uint32_t>(column + (layer.src_x >> 16)),
                static_cast<uint32_t>(row + (layer.src_y >> 16)), 1, &pixel);
    result = over(pixel, result);
  }
  return result;
}

uint32_t mask_of(const Target& target) {
  return target.canvas.alpha ? 0xffffffff : 0x00ffffff;
}

Region random_region(std::mt19937& random, int32_t width, int32_t height, uint32_t boxes) {
  Region region;
  for (uint32_t i = 0; i < boxes; ++i) {
    const int32_t x = static_cast<int32_t>(random() % width) - 8;
    const int32_t y = static_cast<int32_t>(random() % height) - 8;
    region.add(
        {x, y, x + 1 + static_cast<int32_t>(random() % 90), y + 1 + static_cast<int32_t>(random() % 90)});
  }
  return region;
}

} // namespace

TEST(compose_equals_the_reference_in_every_format) {
  std::mt19937 random(7);
  for (const Format& format : formats()) {
    if (!format.is_convertible()) continue;
    const Source below(DRM_FORMAT_XRGB8888, 90, 120, 1);
    const Source tested(format.fourcc, 70, 100, format.fourcc, random() % 2 == 0 ? 0 : 3);
    const Source above(DRM_FORMAT_ARGB8888, 40, 40, 2);
    Layer cut = tested.whole(-9, 13);
    cut.src_x = 5 << 16 | 0x8000; // half a pixel: dropped, since nothing is scaled
    cut.src_y = 3 << 16;
    cut.w = 60;
    cut.h = 97;
    cut.src_w = cut.w << 16;
    cut.src_h = cut.h << 16;
    const std::vector<Layer> layers = {below.whole(3, 20), cut, above.whole(33, 70)};
    for (const bool alpha : {false, true}) {
      Target target(100, 140, alpha);
      const Region region = random_region(random, 100, 140, 4);
      Composer composer;
      composer.draw(target.canvas, layers, region);
      uint32_t wrong = 0;
      for (int32_t y = 0; y < 140; ++y) {
        for (int32_t x = 0; x < 103; ++x) {
          const bool drawn = x < 100 && inside(region, x, y);
          const uint32_t wanted = drawn ? reference(target, layers, x, y) : untouched;
          const uint32_t mask = drawn ? mask_of(target) : 0xffffffff;
          wrong += ((target.at(x, y) ^ wanted) & mask) != 0 ? 1 : 0;
        }
      }
      if (wrong > 0) CHECK_EQ(std::string(format.name) + ": " + std::to_string(wrong), "none wrong");
    }
  }
}

TEST(compose_copies_one_layer_exactly) {
  // Not even colours brighter than their alpha change.
  const Source source(DRM_FORMAT_ARGB8888, 64, 64, 3);
  for (const bool alpha : {false, true}) {
    Target target(64, 64, alpha);
    Composer composer;
    composer.draw(target.canvas, std::vector{source.whole(0, 0)}, target.all());
    for (uint32_t y = 0; y < 64; ++y) {
      for (uint32_t x = 0; x < 64; ++x)
        CHECK_EQ((target.at(x, y) ^ source.at(x, y)) & mask_of(target), 0u);
    }
  }
}

TEST(compose_without_layers_is_background) {
  Target opaque(8, 8, false);
  Target clear(8, 8, true);
  Composer composer;
  composer.draw(opaque.canvas, {}, opaque.all());
  composer.draw(clear.canvas, {}, clear.all());
  CHECK_EQ(opaque.at(7, 7) & 0xffffff, 0u);
  CHECK_EQ(clear.at(7, 7), 0u);
}

TEST(compose_nearest_doubles_and_halves) {
  const Source source(DRM_FORMAT_YUV420, 32, 32, 4);
  Layer layer = source.whole(1, 2);
  layer.filter = Filter::nearest;
  layer.w = layer.h = 64;
  Target doubled(80, 80, false);
  Composer composer;
  composer.draw(doubled.canvas, std::vector{layer}, doubled.all());
  for (uint32_t y = 0; y < 64; ++y) {
    for (uint32_t x = 0; x < 64; ++x)
      CHECK_EQ(doubled.at(x + 1, y + 2) & 0xffffff, source.at(x / 2, y / 2) & 0xffffff);
  }
  layer.w = layer.h = 8; // the pixel left and above of the centre of each 4 by 4
  Target quartered(16, 16, false);
  composer.draw(quartered.canvas, std::vector{layer}, quartered.all());
  for (uint32_t y = 0; y < 8; ++y) {
    for (uint32_t x = 0; x < 8; ++x)
      CHECK_EQ(quartered.at(x + 1, y + 2) & 0xffffff, source.at(x * 4 + 1, y * 4 + 1) & 0xffffff);
  }
}

TEST(compose_bilinear_is_near_the_reference) {
  const Source source(DRM_FORMAT_RGB565, 40, 30, 5);
  Layer layer = source.whole(0, 0);
  layer.src_x = 4 << 16 | 0x4000;
  layer.src_y = 6 << 16;
  layer.src_w = 20 << 16 | 0x8000;
  layer.src_h = 11 << 16;
  layer.w = 133;
  layer.h = 77;
  Target target(133, 77, false);
  Composer composer;
  composer.draw(target.canvas, std::vector{layer}, target.all());
  const auto clamped = [](int value, int low, int high) {
    return static_cast<uint32_t>(std::clamp(value, low, high));
  };
  for (uint32_t y = 0; y < 77; ++y) {
    for (uint32_t x = 0; x < 133; ++x) {
      const double sx = (layer.src_x + (x + 0.5) * layer.src_w / layer.w) / 65536 - 0.5;
      const double sy = (layer.src_y + (y + 0.5) * layer.src_h / layer.h) / 65536 - 0.5;
      const int left = static_cast<int>(std::floor(sx));
      const int top = static_cast<int>(std::floor(sy));
      for (int shift = 0; shift < 24; shift += 8) {
        const auto value = [&](int dx, int dy) {
          const uint32_t pixel = source.at(clamped(left + dx, 4, 24), clamped(top + dy, 6, 16));
          return static_cast<double>(pixel >> shift & 0xff);
        };
        const double fx = sx - left;
        const double fy = sy - top;
        const double wanted = (value(0, 0) * (1 - fx) + value(1, 0) * fx) * (1 - fy) +
                              (value(0, 1) * (1 - fx) + value(1, 1) * fx) * fy;
        // pixman weighs in 128ths.
        if (std::abs(wanted - (target.at(x, y) >> shift & 0xff)) > 5)
          CHECK_EQ(wanted, target.at(x, y) >> shift & 0xff);
      }
    }
  }
}

TEST(compose_scaling_takes_nothing_from_beyond_the_source_rectangle) {
  for (const Filter filter : {Filter::nearest, Filter::bilinear}) {
    Source source(DRM_FORMAT_XRGB8888, 64, 64, 6);
    source.fill(0, 0, 64, 64, 0xffff0000);
    source.fill(16, 16, 48, 48, 0xff00ff00);
    Layer layer = source.whole(0, 0);
    layer.src_x = layer.src_y = 16 << 16;
    layer.src_w = layer.src_h = 32 << 16;
    layer.w = layer.h = 100;
    layer.filter = filter;
    Target target(100, 100, false);
    Composer composer;
    composer.draw(target.canvas, std::vector{layer}, target.all());
    for (uint32_t y = 0; y < 100; ++y) {
      for (uint32_t x = 0; x < 100; ++x)
        CHECK_EQ(target.at(x, y) & 0xffffff, 0x00ff00u);
    }
  }
}

TEST(compose_in_parts_equals_the_whole) {
  std::mt19937 random(11);
  for (int round = 0; round < 40; ++round) {
    std::vector<Source> sources;
    std::vector<Layer> layers;
    const uint32_t fourccs[] = {DRM_FORMAT_XRGB8888, DRM_FORMAT_ARGB8888, DRM_FORMAT_NV12, DRM_FORMAT_RGB565};
    sources.reserve(3);
    for (int i = 0; i < 3; ++i)
      sources.emplace_back(fourccs[random() % 4], 20 + random() % 100, 20 + random() % 100, random());
    for (const Source& source : sources) {
      Layer layer =
          source.whole(static_cast<int32_t>(random() % 80) - 20, static_cast<int32_t>(random() % 80) - 20);
      layer.w = random() % 2 == 0 ? layer.w : 10 + random() % 200;
      layer.h = random() % 2 == 0 ? layer.h : 10 + random() % 200;
      layer.filter = random() % 2 == 0 ? Filter::nearest : Filter::bilinear;
      layers.push_back(layer);
    }
    const bool alpha = random() % 2 == 0;
    Target whole(150, 150, alpha);
    Target parts(150, 150, alpha);
    Composer composer;
    composer.draw(whole.canvas, layers, whole.all());
    Region rest = parts.all();
    while (!rest.empty()) {
      Region part = random_region(random, 150, 150, 3);
      part.keep(rest);
      composer.draw(parts.canvas, layers, part);
      rest.remove(part);
    }
    uint32_t wrong = 0;
    for (uint32_t y = 0; y < 150; ++y) {
      for (uint32_t x = 0; x < 150; ++x)
        wrong += ((whole.at(x, y) ^ parts.at(x, y)) & mask_of(whole)) != 0 ? 1 : 0;
    }
    CHECK_EQ(wrong, 0u);
  }
}

TEST(compose_leaves_out_what_cannot_be_drawn) {
  const Source source(DRM_FORMAT_XRGB8888, 16, 16, 8);
  const Layer good = source.whole(0, 0);
  CHECK(is_drawable(good));
  const auto broken = [&](auto change) {
    Layer layer = good;
    change(layer);
    return !is_drawable(layer);
  };
  CHECK(broken([](Layer& l) { l.picture.format = nullptr; }));
  CHECK(broken([](Layer& l) { l.picture.format = find_format(DRM_FORMAT_NV15); }));
  CHECK(broken([](Layer& l) { l.w = 0; }));
  CHECK(broken([](Layer& l) { l.src_h = 0; }));
  CHECK(broken([](Layer& l) { l.src_x = 1 << 16; }));
  CHECK(broken([](Layer& l) { l.src_y = 0xffffffff; }));
  CHECK(broken([](Layer& l) { l.x = INT32_MIN; }));
  CHECK(broken([](Layer& l) { l.y = INT32_MAX; }));
  CHECK(broken([](Layer& l) { l.h = 0xffffffff; }));
  Layer layer = good;
  layer.src_x = 1;
  Target target(16, 16, false);
  Composer composer;
  composer.draw(target.canvas, std::vector{layer}, target.all());
  CHECK_EQ(target.at(3, 3) & 0xffffff, 0u);
}
