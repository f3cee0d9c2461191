// Checks for the C++ tests: unlike assert() they hold in release builds, and they say what failed and go on.
// A test is one executable whose main() ends with `return seqkern::test::failures();`.
#pragma once

#include <cstdio>

namespace seqkern::test {

inline int failed_checks = 0;

inline void check(bool passed, const char* expression, const char* file, int line) {
  if (passed) return;
  std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, expression);
  ++failed_checks;
}

inline int failures() { return failed_checks == 0 ? 0 : 1; }

}  // namespace seqkern::test

#define CHECK(condition) seqkern::test::check((condition), #condition, __FILE__, __LINE__)

#define CHECK_THROWS(expression, Exception)                                              \
  do {                                                                                   \
    bool thrown = false;                                                                 \
    try {                                                                                \
      (void)(expression);                                                                \
    } catch (const Exception&) {                                                         \
      thrown = true;                                                                     \
    }                                                                                    \
    seqkern::test::check(thrown, #expression " throws " #Exception, __FILE__, __LINE__); \
  } while (false)
