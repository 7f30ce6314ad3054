#include "guests/virtio_state.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>

#include "base/error.h"

namespace scanout::guests {

namespace {

constexpr uint64_t magic = 0x3154415453564353; // "SCVSTAT1"
// Raised with every change of the layout: a daemon of another version does not go on from it.
constexpr uint32_t layout_version = 1;
constexpr const char* what = "the state of a virtio device";
constexpr uint64_t megabyte = 1 << 20;

// Where the parts of the file are; the pieces take no memory until they are written.
constexpr uint64_t records_at = megabyte;
constexpr uint64_t pieces_at = 2 * megabyte;
constexpr uint64_t pieces_bytes = uint64_t{max_gpu_entries} * sizeof(VirtioState::Piece);
constexpr uint64_t file_bytes = pieces_at + max_gpu_resources * pieces_bytes;
constexpr uint32_t rings = VhostRecord::max_rings;
static_assert(InflightMemory::bytes(rings, max_queue_size) <= pieces_at - records_at);
static_assert(std::is_trivially_destructible_v<GpuRecord> && std::is_trivially_copyable_v<GpuRecord>);

} // namespace

std::shared_ptr<VirtioState> VirtioState::map(base::UniqueFd fd) {
  static_assert(sizeof(File) <= records_at);
  base::UniqueFd again(base::check(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)", what));
  auto records =
      InflightMemory::map(std::move(again), pieces_at - records_at, records_at, rings, max_queue_size);
  void* memory = mmap(nullptr, sizeof(File), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) throw base::SystemError(errno, "mmap", what);
  std::shared_ptr<VirtioState> state(new VirtioState(std::move(fd), static_cast<File*>(memory)));
  state->records_ = std::move(records);
  return state;
}

std::shared_ptr<VirtioState> VirtioState::make(uint32_t scanouts, const std::string& label) {
  base::UniqueFd fd(
      base::check(memfd_create("virtio-state", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create", what));
  base::check(ftruncate(fd.get(), file_bytes), "ftruncate", what);
  base::check(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), "fcntl(F_ADD_SEALS)",
              what);
  auto state = map(std::move(fd));
  File& file = *state->file_; // zeroes
  if (label.size() >= sizeof file.label) throw base::SystemError(ENAMETOOLONG, "label", what);
  new (&file.gpu) GpuRecord;
  file.version = layout_version;
  file.bytes = sizeof file;
  file.scanouts = scanouts;
  label.copy(file.label, label.size());
  file.magic = magic;
  return state;
}

std::shared_ptr<VirtioState> VirtioState::open(base::UniqueFd fd, uint32_t scanouts,
                                               const std::string& label) {
  struct stat status{};
  base::check(fstat(fd.get(), &status), "fstat", what);
  if (static_cast<uint64_t>(status.st_size) != file_bytes)
    throw base::SystemError(EINVAL, "open", what, "it is another version's");
  auto state = map(std::move(fd));
  state->check(scanouts, label);
  state->tidy();
  return state;
}

void VirtioState::check(uint32_t scanouts, const std::string& label) const {
  const auto refuse = [](const std::string& why) { throw base::SystemError(EINVAL, "open", what, why); };
  const File& file = *file_;
  if (file.magic != magic || file.version != layout_version || file.bytes != sizeof file)
    refuse("it is another version's");
  if (file.scanouts != scanouts)
    refuse("the device had " + std::to_string(file.scanouts) + " scanouts and has " +
           std::to_string(scanouts));
  const std::string former(file.label, strnlen(file.label, sizeof file.label));
  if (former != label) refuse("the device was at " + former);
}

void VirtioState::tidy() noexcept {
  GpuRecord& gpu = file_->gpu;
  for (GpuResource& resource : gpu.resources) {
    const bool whole =
        resource.state == GpuResource::State::used && resource.id != 0 && (resource.backed || !resource.blob);
    if (!whole) resource = {};
  }
  for (uint32_t i = 0; i < max_gpu_buffers; ++i) {
    GpuBuffer& buffer = gpu.buffers[i];
    const GpuResource* resource =
        buffer.resource < max_gpu_resources ? &gpu.resources[buffer.resource] : nullptr;
    const bool whole = buffer.state == GpuBuffer::State::ready && resource != nullptr && resource->backed &&
                       (resource->blob || resource->buffer == i);
    if (!whole) buffer = {};
    buffer.uses = 0;
    buffer.fb_id = 0;
  }
  for (GpuResource& resource : gpu.resources) {
    // A 2D resource is backed when it has its buffer: both are said at once, or neither.
    const bool lost =
        resource.state == GpuResource::State::used && !resource.blob && resource.backed &&
        (resource.buffer >= max_gpu_buffers || gpu.buffers[resource.buffer].state != GpuBuffer::State::ready);
    if (!lost) continue;
    resource.backed = false;
    resource.buffer = no_slot;
  }
  for (GpuScanoutRecord& scanout : gpu.scanouts) {
    for (GpuShown* shown : {&scanout.picture, &scanout.pointer}) {
      if (shown->buffer >= max_gpu_buffers || gpu.buffers[shown->buffer].state != GpuBuffer::State::ready)
        shown->buffer = no_slot;
    }
  }
}

void VirtioState::write_pieces(uint32_t resource, std::span<const Piece> pieces) {
  if (pieces.size() > max_gpu_entries) throw base::SystemError(E2BIG, "pwrite", what);
  const std::span<const std::byte> bytes = std::as_bytes(pieces);
  const auto at = static_cast<off_t>(pieces_at + resource * pieces_bytes);
  const auto done = base::check(pwrite(fd_.get(), bytes.data(), bytes.size(), at), "pwrite", what);
  if (static_cast<size_t>(done) != bytes.size()) throw base::SystemError(EIO, "pwrite", what);
  file_->piece_counts[resource] = static_cast<uint32_t>(pieces.size());
}

std::vector<VirtioState::Piece> VirtioState::read_pieces(uint32_t resource) const {
  const uint32_t count = file_->piece_counts[resource];
  if (count > max_gpu_entries) throw base::SystemError(E2BIG, "pread", what);
  std::vector<Piece> pieces(count);
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(pieces));
  const auto at = static_cast<off_t>(pieces_at + resource * pieces_bytes);
  const auto done = base::check(pread(fd_.get(), bytes.data(), bytes.size(), at), "pread", what);
  if (static_cast<size_t>(done) != bytes.size()) throw base::SystemError(EIO, "pread", what);
  return pieces;
}

VirtioState::~VirtioState() {
  munmap(file_, sizeof(File));
}

} // namespace scanout::guests
