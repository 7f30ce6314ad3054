#include "bus/signature.h"

namespace scanout::bus {

namespace {

size_t type_length(std::string_view text, int arrays, int structs) noexcept;

/// `text` begins after the parenthesis; the length includes the closing one.
size_t members_length(std::string_view text, int arrays, int structs) noexcept {
  size_t length = 0;
  while (length < text.size() && text[length] != ')') {
    const size_t member = type_length(text.substr(length), arrays, structs);
    if (member == 0) return 0;
    length += member;
  }
  return length == 0 || length == text.size() ? 0 : length + 1;
}

/// `text` begins after the brace; the length includes the closing one.
size_t entry_length(std::string_view text, int arrays, int structs) noexcept {
  if (text.size() < 3 || !is_basic(text[0])) return 0;
  const size_t value = type_length(text.substr(1), arrays, structs);
  if (value == 0 || 1 + value >= text.size() || text[1 + value] != '}') return 0;
  return value + 2;
}

size_t type_length(std::string_view text, int arrays, int structs) noexcept {
  if (text.empty()) return 0;
  if (is_basic(text[0]) || text[0] == 'v') return 1;
  size_t rest = 0;
  if (text[0] == '(' && structs < max_nesting) {
    rest = members_length(text.substr(1), arrays, structs + 1);
  } else if (text[0] == 'a' && arrays < max_nesting && text.size() > 1 && text[1] == '{') {
    rest = structs < max_nesting ? entry_length(text.substr(2), arrays + 1, structs + 1) : 0;
    if (rest != 0) ++rest; // the brace
  } else if (text[0] == 'a' && arrays < max_nesting) {
    rest = type_length(text.substr(1), arrays + 1, structs);
  }
  return rest == 0 ? 0 : rest + 1;
}

} // namespace

size_t complete_type(std::string_view signature) noexcept {
  return type_length(signature, 0, 0);
}

int count_types(std::string_view signature) noexcept {
  if (signature.size() > max_signature) return -1;
  int count = 0;
  while (!signature.empty()) {
    const size_t length = complete_type(signature);
    if (length == 0) return -1;
    signature.remove_prefix(length);
    ++count;
  }
  return count;
}

} // namespace scanout::bus
