// Objects that lie next to each other.
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>

#include "base/packed.h"
#include "check.h"

using namespace scanout;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool packs = false; // see base::Packed
#else
constexpr bool packs = true;
#endif

template <size_t Size> struct Object final : base::Packed {
  std::array<unsigned char, Size> bytes{};
};

uintptr_t address_of(const void* object) {
  return reinterpret_cast<uintptr_t>(object);
}
uintptr_t page_of(uintptr_t address) {
  return address / 4096;
}

} // namespace

TEST(packed_objects_that_are_made_one_after_another_share_a_page) {
  if (!packs) SKIP("the address sanitizer watches the heap only");
  // Whatever other objects there are, these need no more than two pages: the rest of one, and another.
  std::vector<std::unique_ptr<Object<200>>> objects;
  std::map<uintptr_t, int> pages;
  for (int i = 0; i < 12; ++i) {
    objects.push_back(std::make_unique<Object<200>>());
    ++pages[page_of(address_of(objects.back().get()))];
  }
  CHECK(pages.size() <= 2);
}

TEST(packed_objects_take_the_place_of_former_ones) {
  if (!packs) SKIP("the address sanitizer watches the heap only");
  auto first = std::make_unique<Object<640>>();
  const auto second = std::make_unique<Object<640>>();
  const uintptr_t place = address_of(first.get());
  first.reset();
  CHECK_EQ(address_of(std::make_unique<Object<600>>().get()), place);
}

TEST(packed_objects_of_any_size_lie_apart_and_on_one_page_each) {
  struct Any {
    std::unique_ptr<base::Packed, void (*)(base::Packed*)> object;
    unsigned char* bytes;
    size_t size;
    unsigned char filled;
  };
  const auto make = [](auto size) {
    auto* object = new Object<decltype(size)::value>;
    const auto destroy = [](base::Packed* one) { delete static_cast<Object<decltype(size)::value>*>(one); };
    return Any{.object = {object, destroy}, .bytes = object->bytes.data(), .size = size, .filled = 0};
  };
  std::mt19937 random(1);
  std::map<uintptr_t, Any> all; // by address
  for (int i = 0; i < 4000; ++i) {
    if (!all.empty() && random() % 2 == 0) {
      const auto one = std::next(all.begin(), static_cast<long>(random() % all.size()));
      for (size_t at = 0; at < one->second.size; ++at)
        REQUIRE(one->second.bytes[at] == one->second.filled);
      all.erase(one);
      continue;
    }
    Any made = random() % 4 == 0   ? make(std::integral_constant<size_t, 4096>())
               : random() % 4 == 0 ? make(std::integral_constant<size_t, 5000>())
               : random() % 4 == 0 ? make(std::integral_constant<size_t, 1>())
               : random() % 4 == 0 ? make(std::integral_constant<size_t, 65>())
                                   : make(std::integral_constant<size_t, 1500>());
    made.filled = static_cast<unsigned char>(random());
    std::memset(made.bytes, made.filled, made.size);
    const uintptr_t at = address_of(made.bytes);
    if (packs && made.size <= 4096) {
      CHECK_EQ(at % 64, uintptr_t{0});
      CHECK_EQ(page_of(at), page_of(at + made.size - 1));
    }
    const auto after = all.lower_bound(at);
    REQUIRE(after == all.end() || after->first >= at + made.size);
    REQUIRE(after == all.begin() || std::prev(after)->first + std::prev(after)->second.size <= at);
    all.emplace(at, std::move(made));
  }
}
