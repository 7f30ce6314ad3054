// One atomic commit, built without allocating.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace scanout::kms {

/// Builds one atomic commit. Nothing allocates after construction, so the flip thread keeps one per device.
///
/// Failure is sticky: properties are added unchecked, and one test of `error` (or `commit`, which makes it)
/// decides. One thread at a time.
///
/// An object may be added to in several places; the kernel applies properties in the order they were added,
/// the last of two equal ones wins (drm_mode_atomic_ioctl).
class AtomicRequest {
public:
  explicit AtomicRequest(size_t max_objects = 64, size_t max_properties = 512);
  AtomicRequest(const AtomicRequest&) = delete;
  AtomicRequest& operator=(const AtomicRequest&) = delete;

  /// Drops everything, the sticky failure too.
  void clear() noexcept;
  [[nodiscard]] bool empty() const noexcept { return property_count_ == 0; }
  /// How many property values are in it.
  [[nodiscard]] size_t size() const noexcept { return property_count_; }
  /// The objects in the order they were added, for messages; one that was returned to stands there again.
  [[nodiscard]] std::span<const uint32_t> objects() const noexcept {
    return {objects_.data(), object_count_};
  }

  /// Object or property 0, an id that was looked up and not found, fails the request with -ENOENT; one that
  /// is full fails with -E2BIG.
  void add(uint32_t object, uint32_t property, uint64_t value) noexcept;
  /// As `add`, but property 0 (this driver has none of that name) is left out.
  void add_if_present(uint32_t object, uint32_t property, uint64_t value) noexcept;

  /// 0, or the first failure as -errno.
  [[nodiscard]] int error() const noexcept { return error_; }

  /// A place to rewind to. Valid until `clear` or a rewind to before it.
  [[nodiscard]] size_t mark() const noexcept;
  /// Drops what was added since `mark`, a failure since then included.
  void rewind(size_t mark) noexcept;

  /// Issues DRM_IOCTL_MODE_ATOMIC with DRM_MODE_ATOMIC_* and DRM_MODE_PAGE_FLIP_* flags; `user_data` comes
  /// back in the flip event. Returns 0 or -errno: the sticky failure without asking the kernel, else its
  /// answer. The request stays as it is and can be committed again.
  int commit(int fd, uint32_t flags, uint64_t user_data) noexcept;

private:
  // One block: the few entries of a flip lie on as few pages as may be.
  std::vector<uint64_t> memory_;
  std::span<uint32_t> objects_;
  std::span<uint32_t> counts_; // properties per entry of objects_
  std::span<uint32_t> properties_;
  std::span<uint64_t> values_;
  size_t object_count_ = 0;
  size_t property_count_ = 0;
  int error_ = 0;
};

} // namespace scanout::kms
