// Formats, pictures and PNG.
#include <cstring>
#include <memory>
#include <vector>

#include "addon/addon.h"
#include "addon/kms_classes.h"
#include "addon/kms_convert.h"
#include "addon/pixels.h"
#include "pixels/compose.h"
#include "pixels/png.h"

namespace scanout::addon {

namespace {

Napi::Object to_js(Napi::Env env, const pixels::Format& format) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("fourcc", format.fourcc);
  object.Set("name", format.name);
  object.Set("alpha", format.has_alpha());
  object.Set("convertible", format.is_convertible());
  object.Set("planeCount", static_cast<uint32_t>(format.plane_count));
  return object;
}

Napi::Value pixel_formats(const Napi::CallbackInfo& info) {
  Napi::Array list = Napi::Array::New(info.Env());
  for (const pixels::Format& format : pixels::formats())
    list.Set(list.Length(), to_js(info.Env(), format));
  return list;
}

Napi::Value plane_needs(const Napi::CallbackInfo& info) {
  const pixels::Format* format = pixels::find_format(to_u32(info[0], "fourcc"));
  const uint32_t plane = to_u32(info[1], "plane");
  if (format == nullptr || plane >= format->plane_count) throw base::UsageError("no such format or plane");
  const uint32_t width = to_u32(info[2], "width");
  const uint32_t height = to_u32(info[3], "height");
  const uint32_t stride = to_u32(info[4], "stride");
  const uint32_t offset = to_u32(info[5], "offset");
  const uint32_t smallest = pixels::plane_size(*format, plane, width, height).min_stride;
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("stride", smallest);
  object.Set("bytes", static_cast<double>(pixels::plane_end(*format, plane, width, height, stride, offset)));
  return object;
}

std::vector<pixels::PngText> to_texts(const Napi::Value& value) {
  const Napi::Object object = to_object(value, "text");
  const Napi::Array names = object.GetPropertyNames();
  std::vector<pixels::PngText> texts;
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const Napi::Value name = names.Get(i);
    texts.emplace_back(to_string(name, "text"), to_string(object.Get(name), "text"));
  }
  return texts;
}

Napi::Value picture_bytes(Napi::Env env, const std::vector<std::byte>& data) {
  return bytes(env, data);
}

Napi::Value encode_png(const Napi::CallbackInfo& info) {
  const Napi::Object options = to_object(info[0], "options");
  const uint32_t width = to_u32(options.Get("width"), "width");
  const uint32_t height = to_u32(options.Get("height"), "height");
  const uint32_t stride = to_u32(options.Get("stride"), "stride");
  const std::span<const std::byte> data = to_bytes(options.Get("data"), "data");
  if (width == 0 || height == 0 || stride < uint64_t{width} * 4 || data.size() < uint64_t{stride} * height)
    throw base::UsageError("data: too short for its width, height and stride");
  // A copy: the memory may be unmapped by its owner while the pool works.
  auto copy =
      std::make_shared<std::vector<std::byte>>(data.begin(), data.begin() + uint64_t{stride} * height);
  auto png = std::make_shared<std::vector<std::byte>>();
  return run_async(
      info.Env(),
      [=, texts = to_texts(options.Get("text"))] {
        *png = pixels::encode_png(copy->data(), width, height, stride, texts);
      },
      [png](Napi::Env env) { return picture_bytes(env, *png); });
}

struct MappedLayer {
  std::unique_ptr<pixels::MappedBuffer> buffer;
  pixels::Layer layer;
};

MappedLayer to_layer(const Napi::Object& object) {
  MappedLayer mapped;
  mapped.buffer = map_buffer(object);
  mapped.layer = {.picture = mapped.buffer->picture(),
                  .src_x = to_u32(object.Get("srcX"), "srcX"),
                  .src_y = to_u32(object.Get("srcY"), "srcY"),
                  .src_w = to_u32(object.Get("srcW"), "srcW"),
                  .src_h = to_u32(object.Get("srcH"), "srcH"),
                  .x = to_i32(object.Get("x"), "x"),
                  .y = to_i32(object.Get("y"), "y"),
                  .w = to_u32(object.Get("w"), "w"),
                  .h = to_u32(object.Get("h"), "h")};
  const Napi::Value reflected = object.Get("reflectY");
  if (!reflected.IsUndefined() && to_bool(reflected, "reflectY")) {
    pixels::Layer& layer = mapped.layer;
    const uint64_t end = uint64_t{layer.src_y} + layer.src_h;
    const uint64_t all = uint64_t{layer.picture.height} << 16;
    layer.picture.bottom_up = true;
    layer.src_y = static_cast<uint32_t>(std::max(all, end) - end);
  }
  return mapped;
}

