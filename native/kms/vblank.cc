#include "kms/vblank.h"

#include <xf86drm.h>

#include "kms/ioctl.h"

namespace scanout::kms {

CrtcSequence get_sequence(int fd, uint32_t crtc) {
  drm_crtc_get_sequence get{};
  get.crtc_id = crtc;
  checked_ioctl(fd, DRM_IOCTL_CRTC_GET_SEQUENCE, &get, "DRM_IOCTL_CRTC_GET_SEQUENCE", named("crtc", crtc));
  return {.sequence = get.sequence, .time_ns = get.sequence_ns, .active = get.active != 0};
}

uint64_t queue_sequence(int fd, uint32_t crtc, uint64_t sequence, uint32_t flags, uint64_t user_data) {
  drm_crtc_queue_sequence queue{
      .crtc_id = crtc, .flags = flags, .sequence = sequence, .user_data = user_data};
  checked_ioctl(fd, DRM_IOCTL_CRTC_QUEUE_SEQUENCE, &queue, "DRM_IOCTL_CRTC_QUEUE_SEQUENCE",
                named("crtc", crtc));
  return queue.sequence;
}

} // namespace scanout::kms
