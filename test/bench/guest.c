/*
 * The socket guests of the benchmark: many in one process, which flip without drawing, so that what is
 * measured is the way of a frame and not its making.
 *
 *   guest --out FILE [--rate HZ] SOCKET:NAME:WIDTHxHEIGHT...
 *
 * pace.h has the rest. A kick is stamped right before the write to the page-flip eventfd.
 */
#include <signal.h>
#include <unistd.h>

#include "example-buffer.h"
#include "pace.h"
#include "scanoutd-client.h"

enum { BUFFERS = 3, CONNECT_MS = 20000, ANSWER_MS = 20000 };

struct guest {
  struct scanoutd_client* client;
  struct buffer buffers[BUFFERS];
};

static struct guest guests[MOST_GUESTS];
static int64_t kick_ns;

/* Linked with --wrap=write: the client library's kick, stamped as late as it can be. */
ssize_t real_write(int fd, const void* bytes, size_t size) __asm__("__real_write");
ssize_t stamped_write(int fd, const void* bytes, size_t size) __asm__("__wrap_write");
ssize_t stamped_write(int fd, const void* bytes, size_t size) {
  if (size == sizeof(uint64_t)) kick_ns = now_ns();
  return real_write(fd, bytes, size);
}

static void add_buffers(struct guest* guest, uint32_t width, uint32_t height) {
  for (uint32_t id = 0; id < BUFFERS; id++) {
    const char* stage = "";
    struct buffer* buffer = &guest->buffers[id];
    uint32_t serial = 0;
    int error = create_buffer(buffer, linear_layout(width, height, FOURCC_XR24), &stage);
    if (error < 0 || buffer->pixels == NULL) die(stage, error);
    sync_buffer(buffer, DMA_BUF_SYNC_START);
    memset(buffer->pixels, 0x40 * (int)(id + 1), buffer->size);
    sync_buffer(buffer, DMA_BUF_SYNC_END);
    error = scanoutd_client_add_buffer(guest->client, id, &buffer->layout, &buffer->dmabuf, 1, &serial);
    if (error == 0) error = scanoutd_client_wait_answer(guest->client, serial, ANSWER_MS);
    if (error < 0) die(scanoutd_client_error(guest->client)->text, error);
  }
}

static void connect_guest(char* text) {
  char* name = strchr(text, ':');
  char* size = name != NULL ? strchr(name + 1, ':') : NULL;
  uint32_t width = 0, height = 0;
  if (size == NULL || sscanf(size + 1, "%ux%u", &width, &height) != 2 || pace_count == MOST_GUESTS)
    die(text, EINVAL);
  *name++ = *size = '\0';
  struct guest* guest = &guests[pace_count];
  const struct scanoutd_client_options options = {.name = name};
  int error = scanoutd_client_create(text, &options, &guest->client);
  if (error == 0) error = scanoutd_client_connect(guest->client, CONNECT_MS);
  if (error < 0) die(name, error);
  add_buffers(guest, width, height);
  paces[pace_count++].fd = scanoutd_client_release_fd(guest->client);
}

static uint64_t pace_submit(int number, int64_t* kicked_ns) {
  struct guest* guest = &guests[number];
  struct scanoutd_submission submission;
  const int buffer = scanoutd_client_acquire(guest->client, (1u << BUFFERS) - 1, 0);
  if (buffer == -ETIMEDOUT) return 0;
  if (buffer < 0) die("acquire", buffer);
  const struct scanoutd_frame frame = {.buffer = (uint32_t)buffer};
  const int error = scanoutd_client_submit(guest->client, 0, &frame, &submission);
  if (error < 0) die("submit", error);
  *kicked_ns = kick_ns;
  return submission.sequence;
}

static int pace_settle(int number, int64_t now, struct news* news) {
  struct scanoutd_client* client = guests[number].client;
  struct scanoutd_event event;
  struct scanoutd_flip_feedback feedback;
  (void)now;
  while (scanoutd_client_dispatch(client, &event) == 1) {
    if (event.type == SCANOUTD_EVENT_CLOSED) die("closed by the daemon", event.reason);
    if (event.type == SCANOUTD_EVENT_ERROR) die(event.error->text, EPROTO);
  }
  if (paces[number].sequence == 0) return 0;
  const int error = scanoutd_client_feedback(client, 0, &feedback);
  if (error < 0) die("feedback", error);
  *news = (struct news){(int64_t)feedback.presented_ns, feedback.vblank, feedback.refresh_ns};
  return feedback.presented >= paces[number].sequence;
}

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 1; i < argc; i++)
    if (!pace_option(argc, argv, &i)) connect_guest(argv[i]);
  if (pace_out == NULL || pace_count == 0)
    die("usage: guest --out FILE [--rate HZ] SOCKET:NAME:WxH...", EINVAL);
  pace_serve();
  for (int i = 0; i < pace_count; i++) {
    scanoutd_client_bye(guests[i].client, ANSWER_MS);
    scanoutd_client_close(guests[i].client);
    for (int id = 0; id < BUFFERS; id++)
      destroy_buffer(&guests[i].buffers[id]);
  }
  return fclose(pace_out) == 0 ? 0 : 1;
}
