// A test framework of one header: TEST(name) { CHECK(...); CHECK_EQ(a, b); }, registered by itself.
#pragma once

#include <iostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace scanout::test {

struct Case {
  const char* name;
  void (*body)();
};

/// Leaves the test at once; thrown by REQUIRE.
struct Abandon {};
/// The test cannot run here; thrown by SKIP.
struct Skipped {
  std::string why;
};

std::vector<Case>& cases();
/// Marks the running test as failed.
void fail(const char* file, int line, const std::string& what);

struct Registration {
  Registration(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

template <typename T> std::string show(const T& value) {
  std::ostringstream out;
  if constexpr (std::is_enum_v<T>)
    out << +static_cast<std::underlying_type_t<T>>(value);
  else if constexpr (std::is_same_v<T, std::nullptr_t>)
    out << "nullptr";
  else if constexpr (sizeof(T) == 1 && std::is_integral_v<T> && !std::is_same_v<T, bool>)
    out << +value;
  else if constexpr (requires { out << value; })
    out << value;
  else
    out << "(no text)";
  return out.str();
}

template <typename A, typename B>
void check_equal(const A& got, const B& wanted, const char* text, const char* file, int line) {
  if (got == wanted) return;
  fail(file, line, std::string(text) + ": got " + show(got) + ", wanted " + show(wanted));
}

} // namespace scanout::test

/// Defines a test. `name` is an identifier, unique in its file.
#define TEST(name)                                                                                           \
  static void test_##name();                                                                                 \
  static const ::scanout::test::Registration register_##name(#name, test_##name);                            \
  static void test_##name()

/// Fails the test and goes on.
#define CHECK(condition)                                                                                     \
  do {                                                                                                       \
    if (!(condition)) ::scanout::test::fail(__FILE__, __LINE__, #condition);                                 \
  } while (false)

/// Fails the test and leaves it.
#define REQUIRE(condition)                                                                                   \
  do {                                                                                                       \
    if (!(condition)) {                                                                                      \
      ::scanout::test::fail(__FILE__, __LINE__, #condition);                                                 \
      throw ::scanout::test::Abandon{};                                                                      \
    }                                                                                                        \
  } while (false)

/// Leaves the test, which counts as skipped: this machine lacks what it is about. `why`: one line.
#define SKIP(why)                                                                                            \
  throw ::scanout::test::Skipped {                                                                           \
    (why)                                                                                                    \
  }

/// Fails the test, printing both values, and goes on.
#define CHECK_EQ(got, wanted)                                                                                \
  ::scanout::test::check_equal((got), (wanted), #got " == " #wanted, __FILE__, __LINE__)

/// Fails the test unless `expression` throws `type`.
#define CHECK_THROWS(expression, type)                                                                       \
  do {                                                                                                       \
    bool thrown = false;                                                                                     \
    try {                                                                                                    \
      (void)(expression);                                                                                    \
    } catch (const type&) {                                                                                  \
      thrown = true;                                                                                         \
    }                                                                                                        \
    if (!thrown) ::scanout::test::fail(__FILE__, __LINE__, #expression " did not throw " #type);             \
  } while (false)
