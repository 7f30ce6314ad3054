#include "scanoutd-client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "scanoutd-input.h"

/* Requests have fixed places, one open request a subject; a serial is a count and the place. */
enum {
  PLACE_PLANES = SCANOUTD_MAX_BUFFERS, /* before it one place a buffer */
  PLACE_INPUT = PLACE_PLANES + SCANOUTD_MAX_PLANES,
  PLACE_BYE,
  PLACE_HELLO,
  PLACES,
  PLACE_BITS = 7,
};

enum { NO_BUFFER = SCANOUTD_MAX_BUFFERS, NO_ENTRY = SCANOUTD_FLIP_ENTRIES };
enum { FIRST_PAUSE_MS = 10, LAST_PAUSE_MS = 500 };
enum { INPUT_MINOR = 4 };    /* the first that has input */
enum { READS_A_WAIT = 256 }; /* a flood of messages must not hold a caller past its deadline */
enum { FEEDBACK_TRIES = 10000 };

#define NS_A_MS 1000000ll
#define FOREVER INT64_MAX

enum phase { IDLE, WANTED, SENT, ANSWERED };

struct request {
  enum phase phase;
  uint32_t type;
  uint32_t serial;
  struct scanoutd_error answer; /* code SCANOUTD_OK: DONE */
};

struct buffer {
  bool known;
  bool registered;
  struct scanoutd_layout layout;
  int fds[SCANOUTD_MAX_FDS];
  uint32_t fd_count;
  int next_fds[SCANOUTD_MAX_FDS]; /* of a renewal that was not answered yet */
  uint32_t next_fd_count;
  uint64_t submitted; /* newest frame with it, of any connection */
  uint64_t taken;     /* newest frame with it that the daemon took, 0: none in this connection */
};

struct plane {
  uint64_t
      word; /* what `pending` holds unless the daemon took it; 0: the former submission's fate is known */
  uint64_t sequence;
  uint32_t buffer;      /* of that submission, NO_BUFFER when it hides */
  uint32_t taken_entry; /* the daemon may still be copying this one */
  bool owes;            /* `damage` was never seen by the daemon: the next frame has to tell it */
  uint32_t damage_count;
  struct scanoutd_rect damage[SCANOUTD_MAX_DAMAGE]; /* of the newest submission */
  uint32_t mode;                                    /* as asked for */
  uint32_t granted_mode;
};

enum dirt {
  DIRTY_CONNECTED = 1,
  DIRTY_CONFIGURE = 2,
  DIRTY_ERROR = 4,
  DIRTY_PAGE = 8,
  DIRTY_CLOSED = 16,
  DIRTY_INPUT = 32
};

struct scanoutd_client {
  struct sockaddr_un address;
  char name[SCANOUTD_NAME_SIZE];
  uint32_t plane_count;
  uint32_t plane_kinds[SCANOUTD_MAX_PLANES];
  uint64_t wanted_capabilities;
  uint64_t capabilities;
  uint32_t version_minor; /* that is spoken */

  int fd;
  int fence_fd;
  int kick;
  int release;
  int reason; /* why the connection closed */
  struct scanoutd_flip_page* page;

  bool input_wanted;
  int input_event, input_room; /* eventfds, -1 until it was asked for */
  bool leds_known;
  uint32_t leds; /* as the caller set them last */
  struct scanoutd_ring input;

  uint32_t serials;
  uint64_t sequence; /* of the newest frame, over all planes and connections */
  struct request requests[PLACES];
  struct buffer buffers[SCANOUTD_MAX_BUFFERS];
  struct plane planes[SCANOUTD_MAX_PLANES];

  uint32_t dirty; /* enum dirt */
  uint32_t dirty_formats, dirty_states;
  uint32_t told_configure, told_formats, told_states; /* what this connection has told, a bit a plane */
  struct scanoutd_configure configure;
  struct scanoutd_formats formats[SCANOUTD_MAX_PLANES];
  struct scanoutd_state states[SCANOUTD_MAX_PLANES];
  struct scanoutd_error error;
  struct scanoutd_error returned; /* what the last event points to */
};

/* Any message of the daemon. */
union inbox {
  struct scanoutd_header header;
  struct scanoutd_welcome welcome;
  struct scanoutd_configure configure;
  struct scanoutd_formats formats;
  struct scanoutd_state state;
  struct scanoutd_lease lease;
  struct scanoutd_lease_notice lease_notice;
  struct scanoutd_input input;
  struct scanoutd_done done;
  struct scanoutd_error error;
};

/* Any message of the guest. */
union outbox {
  struct scanoutd_header header;
  struct scanoutd_hello hello;
  struct scanoutd_add_buffer add_buffer;
  struct scanoutd_remove_buffer remove_buffer;
  struct scanoutd_renew_buffer renew_buffer;
  struct scanoutd_set_present set_present;
  struct scanoutd_bye bye;
  struct scanoutd_offer_device offer_device;
  struct scanoutd_take_lease take_lease;
  struct scanoutd_take_input take_input;
};

_Static_assert(sizeof(_Atomic uint64_t) == sizeof(uint64_t) && ATOMIC_LLONG_LOCK_FREE == 2,
               "the flip page needs lock-free 64-bit atomics");
_Static_assert(PLACES <= 1 << PLACE_BITS, "a serial holds every place");

/* ---- Small things */

static uint64_t load_acquire(const uint64_t* word) {
  return atomic_load_explicit((const _Atomic uint64_t*)word, memory_order_acquire);
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 * NS_A_MS + now.tv_nsec;
}

static int64_t deadline_after(int timeout_ms) {
  return timeout_ms < 0 ? FOREVER : now_ns() + timeout_ms * NS_A_MS;
}

/* poll(2) until `deadline`: 0, -ETIMEDOUT, -EINTR. With no descriptors it sleeps. */
static int poll_until(struct pollfd* fds, nfds_t count, int64_t deadline) {
  const int64_t now = now_ns();
  const int64_t left = deadline > now ? deadline - now : 0;
  const struct timespec timeout = {.tv_sec = left / (1000 * NS_A_MS), .tv_nsec = left % (1000 * NS_A_MS)};
  const int ready = ppoll(fds, count, deadline == FOREVER ? NULL : &timeout, NULL);
  if (ready < 0) return -errno;
  return ready == 0 ? -ETIMEDOUT : 0;
}

static void close_fd(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void close_fds(int* fds, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    close_fd(&fds[i]);
}

/* The daemon wakes by edge-triggered epoll and never reads this counter; 2^64 - 2 signals fill it. */
static void signal_daemon(int eventfd) {
  const uint64_t one = 1;
  uint64_t drained;
  if (write(eventfd, &one, sizeof one) >= 0 || errno != EAGAIN) return;
  if (read(eventfd, &drained, sizeof drained) >= 0 && write(eventfd, &one, sizeof one) < 0) return;
}

static bool terminated(const char* text, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (text[i] == '\0') return true;
  return false;
}

/* Copies a NUL-terminated string; false when it does not fit. */
static bool copy_text(char* to, size_t size, const char* from) {
  for (size_t i = 0; i < size; i++) {
    to[i] = from[i];
    if (from[i] == '\0') return true;
  }
  return false;
}

static bool good_name(const char* name) {
  static const char marks[] = "._-";
  for (const char* c = name; *c != '\0'; c++) {
    const bool word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
    if (!word && *c != marks[0] && *c != marks[1] && *c != marks[2]) return false;
  }
  return name[0] != '\0';
}

/* ---- Requests */

static uint32_t request_type(const struct scanoutd_client* client, uint32_t place) {
  return client->requests[place].type;
}

/* Sends one packet without blocking. */
static int send_packet(int socket, const void* bytes, size_t size, const int* fds, uint32_t fd_count) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * SCANOUTD_MAX_FDS)];
  } control = {0};
  struct iovec vec = {.iov_base = (void*)bytes, .iov_len = size};
  struct msghdr message = {.msg_iov = &vec, .msg_iovlen = 1};
  if (fd_count > 0) {
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    int* data = (int*)(void*)CMSG_DATA(&control.header);
    for (uint32_t i = 0; i < fd_count; i++)
      data[i] = fds[i];
  }
  const ssize_t sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 ? -errno : 0;
}

