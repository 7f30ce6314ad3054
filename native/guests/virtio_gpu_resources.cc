// Resources of a virtio-gpu device and their framebuffers: who holds them, and what JavaScript does about
// them.
#include "base/clock.h"
#include "guests/virtio_gpu.h"
#include "guests/virtio_scanout.h"

namespace scanout::guests {

uint32_t VirtioGpu::find(uint32_t id) const noexcept {
  for (uint32_t i = 0; i < max_gpu_resources; ++i) {
    if (resources_[i].id == id && resources_[i].state == GpuResource::State::used) return i;
  }
  return no_slot;
}

uint32_t VirtioGpu::free_resource() const noexcept {
  for (uint32_t i = 0; i < max_gpu_resources; ++i) {
    if (resources_[i].state == GpuResource::State::free) return i;
  }
  return no_slot;
}

uint32_t VirtioGpu::free_buffer() const noexcept {
  for (uint32_t i = 0; i < max_gpu_buffers; ++i) {
    if (buffers_[i].state == GpuBuffer::State::free) return i;
  }
  return no_slot;
}

void VirtioGpu::drop_resource(uint32_t index) noexcept {
  resources_[index].state = GpuResource::State::dying;
  for (uint32_t i = 0; i < max_gpu_buffers; ++i) {
    if (buffers_[i].resource == index && buffers_[i].state == GpuBuffer::State::ready) drop_buffer(i);
  }
  settle_resource(index);
}

void VirtioGpu::drop_buffer(uint32_t index) noexcept {
  buffers_[index].state = GpuBuffer::State::dying;
  for (VirtioScanout* scanout : scanouts_) {
    if (scanout != nullptr) scanout->forget(index);
  }
  settle_buffer(index);
}

void VirtioGpu::unuse(uint32_t index) noexcept {
  --buffers_[index].uses;
  settle_buffer(index);
}

void VirtioGpu::settle_buffer(uint32_t index) noexcept {
  GpuBuffer& buffer = buffers_[index];
  if (buffer.state != GpuBuffer::State::dying || buffer.uses > 0) return;
  buffer.state = GpuBuffer::State::freeing;
  tell({.what = GpuNotice::What::release_buffer, .resource = buffer.resource, .buffer = index});
}

void VirtioGpu::buffer_released(uint32_t index) noexcept {
  const uint32_t resource = buffers_[index].resource;
  buffers_[index] = {};
  settle_resource(resource);
}

void VirtioGpu::settle_resource(uint32_t index) noexcept {
  GpuResource& resource = resources_[index];
  if (resource.state != GpuResource::State::dying) return;
  if (stalled_ && job_.resource == index) return; // its job is under way
  for (const GpuBuffer& buffer : buffers_) {
    if (buffer.state != GpuBuffer::State::free && buffer.resource == index) return;
  }
  if (!resource.backed) {
    resource = {};
    return;
  }
  resource.state = GpuResource::State::freeing;
  tell({.what = GpuNotice::What::release_resource, .resource = index});
}

void VirtioGpu::resource_released(uint32_t index) noexcept {
  resources_[index] = {};
}

uint32_t VirtioGpu::start_job(const GpuNotice& notice) noexcept {
  job_ = notice;
  stalled_ = true;
  abandoned_ = false;
  tell(notice);
  return later;
}

void VirtioGpu::finish_job(const GpuJobResult& result) noexcept {
  if (!stalled_) return;
  stalled_ = false;
  now_ = base::now_ns();
  const GpuNotice job = job_; // the rest of its command may start another one
  GpuResource& resource = resources_[job.resource];
  const bool wanted = resource.state == GpuResource::State::used;
  if (job.what != GpuNotice::What::transfer) take_over(job, result, wanted);
  uint32_t type = result.done ? VIRTIO_GPU_RESP_OK_NODATA : VIRTIO_GPU_RESP_ERR_UNSPEC;
  if (wanted && result.done && !abandoned_) {
    if (job.what == GpuNotice::What::import) type = set_scanout_blob();
    if (job.what == GpuNotice::What::transfer && header_.type == VIRTIO_GPU_CMD_RESOURCE_FLUSH)
      type = submit_flush(job.resource, job.rect);
  }
  if (!abandoned_ && type != later) answer_type(type);
  settle_resource(job.resource);
  serve_control();
}

// What JavaScript has made is the resource's. Of what failed nothing is left, there or here.
void VirtioGpu::take_over(const GpuNotice& job, const GpuJobResult& result, bool wanted) noexcept {
  GpuResource& resource = resources_[job.resource];
  const bool back = job.what == GpuNotice::What::back;
  if (!result.done) {
    if (job.buffer != no_slot) buffers_[job.buffer] = {};
    if (back && wanted && resource.blob) resource = {};
    return;
  }
  if (job.buffer == no_slot) {
    resource.backed = true;
    return;
  }
  GpuBuffer& buffer = buffers_[job.buffer];
  buffer.state = GpuBuffer::State::ready;
  buffer.fb_id = result.fb_id;
  buffer.copied = result.copied;
  if (back) resource.backed = true;
  if (!wanted)
    drop_buffer(job.buffer);
  else if (back)
    resource.buffer = job.buffer;
}

} // namespace scanout::guests
