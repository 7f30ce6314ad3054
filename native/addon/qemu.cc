// The classes QemuListener and QemuPicture: the hot half of a console of QEMU's D-Bus display.
#include <drm_fourcc.h>
#include <unistd.h>

#include "addon/addon.h"
#include "addon/flip.h"
#include "addon/guests.h"
#include "addon/kms.h"
#include "addon/loop.h"
#include "addon/pixels.h"
#include "addon/wrapped.h"
#include "base/fd_kind.h"
#include "guests/qemu_listener.h"
#include "guests/qemu_mirror.h"
#include "guests/shadow_surface.h"

namespace scanout::addon {

namespace {

using guests::QemuEvent;
using guests::QemuLayout;

/// A cursor's memory, for those who copy it.
class CursorSource final : public pixels::MemorySource {
public:
  CursorSource(const guests::ShadowSurface& surface, uint32_t width, uint32_t height)
      : surface_(surface),
        picture_{
            pixels::find_format(DRM_FORMAT_ARGB8888), width, height, {surface.memory}, {surface.stride}, {}} {
  }
  [[nodiscard]] const pixels::Picture& picture() const noexcept override { return picture_; }
  void refresh(const pixels::Box&) override {}

private:
  guests::ShadowSurface surface_; // keeps the memory
  pixels::Picture picture_;
};

/// Pixels in memory, opaque to JavaScript.
class QemuPicture : public Wrapped<QemuPicture> {
public:
  explicit QemuPicture(const Napi::CallbackInfo& info);
  std::shared_ptr<pixels::MemorySource> source;
  std::shared_ptr<guests::QemuMirror> mirror; // the same, where it is one
  static Napi::FunctionReference* constructor;
};

Napi::FunctionReference* QemuPicture::constructor = nullptr;

QemuLayout to_layout(const Napi::Object& object) {
  QemuLayout layout;
  layout.width = to_u32(object.Get("width"), "layout.width");
  layout.height = to_u32(object.Get("height"), "layout.height");
  layout.fourcc = to_u32(object.Get("fourcc"), "layout.fourcc");
  layout.strides[0] = to_u32(object.Get("stride"), "layout.stride");
  layout.offsets[0] = to_u32(object.Get("offset"), "layout.offset");
  return layout;
}

// (layout, memfd or null), or an external that brings the pixels.
QemuPicture::QemuPicture(const Napi::CallbackInfo& info) : Wrapped<QemuPicture>(info) {
  guarded(info.Env(), [&] {
    if (info[0].IsExternal()) {
      source = *info[0].As<Napi::External<std::shared_ptr<pixels::MemorySource>>>().Data();
      return;
    }
    base::UniqueFd memfd;
    if (!info[1].IsNull()) memfd = take_fd(info[1], "memfd");
    source = mirror =
        std::make_shared<guests::QemuMirror>(to_layout(to_object(info[0], "layout")), std::move(memfd));
  });
}

QemuPicture& picture_of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(QemuPicture::constructor->Value()))
    throw Napi::TypeError::New(value.Env(), "memory: QemuPicture expected");
  return *QemuPicture::Unwrap(value.As<Napi::Object>());
}

