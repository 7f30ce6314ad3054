// What the kernel knows and the libdrm of some distributions does not name yet (Debian 12 has 2.4.114).
#pragma once

#include <drm.h>

#ifndef DRM_IOCTL_SYNCOBJ_EVENTFD // Linux 6.6
struct drm_syncobj_eventfd {
  __u32 handle;
  __u32 flags;
  __u64 point;
  __s32 fd;
  __u32 pad;
};
#define DRM_IOCTL_SYNCOBJ_EVENTFD DRM_IOWR(0xCF, struct drm_syncobj_eventfd)
#endif

#ifndef DRM_IOCTL_MODE_CLOSEFB // Linux 6.8
struct drm_mode_closefb {
  __u32 fb_id;
  __u32 pad;
};
#define DRM_IOCTL_MODE_CLOSEFB DRM_IOWR(0xD0, struct drm_mode_closefb)
#endif

#ifndef DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT // Linux 6.8
#define DRM_CLIENT_CAP_CURSOR_PLANE_HOTSPOT 6
#endif

#ifndef DRM_CAP_ATOMIC_ASYNC_PAGE_FLIP // Linux 6.8
#define DRM_CAP_ATOMIC_ASYNC_PAGE_FLIP 0x15
#endif
