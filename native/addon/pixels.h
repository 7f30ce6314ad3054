// What other add-on files may have of the pixels.
#pragma once

#include <napi.h>

#include <memory>

#include "pixels/mapped_buffer.h"

namespace scanout::addon {

/// The pixels of a JavaScript object that has some (QemuPicture); throws for others.
std::shared_ptr<pixels::MemorySource> memory_of(const Napi::Value& value);

/// Maps a buffer that is described as `{ width, height, fourcc, modifier, strides, offsets, fds }`; the
/// descriptors are borrowed. With `memory` that is what is read, and the others say nothing. Throws
/// SystemError where it cannot be read by the CPU.
std::unique_ptr<pixels::MappedBuffer> map_buffer(const Napi::Object& object);

} // namespace scanout::addon
