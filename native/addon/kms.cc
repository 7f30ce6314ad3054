// The KMS layer for JavaScript: what the other kms_*.cc files define, put together.
#include "addon/kms.h"

#include "addon/kms_classes.h"
#include "kms/formats.h"

namespace scanout::addon {

static Napi::Value format_name(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), kms::format_name(to_u32(info[0], "format")));
}

void init_kms(Napi::Env env, Napi::Object exports) {
  init_kms_request(env, exports);
  init_kms_device(env, exports);
  init_kms_buffers(env, exports);
  init_kms_cache(env, exports);
  init_kms_syncobj(env, exports);
  init_kms_sync(env, exports);
  export_function<format_name>(exports, "formatName");
}

} // namespace scanout::addon
