#include "addon/kms_convert.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace scanout::addon {

Napi::Array numbers(Napi::Env env, std::span<const uint32_t> values) {
  return to_js_array(env, values, [env](uint32_t value) { return Napi::Number::New(env, value); });
}

Napi::Value big(Napi::Env env, uint64_t value) {
  return Napi::BigInt::New(env, value);
}

Napi::Value big(Napi::Env env, int64_t value) {
  return Napi::BigInt::New(env, value);
}

Napi::Value bytes(Napi::Env env, std::span<const std::byte> data) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, data.size());
  if (!data.empty()) std::memcpy(array.Data(), data.data(), data.size());
  return array;
}

std::span<const std::byte> to_bytes(const Napi::Value& value, const char* what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Napi::TypeError::New(value.Env(), std::string(what) + ": Uint8Array expected");
  const auto array = value.As<Napi::Uint8Array>();
  if (array.ByteLength() > std::numeric_limits<uint32_t>::max())
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": more than 4 GiB");
  return {reinterpret_cast<const std::byte*>(array.Data()), array.ByteLength()};
}

namespace {

// No list of the kernel's is longer; arrays can claim any length without having it.
Napi::Array to_short_array(const Napi::Value& value, const char* what) {
  const Napi::Array array = to_array(value, what);
  if (array.Length() > 65536)
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": too long a list");
  return array;
}

} // namespace

std::vector<uint32_t> to_u32_list(const Napi::Value& value, const char* what) {
  const Napi::Array array = to_short_array(value, what);
  std::vector<uint32_t> list;
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    list.push_back(to_u32(array.Get(i), what));
  return list;
}

std::vector<std::array<int32_t, 4>> to_rectangles(const Napi::Value& value, const char* what) {
  const Napi::Array array = to_short_array(value, what);
  std::vector<std::array<int32_t, 4>> list;
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Array edges = to_array(array.Get(i), what);
    if (edges.Length() != 4)
      throw Napi::TypeError::New(value.Env(), std::string(what) + ": [x1, y1, x2, y2] expected");
    std::array<int32_t, 4> rectangle;
    for (uint32_t k = 0; k < 4; ++k)
      rectangle[k] = to_i32(edges.Get(k), what);
    list.push_back(rectangle);
  }
  return list;
}

Napi::Object to_options(const Napi::Value& value, const char* what) {
  return value.IsUndefined() ? Napi::Object::New(value.Env()) : to_object(value, what);
}

bool option(const Napi::Object& options, const char* name, bool fallback) {
  const Napi::Value value = options.Get(name);
  return value.IsUndefined() ? fallback : to_bool(value, name);
}

uint32_t option(const Napi::Object& options, const char* name, uint32_t fallback) {
  const Napi::Value value = options.Get(name);
  return value.IsUndefined() ? fallback : to_u32(value, name);
}

kms::Access to_access(const Napi::Value& value, const char* what) {
  const std::string text = to_string(value, what);
  if (text == "read") return kms::Access::read;
  if (text == "write") return kms::Access::write;
  if (text == "read-write") return kms::Access::read_write;
  throw Napi::TypeError::New(value.Env(), std::string(what) + ": 'read', 'write' or 'read-write' expected");
}

kms::FramebufferLayout to_layout(const Napi::Value& value, const char* what,
                                 const std::function<void(size_t, const Napi::Object&)>& take) {
  const Napi::Object object = to_object(value, what);
  const Napi::Array planes = to_array(object.Get("planes"), "planes");
  if (planes.Length() < 1 || planes.Length() > kms::most_planes)
    throw Napi::RangeError::New(value.Env(), "planes: 1 to 4 expected");
  kms::FramebufferLayout layout{.width = to_u32(object.Get("width"), "width"),
                                .height = to_u32(object.Get("height"), "height"),
                                .format = to_u32(object.Get("format"), "format"),
                                .interlaced = option(object, "interlaced", false),
                                .plane_count = planes.Length()};
  const Napi::Value modifier = object.Get("modifier");
  if (!modifier.IsUndefined() && !modifier.IsNull()) layout.modifier = to_u64(modifier, "modifier");
  for (uint32_t i = 0; i < planes.Length(); ++i) {
    const Napi::Object plane = to_object(planes.Get(i), "plane");
    layout.pitches[i] = to_u32(plane.Get("pitch"), "pitch");
    layout.offsets[i] = option(plane, "offset", 0u);
    take(i, plane);
  }
  return layout;
}

namespace {

const char* name_of(kms::ConnectorStatus status) {
  switch (status) {
  case kms::ConnectorStatus::connected:
    return "connected";
  case kms::ConnectorStatus::disconnected:
    return "disconnected";
  default:
    return "unknown";
  }
}

const char* name_of(kms::PlaneType type) {
  switch (type) {
  case kms::PlaneType::primary:
    return "primary";
  case kms::PlaneType::cursor:
    return "cursor";
  default:
    return "overlay";
  }
}

const char* name_of(kms::PropertyType type) {
  static constexpr const char* names[] = {"range", "signed-range", "enum", "bitmask", "blob", "object"};
  return names[static_cast<size_t>(type)];
}

Napi::Array formats_to_js(Napi::Env env, const std::vector<kms::FormatModifiers>& formats) {
  return to_js_array(env, formats, [env](const kms::FormatModifiers& one) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("format", one.format);
    object.Set("modifiers",
               to_js_array(env, one.modifiers, [env](uint64_t modifier) { return big(env, modifier); }));
    return object;
  });
}

} // namespace

