#include "base/error.h"

#include <cstring>

namespace scanout::base {

namespace {

std::string describe(int error, const std::string& op, const std::string& subject,
                     const std::string& detail) {
  std::string text = op;
  if (!subject.empty()) text += " (" + subject + ")";
  text += ": " + errno_name(error);
  text += detail.empty() ? std::string(", ") + std::strerror(error) : ", " + detail;
  return text;
}

} // namespace

SystemError::SystemError(int error, std::string op, std::string subject, const std::string& detail)
    : std::runtime_error(describe(error, op, subject, detail)), error_(error), op_(std::move(op)),
      subject_(std::move(subject)) {}

std::string errno_name(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "E" + std::to_string(error);
}

} // namespace scanout::base
