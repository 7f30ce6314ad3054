#include "pixels/compose.h"

#include <drm_fourcc.h>

#include <algorithm>
#include <memory>
#include <new>
#include <optional>

namespace scanout::pixels {

namespace {

constexpr uint32_t largest = 32767; // pixman's coordinates are 16.16
constexpr uint32_t band_rows = 64;  // scratch memory of a band stays in the cache

struct Unref {
  void operator()(pixman_image_t* image) const noexcept { pixman_image_unref(image); }
};
using Image = std::unique_ptr<pixman_image_t, Unref>;

Image make_image(pixman_format_code_t format, uint32_t width, uint32_t height, void* bits, uint32_t stride) {
  Image image(pixman_image_create_bits_no_clear(format, static_cast<int>(width), static_cast<int>(height),
                                                static_cast<uint32_t*>(bits), static_cast<int>(stride)));
  if (!image) throw std::bad_alloc();
  return image;
}

// Only what pixman reads exactly: it widens narrow channels by repeating bits, which is a step off now and
// then, and it wants words at their own alignment.
std::optional<pixman_format_code_t> pixman_format(uint32_t fourcc) {
  switch (fourcc) {
  case DRM_FORMAT_XRGB8888:
    return PIXMAN_x8r8g8b8;
  case DRM_FORMAT_ARGB8888:
    return PIXMAN_a8r8g8b8;
  case DRM_FORMAT_XBGR8888:
    return PIXMAN_x8b8g8r8;
  case DRM_FORMAT_ABGR8888:
    return PIXMAN_a8b8g8r8;
  case DRM_FORMAT_RGBX8888:
    return PIXMAN_r8g8b8x8;
  case DRM_FORMAT_RGBA8888:
    return PIXMAN_r8g8b8a8;
  case DRM_FORMAT_BGRX8888:
    return PIXMAN_b8g8r8x8;
  case DRM_FORMAT_BGRA8888:
    return PIXMAN_b8g8r8a8;
  default:
    return std::nullopt;
  }
}

bool reads_directly(const Picture& picture) {
  return !picture.bottom_up && pixman_format(picture.format->fourcc).has_value() &&
         picture.strides[0] % 4 == 0 && reinterpret_cast<uintptr_t>(picture.planes[0]) % 4 == 0;
}

bool is_scaled(const Layer& layer) {
  return layer.src_w != uint64_t{layer.w} << 16 || layer.src_h != uint64_t{layer.h} << 16;
}

Box bounds_of(const Layer& layer) {
  const int64_t right = int64_t{layer.x} + layer.w;
  const int64_t bottom = int64_t{layer.y} + layer.h;
  if (right > INT32_MAX || bottom > INT32_MAX) return {};
  return {layer.x, layer.y, static_cast<int32_t>(right), static_cast<int32_t>(bottom)};
}

// Whole pixels of the picture that hold the source rectangle. Unscaled, a fraction of its position is
// dropped, as displays that cannot scale do.
Box source_bounds(const Layer& layer) {
  const bool scaled = is_scaled(layer);
  const auto last = [&](uint32_t at, uint32_t size, uint32_t pixels) {
    return static_cast<int32_t>(scaled ? (uint64_t{at} + size + 0xffff) >> 16 : uint64_t{at >> 16} + pixels);
  };
  return {static_cast<int32_t>(layer.src_x >> 16), static_cast<int32_t>(layer.src_y >> 16),
          last(layer.src_x, layer.src_w, layer.w), last(layer.src_y, layer.src_h, layer.h)};
}

// Of `source`, what the pixels [from, to) of `length` destination pixels can come from, on one axis.
void narrow(int32_t& low, int32_t& high, int64_t from, int64_t to, uint32_t at, uint32_t span,
            uint32_t length, bool scaled) {
  const int64_t margin = scaled ? 2 : 0; // half a pixel of the filter, and what rounding adds
  const int64_t first = (at + from * span / length) >> 16;
  const int64_t last = (at + to * span / length + 0xffff) >> 16;
  const int64_t limit = high;
  high = static_cast<int32_t>(std::clamp<int64_t>(last + margin, low + 1, limit));
  low = static_cast<int32_t>(std::clamp<int64_t>(first - margin, low, high - 1));
}

// The pixels of `window` as ARGB8888 in `scratch`.
Image convert(const Picture& picture, const Box& window, std::vector<uint32_t>& scratch) {
  const uint32_t width = static_cast<uint32_t>(window.x2 - window.x1);
  const uint32_t height = static_cast<uint32_t>(window.y2 - window.y1);
  scratch.resize(std::max(scratch.size(), size_t{width} * height));
  for (uint32_t y = 0; y < height; ++y) {
    convert_row(picture, static_cast<uint32_t>(window.x1), static_cast<uint32_t>(window.y1) + y, width,
                scratch.data() + size_t{y} * width);
  }
  return make_image(PIXMAN_a8r8g8b8, width, height, scratch.data(), width * 4);
}

// Makes `image`, which shows `window` of the picture, as large as the layer's destination.
void scale(pixman_image_t* image, const Layer& layer, const Box& window) {
  const auto factor = [](uint32_t span, uint32_t length) {
    return static_cast<pixman_fixed_t>((uint64_t{span} + length / 2) / length);
  };
  const auto offset = [](uint32_t at, int32_t start) {
    return static_cast<pixman_fixed_t>(int64_t{at} - int64_t{start} * 0x10000);
  };
  pixman_transform_t transform;
  pixman_transform_init_scale(&transform, factor(layer.src_w, layer.w), factor(layer.src_h, layer.h));
  transform.matrix[0][2] = offset(layer.src_x, window.x1);
  transform.matrix[1][2] = offset(layer.src_y, window.y1);
  pixman_image_set_transform(image, &transform);
  const auto filter = layer.filter == Filter::nearest ? PIXMAN_FILTER_NEAREST : PIXMAN_FILTER_BILINEAR;
  pixman_image_set_filter(image, filter, nullptr, 0);
  // Beyond the source rectangle its edge goes on, so that neither another part of the buffer nor nothing
  // bleeds in.
  pixman_image_set_repeat(image, PIXMAN_REPEAT_PAD);
}

} // namespace

// A layer as pixman sees it: composite `image` from (0, 0) to `bounds`.
struct Composer::Source {
  Image image; // null: nothing of the layer is to be seen in the band
  Box bounds;
  bool opaque = false;
};

bool is_drawable(const Layer& layer) noexcept {
  const Picture& picture = layer.picture;
  if (picture.format == nullptr || !picture.format->is_convertible()) return false;
  if (picture.width > largest || picture.height > largest) return false;
  if (layer.w == 0 || layer.h == 0 || layer.w > largest || layer.h > largest) return false;
  if (layer.src_w == 0 || layer.src_h == 0) return false;
  if (std::max(std::abs(int64_t{layer.x}), std::abs(int64_t{layer.y})) > largest) return false;
  return uint64_t{layer.src_x} + layer.src_w <= uint64_t{picture.width} << 16 &&
         uint64_t{layer.src_y} + layer.src_h <= uint64_t{picture.height} << 16;
}

void Composer::draw(const Canvas& canvas, std::span<const Layer> layers, const Region& region) {
  Region wanted = region;
  wanted.keep(Box{0, 0, static_cast<int32_t>(canvas.width), static_cast<int32_t>(canvas.height)});
  if (wanted.empty()) return;
  if (converted_.size() < layers.size()) converted_.resize(layers.size());
  const Image target = make_image(canvas.alpha ? PIXMAN_a8r8g8b8 : PIXMAN_x8r8g8b8, canvas.width,
                                  canvas.height, canvas.memory, canvas.stride);
  const Box all = wanted.extents();
  for (int32_t y = all.y1; y < all.y2; y += static_cast<int32_t>(band_rows)) {
    Region band = wanted;
    band.keep(Box{all.x1, y, all.x2, std::min(all.y2, y + static_cast<int32_t>(band_rows))});
    if (!band.empty()) draw_band(canvas, target.get(), layers, band);
  }
}

void Composer::draw_band(const Canvas& canvas, pixman_image_t* target, std::span<const Layer> layers,
                         const Region& band) {
  std::vector<Source> sources(layers.size());
  Region covered;
  Region hidden;
  for (size_t i = layers.size(); i-- > 0;) {
    if (!is_drawable(layers[i])) continue;
    Region part(bounds_of(layers[i]));
    part.keep(band);
    covered.add(part);
    part.remove(hidden);
    if (part.empty()) continue;
    sources[i] = make_source(layers[i], part.extents(), converted_[i]);
    if (sources[i].opaque) hidden.add(part);
  }

  Region bare = band;
  bare.remove(covered);
  const pixman_color_t background{0, 0, 0, static_cast<uint16_t>(canvas.alpha ? 0 : 0xffff)};
  if (!bare.empty()) {
    pixman_image_fill_boxes(PIXMAN_OP_SRC, target, &background, static_cast<int>(bare.boxes().size()),
                            bare.boxes().data());
  }

  // Where one layer alone decides what is seen, it goes straight to the canvas.
  Region above;
  for (size_t i = layers.size(); i-- > 0;) {
    const Source& source = sources[i];
    if (!source.image) continue;
    Region alone(source.bounds);
    alone.keep(band);
    alone.remove(above);
    above.add(source.bounds);
    for (size_t below = 0; below < i && !source.opaque; ++below) {
      if (sources[below].image) alone.remove(Region(sources[below].bounds));
    }
    if (alone.empty()) continue;
    pixman_image_set_clip_region32(target, const_cast<pixman_region32_t*>(alone.get()));
    pixman_image_composite32(PIXMAN_OP_SRC, source.image.get(), nullptr, target, 0, 0, 0, 0, source.bounds.x1,
                             source.bounds.y1, source.bounds.x2 - source.bounds.x1,
                             source.bounds.y2 - source.bounds.y1);
    pixman_image_set_clip_region32(target, nullptr);
    covered.remove(alone);
  }
  if (!covered.empty()) blend(canvas, target, sources, covered);
}

void Composer::blend(const Canvas& canvas, pixman_image_t* target, std::span<const Source> sources,
                     const Region& region) {
  const Box box = region.extents();
  const uint32_t width = static_cast<uint32_t>(box.x2 - box.x1);
  const uint32_t height = static_cast<uint32_t>(box.y2 - box.y1);
  blended_.assign(size_t{width} * height, canvas.alpha ? 0 : 0xff000000);
  const Image scratch = make_image(PIXMAN_a8r8g8b8, width, height, blended_.data(), width * 4);
  Region moved = region;
  moved.move(-box.x1, -box.y1);
  pixman_image_set_clip_region32(scratch.get(), const_cast<pixman_region32_t*>(moved.get()));
  for (const Source& source : sources) {
    if (!source.image) continue;
    pixman_image_composite32(PIXMAN_OP_OVER, source.image.get(), nullptr, scratch.get(), 0, 0, 0, 0,
                             source.bounds.x1 - box.x1, source.bounds.y1 - box.y1,
                             source.bounds.x2 - source.bounds.x1, source.bounds.y2 - source.bounds.y1);
  }
  pixman_image_set_clip_region32(scratch.get(), nullptr);
  pixman_image_set_clip_region32(target, const_cast<pixman_region32_t*>(region.get()));
  pixman_image_composite32(PIXMAN_OP_SRC, scratch.get(), nullptr, target, 0, 0, 0, 0, box.x1, box.y1,
                           static_cast<int>(width), static_cast<int>(height));
  pixman_image_set_clip_region32(target, nullptr);
}

Composer::Source Composer::make_source(const Layer& layer, const Box& part, std::vector<uint32_t>& scratch) {
  const Picture& picture = layer.picture;
  const bool scaled = is_scaled(layer);
  const bool opaque = !picture.format->has_alpha();
  Box window = source_bounds(layer);
  Image image;
  if (reads_directly(picture)) {
    const std::byte* bits = picture.planes[0] + size_t{picture.strides[0]} * static_cast<size_t>(window.y1) +
                            size_t{4} * static_cast<size_t>(window.x1);
    image = make_image(
        pixman_format(picture.format->fourcc).value(), static_cast<uint32_t>(window.x2 - window.x1),
        static_cast<uint32_t>(window.y2 - window.y1), const_cast<std::byte*>(bits), picture.strides[0]);
  } else {
    narrow(window.x1, window.x2, part.x1 - layer.x, part.x2 - layer.x, layer.src_x, layer.src_w, layer.w,
           scaled);
    narrow(window.y1, window.y2, part.y1 - layer.y, part.y2 - layer.y, layer.src_y, layer.src_h, layer.h,
           scaled);
    image = convert(picture, window, scratch);
  }
  if (scaled) {
    scale(image.get(), layer, window);
    return {std::move(image), bounds_of(layer), opaque};
  }
  const int32_t x = layer.x - static_cast<int32_t>(layer.src_x >> 16);
  const int32_t y = layer.y - static_cast<int32_t>(layer.src_y >> 16);
  return {std::move(image), {window.x1 + x, window.y1 + y, window.x2 + x, window.y2 + y}, opaque};
}

} // namespace scanout::pixels