class QemuListener : public Wrapped<QemuListener> {
public:
  explicit QemuListener(const Napi::CallbackInfo& info);
  Napi::Value cursors(const Napi::CallbackInfo& info);
  Napi::Value ready(const Napi::CallbackInfo& info);
  Napi::Value failed(const Napi::CallbackInfo& info);
  Napi::Value freed(const Napi::CallbackInfo& info);
  Napi::Value set_area(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value leave(const Napi::CallbackInfo& info);

  ProducerHolder holder;
  static Napi::FunctionReference* constructor;

private:
  guests::QemuListener& listener() { return static_cast<guests::QemuListener&>(holder.producer(Env())); }
  void drain();
  Napi::Object to_js(const QemuEvent& event);

  uint32_t cursor_width_ = 0, cursor_height_ = 0;
  std::array<guests::ShadowSurface, guests::qemu_cursors> cursors_;
  std::unique_ptr<LoopPoll> poll_;
  Napi::FunctionReference on_event_;
};

Napi::FunctionReference* QemuListener::constructor = nullptr;

QemuListener::QemuListener(const Napi::CallbackInfo& info) : Wrapped<QemuListener>(info) {
  guarded(info.Env(), [&] {
    const std::shared_ptr<flip::Engine> engine = engine_of(info[0]);
    const Napi::Object options = to_object(info[2], "options");
    guests::QemuListenerOptions made;
    made.first_stream = to_u32(options.Get("firstStream"), "options.firstStream");
    made.uid = geteuid();
    on_event_ = Napi::Persistent(to_function(options.Get("onEvent"), "options.onEvent"));
    const std::shared_ptr<kms::Device> device = kms_device_of(info[1], "device");
    cursor_width_ = made.cursor_width = to_u32(options.Get("cursorWidth"), "options.cursorWidth");
    cursor_height_ = made.cursor_height = to_u32(options.Get("cursorHeight"), "options.cursorHeight");
    if (cursor_width_ > guests::max_qemu_cursor || cursor_height_ > guests::max_qemu_cursor)
      throw base::UsageError("options.cursorWidth, cursorHeight: 0 to 512 expected");
    for (guests::ShadowSurface& cursor : cursors_) {
      if (cursor_width_ == 0 || cursor_height_ == 0) break;
      cursor = guests::make_shadow_surface(device, cursor_width_, cursor_height_, true);
    }
    made.cursors = cursors_;
    made.socket = take_fd(options.Get("socket"), "options.socket");
    auto native = std::make_unique<guests::QemuListener>(std::move(made), *engine);
    const int notify = native->notify_fd();
    holder.enter(info.Env(), info[0], std::move(native));
    poll_ = std::make_unique<LoopPoll>(
        info.Env(), notify, [this](int) { enter_js(Env(), "scanoutd:qemu", [this] { drain(); }); });
    poll_->watch(UV_READABLE);
  });
}

Napi::Object QemuListener::to_js(const QemuEvent& event) {
  static constexpr const char* types[] = {"wanted", "idle", "ended"};
  static constexpr const char* kinds[] = {"pixels", "map", "dmabuf"};
  const Napi::Env env = Env();
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", types[static_cast<uint32_t>(event.type)]);
  object.Set("slot", event.slot);
  object.Set("fault", static_cast<uint32_t>(event.fault));
  object.Set("errno", event.error);
  if (event.type != QemuEvent::Type::wanted) return object;
  const QemuLayout& layout = event.layout;
  object.Set("kind", kinds[static_cast<uint32_t>(layout.kind)]);
  object.Set("x", layout.x);
  object.Set("y", layout.y);
  object.Set("width", layout.width);
  object.Set("height", layout.height);
  object.Set("backingWidth", layout.backing_width);
  object.Set("backingHeight", layout.backing_height);
  object.Set("fourcc", layout.fourcc);
  object.Set("modifier", Napi::BigInt::New(env, layout.modifier));
  object.Set("bottomUp", layout.y0_top != 0);
  Napi::Array strides = Napi::Array::New(env);
  Napi::Array offsets = Napi::Array::New(env);
  for (uint32_t i = 0; i < layout.plane_count; ++i) {
    strides.Set(i, layout.strides[i]);
    offsets.Set(i, layout.offsets[i]);
  }
  object.Set("strides", strides);
  object.Set("offsets", offsets);
  return object;
}

void QemuListener::drain() {
  uint64_t count = 0;
  guests::QemuListener& native = listener();
  (void)!read(native.notify_fd(), &count, sizeof count);
  while (const std::optional<QemuEvent> event = native.event()) {
    const Napi::HandleScope handles(Env());
    Napi::Array fds = Napi::Array::New(Env());
    for (uint32_t i = 0; i < event->fd_count; ++i)
      fds.Set(i, wrap_fd(Env(), base::UniqueFd(event->fds[i])));
    on_event_.Call({to_js(*event), fds});
    if (!poll_) return; // it has left
  }
}

// [{ framebuffer, memory }]
Napi::Value QemuListener::cursors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  for (const guests::ShadowSurface& cursor : cursors_) {
    if (cursor.memory == nullptr) break;
    std::shared_ptr<pixels::MemorySource> source =
        std::make_shared<CursorSource>(cursor, cursor_width_, cursor_height_);
    Napi::Object object = Napi::Object::New(env);
    object.Set("framebuffer", cursor.fb_id);
    object.Set("stride", cursor.stride);
    object.Set("memory", QemuPicture::constructor->New(
                             {Napi::External<std::shared_ptr<pixels::MemorySource>>::New(env, &source)}));
    list.Set(list.Length(), object);
  }
  return list;
}

/// Carries a picture's memory to the flip thread or back, and frees what is left of it on this one.
class SlotCommand final : public flip::Command {
public:
  using Body = int (*)(guests::QemuListener&, SlotCommand&);
  SlotCommand(guests::QemuListener& listener, uint32_t slot, Body body) noexcept
      : slot(slot), listener_(listener), body_(body) {}
  Result run(flip::Engine&) noexcept override {
    error = body_(listener_, *this);
    return Result::done;
  }
  uint32_t slot;
  uint32_t fb_id = 0;
  std::shared_ptr<guests::QemuMirror> mirror;
  kms::ImplicitFences fences;

private:
  guests::QemuListener& listener_;
  Body body_;
};

