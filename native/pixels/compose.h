// Draws pictures on top of one another: the shadow copy, and screenshots of cards without writeback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pixels/convert.h"
#include "pixels/region.h"

namespace scanout::pixels {

enum class Filter : uint8_t { nearest, bilinear };

/// A picture and where it goes. The picture is borrowed.
struct Layer {
  Picture picture;
  uint32_t src_x = 0, src_y = 0, src_w = 0, src_h = 0; // 16.16, within the picture
  int32_t x = 0, y = 0;                                // on the canvas, pixels; clipped to it
  uint32_t w = 0, h = 0;
  Filter filter = Filter::bilinear; // where the sizes differ
};

/// Memory of XRGB8888 or ARGB8888 pixels that is borrowed; `memory` and `stride` are multiples of 4.
struct Canvas {
  std::byte* memory = nullptr;
  uint32_t stride = 0; // bytes
  uint32_t width = 0, height = 0;
  bool alpha = false; // ARGB8888: what no layer covers is transparent, otherwise black
};

/// True when `layer` can be drawn: a convertible format, sizes that are not 0, no size or position beyond
/// 32767, a source rectangle within the picture.
bool is_drawable(const Layer& layer) noexcept;

/// Keeps its scratch memory from one picture to the next. One thread at a time.
class Composer {
public:
  /// Draws `layers`, bottom to top, onto the canvas within `region` (canvas pixels) and nowhere else. Colours
  /// are pre-multiplied and blended by OVER, in 8 bits a channel; where one layer alone is to be seen, its
  /// pixels are copied as they are. Layers that are not drawable are left out. The canvas is never read
  /// (display memory is often uncached). Throws std::bad_alloc.
  void draw(const Canvas& canvas, std::span<const Layer> layers, const Region& region);

private:
  struct Source;
  void draw_band(const Canvas& canvas, pixman_image_t* target, std::span<const Layer> layers,
                 const Region& band);
  void blend(const Canvas& canvas, pixman_image_t* target, std::span<const Source> sources,
             const Region& region);
  static Source make_source(const Layer& layer, const Box& part, std::vector<uint32_t>& scratch);

  std::vector<uint32_t> blended_;
  std::vector<std::vector<uint32_t>> converted_; // one a layer
};

} // namespace scanout::pixels