static void fill_add_buffer(const struct buffer* buffer, uint32_t id, struct scanoutd_add_buffer* message) {
  const struct scanoutd_layout* layout = &buffer->layout;
  message->buffer = id;
  message->width = layout->width;
  message->height = layout->height;
  message->fourcc = layout->fourcc;
  message->modifier = layout->modifier;
  message->plane_count = layout->plane_count;
  for (uint32_t i = 0; i < layout->plane_count && i < 4; i++) {
    message->strides[i] = layout->strides[i];
    message->offsets[i] = layout->offsets[i];
  }
}

static void fill_hello(const struct scanoutd_client* client, struct scanoutd_hello* hello) {
  hello->version_major = SCANOUTD_VERSION_MAJOR;
  hello->version_minor = SCANOUTD_VERSION_MINOR;
  hello->capabilities = client->wanted_capabilities;
  copy_text(hello->name, sizeof hello->name, client->name);
  hello->plane_count = client->plane_count;
  for (uint32_t i = 0; i < client->plane_count; i++)
    hello->plane_kinds[i] = client->plane_kinds[i];
}

static int send_request(struct scanoutd_client* client, uint32_t place) {
  struct request* request = &client->requests[place];
  union outbox out = {0};
  size_t size = sizeof out.bye;
  const int* fds = NULL;
  uint32_t fd_count = 0;
  const int events[2] = {client->kick, client->release};
  const int input[2] = {client->input_event, client->input_room};
  switch (request->type) {
  case SCANOUTD_HELLO:
    fill_hello(client, &out.hello);
    size = sizeof out.hello;
    fds = events;
    fd_count = 2;
    break;
  case SCANOUTD_ADD_BUFFER:
    fill_add_buffer(&client->buffers[place], place, &out.add_buffer);
    size = sizeof out.add_buffer;
    fds = client->buffers[place].fds;
    fd_count = client->buffers[place].fd_count;
    break;
  case SCANOUTD_REMOVE_BUFFER:
    out.remove_buffer.buffer = place;
    size = sizeof out.remove_buffer;
    break;
  case SCANOUTD_RENEW_BUFFER:
    out.renew_buffer.buffer = place;
    size = sizeof out.renew_buffer;
    fds = client->buffers[place].next_fds;
    fd_count = client->buffers[place].next_fd_count;
    break;
  case SCANOUTD_SET_PRESENT:
    out.set_present.plane = place - PLACE_PLANES;
    out.set_present.mode = client->planes[place - PLACE_PLANES].mode;
    size = sizeof out.set_present;
    break;
  case SCANOUTD_TAKE_INPUT:
    size = sizeof out.take_input;
    fds = input;
    fd_count = 2;
    break;
  default:
    break; /* BYE is a header alone */
  }
  out.header =
      (struct scanoutd_header){.type = request->type, .size = (uint32_t)size, .serial = request->serial};
  const int result = send_packet(client->fd, &out, size, fds, fd_count);
  if (result == 0) request->phase = SENT;
  return result;
}

/* Sends what waits. A full socket or a dying daemon is no error here: reading goes on and tells. */
static void pump(struct scanoutd_client* client) {
  if (client->page == NULL) return;
  for (uint32_t place = 0; place < PLACES; place++) {
    if (client->requests[place].phase == WANTED && send_request(client, place) < 0) return;
  }
}

static uint32_t open_request(struct scanoutd_client* client, uint32_t place, uint32_t type) {
  struct request* request = &client->requests[place];
  client->serials = (client->serials + 1) & (UINT32_MAX >> PLACE_BITS);
  if (client->serials == 0) client->serials = 1; /* 0 is in no request's serial */
  *request = (struct request){.phase = WANTED, .type = type, .serial = client->serials << PLACE_BITS | place};
  return request->serial;
}

static int ask(struct scanoutd_client* client, uint32_t place, uint32_t type, uint32_t* serial) {
  const uint32_t given = open_request(client, place, type);
  if (serial != NULL) *serial = given;
  pump(client);
  return 0;
}

/* ---- Connection state */

/* The renewal is over: the buffer has the new descriptors from now on, where there are any, or not. */
static void end_renewal(struct buffer* buffer, bool good) {
  if (buffer->next_fd_count == 0) return;
  if (good) {
    close_fds(buffer->fds, buffer->fd_count);
    memcpy(buffer->fds, buffer->next_fds, sizeof buffer->fds);
    buffer->fd_count = buffer->next_fd_count;
  } else {
    close_fds(buffer->next_fds, buffer->next_fd_count);
  }
  buffer->next_fd_count = 0;
}

static void drop_buffer(struct scanoutd_client* client, uint32_t id) {
  struct buffer* buffer = &client->buffers[id];
  end_renewal(buffer, false);
  close_fds(buffer->fds, buffer->fd_count);
  *buffer = (struct buffer){0};
}

static void forget_request(struct scanoutd_client* client, uint32_t place) {
  struct request* request = &client->requests[place];
  if (request->phase != WANTED && request->phase != SENT) return;
  if (request->type == SCANOUTD_REMOVE_BUFFER) drop_buffer(client, place);
  if (request->type == SCANOUTD_RENEW_BUFFER)
    end_renewal(&client->buffers[place], true); /* for the next one */
  request->phase = IDLE;
}

/* Nothing comes any more; what came stays readable. */
static void end_input(struct scanoutd_client* client) {
  if (client->input.ring == NULL || client->input.ended) return;
  client->input.ended = true;
  client->dirty |= DIRTY_INPUT; /* at least what is held is to be released */
}

/* Ends the connection; what was told and answered stays readable. */
static void end_connection(struct scanoutd_client* client, int reason) {
  close_fd(&client->fd);
  close_fd(&client->fence_fd);
  if (client->page != NULL) munmap(client->page, SCANOUTD_FLIP_PAGE_SIZE);
  client->page = NULL;
  end_input(client);
  client->capabilities = 0;
  client->reason = reason;
  for (uint32_t place = 0; place < PLACES; place++)
    forget_request(client, place);
  for (uint32_t id = 0; id < SCANOUTD_MAX_BUFFERS; id++) {
    client->buffers[id].registered = false;
    client->buffers[id].taken = 0;
  }
  for (uint32_t i = 0; i < SCANOUTD_MAX_PLANES; i++) {
    client->planes[i].word = 0;
    client->planes[i].taken_entry = NO_ENTRY;
    client->planes[i].owes = false;
    client->planes[i].granted_mode = SCANOUTD_PRESENT_MAILBOX;
  }
}

/* Ends the connection for a reason that the caller does not know yet. Returns it. */
static int fail_connection(struct scanoutd_client* client, int reason) {
  end_connection(client, reason);
  client->dirty |= DIRTY_CLOSED;
  return reason;
}

static void forget_told(struct scanoutd_client* client) {
  client->dirty &= DIRTY_INPUT; /* what is pressed is still to be released */
  client->dirty_formats = client->dirty_states = 0;
  client->told_configure = client->told_formats = client->told_states = 0;
  for (uint32_t place = 0; place < PLACES; place++)
    client->requests[place].phase = IDLE;
}

static int closed_error(const struct scanoutd_client* client) {
  return client->reason == -EPROTO ? -EPROTO : -ENOTCONN;
}

/* ---- Messages of the daemon. Each handler returns 0, or a negative errno that ends the connection. */

