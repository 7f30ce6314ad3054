#include "kms/atomic.h"

#include <xf86drm.h>
#include <xf86drmMode.h>

#include <cerrno>

namespace scanout::kms {

AtomicRequest::AtomicRequest(size_t max_objects, size_t max_properties)
    : memory_(max_objects + (max_properties + 1) / 2 + max_properties) {
  auto* const words = reinterpret_cast<uint32_t*>(memory_.data());
  objects_ = {words, max_objects};
  counts_ = {words + max_objects, max_objects};
  properties_ = {words + 2 * max_objects, max_properties};
  values_ = {memory_.data() + max_objects + (max_properties + 1) / 2, max_properties};
}

[[gnu::hot]] void AtomicRequest::clear() noexcept {
  object_count_ = 0;
  property_count_ = 0;
  error_ = 0;
}

[[gnu::hot]] void AtomicRequest::add(uint32_t object, uint32_t property, uint64_t value) noexcept {
  if (error_ != 0) return;
  if (object == 0 || property == 0) {
    error_ = -ENOENT;
    return;
  }
  const bool starts = object_count_ == 0 || objects_[object_count_ - 1] != object;
  if ((starts && object_count_ == objects_.size()) || property_count_ == properties_.size()) {
    error_ = -E2BIG;
    return;
  }
  if (starts) {
    objects_[object_count_] = object;
    counts_[object_count_++] = 0;
  }
  ++counts_[object_count_ - 1];
  properties_[property_count_] = property;
  values_[property_count_++] = value;
}

void AtomicRequest::add_if_present(uint32_t object, uint32_t property, uint64_t value) noexcept {
  if (property != 0) add(object, property, value);
}

// The low bit says whether the request had failed already: a rewind takes back later failures only.
size_t AtomicRequest::mark() const noexcept {
  return property_count_ << 1 | (error_ != 0 ? 1 : 0);
}

void AtomicRequest::rewind(size_t mark) noexcept {
  const size_t wanted = mark >> 1;
  while (property_count_ > wanted) {
    --property_count_;
    if (--counts_[object_count_ - 1] == 0) --object_count_;
  }
  if ((mark & 1) == 0) error_ = 0;
}

[[gnu::hot]] int AtomicRequest::commit(int fd, uint32_t flags, uint64_t user_data) noexcept {
  if (error_ != 0) return error_;
  // Not drmModeAtomicCommit: it copies and sorts the request, which allocates.
  drm_mode_atomic atomic{};
  atomic.flags = flags;
  atomic.count_objs = static_cast<uint32_t>(object_count_);
  atomic.objs_ptr = reinterpret_cast<uint64_t>(objects_.data());
  atomic.count_props_ptr = reinterpret_cast<uint64_t>(counts_.data());
  atomic.props_ptr = reinterpret_cast<uint64_t>(properties_.data());
  atomic.prop_values_ptr = reinterpret_cast<uint64_t>(values_.data());
  atomic.user_data = user_data;
  return drmIoctl(fd, DRM_IOCTL_MODE_ATOMIC, &atomic) < 0 ? -errno : 0;
}

} // namespace scanout::kms
