// Classes whose methods are guarded.
#pragma once

#include <napi.h>

#include "addon/addon.h"

namespace scanout::addon {

/// A Napi::ObjectWrap that turns what its methods throw into JavaScript errors.
template <typename T> class Wrapped : public Napi::ObjectWrap<T> {
public:
  using Napi::ObjectWrap<T>::ObjectWrap;
  using Method = Napi::Value (T::*)(const Napi::CallbackInfo&);
  using Property = Napi::ClassPropertyDescriptor<T>;

  template <Method method> static Property define(const char* name) {
    return Napi::ObjectWrap<T>::InstanceMethod(name, static_cast<Method>(&Wrapped::call<method>));
  }
  template <Method method> static Property define_getter(const char* name) {
    return Napi::ObjectWrap<T>::InstanceAccessor(name, static_cast<Method>(&Wrapped::call<method>), nullptr);
  }

private:
  template <Method method> Napi::Value call(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (static_cast<T*>(this)->*method)(info); });
  }
};

} // namespace scanout::addon