static int map_page(struct scanoutd_client* client, int memfd) {
  struct stat status;
  const int seals = fcntl(memfd, F_GET_SEALS);
  /* Without the seal the daemon could shorten the file, and the next access would be a SIGBUS. */
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return -EPROTO;
  if (fstat(memfd, &status) < 0 || status.st_size < (off_t)SCANOUTD_FLIP_PAGE_SIZE) return -EPROTO;
  void* mapped = mmap(NULL, SCANOUTD_FLIP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (mapped == MAP_FAILED) return -errno;
  client->page = mapped;
  const struct scanoutd_flip_page* page = mapped;
  const bool ours = page->magic == SCANOUTD_FLIP_PAGE_MAGIC &&
                    page->version_major == SCANOUTD_VERSION_MAJOR && page->plane_count == client->plane_count;
  return ours ? 0 : -EPROTO;
}

/* Asks again for all that an earlier connection had. */
static void restore(struct scanoutd_client* client) {
  for (uint32_t id = 0; id < SCANOUTD_MAX_BUFFERS; id++)
    if (client->buffers[id].known) open_request(client, id, SCANOUTD_ADD_BUFFER);
  for (uint32_t i = 0; i < client->plane_count; i++) {
    if (client->planes[i].mode != SCANOUTD_PRESENT_MAILBOX)
      open_request(client, PLACE_PLANES + i, SCANOUTD_SET_PRESENT);
  }
  if (client->input_wanted && client->version_minor >= INPUT_MINOR)
    open_request(client, PLACE_INPUT, SCANOUTD_TAKE_INPUT);
  pump(client);
}

/* Takes the descriptors it keeps out of `fds`. */
static int on_welcome(struct scanoutd_client* client, const struct scanoutd_welcome* message, int* fds,
                      uint32_t fd_count) {
  struct request* hello = &client->requests[PLACE_HELLO];
  const uint32_t expected = message->capabilities & SCANOUTD_CAP_FENCE ? 2 : 1;
  struct stat status;
  if (hello->phase != SENT || message->header.serial != hello->serial) return -EPROTO;
  if (message->version_major != SCANOUTD_VERSION_MAJOR || message->version_minor > SCANOUTD_VERSION_MINOR)
    return -EPROTO;
  if ((message->capabilities & ~client->wanted_capabilities) != 0 || message->reserved != 0) return -EPROTO;
  if (message->page_size != SCANOUTD_FLIP_PAGE_SIZE || fd_count != expected) return -EPROTO;
  if (fd_count == 2 && (fstat(fds[1], &status) < 0 || !S_ISSOCK(status.st_mode))) return -EPROTO;
  const int result = map_page(client, fds[0]);
  if (result < 0) return result;
  if (fd_count == 2) {
    client->fence_fd = fds[1];
    fds[1] = -1;
  }
  hello->phase = IDLE;
  client->capabilities = message->capabilities;
  client->version_minor = message->version_minor;
  client->dirty |= DIRTY_CONNECTED;
  restore(client);
  return 0;
}

static int on_configure(struct scanoutd_client* client, const struct scanoutd_configure* message) {
  if (message->header.serial != 0 || message->lit > 1 || !terminated(message->output, sizeof message->output))
    return -EPROTO;
  client->configure = *message;
  client->told_configure = 1;
  client->dirty |= DIRTY_CONFIGURE;
  return 0;
}

static int on_formats(struct scanoutd_client* client, const struct scanoutd_formats* message) {
  if (message->header.serial != 0 || message->plane >= client->plane_count) return -EPROTO;
  for (uint32_t i = 0; i < message->count; i++)
    if (message->formats[i].reserved != 0) return -EPROTO;
  client->formats[message->plane] = *message;
  client->told_formats |= 1u << message->plane;
  client->dirty_formats |= 1u << message->plane;
  return 0;
}

static int on_state(struct scanoutd_client* client, const struct scanoutd_state* message) {
  if (message->header.serial != 0 || message->plane >= client->plane_count ||
      message->state > SCANOUTD_STATE_UNSEEN || message->reserved != 0 ||
      !terminated(message->text, sizeof message->text))
    return -EPROTO;
  client->states[message->plane] = *message;
  client->told_states |= 1u << message->plane;
  client->dirty_states |= 1u << message->plane;
  return 0;
}

static struct request* sent_request(struct scanoutd_client* client, uint32_t serial) {
  const uint32_t place = serial & ((1u << PLACE_BITS) - 1);
  if (serial == 0 || place >= PLACES) return NULL;
  struct request* request = &client->requests[place];
  return request->phase == SENT && request->serial == serial ? request : NULL;
}

/* What an answer means for the buffer or plane that it is about. */
static void apply_answer(struct scanoutd_client* client, uint32_t place) {
  const uint32_t code = client->requests[place].answer.code;
  switch (request_type(client, place)) {
  case SCANOUTD_ADD_BUFFER:
    if (code == SCANOUTD_OK)
      client->buffers[place].registered = true;
    else
      drop_buffer(client, place);
    break;
  case SCANOUTD_REMOVE_BUFFER:
    if (code == SCANOUTD_OK || code == SCANOUTD_BAD_BUFFER)
      drop_buffer(client, place);
    else
      client->buffers[place].registered = true;
    break;
  case SCANOUTD_RENEW_BUFFER:
    end_renewal(&client->buffers[place], code == SCANOUTD_OK);
    break;
  case SCANOUTD_SET_PRESENT: {
    struct plane* plane = &client->planes[place - PLACE_PLANES];
    if (code == SCANOUTD_OK)
      plane->granted_mode = plane->mode;
    else
      plane->mode = plane->granted_mode;
    break;
  }
  case SCANOUTD_TAKE_INPUT:
    client->input_wanted = code == SCANOUTD_OK;
    break;
  default:
    break;
  }
}

static void answer(struct scanoutd_client* client, struct request* request,
                   const struct scanoutd_error* error) {
  request->answer = error != NULL ? *error : (struct scanoutd_error){.code = SCANOUTD_OK};
  request->phase = ANSWERED;
  apply_answer(client, (uint32_t)(request - client->requests));
}

static int on_done(struct scanoutd_client* client, const struct scanoutd_done* message) {
  struct request* request = sent_request(client, message->header.serial);
  if (request == NULL || request->type == SCANOUTD_HELLO || request->type == SCANOUTD_TAKE_INPUT)
    return -EPROTO;
  answer(client, request, NULL);
  if (request->type == SCANOUTD_BYE) fail_connection(client, 0);
  return 0;
}

static int on_input(struct scanoutd_client* client, const struct scanoutd_input* message, const int* fds,
                    uint32_t fd_count) {
  struct request* request = &client->requests[PLACE_INPUT];
  if (request->phase != SENT || message->header.serial != request->serial) return -EPROTO;
  if (message->ring_size != SCANOUTD_INPUT_RING_SIZE || message->reply_size != SCANOUTD_INPUT_REPLY_SIZE)
    return -EPROTO;
  if (fd_count != 2) return -EPROTO;
  const int result = scanoutd_ring_open(&client->input, fds[0], fds[1]);
  if (result < 0) return result;
  answer(client, request, NULL);
  client->dirty |= DIRTY_INPUT;
  if (client->leds_known) scanoutd_client_set_leds(client, client->leds);
  return 0;
}

static bool good_error(const struct scanoutd_error* message) {
  return message->fatal <= 1 && message->reserved == 0 && message->code != SCANOUTD_OK &&
         terminated(message->text, sizeof message->text);
}

static int on_error(struct scanoutd_client* client, const struct scanoutd_error* message) {
  if (!good_error(message)) return -EPROTO;
  struct request* request = sent_request(client, message->header.serial);
  client->error = *message;
  if (request != NULL)
    answer(client, request, message);
  else
    client->dirty |= DIRTY_ERROR;
  if (message->header.serial == 0 && message->code == SCANOUTD_INPUT_ENDED) {
    client->input_wanted = false;
    end_input(client);
  }
  const bool hello = request != NULL && request->type == SCANOUTD_HELLO;
  return message->fatal == 1 || hello ? -EREMOTEIO : 0;
}

/* The only size that a message of this type can have; 0 for a type that the daemon does not send. */
static size_t exact_size(const union inbox* in, size_t size) {
  switch (in->header.type) {
  case SCANOUTD_WELCOME:
    return sizeof in->welcome;
  case SCANOUTD_CONFIGURE:
    return sizeof in->configure;
  case SCANOUTD_STATE:
    return sizeof in->state;
  case SCANOUTD_INPUT:
    return sizeof in->input;
  case SCANOUTD_DONE:
    return sizeof in->done;
  case SCANOUTD_ERROR:
    return sizeof in->error;
  case SCANOUTD_FORMATS:
    if (size < offsetof(struct scanoutd_formats, formats) || in->formats.count > SCANOUTD_MAX_FORMATS)
      return 0;
    return offsetof(struct scanoutd_formats, formats) + in->formats.count * sizeof(struct scanoutd_format);
  default:
    return 0;
  }
}

static int handle(struct scanoutd_client* client, const union inbox* in, size_t size, int* fds,
                  uint32_t fd_count) {
  if (size < sizeof in->header || in->header.size != size || in->header.reserved != 0) return -EPROTO;
  if (exact_size(in, size) != size) return -EPROTO;
  const uint32_t type = in->header.type;
  if (type == SCANOUTD_WELCOME) return on_welcome(client, &in->welcome, fds, fd_count);
  if (type == SCANOUTD_INPUT && client->page != NULL) return on_input(client, &in->input, fds, fd_count);
  if (fd_count != 0) return -EPROTO;
  if (type == SCANOUTD_ERROR) return on_error(client, &in->error);
  if (client->page == NULL) return -EPROTO; /* before the welcome only a refusal can come */
  if (type == SCANOUTD_CONFIGURE) return on_configure(client, &in->configure);
  if (type == SCANOUTD_FORMATS) return on_formats(client, &in->formats);
  if (type == SCANOUTD_STATE) return on_state(client, &in->state);
  if (type != SCANOUTD_DONE) return -EPROTO;
  return on_done(client, &in->done);
}

static uint32_t collect_fds(struct msghdr* message, int* fds) {
  uint32_t count = 0;
  for (struct cmsghdr* part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const int* data = (const int*)(const void*)CMSG_DATA(part);
    const size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < here; i++) {
      if (count < SCANOUTD_MAX_FDS)
        fds[count++] = data[i];
      else
        close(data[i]);
    }
  }
  return count;
}

