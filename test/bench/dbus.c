/*
 * The QEMU of the benchmark without a QEMU: its D-Bus display, of which scanoutd is a listener.
 *
 *   bench_dbus --out FILE [--rate HZ] [--print map|pixels] SOCKET:NAME:WIDTHxHEIGHT
 *
 * SOCKET is that of the monitor. pace.h has the rest. A flip between three dma-bufs is ScanoutDMABUF2 with a
 * descriptor, and UpdateDMABUF, each written by itself, as QEMU does; the stamp is taken right before the
 * first of them. A frame counts as presented when UpdateDMABUF is answered, at the time when that woke us.
 *
 * With --print it is a machine in text mode that prints without a pause, in shared memory or with its pixels
 * in the messages: the four lowest lines of text in turn, as fast as the socket takes them. "ran LINES 0"
 * then.
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "dbus-control.h"
#include "example-buffer.h"
#include "pace.h"

enum { BUFFERS = 3, LINE_ROWS = 16, LINES = 4, HEADER = 512 };

struct message {
  size_t size, head; /* bytes; where the body begins */
  uint8_t bytes[HEADER];
};

static int listener = -1;
static uint32_t width, height, serial;
static struct buffer buffers[BUFFERS];
static struct message scanouts[BUFFERS], update;
static uint64_t flips;
static uint8_t answers[4096]; /* received, not looked at yet */
static size_t answer_bytes;
static const char* print;

/* ---- messages, as D-Bus marshals them */

static void align(struct message* message, size_t to) {
  while (message->size % to != 0)
    message->bytes[message->size++] = 0;
}

static void byte(struct message* message, uint8_t value) {
  message->bytes[message->size++] = value;
}

static void u32(struct message* message, uint32_t value) {
  align(message, 4);
  memcpy(message->bytes + message->size, &value, sizeof value);
  message->size += sizeof value;
}

static void u64(struct message* message, uint64_t value) {
  align(message, 8);
  memcpy(message->bytes + message->size, &value, sizeof value);
  message->size += sizeof value;
}

static void signature(struct message* message, const char* text) {
  byte(message, (uint8_t)strlen(text));
  for (const char* c = text; *c != '\0'; c++)
    byte(message, (uint8_t)*c);
  byte(message, 0);
}

static void field(struct message* message, uint8_t code, const char* kind, const char* text) {
  align(message, 8);
  byte(message, code);
  signature(message, kind);
  if (*kind == 'g') {
    signature(message, text);
    return;
  }
  u32(message, (uint32_t)strlen(text));
  for (const char* c = text; *c != '\0'; c++)
    byte(message, (uint8_t)*c);
  byte(message, 0);
}

/* A call of the listener up to its body. `extension`: of the interface's name. */
static void begin(struct message* message, const char* extension, const char* member, const char* types,
                  bool answered, uint32_t fds) {
  char interface[96];
  message->size = 0;
  byte(message, 'l');
  byte(message, 1);
  byte(message, answered ? 0 : 1);
  byte(message, 1);
  for (int i = 0; i < 3; i++)
    u32(message, 0); /* bytes of the body, serial, bytes of the fields */
  snprintf(interface, sizeof interface, "org.qemu.Display1.Listener%s", extension);
  field(message, 1, "o", "/org/qemu/Display1/Listener");
  field(message, 2, "s", interface);
  field(message, 3, "s", member);
  field(message, 8, "g", types);
  if (fds > 0) {
    align(message, 8);
    byte(message, 9);
    signature(message, "u");
    u32(message, fds);
  }
  const uint32_t fields = (uint32_t)message->size - 16;
  memcpy(message->bytes + 12, &fields, sizeof fields);
  align(message, 8);
  message->head = message->size;
}

/* `more`: bytes of the body that are sent behind it. */
static void end(struct message* message, size_t more) {
  const uint32_t body = (uint32_t)(message->size - message->head + more);
  memcpy(message->bytes + 4, &body, sizeof body);
}

