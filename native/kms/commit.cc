#include "kms/commit.h"

#include <xf86drmMode.h>

#include <set>

#include "base/error.h"

namespace scanout::kms {

namespace {

std::string subject_of(const AtomicRequest& request, uint32_t flags) {
  const auto all = request.objects();
  std::string text = all.empty() ? "nothing" : "objects";
  for (const uint32_t object : std::set<uint32_t>(all.begin(), all.end()))
    text.append(" ").append(std::to_string(object));
  const std::string names = commit_flag_names(flags);
  return names.empty() ? text : text + ", " + names;
}

} // namespace

std::string commit_flag_names(uint32_t flags) {
  static constexpr struct {
    uint32_t flag;
    const char* name;
  } known[] = {{DRM_MODE_ATOMIC_TEST_ONLY, "TEST_ONLY"},
               {DRM_MODE_ATOMIC_NONBLOCK, "NONBLOCK"},
               {DRM_MODE_ATOMIC_ALLOW_MODESET, "ALLOW_MODESET"},
               {DRM_MODE_PAGE_FLIP_EVENT, "PAGE_FLIP_EVENT"},
               {DRM_MODE_PAGE_FLIP_ASYNC, "PAGE_FLIP_ASYNC"}};
  std::string text;
  for (const auto& [flag, name] : known) {
    if ((flags & flag) != 0) text.append(text.empty() ? "" : " ").append(name);
  }
  return text;
}

void ControlRequest::add_out_fence(uint32_t object, uint32_t property) {
  Slot& slot = slots_.emplace_back(Slot{.object = object, .fd = -1});
  request_.add(object, property, reinterpret_cast<uint64_t>(&slot.fd));
}

void ControlRequest::clear() noexcept {
  request_.clear();
  slots_.clear();
}

std::vector<OutFence> ControlRequest::commit(int fd, uint32_t flags, uint64_t user_data) {
  for (auto& slot : slots_)
    slot.fd = -1;
  const int error = request_.commit(fd, flags, user_data);
  std::vector<OutFence> fences;
  for (const auto& slot : slots_) {
    if (slot.fd >= 0) fences.push_back({.object = slot.object, .fence = base::UniqueFd(slot.fd)});
  }
  if (error < 0) throw base::SystemError(-error, "DRM_IOCTL_MODE_ATOMIC", subject_of(request_, flags));
  return fences;
}

} // namespace scanout::kms