/* Reads and handles one message: 1, 0 when there is none, or the reason why the connection ended. */
static int read_message(struct scanoutd_client* client) {
  union inbox in;
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * SCANOUTD_MAX_FDS)];
  } control;
  struct iovec vec = {.iov_base = &in, .iov_len = sizeof in};
  struct msghdr message = {
      .msg_iov = &vec, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  const ssize_t size = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && errno == ECONNRESET) return 1; /* told once; the daemon's last words are behind it */
  if (size < 0) return errno == EAGAIN || errno == EINTR ? 0 : fail_connection(client, -errno);
  int fds[SCANOUTD_MAX_FDS];
  const uint32_t fd_count = collect_fds(&message, fds);
  int result = -EPROTO;
  if (size == 0)
    result = -ECONNRESET;
  else if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
    result = handle(client, &in, (size_t)size, fds, fd_count);
  close_fds(fds, fd_count);
  return result < 0 ? fail_connection(client, result) : 1;
}

static void drain_release(struct scanoutd_client* client) {
  uint64_t count;
  if (read(client->release, &count, sizeof count) == sizeof count) client->dirty |= DIRTY_PAGE;
}

static void drain_input(struct scanoutd_client* client) {
  uint64_t count;
  if (client->input_event >= 0 && read(client->input_event, &count, sizeof count) == sizeof count)
    client->dirty |= DIRTY_INPUT;
}

/* Sleeps until something comes, and reads it. */
static int wait_input(struct scanoutd_client* client, int64_t deadline) {
  struct pollfd fds[3] = {{.fd = client->fd, .events = POLLIN},
                          {.fd = client->release, .events = POLLIN},
                          {.fd = client->input_event, .events = POLLIN}};
  if (client->fd < 0) return closed_error(client);
  pump(client);
  const int result = poll_until(fds, 3, deadline);
  if (result < 0) return result;
  if (fds[1].revents != 0) drain_release(client);
  if (fds[2].revents != 0) drain_input(client);
  if (fds[0].revents != 0) {
    for (int i = 0; i < READS_A_WAIT && client->fd >= 0 && read_message(client) == 1; i++)
      continue;
  }
  return 0;
}

/* ---- Life */

int scanoutd_client_create(const char* path, const struct scanoutd_client_options* options,
                           struct scanoutd_client** client) {
  *client = NULL;
  if (options->name == NULL || !good_name(options->name) || options->plane_count > SCANOUTD_MAX_PLANES)
    return -EINVAL;
  struct scanoutd_client* made = calloc(1, sizeof *made);
  if (made == NULL) return -ENOMEM;
  made->address.sun_family = AF_UNIX;
  made->fd = made->fence_fd = -1;
  made->input_event = made->input_room = -1;
  made->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  made->release = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  int result = made->kick < 0 || made->release < 0 ? -errno : 0;
  if (result == 0 && !copy_text(made->address.sun_path, sizeof made->address.sun_path,
                                path != NULL ? path : SCANOUTD_SOCKET_PATH))
    result = -ENAMETOOLONG;
  if (result == 0 && !copy_text(made->name, sizeof made->name, options->name)) result = -ENAMETOOLONG;
  made->plane_count = options->plane_count == 0 ? 1 : options->plane_count;
  made->plane_kinds[0] = SCANOUTD_PLANE_PRIMARY;
  for (uint32_t i = 0; i < options->plane_count; i++)
    made->plane_kinds[i] = options->plane_kinds[i];
  made->wanted_capabilities = options->capabilities;
  end_connection(made, -ENOTCONN);
  if (result < 0)
    scanoutd_client_close(made);
  else
    *client = made;
  return result;
}

void scanoutd_client_disconnect(struct scanoutd_client* client) {
  end_connection(client, -ENOTCONN);
  client->dirty &= ~(uint32_t)DIRTY_CLOSED;
}

void scanoutd_client_close(struct scanoutd_client* client) {
  if (client == NULL) return;
  end_connection(client, 0);
  for (uint32_t id = 0; id < SCANOUTD_MAX_BUFFERS; id++)
    drop_buffer(client, id);
  scanoutd_ring_close(&client->input);
  close_fd(&client->input_event);
  close_fd(&client->input_room);
  close_fd(&client->kick);
  close_fd(&client->release);
  free(client);
}

/* A connected socket, or a negative errno value. */
static int connect_socket(const struct sockaddr_un* address) {
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (const struct sockaddr*)address, sizeof *address) == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

/* One attempt: connects and sends the hello. */
static int greet(struct scanoutd_client* client) {
  int result = client->fd = connect_socket(&client->address);
  if (result >= 0) {
    open_request(client, PLACE_HELLO, SCANOUTD_HELLO);
    result = send_request(client, PLACE_HELLO);
  }
  if (result < 0) end_connection(client, result);
  return result;
}

static int wait_welcome(struct scanoutd_client* client, int64_t deadline) {
  int result = 0;
  while (result == 0 && client->fd >= 0 && client->page == NULL)
    result = wait_input(client, deadline);
  if (result == 0 && client->page != NULL) return 0;
  if (client->fd < 0) result = client->reason;
  scanoutd_client_disconnect(client);
  return result;
}

/* No daemon, one that is just dying, or one that has no room for the moment. */
static bool worth_retrying(const struct scanoutd_error* told, int error) {
  if (error == -EREMOTEIO) return told->code == SCANOUTD_BUSY;
  return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN || error == -ECONNRESET ||
         error == -EPIPE;
}

/* Sleeps before another attempt, longer each time: 0, -ETIMEDOUT when it is too late for one, -EINTR. */
static int back_off(int64_t* pause_ms, int64_t deadline) {
  const int64_t now = now_ns();
  if (now >= deadline) return -ETIMEDOUT;
  const int64_t again = now + *pause_ms * NS_A_MS;
  *pause_ms = *pause_ms * 2 < LAST_PAUSE_MS ? *pause_ms * 2 : LAST_PAUSE_MS;
  const int slept = poll_until(NULL, 0, again < deadline ? again : deadline);
  return slept == -ETIMEDOUT ? 0 : slept;
}

