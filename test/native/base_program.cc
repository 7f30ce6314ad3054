// One program in place of another, and who is at a socket.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/program.h"
#include "base/unix_socket.h"
#include "check.h"

using namespace scanout::base;

namespace {

/// What `body`, in a child, leaves in its output.
std::string output_of(const std::function<void()>& body) {
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(write_end.get(), 1);
    body();
    ::_exit(99);
  }
  write_end.reset();
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; (got = ::read(read_end.get(), part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<size_t>(got));
  int status = 0;
  CHECK_EQ(::waitpid(child, &status, 0), child);
  CHECK_EQ(status, 0);
  return text;
}

void spoil_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGUSR2, SIG_IGN);
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

std::string temporary_path() {
  std::string path = "/tmp/scanoutd-probe-XXXXXX";
  REQUIRE(::mkdtemp(path.data()) != nullptr);
  return path + "/socket";
}

void remove_with_directory(const std::string& path) {
  ::unlink(path.c_str());
  ::rmdir(path.substr(0, path.rfind('/')).c_str());
}

} // namespace

TEST(a_program_gets_arguments_and_environment_as_they_are) {
  const std::string text = output_of([] {
    replace_program("/bin/sh",
                    {"other", "-c", "printf '%s|' \"$0\" \"$@\" \"$A\" \"${HOME-none}\"", "a b", "", "$A"},
                    {"A=x y"}, 3);
  });
  CHECK_EQ(text, std::string("a b||$A|x y|none|"));
}

TEST(a_program_begins_with_no_signal_blocked_or_ignored) {
  const std::string text = output_of([] {
    spoil_signals();
    replace_program("/bin/sh", {"sh", "-c", "exec grep -E '^Sig(Blk|Ign)' /proc/self/status"},
                    {"PATH=/bin:/usr/bin"}, 3);
  });
  CHECK_EQ(text, std::string("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
}

TEST(a_program_has_the_descriptors_that_it_is_to_have) {
  const std::string text = output_of([] {
    ::fcntl(1, F_SETFD, FD_CLOEXEC);
    for (const int fd : {3, 4, 5}) {
      ::dup2(1, fd);
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    const char* script = "for n in 1 3 4 5; do [ -e /proc/self/fd/$n ] && printf $n; done; exit 0";
    replace_program("/bin/sh", {"sh", "-c", script}, {}, 4);
  });
  CHECK_EQ(text, std::string("13"));
}

TEST(a_program_has_descriptors_that_are_passed_to_it_under_their_numbers) {
  const std::string text = output_of([] {
    for (const int fd : {3, 7, 8, 9}) {
      ::dup2(1, fd);
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    const char* script = "for n in 1 3 7 8 9; do [ -e /proc/self/fd/$n ] && printf $n; done; exit 0";
    replace_program("/bin/sh", {"sh", "-c", script}, {}, 3, {7, 9});
  });
  CHECK_EQ(text, std::string("179"));
}

TEST(a_refused_program_leaves_passed_descriptors_as_they_were) {
  const UniqueFd passed(::fcntl(0, F_DUPFD_CLOEXEC, 3));
  CHECK_THROWS(replace_program("/no/program", {"x"}, {}, 3, {passed.get()}), SystemError);
  CHECK_EQ(::fcntl(passed.get(), F_GETFD), FD_CLOEXEC);
}

TEST(a_refused_program_leaves_signals_as_they_were) {
  const std::string text = output_of([] {
    spoil_signals();
    try {
      replace_program("/no/program", {"x"}, {}, 3);
    } catch (const SystemError& error) {
      struct sigaction found{};
      ::sigaction(SIGUSR2, nullptr, &found);
      sigset_t mask;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      std::printf("%s %s %s %d %d", error.op().c_str(), error.subject().c_str(),
                  errno_name(error.error()).c_str(), found.sa_handler == SIG_IGN ? 1 : 0,
                  ::sigismember(&mask, SIGTERM));
      std::fflush(stdout);
      ::_exit(0);
    }
  });
  CHECK_EQ(text, std::string("execve /no/program ENOENT 1 1"));
}

TEST(a_program_with_a_nul_or_without_a_name_is_refused) {
  CHECK_THROWS(replace_program("/bin/true", {}, {}, 3), UsageError);
  CHECK_THROWS(replace_program("", {"x"}, {}, 3), UsageError);
  CHECK_THROWS(replace_program("/bin/true", {std::string("a\0b", 3)}, {}, 3), UsageError);
  CHECK_THROWS(replace_program("/bin/true", {"x"}, {std::string("A=\0", 3)}, 3), UsageError);
}

TEST(a_probe_tells_a_listener_from_what_one_left_and_connects_to_neither) {
  const std::string path = temporary_path();
  CHECK_EQ(probe_unix(path), ENOENT);
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    UnixListener listener = UnixListener::listen(path, {.type = type, .group = {}});
    CHECK_EQ(probe_unix(path), 0);
    CHECK(!listener.accept());
  }
  {
    // A dead process's: the file stays when the socket is closed.
    UnixListener listener = UnixListener::listen(path, {.type = SOCK_STREAM, .group = {}});
    REQUIRE(::link(path.c_str(), (path + "2").c_str()) == 0);
  }
  CHECK_EQ(probe_unix(path + "2"), ECONNREFUSED);
  ::unlink((path + "2").c_str());
  remove_with_directory(path);
}
