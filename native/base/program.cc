#include "base/program.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/error.h"

namespace scanout::base {

namespace {

/// Handlers end with an execve, but what is ignored or blocked stays so: Node.js ignores SIGPIPE and SIGXFSZ.
class OrdinarySignals {
public:
  OrdinarySignals() {
    sigset_t none;
    ::sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, &mask_);
    for (int number = 1; number < NSIG; ++number) {
      struct sigaction found{};
      if (::sigaction(number, nullptr, &found) < 0 || found.sa_handler != SIG_IGN) continue;
      struct sigaction ordinary{};
      ordinary.sa_handler = SIG_DFL;
      if (::sigaction(number, &ordinary, nullptr) == 0) ignored_.push_back({number, found});
    }
  }
  OrdinarySignals(const OrdinarySignals&) = delete;
  OrdinarySignals& operator=(const OrdinarySignals&) = delete;
  ~OrdinarySignals() {
    for (const auto& [number, action] : ignored_)
      ::sigaction(number, &action, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
  }

private:
  struct Ignored {
    int number;
    struct sigaction action;
  };
  sigset_t mask_{};
  std::vector<Ignored> ignored_;
};

class InheritedDescriptors {
public:
  InheritedDescriptors(int count, const std::vector<int>& passed) {
    for (int fd = 0; fd < count; ++fd)
      inherit(fd);
    for (const int fd : passed)
      inherit(fd);
  }
  InheritedDescriptors(const InheritedDescriptors&) = delete;
  InheritedDescriptors& operator=(const InheritedDescriptors&) = delete;
  ~InheritedDescriptors() {
    for (const int fd : changed_)
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }

private:
  void inherit(int fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) != 0 && ::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) == 0)
      changed_.push_back(fd);
  }

  std::vector<int> changed_;
};

std::vector<char*> pointers_to(const std::vector<std::string>& texts, const char* what) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) {
    if (text.find('\0') != std::string::npos) throw UsageError(std::string(what) + ": a text has a NUL");
    pointers.push_back(const_cast<char*>(text.c_str())); // execve writes to none of them
  }
  pointers.push_back(nullptr);
  return pointers;
}

} // namespace

void replace_program(const std::string& path, const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment, int descriptors,
                     const std::vector<int>& passed) {
  if (path.empty() || path.find('\0') != std::string::npos) throw UsageError("program: empty, or has a NUL");
  if (arguments.empty()) throw UsageError("arguments: one at least expected");
  const std::vector<char*> argv = pointers_to(arguments, "arguments");
  const std::vector<char*> envp = pointers_to(environment, "environment");
  int error = 0;
  {
    const OrdinarySignals ordinary;
    const InheritedDescriptors inherited(descriptors, passed);
    ::execve(path.c_str(), argv.data(), envp.data());
    error = errno;
  }
  throw SystemError(error, "execve", path);
}

} // namespace scanout::base