int scanoutd_client_connect(struct scanoutd_client* client, int timeout_ms) {
  if (client->fd >= 0) return -EISCONN;
  const int64_t deadline = deadline_after(timeout_ms);
  for (int64_t pause = FIRST_PAUSE_MS;;) {
    forget_told(client);
    int result = greet(client);
    if (timeout_ms == 0) return result;
    if (result == 0) result = wait_welcome(client, deadline);
    if (result == 0 || !worth_retrying(&client->error, result)) return result;
    const int slept = back_off(&pause, deadline);
    if (slept < 0) return slept == -ETIMEDOUT ? result : slept;
  }
}

int scanoutd_client_bye(struct scanoutd_client* client, int timeout_ms) {
  uint32_t serial;
  if (client->page == NULL) return closed_error(client);
  if (client->requests[PLACE_BYE].phase != IDLE) return -EALREADY;
  ask(client, PLACE_BYE, SCANOUTD_BYE, &serial);
  return timeout_ms == 0 ? 0 : scanoutd_client_wait_answer(client, serial, timeout_ms);
}

bool scanoutd_client_connected(const struct scanoutd_client* client) {
  return client->page != NULL;
}

int scanoutd_client_fd(const struct scanoutd_client* client) {
  return client->fd;
}

int scanoutd_client_release_fd(const struct scanoutd_client* client) {
  return client->release;
}

uint64_t scanoutd_client_capabilities(const struct scanoutd_client* client) {
  return client->capabilities;
}

const struct scanoutd_error* scanoutd_client_error(const struct scanoutd_client* client) {
  return &client->error;
}

const struct scanoutd_configure* scanoutd_client_configuration(const struct scanoutd_client* client) {
  return client->told_configure ? &client->configure : NULL;
}

const struct scanoutd_formats* scanoutd_client_formats(const struct scanoutd_client* client, uint32_t plane) {
  return plane < client->plane_count && client->told_formats >> plane & 1 ? &client->formats[plane] : NULL;
}

const struct scanoutd_state* scanoutd_client_state(const struct scanoutd_client* client, uint32_t plane) {
  return plane < client->plane_count && client->told_states >> plane & 1 ? &client->states[plane] : NULL;
}

const struct scanoutd_flip_page* scanoutd_client_page(const struct scanoutd_client* client) {
  return client->page;
}

/* ---- Events */

static bool take_bit(uint32_t* bits, uint32_t bit) {
  const bool set = (*bits & bit) != 0;
  *bits &= ~bit;
  return set;
}

static bool take_plane(uint32_t* bits, uint32_t* plane) {
  for (*plane = 0; *plane < SCANOUTD_MAX_PLANES; ++*plane)
    if (take_bit(bits, 1u << *plane)) return true;
  return false;
}

static bool take_answer(struct scanoutd_client* client, struct scanoutd_event* event) {
  for (uint32_t place = 0; place < PLACES; place++) {
    struct request* request = &client->requests[place];
    if (request->phase != ANSWERED) continue;
    request->phase = IDLE;
    client->returned = request->answer;
    const bool refused = request->answer.code != SCANOUTD_OK;
    event->type = refused ? SCANOUTD_EVENT_ERROR : SCANOUTD_EVENT_DONE;
    event->error = refused ? &client->returned : NULL;
    event->request = request->type;
    event->serial = request->serial;
    event->buffer = place < PLACE_PLANES ? place : 0;
    event->plane = place >= PLACE_PLANES && place < PLACE_INPUT ? place - PLACE_PLANES : 0;
    return true;
  }
  return false;
}

static bool take_event(struct scanoutd_client* client, struct scanoutd_event* event) {
  *event = (struct scanoutd_event){.type = SCANOUTD_EVENT_NONE};
  if (take_bit(&client->dirty, DIRTY_CONNECTED))
    event->type = SCANOUTD_EVENT_CONNECTED;
  else if (take_bit(&client->dirty, DIRTY_CONFIGURE))
    event->type = SCANOUTD_EVENT_CONFIGURE;
  else if (take_plane(&client->dirty_formats, &event->plane))
    event->type = SCANOUTD_EVENT_FORMATS;
  else if (take_plane(&client->dirty_states, &event->plane))
    event->type = SCANOUTD_EVENT_STATE;
  else if (take_answer(client, event))
    return true;
  else if (take_bit(&client->dirty, DIRTY_ERROR)) {
    event->type = SCANOUTD_EVENT_ERROR;
    client->returned = client->error;
    event->error = &client->returned;
    event->serial = client->error.header.serial;
  } else if (take_bit(&client->dirty, DIRTY_PAGE))
    event->type = SCANOUTD_EVENT_PAGE;
  else if (take_bit(&client->dirty, DIRTY_INPUT))
    event->type = SCANOUTD_EVENT_INPUT;
  else if (take_bit(&client->dirty, DIRTY_CLOSED)) {
    event->type = SCANOUTD_EVENT_CLOSED;
    event->reason = client->reason;
  }
  if (event->type != SCANOUTD_EVENT_FORMATS && event->type != SCANOUTD_EVENT_STATE) event->plane = 0;
  return event->type != SCANOUTD_EVENT_NONE;
}

int scanoutd_client_dispatch(struct scanoutd_client* client, struct scanoutd_event* event) {
  if (take_event(client, event)) return 1;
  if (client->fd < 0) return 0;
  pump(client);
  while (client->fd >= 0 && read_message(client) == 1)
    if (take_event(client, event)) return 1;
  drain_release(client);
  drain_input(client);
  return take_event(client, event) ? 1 : 0;
}

int scanoutd_client_wait(struct scanoutd_client* client, int timeout_ms) {
  bool answered = false;
  for (uint32_t place = 0; place < PLACES; place++)
    answered = answered || client->requests[place].phase == ANSWERED;
  if (answered || (client->dirty | client->dirty_formats | client->dirty_states) != 0) return 0;
  return wait_input(client, deadline_after(timeout_ms));
}

int scanoutd_client_wait_answer(struct scanoutd_client* client, uint32_t serial, int timeout_ms) {
  const uint32_t place = serial & ((1u << PLACE_BITS) - 1);
  const int64_t deadline = deadline_after(timeout_ms);
  if (place >= PLACES) return -EINVAL;
  struct request* request = &client->requests[place];
  if (request->serial != serial || request->phase == IDLE) return -EINVAL;
  while (request->phase == WANTED || request->phase == SENT) {
    const int result = wait_input(client, deadline);
    if (result < 0) return result;
  }
  if (request->phase != ANSWERED) return closed_error(client);
  request->phase = IDLE;
  return request->answer.code == SCANOUTD_OK ? 0 : -EREMOTEIO;
}

/* ---- Buffers */

static int dup_fds(int* to, const int* fds, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    to[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    if (to[i] < 0) {
      const int error = -errno;
      close_fds(to, i);
      return error;
    }
  }
  return 0;
}

int scanoutd_client_add_buffer(struct scanoutd_client* client, uint32_t id,
                               const struct scanoutd_layout* layout, const int* fds, uint32_t fd_count,
                               uint32_t* serial) {
  if (serial != NULL) *serial = 0;
  if (id >= SCANOUTD_MAX_BUFFERS || layout->plane_count < 1 || layout->plane_count > 4) return -EINVAL;
  if (fd_count != 1 && fd_count != layout->plane_count) return -EINVAL;
  if (client->buffers[id].known || client->requests[id].phase != IDLE) return -EEXIST;
  struct buffer buffer = {.known = true, .layout = *layout, .fd_count = fd_count};
  const int result = dup_fds(buffer.fds, fds, fd_count);
  if (result < 0) return result;
  client->buffers[id] = buffer;
  return client->page == NULL ? 0 : ask(client, id, SCANOUTD_ADD_BUFFER, serial);
}

