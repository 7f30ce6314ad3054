// Conversions, errors and the class Fd.
#include "addon/addon.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cmath>
#include <limits>

#include "addon/sockets.h"
#include "base/lock_file.h"
#include "base/program.h"
#include "base/unix_socket.h"

namespace scanout::addon {

namespace {

[[noreturn]] void refuse(const Napi::Value& value, const char* what, const char* wanted) {
  throw Napi::TypeError::New(value.Env(), std::string(what) + ": " + wanted + " expected");
}

double to_integer(const Napi::Value& value, const char* what, double low, double high) {
  if (!value.IsNumber()) refuse(value, what, "integer");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (std::trunc(number) != number || number < low || number > high) {
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": integer from " +
                                                 std::to_string((int64_t)low) + " to " +
                                                 std::to_string((int64_t)high) + " expected");
  }
  return number;
}

constexpr double max_safe = 9007199254740991.0;

class Fd : public Napi::ObjectWrap<Fd> {
public:
  explicit Fd(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Fd>(info) {
    const int number = static_cast<int>(to_integer(info[0], "fd", 0, std::numeric_limits<int>::max()));
    if (::fcntl(number, F_GETFD) < 0)
      throw to_js(info.Env(), base::SystemError(errno, "fcntl", std::to_string(number)));
    fd.reset(number);
  }
  Napi::Value number(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd.get()); }
  Napi::Value closed(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), !fd); }
  Napi::Value close(const Napi::CallbackInfo& info) {
    fd.reset();
    return info.Env().Undefined();
  }
  Napi::Value dup(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      return wrap_fd(info.Env(),
                     base::UniqueFd(base::check(::fcntl(borrow_fd(info.This(), "fd"), F_DUPFD_CLOEXEC, 3),
                                                "fcntl(F_DUPFD_CLOEXEC)")));
    });
  }
  Napi::Value release(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), fd.release()); }

  base::UniqueFd fd;
  static Napi::FunctionReference* constructor;
};

Napi::FunctionReference* Fd::constructor = nullptr;

Fd* unwrap_fd(const Napi::Value& value, const char* what) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(Fd::constructor->Value()))
    refuse(value, what, "Fd");
  Fd* fd = Fd::Unwrap(value.As<Napi::Object>());
  if (!fd->fd) throw Napi::Error::New(value.Env(), std::string(what) + ": Fd is closed");
  return fd;
}

// Anonymous memory, to hand a result over as a descriptor.
Napi::Value create_memfd(const Napi::CallbackInfo& info) {
  const std::string name = to_string(info[0], "name");
  const int fd = base::check(memfd_create(name.c_str(), MFD_CLOEXEC), "memfd_create", name);
  return wrap_fd(info.Env(), base::UniqueFd(fd));
}

std::vector<std::string> to_strings(const Napi::Value& value, const char* what) {
  const Napi::Array array = to_array(value, what);
  std::vector<std::string> texts;
  texts.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i)
    texts.push_back(to_string(array.Get(i), what));
  return texts;
}

// (path, arguments, environment, descriptors, passed); comes back only by throwing.
Napi::Value replace_program(const Napi::CallbackInfo& info) {
  base::replace_program(to_string(info[0], "path"), to_strings(info[1], "arguments"),
                        to_strings(info[2], "environment"), to_i32(info[3], "descriptors"),
                        borrow_fds(info[4], "passed"));
}

Napi::Value lock_file(const Napi::CallbackInfo& info) {
  return wrap_fd(info.Env(), base::lock_file(to_string(info[0], "path")));
}

// (path); throws what connecting would.
Napi::Value probe_socket(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  if (const int error = base::probe_unix(path); error != 0) throw base::SystemError(error, "connect", path);
  return info.Env().Undefined();
}

} // namespace

Napi::Error to_js(Napi::Env env, const std::exception& error) {
  if (const auto* system = dynamic_cast<const base::SystemError*>(&error)) {
    Napi::Error js = Napi::Error::New(env, system->what());
    js.Set("code", base::errno_name(system->error()));
    js.Set("errno", Napi::Number::New(env, system->error()));
    js.Set("op", system->op());
    js.Set("subject", system->subject());
    return js;
  }
  if (dynamic_cast<const base::UsageError*>(&error) != nullptr)
    return Napi::TypeError::New(env, error.what());
  return Napi::Error::New(env, error.what());
}

uint32_t to_u32(const Napi::Value& value, const char* what) {
  return static_cast<uint32_t>(to_integer(value, what, 0, std::numeric_limits<uint32_t>::max()));
}

int32_t to_i32(const Napi::Value& value, const char* what) {
  return static_cast<int32_t>(
      to_integer(value, what, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
}

uint64_t to_u64(const Napi::Value& value, const char* what) {
  if (!value.IsBigInt()) return static_cast<uint64_t>(to_integer(value, what, 0, max_safe));
  bool lossless = false;
  const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless)
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": unsigned 64-bit integer expected");
  return number;
}

int64_t to_i64(const Napi::Value& value, const char* what) {
  if (!value.IsBigInt()) return static_cast<int64_t>(to_integer(value, what, -max_safe, max_safe));
  bool lossless = false;
  const int64_t number = value.As<Napi::BigInt>().Int64Value(&lossless);
  if (!lossless)
    throw Napi::RangeError::New(value.Env(), std::string(what) + ": signed 64-bit integer expected");
  return number;
}

bool to_bool(const Napi::Value& value, const char* what) {
  if (!value.IsBoolean()) refuse(value, what, "boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string to_string(const Napi::Value& value, const char* what) {
  if (!value.IsString()) refuse(value, what, "string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object to_object(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) refuse(value, what, "object");
  return value.As<Napi::Object>();
}

Napi::Array to_array(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) refuse(value, what, "array");
  return value.As<Napi::Array>();
}

Napi::Function to_function(const Napi::Value& value, const char* what) {
  if (!value.IsFunction()) refuse(value, what, "function");
  return value.As<Napi::Function>();
}

Napi::Value wrap_fd(Napi::Env, base::UniqueFd fd) {
  const Napi::Env env = Fd::constructor->Env();
  const Napi::Object object = Fd::constructor->New({Napi::Number::New(env, fd.get())});
  (void)fd.release(); // the Fd owns it now
  return object;
}

base::UniqueFd take_fd(const Napi::Value& value, const char* what) {
  return std::move(unwrap_fd(value, what)->fd);
}

int borrow_fd(const Napi::Value& value, const char* what) {
  return unwrap_fd(value, what)->fd.get();
}

void init_base(Napi::Env env, Napi::Object exports) {
  const Napi::Function fd = Fd::DefineClass(env, "Fd",
                                            {
                                                Fd::InstanceAccessor<&Fd::number>("number"),
                                                Fd::InstanceAccessor<&Fd::closed>("closed"),
                                                Fd::InstanceMethod<&Fd::close>("close"),
                                                Fd::InstanceMethod<&Fd::dup>("dup"),
                                                Fd::InstanceMethod<&Fd::release>("release"),
                                            });
  Fd::constructor = new Napi::FunctionReference(Napi::Persistent(fd));
  Fd::constructor->SuppressDestruct(); // lives as long as the process
  exports.Set("Fd", fd);
  export_function<create_memfd>(exports, "createMemfd");
  export_function<probe_socket>(exports, "probeSocket");
  export_function<replace_program>(exports, "replaceProgram");
  export_function<lock_file>(exports, "lockFile");
}

} // namespace scanout::addon