std::vector<std::byte> compose(uint32_t width, uint32_t height, std::vector<MappedLayer>& layers,
                               std::span<const pixels::PngText> texts) {
  constexpr int patience_ms = 1000; // for fences of buffers that are on the screen anyway
  std::vector<std::byte> memory(size_t{width} * height * 4);
  std::vector<pixels::Layer> drawn;
  std::vector<pixels::Reading> readings;
  for (const MappedLayer& layer : layers) {
    readings.emplace_back(*layer.buffer, patience_ms);
    const pixels::Picture& picture = layer.buffer->picture();
    layer.buffer->refresh({0, 0, static_cast<int32_t>(picture.width), static_cast<int32_t>(picture.height)});
    drawn.push_back(layer.layer);
  }
  const pixels::Canvas canvas{memory.data(), width * 4, width, height, false};
  pixels::Composer().draw(canvas, drawn,
                          pixels::Region({0, 0, static_cast<int32_t>(width), static_cast<int32_t>(height)}));
  readings.clear();
  return pixels::encode_png(memory.data(), width, height, width * 4, texts);
}

Napi::Value compose_picture(const Napi::CallbackInfo& info) {
  const Napi::Object options = to_object(info[0], "options");
  const uint32_t width = to_u32(options.Get("width"), "width");
  const uint32_t height = to_u32(options.Get("height"), "height");
  if (width == 0 || height == 0 || width > 16384 || height > 16384)
    throw base::UsageError("width, height: 1 to 16384 expected");
  auto layers = std::make_shared<std::vector<MappedLayer>>();
  const Napi::Array list = to_array(options.Get("layers"), "layers");
  for (uint32_t i = 0; i < list.Length(); ++i)
    layers->push_back(to_layer(to_object(list.Get(i), "layers[]")));
  auto png = std::make_shared<std::vector<std::byte>>();
  return run_async(
      info.Env(),
      [=, texts = to_texts(options.Get("text"))] { *png = compose(width, height, *layers, texts); },
      [png](Napi::Env env) { return picture_bytes(env, *png); });
}

} // namespace

std::unique_ptr<pixels::MappedBuffer> map_buffer(const Napi::Object& object) {
  const Napi::Value memory = object.Get("memory");
  if (!memory.IsUndefined()) return std::make_unique<pixels::MappedBuffer>(memory_of(memory));
  pixels::BufferLayout layout;
  layout.width = to_u32(object.Get("width"), "width");
  layout.height = to_u32(object.Get("height"), "height");
  layout.fourcc = to_u32(object.Get("fourcc"), "fourcc");
  layout.modifier = to_u64(object.Get("modifier"), "modifier");
  const Napi::Array strides = to_array(object.Get("strides"), "strides");
  const Napi::Array offsets = to_array(object.Get("offsets"), "offsets");
  const uint32_t planes = std::min<uint32_t>(strides.Length(), pixels::max_memory_planes);
  for (uint32_t i = 0; i < planes; ++i) {
    layout.strides[i] = to_u32(strides.Get(i), "strides[]");
    layout.offsets[i] = to_u32(offsets.Get(i), "offsets[]");
  }
  std::vector<int> fds;
  const Napi::Array list = to_array(object.Get("fds"), "fds");
  fds.reserve(list.Length());
  for (uint32_t i = 0; i < list.Length(); ++i)
    fds.push_back(borrow_fd(list.Get(i), "fds[]"));
  return std::make_unique<pixels::MappedBuffer>(layout, fds);
}

void init_pixels(Napi::Env, Napi::Object exports) {
  export_function<pixel_formats>(exports, "pixelFormats");
  export_function<plane_needs>(exports, "planeNeeds");
  export_function<encode_png>(exports, "encodePng");
  export_function<compose_picture>(exports, "composePicture");
}

} // namespace scanout::addon