int scanoutd_client_renew_buffer(struct scanoutd_client* client, uint32_t id, const int* fds,
                                 uint32_t fd_count, uint32_t* serial) {
  if (serial != NULL) *serial = 0;
  if (id >= SCANOUTD_MAX_BUFFERS || !client->buffers[id].known) return -ENOENT;
  struct buffer* buffer = &client->buffers[id];
  if (client->requests[id].phase != IDLE) return -EBUSY;
  if (fd_count != 0 && fd_count != buffer->fd_count) return -EINVAL;
  if (client->page != NULL && client->version_minor < 2) return -EOPNOTSUPP;
  const int result = dup_fds(buffer->next_fds, fds, fd_count);
  if (result < 0) return result;
  buffer->next_fd_count = fd_count;
  if (client->page != NULL) return ask(client, id, SCANOUTD_RENEW_BUFFER, serial);
  end_renewal(buffer, true);
  return 0;
}

int scanoutd_client_remove_buffer(struct scanoutd_client* client, uint32_t id, uint32_t* serial) {
  if (serial != NULL) *serial = 0;
  if (id >= SCANOUTD_MAX_BUFFERS || !client->buffers[id].known) return -ENOENT;
  if (client->requests[id].phase != IDLE) return -EBUSY;
  for (uint32_t i = 0; i < client->plane_count && client->page != NULL; i++) {
    if (client->planes[i].word != 0 && client->planes[i].buffer == id)
      scanoutd_client_withdraw(client, i, NULL);
  }
  if (client->page == NULL) {
    drop_buffer(client, id);
    return 0;
  }
  client->buffers[id].registered = false;
  return ask(client, id, SCANOUTD_REMOVE_BUFFER, serial);
}

int scanoutd_client_set_present(struct scanoutd_client* client, uint32_t plane, uint32_t mode,
                                uint32_t* serial) {
  if (serial != NULL) *serial = 0;
  if (plane >= client->plane_count || mode > SCANOUTD_PRESENT_ASYNC) return -EINVAL;
  if (client->requests[PLACE_PLANES + plane].phase != IDLE) return -EBUSY;
  client->planes[plane].mode = mode;
  return client->page == NULL ? 0 : ask(client, PLACE_PLANES + plane, SCANOUTD_SET_PRESENT, serial);
}

/* ---- Frames */

static uint64_t exchange_pending(struct scanoutd_client* client, uint32_t plane, uint64_t word) {
  return atomic_exchange_explicit((_Atomic uint64_t*)&client->page->slots[plane].pending, word,
                                  memory_order_acq_rel);
}

/*
 * Settles the former submission's fate from what `pending` held: 0, the daemon took it; its own word, the
 * daemon never saw it. Anything else is not the protocol.
 */
static int account(struct scanoutd_client* client, struct plane* plane, uint64_t held,
                   struct scanoutd_submission* submission) {
  if (held != 0 && held != plane->word) return fail_connection(client, -EPROTO);
  if (plane->word == 0) return 0;
  if (held != 0) {
    submission->reclaimed = plane->sequence;
    submission->reclaimed_buffer = plane->buffer;
  } else {
    plane->taken_entry = (uint32_t)(plane->word & 3) - 1;
    if (plane->buffer != NO_BUFFER && client->buffers[plane->buffer].taken < plane->sequence)
      client->buffers[plane->buffer].taken = plane->sequence;
  }
  plane->word = 0;
  return 0;
}

/* Notices a submission that the daemon has taken, without touching one that it has not. */
static int settle(struct scanoutd_client* client, uint32_t index) {
  struct plane* plane = &client->planes[index];
  struct scanoutd_submission none;
  const uint64_t held = load_acquire(&client->page->slots[index].pending);
  if (held == plane->word) return 0;
  return account(client, plane, held, &none);
}

static int settle_all(struct scanoutd_client* client) {
  if (client->page == NULL) return closed_error(client);
  int result = 0;
  for (uint32_t i = 0; i < client->plane_count && result == 0; i++)
    result = settle(client, i);
  return result;
}

static int check_frame(const struct scanoutd_client* client, uint32_t plane,
                       const struct scanoutd_frame* frame) {
  if (client->page == NULL) return closed_error(client);
  if (plane >= client->plane_count) return -EINVAL;
  if ((frame->flags & ~(SCANOUTD_FLIP_FENCED | SCANOUTD_FLIP_HIDE)) != 0) return -EINVAL;
  if ((frame->flags & SCANOUTD_FLIP_FENCED) != 0 && client->fence_fd < 0) return -EINVAL;
  if ((frame->flags & SCANOUTD_FLIP_HIDE) != 0) return 0;
  if (frame->buffer >= SCANOUTD_MAX_BUFFERS || !client->buffers[frame->buffer].known) return -ENOENT;
  return client->buffers[frame->buffer].registered ? 0 : -EAGAIN;
}

/*
 * Damage is what changed since the frame that the daemon saw last. A frame that may come back unseen leaves
 * its damage to the next one; telling too much is harmless, should the daemon take it after all.
 */
static void note_damage(struct plane* plane, const struct scanoutd_frame* frame) {
  const bool adds = plane->word != 0 || plane->owes;
  const uint32_t before = adds ? plane->damage_count : 0;
  const bool everything =
      frame->damage_count == 0 || (adds && before == 0) || frame->damage_count > SCANOUTD_MAX_DAMAGE - before;
  plane->damage_count = everything ? 0 : before + frame->damage_count;
  for (uint32_t i = before; i < plane->damage_count; i++)
    plane->damage[i] = frame->damage[i - before];
}

static void fill_entry(const struct scanoutd_client* client, const struct plane* plane,
                       const struct scanoutd_frame* frame, struct scanoutd_flip_entry* entry) {
  const bool hide = (frame->flags & SCANOUTD_FLIP_HIDE) != 0;
  const bool whole = frame->src_w == 0;
  const struct scanoutd_layout none = {0};
  const struct scanoutd_layout* layout = hide ? &none : &client->buffers[frame->buffer].layout;
  struct scanoutd_flip_entry filled = {
      .sequence = client->sequence,
      .buffer = hide ? 0 : frame->buffer,
      .flags = frame->flags,
      .src_x = frame->src_x,
      .src_y = frame->src_y,
      .src_w = whole ? layout->width << 16 : frame->src_w,
      .src_h = whole ? layout->height << 16 : frame->src_h,
      .dst_x = frame->dst_x,
      .dst_y = frame->dst_y,
      .hot_x = frame->hot_x,
      .hot_y = frame->hot_y,
      .damage_count = plane->damage_count,
  };
  filled.dst_w = frame->dst_w == 0 ? filled.src_w >> 16 : frame->dst_w;
  filled.dst_h = frame->dst_w == 0 ? filled.src_h >> 16 : frame->dst_h;
  for (uint32_t i = 0; i < plane->damage_count; i++)
    filled.damage[i] = plane->damage[i];
  *entry = filled;
}

int scanoutd_client_submit(struct scanoutd_client* client, uint32_t plane, const struct scanoutd_frame* frame,
                           struct scanoutd_submission* submission) {
  struct scanoutd_submission unwanted;
  struct scanoutd_submission* told = submission != NULL ? submission : &unwanted;
  *told = (struct scanoutd_submission){0};
  int result = check_frame(client, plane, frame);
  if (result == 0) result = settle(client, plane);
  if (result < 0) return result;
  struct plane* state = &client->planes[plane];
  if (state->mode == SCANOUTD_PRESENT_FIFO && state->word != 0) return -EAGAIN;
  if ((frame->flags & SCANOUTD_FLIP_FENCED) != 0) {
    const struct scanoutd_fence fence = {.plane = plane, .sequence = client->sequence + 1};
    result = send_packet(client->fence_fd, &fence, sizeof fence, &frame->fence, 1);
    if (result < 0) return result;
  }
  told->sequence = ++client->sequence;
  /* Of three entries one may be pending and one be in the daemon's copying hands: the third is always free.
   */
  const uint32_t pending_entry = state->word != 0 ? (uint32_t)(state->word & 3) - 1 : (uint32_t)NO_ENTRY;
  uint32_t index = 0;
  while (index == pending_entry || index == state->taken_entry)
    index++;
  note_damage(state, frame);
  fill_entry(client, state, frame, &client->page->slots[plane].entries[index]);
  const uint64_t word = client->sequence << 2 | (index + 1);
  result = account(client, state, exchange_pending(client, plane, word), told);
  if (result < 0) return result;
  state->word = word;
  state->owes = false;
  state->sequence = client->sequence;
  state->buffer = (frame->flags & SCANOUTD_FLIP_HIDE) != 0 ? (uint32_t)NO_BUFFER : frame->buffer;
  if (state->buffer != NO_BUFFER) client->buffers[state->buffer].submitted = client->sequence;
  signal_daemon(client->kick);
  return 0;
}