/* Gives the serial. `fd` may be -1, `more` NULL. */
static uint32_t send_message(struct message* message, int fd, const void* more, size_t more_size) {
  serial++;
  memcpy(message->bytes + 8, &serial, sizeof serial);
  struct iovec parts[2] = {{message->bytes, message->size}, {(void*)more, more_size}};
  struct msghdr header = {.msg_iov = parts, .msg_iovlen = more != NULL ? 2 : 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  if (fd >= 0) {
    header.msg_control = &control;
    header.msg_controllen = sizeof control;
    control.header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  }
  const ssize_t sent = sendmsg(listener, &header, MSG_NOSIGNAL);
  if (sent != (ssize_t)(message->size + more_size)) die("message", sent < 0 ? errno : EPIPE);
  return serial;
}

/* ---- a machine that flips dma-bufs */

static void make_buffer(int i) {
  const char* stage = "";
  struct buffer* buffer = &buffers[i];
  const int error = create_buffer(buffer, linear_layout(width, height, FOURCC_XR24), &stage);
  if (error < 0) die(stage, error);
  sync_buffer(buffer, DMA_BUF_SYNC_START);
  memset(buffer->pixels, 0x40 * (i + 1), buffer->size);
  sync_buffer(buffer, DMA_BUF_SYNC_END);
  struct message* scanout = &scanouts[i];
  begin(scanout, ".Unix.ScanoutDMABUF2", "ScanoutDMABUF2", "ahuuuuauauuuuutb", false, 1);
  u32(scanout, 4); /* handles: the first descriptor */
  u32(scanout, 0);
  const uint32_t place[4] = {0, 0, width, height};
  for (int k = 0; k < 4; k++)
    u32(scanout, place[k]);
  u32(scanout, 4);
  u32(scanout, 0);
  u32(scanout, 4);
  u32(scanout, buffer->layout.strides[0]);
  u32(scanout, 1);
  u32(scanout, FOURCC_XR24);
  u32(scanout, width);
  u32(scanout, height);
  u64(scanout, 0);
  u32(scanout, 0);
  end(scanout, 0);
}

static void make_flips(void) {
  for (int i = 0; i < BUFFERS; i++)
    make_buffer(i);
  begin(&update, "", "UpdateDMABUF", "iiii", true, 0);
  const uint32_t damage[4] = {0, 0, width, height};
  for (int i = 0; i < 4; i++)
    u32(&update, damage[i]);
  end(&update, 0);
}

static uint64_t pace_submit(int guest, int64_t* kicked_ns) {
  const int i = (int)(flips++ % BUFFERS);
  (void)guest;
  *kicked_ns = now_ns();
  send_message(&scanouts[i], buffers[i].dmabuf, NULL, 0);
  return send_message(&update, -1, NULL, 0);
}

/* Takes one answer off the front of what was received; gives the serial that it answers, 0: there is none. */
static uint32_t next_answer(void) {
  uint32_t body, fields, answered;
  if (answer_bytes < 24) return 0;
  memcpy(&body, answers + 4, sizeof body);
  memcpy(&fields, answers + 12, sizeof fields);
  memcpy(&answered, answers + 20, sizeof answered); /* the first field: code, "u", the number */
  const size_t size = (16 + fields + 7) / 8 * 8 + body;
  if (size > sizeof answers) die("an answer is too long", EPROTO);
  if (answer_bytes < size) return 0;
  if (answers[1] != 2) die("the daemon refused a call", EPROTO);
  answer_bytes -= size;
  memmove(answers, answers + size, answer_bytes);
  return answered;
}

static int pace_settle(int guest, int64_t now, struct news* news) {
  bool presented = false;
  const ssize_t size = recv(listener, answers + answer_bytes, sizeof answers - answer_bytes, MSG_DONTWAIT);
  if (size == 0 || (size < 0 && errno != EAGAIN)) die("the daemon is gone", size < 0 ? errno : EPIPE);
  if (size > 0) answer_bytes += (size_t)size;
  for (uint32_t answered = next_answer(); answered != 0; answered = next_answer())
    presented = presented || answered == paces[guest].sequence;
  news->presented_ns = now;
  return presented;
}

/* ---- a machine that prints */

static uint8_t* screen;
static size_t stride;
static struct message line;

static const uint32_t pixman_x8r8g8b8 = 0x20020888;

/* The first picture. */
static void make_screen(void) {
  const bool shared = strcmp(print, "map") == 0;
  struct message scanout;
  stride = (size_t)width * 4;
  const size_t size = stride * height;
  const int memfd = memfd_create("screen", MFD_CLOEXEC);
  if (memfd < 0 || ftruncate(memfd, (off_t)size) < 0) die("memfd_create", errno);
  screen = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (screen == MAP_FAILED) die("mmap", errno);
  begin(&scanout, shared ? ".Unix.Map" : "", shared ? "ScanoutMap" : "Scanout", shared ? "huuuuu" : "uuuuay",
        shared, shared ? 1 : 0);
  if (shared) {
    u32(&scanout, 0);
    u32(&scanout, 0);
  }
  u32(&scanout, width);
  u32(&scanout, height);
  u32(&scanout, (uint32_t)stride);
  u32(&scanout, pixman_x8r8g8b8);
  if (!shared) u32(&scanout, (uint32_t)size);
  end(&scanout, shared ? 0 : size);
  send_message(&scanout, shared ? memfd : -1, shared ? NULL : screen, shared ? 0 : size);
  begin(&line, shared ? ".Unix.Map" : "", shared ? "UpdateMap" : "Update", shared ? "iiii" : "iiiiuuay",
        false, 0);
}

static void print_line(unsigned number) {
  const uint32_t row = height - LINE_ROWS * (1 + number % LINES);
  const size_t size = stride * LINE_ROWS;
  uint8_t* pixels = screen + row * stride;
  memset(pixels, (int)(number & 0xff), size);
  line.size = line.head;
  const uint32_t place[4] = {0, row, width, LINE_ROWS};
  for (int i = 0; i < 4; i++)
    u32(&line, place[i]);
  if (strcmp(print, "map") == 0) {
    end(&line, 0);
    send_message(&line, -1, NULL, 0);
    return;
  }
  u32(&line, (uint32_t)stride);
  u32(&line, pixman_x8r8g8b8);
  u32(&line, (uint32_t)size);
  end(&line, size);
  send_message(&line, -1, pixels, size);
}

static void print_all(void) {
  char order[64];
  printf("ready\n");
  while (fgets(order, sizeof order, stdin) != NULL) {
    const double seconds = strncmp(order, "run ", 4) == 0 ? atof(order + 4) : 0;
    const int64_t stop = now_ns() + (int64_t)(seconds * (double)pace_second);
    unsigned lines = 0;
    while (now_ns() < stop)
      print_line(lines++);
    printf("ran %u 0\n", lines);
  }
}

/* ---- */

/* Our side of the handshake, which the daemon begins with all of its own. */
static void agree(void) {
  static const char end_of_theirs[] = "BEGIN\r\n",
                    ours[] = "OK 62656e63680000000000000000000001\r\nAGREE_UNIX_FD\r\n";
  char greeting[256] = "";
  for (size_t size = 0; size < sizeof end_of_theirs ||
                        strcmp(greeting + size - (sizeof end_of_theirs - 1), end_of_theirs) != 0;) {
    if (size + 1 == sizeof greeting || read(listener, greeting + size, 1) != 1) die("handshake", EPROTO);
    if (greeting[size] == '\0') greeting[size] = '-'; /* the byte before all others */
    size++;
  }
  if (send(listener, ours, sizeof ours - 1, MSG_NOSIGNAL) < 0) die("handshake", errno);
}

static void boot(char* text) {
  char* name = strchr(text, ':');
  char* size = name != NULL ? strchr(name + 1, ':') : NULL;
  if (size == NULL || sscanf(size + 1, "%ux%u", &width, &height) != 2 || pace_count != 0) die(text, EINVAL);
  *name = '\0';
  listener = control_listener(text);
  const int flags = fcntl(listener, F_GETFL);
  if (flags < 0 || fcntl(listener, F_SETFL, flags & ~O_NONBLOCK) < 0) die("listener", errno);
  agree();
  if (print != NULL)
    make_screen();
  else
    make_flips();
  paces[pace_count++].fd = listener;
}

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--print") == 0 && i + 1 < argc)
      print = argv[++i];
    else if (!pace_option(argc, argv, &i))
      boot(argv[i]);
  }
  if (pace_out == NULL || pace_count == 0)
    die("usage: bench_dbus --out FILE [--rate HZ] [--print map|pixels] SOCKET:NAME:WxH", EINVAL);
  if (print != NULL)
    print_all();
  else
    pace_serve();
  return fclose(pace_out) == 0 ? 0 : 1;
}
