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

static bool run(const Case& test) {
  failures = 0;
  try {
    test.body();
  } catch (const Abandon&) { // NOLINT(bugprone-empty-catch): its failure is recorded
  } catch (const std::exception& error) {
    fail(test.name, 0, std::string("exception: ") + error.what());
  }
  return failures == 0;
}

} // namespace scanout::test

int main(int argc, char** argv) {
  const std::string filter = argc > 1 ? argv[1] : "";
  std::cout << std::unitbuf; // so that the last line before a crash is seen
  int number = 0;
  int failed = 0;
  for (const auto& test : scanout::test::cases()) {
    if (std::string(test.name).find(filter) == std::string::npos) continue;
    const bool ok = scanout::test::run(test);
    std::cout << (ok ? "ok " : "not ok ") << ++number << " - " << test.name << '\n';
    if (!ok) ++failed;
  }
  std::cout << "1.." << number << '\n' << number - failed << " passed, " << failed << " failed\n";
  // A filter that matches nothing is a mistake, not a success.
  return failed == 0 && number > 0 ? 0 : 1;
}