int scanoutd_client_withdraw(struct scanoutd_client* client, uint32_t plane,
                             struct scanoutd_submission* submission) {
  struct scanoutd_submission unwanted;
  struct scanoutd_submission* told = submission != NULL ? submission : &unwanted;
  *told = (struct scanoutd_submission){0};
  if (client->page == NULL) return closed_error(client);
  if (plane >= client->plane_count) return -EINVAL;
  if (client->planes[plane].word == 0) return 0;
  const int result = account(client, &client->planes[plane], exchange_pending(client, plane, 0), told);
  if (result < 0) return result;
  client->planes[plane].owes = told->reclaimed != 0;
  return told->reclaimed != 0 ? 1 : 0;
}

/* After settle_all. */
static bool free_now(const struct scanoutd_client* client, uint32_t id) {
  const struct buffer* buffer = &client->buffers[id];
  if (!buffer->registered) return false;
  for (uint32_t i = 0; i < client->plane_count; i++)
    if (client->planes[i].word != 0 && client->planes[i].buffer == id) return false;
  return load_acquire(&client->page->released[id]) >= buffer->taken;
}

bool scanoutd_client_buffer_free(struct scanoutd_client* client, uint32_t id) {
  return id < SCANOUTD_MAX_BUFFERS && settle_all(client) == 0 && free_now(client, id);
}

/*
 * The one submitted longest ago. -EAGAIN: none is free, or one that was submitted before the free ones is not
 * registered again yet: after a reconnect the display may still show the others.
 */
static int oldest_free(const struct scanoutd_client* client, uint64_t buffers) {
  int best = -EAGAIN;
  bool known = false;
  uint64_t oldest_awaited = UINT64_MAX;
  for (uint32_t id = 0; id < SCANOUTD_MAX_BUFFERS; id++) {
    const struct buffer* buffer = &client->buffers[id];
    if ((buffers >> id & 1) == 0 || !buffer->known) continue;
    known = true;
    if (!buffer->registered && client->requests[id].type == SCANOUTD_ADD_BUFFER &&
        buffer->submitted < oldest_awaited)
      oldest_awaited = buffer->submitted;
    if (free_now(client, id) && (best < 0 || buffer->submitted < client->buffers[best].submitted))
      best = (int)id;
  }
  if (!known) return -ENOENT;
  return best >= 0 && oldest_awaited < client->buffers[best].submitted ? -EAGAIN : best;
}

int scanoutd_client_acquire(struct scanoutd_client* client, uint64_t buffers, int timeout_ms) {
  const int64_t deadline = deadline_after(timeout_ms);
  for (;;) {
    int result = settle_all(client);
    if (result == 0) result = oldest_free(client, buffers);
    if (result != -EAGAIN) return result;
    result = wait_input(client, deadline);
    if (result < 0) return result;
  }
}

int scanoutd_client_wait_taken(struct scanoutd_client* client, uint32_t plane, int timeout_ms) {
  const int64_t deadline = deadline_after(timeout_ms);
  if (plane >= client->plane_count) return -EINVAL;
  for (;;) {
    int result = settle_all(client);
    if (result < 0 || client->planes[plane].word == 0) return result;
    result = wait_input(client, deadline);
    if (result < 0) return result;
  }
}

int scanoutd_client_feedback(const struct scanoutd_client* client, uint32_t plane,
                             struct scanoutd_flip_feedback* feedback) {
  enum { WORDS = sizeof *feedback / sizeof(uint64_t) };
  union {
    uint64_t words[WORDS];
    struct scanoutd_flip_feedback feedback;
  } copy;
  if (client->page == NULL) return closed_error(client);
  if (plane >= client->plane_count) return -EINVAL;
  struct scanoutd_flip_feedback* shared = &client->page->slots[plane].feedback;
  for (int tries = 0; tries < FEEDBACK_TRIES; tries++) {
    const uint32_t before = atomic_load_explicit((_Atomic uint32_t*)&shared->lock, memory_order_acquire);
    if (before & 1) continue;
    for (size_t i = 0; i < WORDS; i++)
      copy.words[i] = atomic_load_explicit((_Atomic uint64_t*)shared + i, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit((_Atomic uint32_t*)&shared->lock, memory_order_relaxed) != before) continue;
    *feedback = copy.feedback;
    return 0;
  }
  return -EAGAIN;
}

/* ---- Input */

int scanoutd_client_take_input(struct scanoutd_client* client, uint32_t* serial) {
  if (serial != NULL) *serial = 0;
  if (client->requests[PLACE_INPUT].phase != IDLE) return -EBUSY;
  if (client->input.ring != NULL && !client->input.ended) return -EEXIST;
  if (client->page != NULL && client->version_minor < INPUT_MINOR) return -EOPNOTSUPP;
  if (client->input_event < 0) client->input_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (client->input_event >= 0 && client->input_room < 0)
    client->input_room = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (client->input_event < 0 || client->input_room < 0) return -errno;
  client->input_wanted = true;
  return client->page == NULL ? 0 : ask(client, PLACE_INPUT, SCANOUTD_TAKE_INPUT, serial);
}

int scanoutd_client_input_fd(const struct scanoutd_client* client) {
  return client->input_event;
}

int scanoutd_client_read_input(struct scanoutd_client* client, struct scanoutd_input_frame* frame) {
  bool signal;
  const int result = scanoutd_ring_read(&client->input, frame, &signal);
  if (signal && !client->input.ended) signal_daemon(client->input_room);
  if (result >= 0) return result;
  scanoutd_ring_close(&client->input); /* what it still has is as doubtful */
  client->input.released = true;
  return client->fd >= 0 ? fail_connection(client, result) : result;
}

const struct scanoutd_input_device* scanoutd_client_input_device(const struct scanoutd_client* client,
                                                                 uint32_t device) {
  const bool there = device < SCANOUTD_INPUT_DEVICES && client->input.devices[device].present != 0;
  return there ? &client->input.devices[device] : NULL;
}

void scanoutd_client_set_leds(struct scanoutd_client* client, uint32_t leds) {
  client->leds_known = true;
  client->leds = leds;
  if (client->input.ring == NULL || client->input.ended) return;
  scanoutd_ring_set_leds(&client->input, leds);
  signal_daemon(client->input_room);
}

/* ---- Connections without a client: a device that is offered, a lease */

/*
 * Reads one message that is well-formed as far as its header tells, with up to SCANOUTD_MAX_FDS descriptors,
 * which are the caller's: 1, 0 when there is none, or a negative errno value.
 */
