// Errors of the control path. The flip path returns negative errno values instead and throws nothing.
#pragma once

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace scanout::base {

/// A refused system call: what was called, on what, and the errno.
///
/// Thrown on control paths only. The add-on turns it into a JavaScript Error with `code`, `errno`, `op`,
/// `subject`.
class SystemError : public std::runtime_error {
public:
  /// `op` is the ioctl or call by its C name, `subject` the object it was made on ("plane 34", a path), may
  /// be empty.
  SystemError(int error, std::string op, std::string subject = {}, const std::string& detail = {});

  [[nodiscard]] int error() const noexcept { return error_; }
  [[nodiscard]] const std::string& op() const noexcept { return op_; }
  [[nodiscard]] const std::string& subject() const noexcept { return subject_; }

private:
  int error_;
  std::string op_;
  std::string subject_;
};

/// Wrong use of an interface by the caller: a value out of range, an object that was closed.
class UsageError : public std::invalid_argument {
public:
  using std::invalid_argument::invalid_argument;
};

/// Symbolic name of an errno ("EBUSY"); "E<number>" where the C library has none.
std::string errno_name(int error);

/// Throws SystemError from `errno` when `result` is negative; returns it otherwise.
template <typename T> T check(T result, const char* op, const std::string& subject = {}) {
  if (result < 0) throw SystemError(errno, op, subject);
  return result;
}

} // namespace scanout::base
