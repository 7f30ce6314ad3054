#include "base/packed.h"

#include <array>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

namespace scanout::base {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool packs = false;
#else
constexpr bool packs = true;
#endif

constexpr size_t page_size = 4096;
constexpr size_t line_size = 64;
constexpr unsigned lines_a_page = page_size / line_size;

struct alignas(page_size) Memory {
  std::array<std::byte, page_size> bytes;
};

constexpr unsigned lines_of(size_t size) {
  return static_cast<unsigned>((size + line_size - 1) / line_size);
}

constexpr uint64_t mask_of(unsigned lines, unsigned first) {
  return (lines == lines_a_page ? ~uint64_t{0} : (uint64_t{1} << lines) - 1) << first;
}

class Pages {
public:
  void* take(unsigned lines) {
    const std::lock_guard lock(mutex_);
    for (Page& page : pages_) {
      if (void* found = page.take(lines)) return found;
    }
    return pages_.emplace_back(new Memory).take(lines);
  }

  void give_back(void* object, unsigned lines) noexcept {
    const std::lock_guard lock(mutex_);
    for (Page& page : pages_)
      page.give_back(object, lines);
  }

private:
  struct Page {
    explicit Page(Memory* of) : memory(of) {}

    void* take(unsigned lines) noexcept {
      for (unsigned first = 0; first + lines <= lines_a_page; ++first) {
        const uint64_t mask = mask_of(lines, first);
        if ((used & mask) != 0) continue;
        used |= mask;
        return &memory->bytes[first * line_size];
      }
      return nullptr;
    }

    void give_back(void* object, unsigned lines) noexcept {
      const auto offset = reinterpret_cast<uintptr_t>(object) - reinterpret_cast<uintptr_t>(memory);
      if (offset < page_size) used &= ~mask_of(lines, static_cast<unsigned>(offset / line_size));
    }

    Memory* memory;
    uint64_t used = 0; // a bit for each line
  };

  std::mutex mutex_;
  std::vector<Page> pages_;
};

// Never destroyed: what is static may have objects on it.
Pages& pages() {
  static auto* const all = new Pages;
  return *all;
}

} // namespace

void* Packed::operator new(size_t size) {
  if (!packs || size > page_size) return ::operator new(size);
  return pages().take(lines_of(size));
}

void Packed::operator delete(void* object, size_t size) noexcept {
  if (!packs || size > page_size) {
    ::operator delete(object);
    return;
  }
  pages().give_back(object, lines_of(size));
}

} // namespace scanout::base