Napi::Value QemuListener::ready(const Napi::CallbackInfo& info) {
  auto command = std::make_unique<SlotCommand>(
      listener(), to_u32(info[0], "slot"), [](guests::QemuListener& to, SlotCommand& self) {
        return to.ready(self.slot, self.fb_id, self.mirror, self.fences);
      });
  command->fb_id = to_u32(info[1], "framebuffer");
  if (!info[2].IsNull()) command->mirror = picture_of(info[2]).mirror;
  command->fences = to_implicit_fences(info[3]);
  return post(info.Env(), holder.engine_object(), std::move(command), "ready", "buffer");
}

Napi::Value QemuListener::failed(const Napi::CallbackInfo& info) {
  return post_simple(
      info.Env(), holder.engine_object(), "failed", "buffer",
      [native = &listener(), slot = to_u32(info[0], "slot")](flip::Engine&) { return native->failed(slot); });
}

Napi::Value QemuListener::freed(const Napi::CallbackInfo& info) {
  auto command = std::make_unique<SlotCommand>(listener(), to_u32(info[0], "slot"),
                                               [](guests::QemuListener& to, SlotCommand& self) {
                                                 return to.freed(self.slot, self.mirror, self.fences);
                                               });
  return post(info.Env(), holder.engine_object(), std::move(command), "freed", "buffer");
}

Napi::Value QemuListener::set_area(const Napi::CallbackInfo& info) {
  const flip::Rect area{to_i32(info[0], "x1"), to_i32(info[1], "y1"), to_i32(info[2], "x2"),
                        to_i32(info[3], "y2")};
  const bool whole = to_bool(info[4], "whole");
  const auto scale = to_bool(info[5], "fit") ? guests::QemuScale::fit : guests::QemuScale::none;
  return post_simple(info.Env(), holder.engine_object(), "setArea", "guest",
                     [native = &listener(), area, whole, scale](flip::Engine&) {
                       native->set_area(area, whole, scale);
                       return 0;
                     });
}

Napi::Value QemuListener::stats(const Napi::CallbackInfo& info) {
  const uint32_t plane = to_u32(info[0], "plane");
  if (plane > 1) throw base::UsageError("plane: 0 or 1 expected");
  const guests::PlaneStats& stats = listener().plane_stats(plane);
  Napi::Object object = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, const std::atomic<uint64_t>& counter) {
    object.Set(name, static_cast<double>(counter.load(std::memory_order_relaxed)));
  };
  set("taken", stats.taken);
  set("flips", stats.flips);
  set("superseded", stats.superseded);
  set("missed", stats.missed);
  set("refused", stats.refused);
  set("copied", stats.copied);
  object.Set("newestBuffer", stats.newest_buffer.load(std::memory_order_relaxed));
  return object;
}

Napi::Value QemuListener::counters(const Napi::CallbackInfo& info) {
  const guests::QemuStats& stats = listener().stats();
  Napi::Object object = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, const std::atomic<uint64_t>& counter) {
    object.Set(name, static_cast<double>(counter.load(std::memory_order_relaxed)));
  };
  set("calls", stats.calls);
  set("untimely", stats.untimely);
  set("disables", stats.disables);
  set("lateReplies", stats.late_replies);
  set("imports", stats.imports);
  return object;
}

Napi::Value QemuListener::leave(const Napi::CallbackInfo& info) {
  listener();
  poll_.reset();
  on_event_.Reset();
  return holder.leave(info.Env());
}

} // namespace

std::shared_ptr<pixels::MemorySource> memory_of(const Napi::Value& value) {
  return picture_of(value).source;
}

void init_qemu(Napi::Env env, Napi::Object exports) {
  using L = QemuListener;
  const Napi::Function listener = L::DefineClass(
      env, "QemuListener",
      {L::define<&L::cursors>("cursors"), L::define<&L::ready>("ready"), L::define<&L::failed>("failed"),
       L::define<&L::freed>("freed"), L::define<&L::set_area>("setArea"), L::define<&L::stats>("stats"),
       L::define<&L::counters>("counters"), L::define<&L::leave>("leave")});
  L::constructor = new Napi::FunctionReference(Napi::Persistent(listener));
  L::constructor->SuppressDestruct();
  register_producer_class([](const Napi::Object& object) -> ProducerHolder* {
    if (!object.InstanceOf(L::constructor->Value())) return nullptr;
    return &L::Unwrap(object)->holder;
  });
  exports.Set("QemuListener", listener);
  const Napi::Function picture = QemuPicture::DefineClass(env, "QemuPicture", {});
  QemuPicture::constructor = new Napi::FunctionReference(Napi::Persistent(picture));
  QemuPicture::constructor->SuppressDestruct();
  exports.Set("QemuPicture", picture);
}

} // namespace scanout::addon
