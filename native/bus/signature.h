// Type signatures of D-Bus.
#pragma once

#include <cstddef>
#include <string_view>

namespace scanout::bus {

constexpr size_t max_signature = 255;
constexpr int max_nesting = 32; ///< of arrays, and of structs

/// Length of the first complete type of `signature`; 0 when there is none or it is wrong.
size_t complete_type(std::string_view signature) noexcept;

/// How many complete types `signature` has; -1 when it is wrong.
int count_types(std::string_view signature) noexcept;

/// A type that a key of a dictionary may have.
constexpr bool is_basic(char type) noexcept {
  return std::string_view("ybnqiuxtdsogh").find(type) != std::string_view::npos;
}

} // namespace scanout::bus