Napi::Object to_js(Napi::Env env, const kms::Resources& resources) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("crtcs", numbers(env, resources.crtcs));
  object.Set("connectors", numbers(env, resources.connectors));
  object.Set("encoders", numbers(env, resources.encoders));
  object.Set("planes", numbers(env, resources.planes));
  object.Set("framebuffers", numbers(env, resources.framebuffers));
  object.Set("minWidth", resources.min_width);
  object.Set("maxWidth", resources.max_width);
  object.Set("minHeight", resources.min_height);
  object.Set("maxHeight", resources.max_height);
  return object;
}

Napi::Object to_js(Napi::Env env, const kms::Connector& connector) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", connector.id);
  object.Set("name", connector.name);
  object.Set("type", connector.type);
  object.Set("typeName", connector.type_name);
  object.Set("typeId", connector.type_id);
  object.Set("status", name_of(connector.status));
  object.Set("mmWidth", connector.mm_width);
  object.Set("mmHeight", connector.mm_height);
  object.Set("subpixel", connector.subpixel);
  object.Set("encoder", connector.encoder);
  object.Set("encoders", numbers(env, connector.encoders));
  object.Set("modes", to_js_array(env, connector.modes, [env](const kms::Mode& mode) {
               return static_cast<Napi::Value>(to_js(env, mode));
             }));
  return object;
}

Napi::Object to_js(Napi::Env env, const kms::Encoder& encoder) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", encoder.id);
  object.Set("type", encoder.type);
  object.Set("crtc", encoder.crtc);
  object.Set("possibleCrtcs", encoder.possible_crtcs);
  object.Set("possibleClones", encoder.possible_clones);
  return object;
}

Napi::Object to_js(Napi::Env env, const kms::Crtc& crtc) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", crtc.id);
  object.Set("framebuffer", crtc.framebuffer);
  object.Set("x", crtc.x);
  object.Set("y", crtc.y);
  object.Set("gammaSize", crtc.gamma_size);
  object.Set("mode", crtc.mode ? static_cast<Napi::Value>(to_js(env, *crtc.mode)) : env.Null());
  return object;
}

Napi::Object to_js(Napi::Env env, const kms::Plane& plane) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", plane.id);
  object.Set("type", name_of(plane.type));
  object.Set("crtc", plane.crtc);
  object.Set("framebuffer", plane.framebuffer);
  object.Set("possibleCrtcs", plane.possible_crtcs);
  object.Set("formats", formats_to_js(env, plane.formats));
  object.Set("hasModifiers", plane.has_modifiers);
  object.Set("asyncFormats", plane.async_formats
                                 ? static_cast<Napi::Value>(formats_to_js(env, *plane.async_formats))
                                 : env.Null());
  return object;
}

Napi::Object to_js(Napi::Env env, const kms::PropertyInfo& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", info.id);
  object.Set("name", info.name);
  object.Set("type", name_of(info.type));
  object.Set("immutable", info.immutable);
  object.Set("atomic", info.atomic);
  if (info.type == kms::PropertyType::range) {
    object.Set("min", big(env, info.min));
    object.Set("max", big(env, info.max));
  }
  if (info.type == kms::PropertyType::signed_range) {
    object.Set("min", big(env, static_cast<int64_t>(info.min)));
    object.Set("max", big(env, static_cast<int64_t>(info.max)));
  }
  if (info.type == kms::PropertyType::object) object.Set("objectType", info.object_type);
  if (info.type == kms::PropertyType::enumeration || info.type == kms::PropertyType::bitmask) {
    object.Set("choices", to_js_array(env, info.choices, [env](const kms::PropertyChoice& choice) {
                 Napi::Object one = Napi::Object::New(env);
                 one.Set("value", big(env, choice.value));
                 one.Set("name", choice.name);
                 return one;
               }));
  }
  return object;
}

Napi::Object to_js(Napi::Env env, const kms::Property& property) {
  Napi::Object object = to_js(env, property.info);
  const bool is_signed = property.info.type == kms::PropertyType::signed_range;
  object.Set("value", is_signed ? big(env, static_cast<int64_t>(property.value)) : big(env, property.value));
  return object;
}

Napi::Object to_js(Napi::Env env, kms::FramebufferInfo info) {
  Napi::Object object = Napi::Object::New(env);
  const auto& layout = info.layout;
  object.Set("width", layout.width);
  object.Set("height", layout.height);
  object.Set("format", layout.format);
  const bool told = layout.modifier != DRM_FORMAT_MOD_INVALID;
  object.Set("modifier", told ? big(env, layout.modifier) : env.Null());
  object.Set("interlaced", layout.interlaced);
  Napi::Array planes = Napi::Array::New(env, layout.plane_count);
  for (uint32_t i = 0; i < layout.plane_count; ++i) {
    Napi::Object plane = Napi::Object::New(env);
    plane.Set("pitch", layout.pitches[i]);
    plane.Set("offset", layout.offsets[i]);
    plane.Set("fd", info.dmabufs[i] ? wrap_fd(env, std::move(info.dmabufs[i])) : env.Null());
    planes.Set(i, plane);
  }
  object.Set("planes", planes);
  return object;
}

} // namespace scanout::addon
