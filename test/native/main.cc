// Runs the tests: native_tests [FILTER], FILTER a part of the names to run. Prints TAP lines and a summary.
#include "check.h"

#include <exception>

namespace scanout::test {

namespace {
int failures = 0; // of the running test
}

std::vector<Case>& cases() {
  static std::vector<Case> all; // in a function: registrations run before main, in any order of files
  return all;
}

void fail(const char* file, int line, const std::string& what) {
  ++failures;
  std::cout << "# " << file << ':' << line << ": " << what << '\n';
}

/// Why it was skipped; empty when it was not.
static std::string run(const Case& test) {
  failures = 0;
  try {
    test.body();
  } catch (const Skipped& skipped) {
    return skipped.why;
  } catch (const Abandon&) { // NOLINT(bugprone-empty-catch): its failure is recorded
  } catch (const std::exception& error) {
    fail(test.name, 0, std::string("exception: ") + error.what());
  }
  return "";
}

static bool failed() {
  return failures > 0;
}

} // namespace scanout::test

int main(int argc, char** argv) {
  const std::string filter = argc > 1 ? argv[1] : "";
  std::cout << std::unitbuf; // so that the last line before a crash is seen
  int number = 0;
  int failed = 0;
  int skipped = 0;
  for (const auto& test : scanout::test::cases()) {
    if (std::string(test.name).find(filter) == std::string::npos) continue;
    const std::string why = scanout::test::run(test);
    const bool ok = !scanout::test::failed();
    std::cout << (ok ? "ok " : "not ok ") << ++number << " - " << test.name;
    if (ok && !why.empty()) std::cout << " # SKIP " << why;
    std::cout << '\n';
    if (!ok)
      ++failed;
    else if (!why.empty())
      ++skipped;
  }
  std::cout << "1.." << number << '\n'
            << number - failed - skipped << " passed, " << failed << " failed, " << skipped << " skipped\n";
  // A filter that matches nothing is a mistake, not a success.
  return failed == 0 && number > 0 ? 0 : 1;
}
