// What the add-on's KMS files share: how classes are made and recognised, and what belongs to a device.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "addon/addon.h"
#include "addon/kms.h"
#include "addon/wrapped.h"
#include "kms/mapping.h"

namespace scanout::addon {

/// A class that native code makes objects of, and finds again in arguments.
///
/// `T` has `static constexpr const char* class_name`, `static constexpr napi_type_tag tag`, a `using Core`
/// for what an object is made from, and a constructor (const CallbackInfo&) that begins with `unbox`.
template <typename T> class KmsClass : public Wrapped<T> {
public:
  explicit KmsClass(const Napi::CallbackInfo& info) : Wrapped<T>(info) {
    info.This().As<Napi::Object>().TypeTag(&T::tag);
  }

  /// Node lets V8 check whose object `this` is for methods, but not for accessors.
  template <typename Wrapped<T>::Method method>
  static typename Wrapped<T>::Property define_getter(const char* name) {
    return Napi::ObjectWrap<T>::InstanceAccessor(
        name, static_cast<typename Wrapped<T>::Method>(&KmsClass::get<method>), nullptr);
  }
  static void register_class(Napi::Object exports, const Napi::Function& function) {
    constructor = new Napi::FunctionReference(Napi::Persistent(function));
    constructor->SuppressDestruct(); // lives as long as the process
    exports.Set(T::class_name, function);
  }
  template <typename Core> static Napi::Object make(Napi::Env env, Core core) {
    return constructor->New({Napi::External<Core>::New(env, &core)});
  }
  /// The object behind an argument. Tags cannot be forged, as prototypes can.
  static T& from(const Napi::Value& value, const char* what) {
    if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&T::tag))
      throw Napi::TypeError::New(value.Env(), std::string(what) + ": " + T::class_name + " expected");
    return *Napi::ObjectWrap<T>::Unwrap(value.As<Napi::Object>());
  }

protected:
  /// What `make` was given. Throws when JavaScript calls the constructor, `instead` says what makes objects.
  template <typename Core> static Core unbox(const Napi::CallbackInfo& info, const char* instead) {
    if (info.Length() != 1 || !info[0].IsExternal())
      throw Napi::TypeError::New(info.Env(), std::string(T::class_name) + ": use " + instead);
    return std::move(*info[0].As<Napi::External<Core>>().Data());
  }
  [[noreturn]] static void gone(const char* state) {
    throw base::UsageError(std::string(T::class_name) + " is " + state);
  }

private:
  template <typename Wrapped<T>::Method method> Napi::Value get(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (from(info.This(), "this").*method)(info); });
  }
  inline static Napi::FunctionReference* constructor = nullptr;
};

/// Something made from a device that goes when the device is closed.
class DeviceChild {
public:
  virtual void close_with_device() noexcept = 0;

protected:
  ~DeviceChild() = default;
};

/// What a KmsDevice and everything made from it share.
struct DeviceState {
  std::shared_ptr<kms::Device> device; // null when closed
  std::set<DeviceChild*> children;     // the open ones
};

/// The part of a child that is the same in all: its core object and its place among the children.
///
/// Misuse throws: use after the end, and ending twice. Ending it once more after its device was closed does
/// not, so that cleaning up may go in any order.
template <typename Core> class ChildOf final : public DeviceChild {
public:
  ChildOf(std::shared_ptr<DeviceState> state, std::shared_ptr<Core> core)
      : state_(std::move(state)), core_(std::move(core)) {
    state_->children.insert(this);
  }
  ChildOf(const ChildOf&) = delete;
  ChildOf& operator=(const ChildOf&) = delete;
  virtual ~ChildOf() { state_->children.erase(this); }

  void on_close(std::function<void()> hook) { hook_ = std::move(hook); }
  void close_with_device() noexcept override { let_go(); }

  [[nodiscard]] const std::shared_ptr<Core>& core(const char* class_name, const char* ended) const {
    if (ended_) throw base::UsageError(std::string(class_name) + " is " + ended);
    if (!core_) throw base::UsageError(std::string(class_name) + ": its KmsDevice is closed");
    return core_;
  }
  void end(const char* class_name, const char* ended) {
    if (ended_) throw base::UsageError(std::string(class_name) + " is " + ended + " already");
    ended_ = true;
    state_->children.erase(this);
    let_go();
  }
  [[nodiscard]] const std::shared_ptr<DeviceState>& state() const noexcept { return state_; }

private:
  void let_go() noexcept {
    if (hook_) hook_();
    hook_ = nullptr;
    core_.reset();
  }
  std::shared_ptr<DeviceState> state_;
  std::shared_ptr<Core> core_;
  std::function<void()> hook_;
  bool ended_ = false;
};

/// A mapping as a Uint8Array. The memory stays mapped until JavaScript cannot reach it any more.
class MappedBytes {
public:
  explicit MappedBytes(kms::Mapping mapping) : mapping_(std::make_shared<kms::Mapping>(std::move(mapping))) {}
  /// The same array every time.
  Napi::Value bytes(Napi::Env env);
  /// Empties the array: accesses find nothing from now on.
  void detach() noexcept;

private:
  std::shared_ptr<kms::Mapping> mapping_;
  Napi::Reference<Napi::Uint8Array> array_;
};

/// Runs `work` on a thread of the pool, and resolves a promise with `result`, made on the JS thread. What
/// `work` throws rejects it.
Napi::Value run_async(Napi::Env env, std::function<void()> work,
                      std::function<Napi::Value(Napi::Env)> result);

void init_kms_request(Napi::Env env, Napi::Object exports);
void init_kms_device(Napi::Env env, Napi::Object exports);
void init_kms_buffers(Napi::Env env, Napi::Object exports);
void init_kms_cache(Napi::Env env, Napi::Object exports);
void init_kms_syncobj(Napi::Env env, Napi::Object exports);
void init_kms_sync(Napi::Env env, Napi::Object exports);

} // namespace scanout::addon