static int read_alone(int connection, union inbox* in, int* fds, uint32_t* fd_count) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * SCANOUTD_MAX_FDS)];
  } control;
  struct iovec vec = {.iov_base = in, .iov_len = sizeof *in};
  struct msghdr message = {
      .msg_iov = &vec, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *fd_count = 0;
  ssize_t size = recvmsg(connection, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && errno == ECONNRESET) /* told once; the daemon's last words are behind it */
    size = recvmsg(connection, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
  *fd_count = collect_fds(&message, fds);
  if (size == 0) return -ECONNRESET;
  const bool whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  const bool good = whole && (size_t)size >= sizeof in->header && in->header.size == (size_t)size &&
                    in->header.reserved == 0;
  if (good) return 1;
  close_fds(fds, *fd_count);
  *fd_count = 0;
  return -EPROTO;
}

static int on_last_words(const union inbox* in, struct scanoutd_error* error) {
  if (in->header.size != sizeof in->error || !good_error(&in->error)) return -EPROTO;
  *error = in->error;
  return -EREMOTEIO;
}

/* The address and the name of a connection that is to be made: 0, -EINVAL, -ENAMETOOLONG. */
static int check_address(const char* path, const char* name, struct sockaddr_un* address) {
  char checked[SCANOUTD_NAME_SIZE];
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  if (name == NULL || !good_name(name)) return -EINVAL;
  if (!copy_text(checked, sizeof checked, name)) return -ENAMETOOLONG;
  const char* at = path != NULL ? path : SCANOUTD_SOCKET_PATH;
  return copy_text(address->sun_path, sizeof address->sun_path, at) ? 0 : -ENAMETOOLONG;
}

/* OFFER_DEVICE and TAKE_LEASE are one layout. */
static int send_first(int connection, uint32_t type, const char* name, const int* fds, uint32_t fd_count) {
  struct scanoutd_offer_device first = {
      .header = {.type = type, .size = sizeof first, .serial = 1},
      .version_major = SCANOUTD_VERSION_MAJOR,
      .version_minor = SCANOUTD_VERSION_MINOR,
  };
  copy_text(first.name, sizeof first.name, name);
  return send_packet(connection, &first, sizeof first, fds, fd_count);
}

_Static_assert(sizeof(struct scanoutd_take_lease) == sizeof(struct scanoutd_offer_device) &&
                   offsetof(struct scanoutd_take_lease, name) == offsetof(struct scanoutd_offer_device, name),
               "one layout");

/* What a first message asks for, and where the answer goes. */
struct first {
  uint32_t type;
  const char* name;
  int device;                   /* of OFFER_DEVICE */
  int* lease;                   /* of TAKE_LEASE */
  struct scanoutd_error* error; /* of both */
};

static int first_news(int connection, const struct first* first) {
  struct scanoutd_lease_notice unwanted;
  if (first->type == SCANOUTD_OFFER_DEVICE) return scanoutd_offer_news(connection, first->error);
  const int news = scanoutd_lease_news(connection, first->lease, &unwanted, first->error);
  return news <= 0 || news == SCANOUTD_LEASE_GRANTED ? news : -EPROTO;
}

static int wait_first(int connection, int64_t deadline, const struct first* first) {
  struct pollfd input = {.fd = connection, .events = POLLIN};
  int result = 0;
  while (result == 0) {
    result = poll_until(&input, 1, deadline);
    if (result == 0) result = first_news(connection, first);
  }
  return result < 0 ? result : 0;
}

static int open_first(const struct sockaddr_un* address, const struct first* first, int timeout_ms) {
  const int64_t deadline = deadline_after(timeout_ms);
  const uint32_t fd_count = first->type == SCANOUTD_OFFER_DEVICE ? 1 : 0;
  for (int64_t pause = FIRST_PAUSE_MS;;) {
    *first->error = (struct scanoutd_error){.code = SCANOUTD_OK};
    int connection = connect_socket(address);
    int result = connection;
    if (connection >= 0) result = send_first(connection, first->type, first->name, &first->device, fd_count);
    if (result == 0 && timeout_ms != 0) result = wait_first(connection, deadline, first);
    if (result == 0) return connection;
    close_fd(&connection);
    if (timeout_ms == 0 || !worth_retrying(first->error, result)) return result;
    const int slept = back_off(&pause, deadline);
    if (slept < 0) return slept == -ETIMEDOUT ? result : slept;
  }
}

int scanoutd_offer_news(int connection, struct scanoutd_error* error) {
  union inbox in;
  int fds[SCANOUTD_MAX_FDS];
  uint32_t fd_count;
  const int result = read_alone(connection, &in, fds, &fd_count);
  close_fds(fds, fd_count);
  if (result <= 0) return result;
  if (fd_count != 0) return -EPROTO;
  if (in.header.type == SCANOUTD_ERROR) return on_last_words(&in, error);
  return in.header.type == SCANOUTD_DONE && in.header.size == sizeof in.done ? 1 : -EPROTO;
}

int scanoutd_offer_open(const char* path, const char* name, int device, int timeout_ms,
                        struct scanoutd_error* error) {
  struct sockaddr_un address;
  const int result = check_address(path, name, &address);
  if (result < 0) return result;
  const struct first first = {.type = SCANOUTD_OFFER_DEVICE, .name = name, .device = device, .error = error};
  return open_first(&address, &first, timeout_ms);
}

static int on_lease(const union inbox* in, int* fds, uint32_t fd_count, int* lease) {
  const bool good = in->header.size == sizeof in->lease && fd_count == 1 && *lease < 0 &&
                    terminated(in->lease.lease, sizeof in->lease.lease) && good_name(in->lease.lease);
  if (!good) return -EPROTO;
  *lease = fds[0];
  fds[0] = -1;
  return SCANOUTD_LEASE_GRANTED;
}

static int on_notice(const union inbox* in, struct scanoutd_lease_notice* notice) {
  if (in->header.size != sizeof *notice || in->header.serial != 0 || in->lease_notice.reserved != 0)
    return -EPROTO;
  if (!terminated(in->lease_notice.text, sizeof in->lease_notice.text)) return -EPROTO;
  *notice = in->lease_notice;
  return SCANOUTD_LEASE_NOTICED;
}

int scanoutd_lease_news(int connection, int* lease, struct scanoutd_lease_notice* notice,
                        struct scanoutd_error* error) {
  union inbox in;
  int fds[SCANOUTD_MAX_FDS];
  uint32_t fd_count;
  int result = read_alone(connection, &in, fds, &fd_count);
  if (result <= 0) {
    close_fds(fds, fd_count);
    return result;
  }
  result = -EPROTO;
  if (in.header.type == SCANOUTD_LEASE)
    result = on_lease(&in, fds, fd_count, lease);
  else if (fd_count != 0)
    result = -EPROTO;
  else if (in.header.type == SCANOUTD_LEASE_NOTICE)
    result = on_notice(&in, notice);
  else if (in.header.type == SCANOUTD_ERROR)
    result = on_last_words(&in, error);
  else if (in.header.type == SCANOUTD_DONE && in.header.size == sizeof in.done)
    result = SCANOUTD_LEASE_RETURNED;
  close_fds(fds, fd_count);
  return result;
}

int scanoutd_lease_open(const char* path, const char* name, int timeout_ms, int* lease,
                        struct scanoutd_error* error) {
  struct sockaddr_un address;
  *lease = -1;
  const int result = check_address(path, name, &address);
  if (result < 0) return result;
  const struct first first = {
      .type = SCANOUTD_TAKE_LEASE, .name = name, .device = -1, .lease = lease, .error = error};
  return open_first(&address, &first, timeout_ms);
}

int scanoutd_lease_bye(int connection, int timeout_ms) {
  const struct scanoutd_bye bye = {.header = {.type = SCANOUTD_BYE, .size = sizeof bye, .serial = 2}};
  const int64_t deadline = deadline_after(timeout_ms);
  struct pollfd input = {.fd = connection, .events = POLLIN};
  struct scanoutd_lease_notice notice;
  struct scanoutd_error error;
  int result = send_packet(connection, &bye, sizeof bye, NULL, 0);
  while (result == 0 && timeout_ms != 0) {
    int late = -1; /* a lease that was on its way */
    result = poll_until(&input, 1, deadline);
    if (result == 0) result = scanoutd_lease_news(connection, &late, &notice, &error);
    close_fd(&late);
    if (result == SCANOUTD_LEASE_RETURNED || result == -EREMOTEIO || result == -ECONNRESET) return 0;
    if (result > 0) result = 0;
  }
  return result == -EPIPE || result == -ECONNRESET ? 0 : result;
}
