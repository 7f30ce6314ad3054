// A sink of a guest, with the devices that the guest has by it.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "input/port.h"

namespace scanout::input {

/// Made and destroyed on the JS thread.
struct Attachment final : base::Packed {
  using Classes = std::vector<std::pair<Class, Description>>;
  Attachment(uint32_t sink_id, Guest& of, std::unique_ptr<Sink> way, const Classes& classes)
      : id(sink_id), guest(of), sink(std::move(way)), traffic(*sink) {
    sink->tag = this;
    for (const auto& [each, description] : classes)
      ports.push_back(std::make_unique<Port>(guest, each, description, *sink, traffic));
  }

  const uint32_t id; // to JavaScript
  Guest& guest;
  std::unique_ptr<Sink> sink;
  Traffic traffic;
  std::vector<std::unique_ptr<Port>> ports;

  // Input thread.
  bool ended = false;
  Attachment* next_ended = nullptr;
};

} // namespace scanout::input
