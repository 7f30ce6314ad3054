// A service manager's store of descriptors (systemd's, as far as the daemon uses it), and what starts a
// daemon with what is in it. No Python and no datagram sockets in Node.js, inside the test machine.
//
//   store serve DIRECTORY          receives at DIRECTORY/notify, hands out at DIRECTORY/take; says "ready"
//   store run DIRECTORY COMMAND    runs the command with what is stored, as socket activation passes it
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 2048, FIRST = 3 };
struct entry {
  char name[256];
  int fd;
  bool poll;
};
static struct entry entries[MOST];
static int count;

static void fail(const char* what) {
  fprintf(stderr, "store: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_socket(int type, const char* directory, const char* name, bool listening) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, name);
  const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  const struct sockaddr* at = (const struct sockaddr*)&address;
  if (fd < 0 || (listening ? bind(fd, at, sizeof address) : connect(fd, at, sizeof address)) < 0) fail(name);
  return fd;
}

static void forget(int index) {
  close(entries[index].fd);
  entries[index] = entries[--count];
}

// What has hung up is not kept, as systemd does it.
static void sweep(void) {
  for (int i = count - 1; i >= 0; i--) {
    struct pollfd one = {.fd = entries[i].fd};
    if (entries[i].poll && poll(&one, 1, 0) > 0 && (one.revents & (POLLHUP | POLLERR))) forget(i);
  }
}

static void keep(const char* name, int fd, bool polled) {
  const pid_t self = getpid();
  for (int i = 0; i < count; i++) { // an open file is kept once
    if (syscall(SYS_kcmp, self, self, KCMP_FILE, fd, entries[i].fd) == 0) {
      close(fd);
      return;
    }
  }
  if (count == MOST) {
    close(fd);
    return;
  }
  snprintf(entries[count].name, sizeof entries[count].name, "%s", name);
  entries[count].poll = polled;
  entries[count++].fd = fd;
}

static void receive(int socket) {
  static char text[65536];
  union {
    char bytes[CMSG_SPACE(253 * sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {text, sizeof text - 1};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (size < 0) fail("recvmsg");
  text[size] = 0;
  bool store = false, remove = false, polled = true;
  char name[256] = "stored";
  for (char* line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    if (strcmp(line, "FDSTORE=1") == 0) store = true;
    if (strcmp(line, "FDSTOREREMOVE=1") == 0) remove = true;
    if (strcmp(line, "FDPOLL=0") == 0) polled = false;
    if (strncmp(line, "FDNAME=", 7) == 0) snprintf(name, sizeof name, "%s", line + 7);
  }
  for (struct cmsghdr* one = CMSG_FIRSTHDR(&message); one != NULL; one = CMSG_NXTHDR(&message, one)) {
    if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; at + sizeof(int) <= one->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd;
      memcpy(&fd, CMSG_DATA(one) + at, sizeof fd);
      if (store)
        keep(name, fd, polled);
      else
        close(fd);
    }
  }
  for (int i = count - 1; remove && i >= 0; i--)
    if (strcmp(entries[i].name, name) == 0) forget(i);
}

static void send_entry(int to, const char* name, int fd) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct iovec part = {(void*)name, strlen(name)};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  if (sendmsg(to, &message, MSG_NOSIGNAL) < 0) fail("sendmsg");
}

static int serve(const char* directory) {
  const int notify = open_socket(SOCK_DGRAM, directory, "notify", true);
  const int take = open_socket(SOCK_SEQPACKET, directory, "take", true);
  if (listen(take, 8) < 0) fail("listen");
  printf("ready\n");
  fflush(stdout);
  struct pollfd both[3] = {{notify, POLLIN, 0}, {take, POLLIN, 0}, {0, POLLIN, 0}};
  while (poll(both, 3, -1) > 0 || errno == EINTR) {
    if (both[2].revents != 0) return 0; // whoever started it is gone
    if (both[0].revents != 0) {
      receive(notify); // everything that was said before somebody asks
      continue;
    }
    if (both[1].revents == 0) continue;
    const int to = accept4(take, NULL, NULL, SOCK_CLOEXEC);
    sweep();
    for (int i = 0; i < count; i++)
      send_entry(to, entries[i].name, entries[i].fd);
    close(to);
  }
  fail("poll");
  return 1;
}

static int run(const char* directory, char** command) {
  static char names[MOST * 256];
  int fds[MOST], got = 0;
  const int from = open_socket(SOCK_SEQPACKET, directory, "take", false);
  for (;;) {
    char name[256];
    union {
      char bytes[CMSG_SPACE(sizeof(int))];
      struct cmsghdr align;
    } control;
    struct iovec part = {name, sizeof name - 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    const ssize_t size = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    if (size < 0) fail("recvmsg");
    if (size == 0) break;
    name[size] = 0;
    memcpy(&fds[got], CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    // Out of the way of those that are put in their places below.
    const int high = fcntl(fds[got], F_DUPFD_CLOEXEC, 512);
    if (high < 0) fail("fcntl");
    close(fds[got]);
    fds[got++] = high;
    if (names[0] != 0) strcat(names, ":");
    strcat(names, name);
  }
  for (int i = 0; i < got; i++)
    if (dup2(fds[i], FIRST + i) < 0) fail("dup2"); // without close-on-exec
  char number[32], pid[32], path[256];
  snprintf(number, sizeof number, "%d", got);
  snprintf(pid, sizeof pid, "%d", getpid());
  snprintf(path, sizeof path, "%s/notify", directory);
  setenv("NOTIFY_SOCKET", path, 1);
  if (got > 0) {
    setenv("LISTEN_FDS", number, 1);
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDNAMES", names, 1);
  }
  execv(command[0], command);
  fail(command[0]);
  return 1;
}

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) return serve(argv[2]);
  if (argc > 3 && strcmp(argv[1], "run") == 0) return run(argv[2], argv + 3);
  fprintf(stderr, "store serve DIRECTORY | store run DIRECTORY COMMAND...\n");
  return 2;
}
