#include "addon/addon.h"

namespace scanout::addon {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  init_base(env, exports);
  init_kms(env, exports);
  init_flip(env, exports);
  init_guests(env, exports);
  init_vfio(env, exports);
  init_session(env, exports);
  init_process(env, exports);
  init_seat(env, exports);
  init_bus(env, exports);
  init_systemd(env, exports);
  init_pixels(env, exports);
  init_shadow(env, exports);
  init_qemu(env, exports);
  init_streams(env, exports);
  init_seqpacket(env, exports);
  init_guest_client(env, exports);
  init_virtio(env, exports);
  init_wayland(env, exports);
  init_input(env, exports);
  return exports;
}

NODE_API_MODULE(scanoutd, init)

} // namespace scanout::addon
