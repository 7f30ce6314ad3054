// The commands of a virtio-gpu device (Virtio 1.2, 5.7.6.7 and on).
#include <atomic>
#include <cstring>

#include "guests/virtio_gpu.h"
#include "guests/virtio_scanout.h"

namespace scanout::guests {

namespace {

bool within(const virtio_gpu_rect& rect, uint32_t width, uint32_t height) noexcept {
  return uint64_t{rect.x} + rect.width <= width && uint64_t{rect.y} + rect.height <= height;
}

// The tables outlive the process: what has no id is not there yet, should it die in between.
void in_order() noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

GpuRect rect_of(const virtio_gpu_rect& rect) noexcept {
  return {.x = rect.x, .y = rect.y, .width = rect.width, .height = rect.height};
}

} // namespace

template <typename T> bool VirtioGpu::request(T& value) const noexcept {
  const GuestMemory* memory = rings_.memory();
  return memory != nullptr && chain_.read(*memory, 0, &value, sizeof value) == sizeof value;
}

uint32_t VirtioGpu::execute() noexcept {
  commands_.fetch_add(1, std::memory_order_relaxed);
  header_ = {};
  if (!request(header_)) return VIRTIO_GPU_RESP_ERR_UNSPEC;
  switch (header_.type) {
  case VIRTIO_GPU_CMD_GET_DISPLAY_INFO:
    return display_info();
  case VIRTIO_GPU_CMD_GET_EDID:
    return edid();
  case VIRTIO_GPU_CMD_RESOURCE_CREATE_2D:
    return create_2d();
  case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
    return create_blob();
  case VIRTIO_GPU_CMD_RESOURCE_UNREF:
    return unref();
  case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
    return attach_backing();
  case VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING:
    return detach_backing();
  case VIRTIO_GPU_CMD_SET_SCANOUT:
    return set_scanout();
  case VIRTIO_GPU_CMD_SET_SCANOUT_BLOB:
    return set_scanout_blob();
  case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
    return transfer();
  case VIRTIO_GPU_CMD_RESOURCE_FLUSH:
    return flush();
  default:
    return VIRTIO_GPU_RESP_ERR_UNSPEC;
  }
}

// What a former process had begun is done again, and may be done already. A flush may name what went since.
uint32_t VirtioGpu::unless_again(uint32_t error) const noexcept {
  return chain_.again ? uint32_t{VIRTIO_GPU_RESP_OK_NODATA} : error;
}

uint32_t VirtioGpu::display_info() noexcept {
  virtio_gpu_resp_display_info info{};
  info.hdr = answer_header(VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
  for (uint32_t i = 0; i < scanout_count_; ++i) {
    const GpuDisplay& display = displays_[i];
    info.pmodes[i].r.width = display.width;
    info.pmodes[i].r.height = display.height;
    info.pmodes[i].enabled = display.width > 0 ? 1 : 0;
  }
  answer(&info, sizeof info);
  return later;
}

uint32_t VirtioGpu::edid() noexcept {
  virtio_gpu_cmd_get_edid wanted;
  if (!request(wanted) || wanted.scanout >= scanout_count_) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const GpuDisplay& display = displays_[wanted.scanout];
  virtio_gpu_resp_edid response{};
  response.hdr = answer_header(VIRTIO_GPU_RESP_OK_EDID);
  response.size = display.edid_size;
  std::memcpy(response.edid, display.edid.data(), display.edid_size);
  answer(&response, sizeof response);
  return later;
}

uint32_t VirtioGpu::create_2d() noexcept {
  virtio_gpu_resource_create_2d wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (wanted.resource_id == 0) return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  if (find(wanted.resource_id) != no_slot) return unless_again(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  const uint32_t bytes = gpu_format_bytes(wanted.format);
  if (bytes == 0 || wanted.width == 0 || wanted.height == 0 || wanted.width > max_gpu_side ||
      wanted.height > max_gpu_side)
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = free_resource();
  if (index == no_slot) return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
  GpuResource& resource = resources_[index];
  resource.layout = {.width = wanted.width,
                     .height = wanted.height,
                     .format = wanted.format,
                     .stride = wanted.width * bytes};
  resource.state = GpuResource::State::used;
  in_order();
  resource.id = wanted.resource_id;
  return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t VirtioGpu::create_blob() noexcept {
  virtio_gpu_resource_create_blob wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (wanted.resource_id == 0) return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  if (find(wanted.resource_id) != no_slot) return unless_again(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  // Only the guest's own memory: there is no renderer here whose memory it could be.
  if (wanted.blob_mem != VIRTIO_GPU_BLOB_MEM_GUEST || wanted.size == 0 || wanted.nr_entries == 0 ||
      wanted.nr_entries > max_gpu_entries)
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = free_resource();
  if (index == no_slot) return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
  GpuResource& resource = resources_[index];
  resource.blob = true;
  resource.size = wanted.size;
  resource.state = GpuResource::State::used;
  in_order();
  resource.id = wanted.resource_id;
  job_entries_at_ = sizeof wanted;
  job_entries_ = wanted.nr_entries;
  return start_job({.what = GpuNotice::What::back, .resource = index, .size = wanted.size});
}

uint32_t VirtioGpu::unref() noexcept {
  virtio_gpu_resource_unref wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot) return unless_again(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  drop_resource(index);
  return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t VirtioGpu::attach_backing() noexcept {
  virtio_gpu_resource_attach_backing wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot) return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  const GpuResource& resource = resources_[index];
  if (resource.blob) return VIRTIO_GPU_RESP_ERR_UNSPEC;
  if (resource.backed) return unless_again(VIRTIO_GPU_RESP_ERR_UNSPEC);
  if (wanted.nr_entries == 0 || wanted.nr_entries > max_gpu_entries)
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t buffer = free_buffer();
  if (buffer == no_slot) return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
  buffers_[buffer] = {.state = GpuBuffer::State::making, .resource = index, .layout = resource.layout};
  job_entries_at_ = sizeof wanted;
  job_entries_ = wanted.nr_entries;
  return start_job(
      {.what = GpuNotice::What::back, .resource = index, .buffer = buffer, .layout = resource.layout});
}

uint32_t VirtioGpu::detach_backing() noexcept {
  virtio_gpu_resource_detach_backing wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot) return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  if (resources_[index].blob) return VIRTIO_GPU_RESP_ERR_UNSPEC;
  if (!resources_[index].backed) return unless_again(VIRTIO_GPU_RESP_ERR_UNSPEC);
  // The old memory may be on the screen still and goes its own way; the resource begins anew without any.
  const uint32_t fresh = free_resource();
  if (fresh == no_slot) return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
  GpuResource& resource = resources_[fresh];
  resource.state = GpuResource::State::used;
  resource.id = wanted.resource_id;
  resource.layout = resources_[index].layout;
  drop_resource(index);
  return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t VirtioGpu::show_on(uint32_t scanout, uint32_t buffer, const virtio_gpu_rect& rect) noexcept {
  const GpuLayout& layout = buffers_[buffer].layout;
  if (rect.width == 0 || rect.height == 0 || !within(rect, layout.width, layout.height))
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (scanouts_[scanout] != nullptr) scanouts_[scanout]->show(buffer, rect_of(rect));
  return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t VirtioGpu::set_scanout() noexcept {
  virtio_gpu_set_scanout wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (wanted.scanout_id >= scanout_count_) return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
  if (wanted.resource_id == 0) {
    if (VirtioScanout* scanout = scanouts_[wanted.scanout_id]; scanout != nullptr) scanout->hide();
    return VIRTIO_GPU_RESP_OK_NODATA;
  }
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot || resources_[index].blob) return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  if (resources_[index].buffer == no_slot) return VIRTIO_GPU_RESP_ERR_UNSPEC;
  return show_on(wanted.scanout_id, resources_[index].buffer, wanted.r);
}

uint32_t VirtioGpu::set_scanout_blob() noexcept {
  virtio_gpu_set_scanout_blob wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (wanted.scanout_id >= scanout_count_) return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
  if (wanted.resource_id == 0) {
    if (VirtioScanout* scanout = scanouts_[wanted.scanout_id]; scanout != nullptr) scanout->hide();
    return VIRTIO_GPU_RESP_OK_NODATA;
  }
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot || !resources_[index].blob || !resources_[index].backed)
    return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  const uint32_t bytes = gpu_format_bytes(wanted.format);
  if (bytes == 0 || wanted.width == 0 || wanted.height == 0 || wanted.width > max_gpu_side ||
      wanted.height > max_gpu_side || wanted.strides[0] < wanted.width * bytes)
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint64_t end =
      wanted.offsets[0] + uint64_t{wanted.strides[0]} * (wanted.height - 1) + uint64_t{wanted.width} * bytes;
  if (end > resources_[index].size) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const GpuLayout layout{.width = wanted.width,
                         .height = wanted.height,
                         .format = wanted.format,
                         .stride = wanted.strides[0],
                         .offset = wanted.offsets[0]};
  for (uint32_t i = 0; i < max_gpu_buffers; ++i) {
    const GpuBuffer& buffer = buffers_[i];
    if (buffer.state == GpuBuffer::State::ready && buffer.resource == index && buffer.layout == layout)
      return show_on(wanted.scanout_id, i, wanted.r);
  }
  const uint32_t buffer = free_buffer();
  if (buffer == no_slot) return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
  buffers_[buffer] = {.state = GpuBuffer::State::making, .resource = index, .layout = layout};
  return start_job({.what = GpuNotice::What::import, .resource = index, .buffer = buffer, .layout = layout});
}

uint32_t VirtioGpu::transfer() noexcept {
  virtio_gpu_transfer_to_host_2d wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot || resources_[index].blob) return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
  const GpuResource& resource = resources_[index];
  if (!within(wanted.r, resource.layout.width, resource.layout.height))
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (resource.buffer == no_slot) return VIRTIO_GPU_RESP_ERR_UNSPEC;
  // The display reads the guest's own memory: there is nothing to transfer.
  if (!buffers_[resource.buffer].copied || wanted.r.width == 0 || wanted.r.height == 0)
    return VIRTIO_GPU_RESP_OK_NODATA;
  return start_job({.what = GpuNotice::What::transfer,
                    .resource = index,
                    .buffer = resource.buffer,
                    .layout = resource.layout,
                    .rect = rect_of(wanted.r),
                    .offset = wanted.offset});
}

uint32_t VirtioGpu::flush() noexcept {
  virtio_gpu_resource_flush wanted;
  if (!request(wanted)) return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  const uint32_t index = find(wanted.resource_id);
  if (index == no_slot) return unless_again(VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
  const GpuResource& resource = resources_[index];
  if (!resource.blob && !within(wanted.r, resource.layout.width, resource.layout.height))
    return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
  if (!resource.blob) return submit_flush(index, rect_of(wanted.r));
  // A blob has no transfers: where it is shown by a copy, that is made now.
  for (VirtioScanout* scanout : scanouts_) {
    if (scanout == nullptr || scanout->buffer() == no_slot) continue;
    const GpuBuffer& buffer = buffers_[scanout->buffer()];
    if (buffer.resource != index) continue;
    if (!within(wanted.r, buffer.layout.width, buffer.layout.height))
      return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    if (!buffer.copied) continue;
    return start_job({.what = GpuNotice::What::transfer,
                      .resource = index,
                      .buffer = scanout->buffer(),
                      .layout = buffer.layout,
                      .rect = rect_of(wanted.r),
                      .offset = buffer.layout.offset + uint64_t{wanted.r.y} * buffer.layout.stride +
                                uint64_t{wanted.r.x} * gpu_format_bytes(buffer.layout.format)});
  }
  return submit_flush(index, rect_of(wanted.r));
}

/// A frame for each scanout that shows the resource. The answer to a fenced flush waits for them.
uint32_t VirtioGpu::submit_flush(uint32_t resource, const GpuRect& rect) noexcept {
  uint32_t shown = 0;
  std::array<uint64_t, max_gpu_scanouts> sequences{};
  for (uint32_t i = 0; i < scanout_count_; ++i) {
    VirtioScanout* scanout = scanouts_[i];
    if (scanout == nullptr || scanout->buffer() == no_slot) continue;
    if (buffers_[scanout->buffer()].resource != resource) continue;
    // A picture that is new to the scanout changes all of it.
    sequences[i] = scanout->flush(scanout->pending() ? nullptr : &rect, now_);
    shown |= 1u << i;
  }
  const bool fenced = (header_.flags & VIRTIO_GPU_FLAG_FENCE) != 0;
  if (fenced && shown != 0 && park(shown, sequences)) return later;
  return VIRTIO_GPU_RESP_OK_NODATA;
}

void VirtioGpu::cursor_command() noexcept {
  const GuestMemory* memory = rings_.memory();
  virtio_gpu_update_cursor wanted;
  if (memory == nullptr || cursor_chain_.read(*memory, 0, &wanted, sizeof wanted) != sizeof wanted) return;
  if (wanted.pos.scanout_id >= scanout_count_) return;
  VirtioScanout* scanout = scanouts_[wanted.pos.scanout_id];
  if (scanout == nullptr) return;
  scanout->move_cursor(static_cast<int32_t>(wanted.pos.x), static_cast<int32_t>(wanted.pos.y));
  if (wanted.hdr.type != VIRTIO_GPU_CMD_UPDATE_CURSOR) return;
  const uint32_t index = wanted.resource_id == 0 ? no_slot : find(wanted.resource_id);
  scanout->set_cursor(index == no_slot ? no_slot : resources_[index].buffer, wanted.hot_x, wanted.hot_y);
}

} // namespace scanout::guests
