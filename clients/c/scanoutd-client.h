/*
 * The guest's side of scanoutd: a C11 library of this header, scanoutd-client.c and scanoutd-input.{h,c}, on
 * libc and protocol.h alone.
 *
 *   struct scanoutd_client* client;
 *   scanoutd_client_create(NULL, &(struct scanoutd_client_options){.name = "kiosk"}, &client);
 *   scanoutd_client_connect(client, 5000);                    waits at most 5 s for the daemon
 *   scanoutd_client_add_buffer(client, 0, &layout, &dmabuf, 1, &serial);
 *   scanoutd_client_wait_answer(client, serial, 1000);
 *   ... draw ...
 *   scanoutd_client_submit(client, 0, &(struct scanoutd_frame){.buffer = 0}, NULL);
 *
 * Results: 0 or what the function says; a negative errno value on failure. Nothing is printed, no signal
 * handler is installed, there is no global state. Only functions with a timeout may sleep, only so long:
 * milliseconds, 0 never sleeps, negative has no end; a signal ends the sleep with -EINTR.
 *
 * Threads: one client is used by one thread at a time; different clients are independent. Callers that share
 * a client between threads lock around every call.
 *
 * Errors that every function on an open connection may return: -ENOTCONN when it is closed, -EPROTO when the
 * daemon broke the protocol (the connection is closed then). What the daemon sends is checked before it is
 * used.
 */
#ifndef SCANOUTD_CLIENT_H
#define SCANOUTD_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "guests/protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

struct scanoutd_client;

/* Copied by scanoutd_client_create. */
struct scanoutd_client_options {
  const char* name;                          /* letters, digits, '.', '_', '-'; 1 to 63 of them */
  uint32_t plane_count;                      /* 0 means one primary plane */
  uint32_t plane_kinds[SCANOUTD_MAX_PLANES]; /* enum scanoutd_plane_kind, bottom to top */
  uint64_t capabilities;                     /* SCANOUTD_CAP_*; granted ones: scanoutd_client_capabilities */
};

/* How a buffer lies in its dma-buf. Units and limits as in struct scanoutd_add_buffer. */
struct scanoutd_layout {
  uint32_t width, height;
  uint32_t fourcc;
  uint32_t plane_count;
  uint64_t modifier;
  uint32_t strides[4];
  uint32_t offsets[4];
};

/* One frame of one plane. What is left 0 means the usual: the whole buffer, at 0,0, unscaled, all changed. */
struct scanoutd_frame {
  uint32_t buffer;
  uint32_t flags;                      /* SCANOUTD_FLIP_* */
  uint32_t src_x, src_y, src_w, src_h; /* 16.16 fixed point; src_w 0: the whole buffer */
  int32_t dst_x, dst_y;
  uint32_t dst_w, dst_h; /* dst_w 0: the size of the source */
  int32_t hot_x, hot_y;
  const struct scanoutd_rect*
      damage; /* since the former submission, in buffer pixels; what frames that came back
                 had is added. More than SCANOUTD_MAX_DAMAGE count as everything */
  uint32_t damage_count;
  int fence; /* sync_file, with SCANOUTD_FLIP_FENCED; stays the caller's */
};

struct scanoutd_submission {
  uint64_t sequence;
  uint64_t reclaimed;        /* sequence of the former submission when the daemon never saw it, else 0 */
  uint32_t reclaimed_buffer; /* its buffer, free at once unless an older frame still shows it */
};

enum scanoutd_event_type {
  SCANOUTD_EVENT_NONE = 0,
  SCANOUTD_EVENT_CONNECTED, /* welcomed; kept buffers and present modes are being registered again. Submit
                               anew */
  SCANOUTD_EVENT_CONFIGURE, /* scanoutd_client_configuration has changed */
  SCANOUTD_EVENT_FORMATS,   /* scanoutd_client_formats of `plane` have changed */
  SCANOUTD_EVENT_STATE,     /* scanoutd_client_state of `plane` has changed */
  SCANOUTD_EVENT_DONE,      /* request `serial` was done */
  SCANOUTD_EVENT_ERROR,     /* `error` came: request `serial` was refused, or a general one when 0 */
  SCANOUTD_EVENT_PAGE,      /* the flip page changed: look at buffer_free, feedback */
  SCANOUTD_EVENT_INPUT,     /* there is something to read: scanoutd_client_read_input */
  SCANOUTD_EVENT_CLOSED,    /* `reason`; buffers are kept for the next scanoutd_client_connect */
};

struct scanoutd_event {
  enum scanoutd_event_type type;
  uint32_t plane;   /* of FORMATS, STATE, and answers to SCANOUTD_SET_PRESENT */
  uint32_t buffer;  /* of answers to SCANOUTD_ADD_BUFFER, _RENEW_BUFFER and _REMOVE_BUFFER */
  uint32_t request; /* of DONE and ERROR: enum scanoutd_message, 0 when no open request is meant */
  uint32_t serial;
  int reason; /* of CLOSED: 0 after BYE; -EREMOTEIO: the daemon said why; -ECONNRESET: it went; -EPROTO */
  const struct scanoutd_error* error; /* of ERROR; valid until the next call with this client */
};

/* ---- Connection */

/* Makes a client that is not connected. `path` NULL: SCANOUTD_SOCKET_PATH. -EINVAL, -ENAMETOOLONG, -ENOMEM,
 * or the error of eventfd(2). The caller ends it by scanoutd_client_close. */
int scanoutd_client_create(const char* path, const struct scanoutd_client_options* options,
                           struct scanoutd_client** client);

/*
 * Connects, for the first time or again. Timeout 0: one attempt; on 0 the hello is sent, and the event
 * CONNECTED or CLOSED follows. Otherwise tries with back-off until the daemon has answered with something
 * else than SCANOUTD_BUSY. Buffers added before, also over an earlier connection, are registered again;
 * present modes too. Frames are not: submit one when CONNECTED comes. -EISCONN; -ENOENT, -ECONNREFUSED: no
 * daemon; -EREMOTEIO: refused, see scanoutd_client_error; -ETIMEDOUT. After a failure the client is not
 * connected.
 */
int scanoutd_client_connect(struct scanoutd_client* client, int timeout_ms);

/* Leaves cleanly: the daemon switches the guest's planes off. With a timeout waits for its answer. */
int scanoutd_client_bye(struct scanoutd_client* client, int timeout_ms);

/* Closes the connection without a word. Buffers are kept. The event CLOSED does not follow. */
void scanoutd_client_disconnect(struct scanoutd_client* client);

/* Closes and frees everything. NULL is ignored. */
void scanoutd_client_close(struct scanoutd_client* client);

bool scanoutd_client_connected(const struct scanoutd_client* client);

/* Control socket: poll for input, then scanoutd_client_dispatch. Stays the client's, another one after every
 * connect; -1 when not connected. */
int scanoutd_client_fd(const struct scanoutd_client* client);

/* Release eventfd: poll for input, then scanoutd_client_dispatch. The same for the client's whole life. */
int scanoutd_client_release_fd(const struct scanoutd_client* client);

/* Reads what has come. 1 and an event, or 0 and none: call until it returns 0. Several changes of one state
 * make one event. */
int scanoutd_client_dispatch(struct scanoutd_client* client, struct scanoutd_event* event);

/* Sleeps until something comes, and reads it; scanoutd_client_dispatch returns its events later. -ETIMEDOUT.
 */
int scanoutd_client_wait(struct scanoutd_client* client, int timeout_ms);

/* The newest ERROR of the daemon, its code SCANOUTD_OK when none came. Valid until the client is closed. */
const struct scanoutd_error* scanoutd_client_error(const struct scanoutd_client* client);

/* Granted ones; 0 when not connected. */
uint64_t scanoutd_client_capabilities(const struct scanoutd_client* client);

/* The newest that the daemon told; NULL when nothing was told in this connection, or without such a plane.
 * Valid until the client is closed, changed by functions that read. */
const struct scanoutd_configure* scanoutd_client_configuration(const struct scanoutd_client* client);
const struct scanoutd_formats* scanoutd_client_formats(const struct scanoutd_client* client, uint32_t plane);
const struct scanoutd_state* scanoutd_client_state(const struct scanoutd_client* client, uint32_t plane);

/* ---- Requests
 *
 * Each returns at once with the serial that its DONE or ERROR will carry (`serial` may be NULL). A connection
 * that closes forgets what was not answered, except that buffers are kept. */

/*
 * Registers a dma-buf as buffer `id`. `fd_count` is 1 or layout->plane_count. The client duplicates the
 * descriptors: the caller's stay the caller's. Usable after DONE; after ERROR the id is free again. Without a
 * connection the buffer is only kept, and registered by the next connect. -EINVAL, -EEXIST: id in use,
 * -EMFILE.
 */
int scanoutd_client_add_buffer(struct scanoutd_client* client, uint32_t id,
                               const struct scanoutd_layout* layout, const int* fds, uint32_t fd_count,
                               uint32_t* serial);

/*
 * Says that the memory behind buffer `id` has moved (`fd_count` 0) or that other dma-bufs (borrowed) have its
 * picture from now on, as many as it was registered with, in the same layout. Frames with it may be submitted
 * meanwhile. DONE: the display has let go of the former memory. ERROR: the buffer is what it was. Without a
 * connection the descriptors are only exchanged. -ENOENT, -EINVAL, -EMFILE, -EBUSY: a request on it is open;
 * -EOPNOTSUPP: the daemon is older than version 1.2.
 */
int scanoutd_client_renew_buffer(struct scanoutd_client* client, uint32_t id, const int* fds,
                                 uint32_t fd_count, uint32_t* serial);

/* Withdraws frames with buffer `id` that were not taken, and unregisters it. DONE comes when nothing shows it
 * any more; the id is free then. Without a connection it is free at once. -ENOENT, -EBUSY: a request on it is
 * open. */
int scanoutd_client_remove_buffer(struct scanoutd_client* client, uint32_t id, uint32_t* serial);

/* `mode`: enum scanoutd_present_mode. Kept over connections. -EINVAL, -EBUSY: a request on the plane is open.
 */
int scanoutd_client_set_present(struct scanoutd_client* client, uint32_t plane, uint32_t mode,
                                uint32_t* serial);

/* Sleeps until `serial` is answered, and consumes the answer. -EREMOTEIO: refused, see scanoutd_client_error;
 * -EINVAL: no such request; -ETIMEDOUT. */
int scanoutd_client_wait_answer(struct scanoutd_client* client, uint32_t serial, int timeout_ms);

/* ---- Frames */

/*
 * Hands a frame over: no system call but the kick (and the fence's message). The newest frame wins: a former
 * one that the daemon has not taken comes back (`submission`, may be NULL). The buffer must not be drawn into
 * until scanoutd_client_buffer_free says so; it may be submitted again unchanged, to move a cursor. -EINVAL:
 * no such plane, unknown flag, no fences agreed; -ENOENT: no such buffer; -EAGAIN: the buffer is not
 * registered yet, or the present mode is fifo and the former frame was not taken yet, or the fence socket is
 * full.
 */
int scanoutd_client_submit(struct scanoutd_client* client, uint32_t plane, const struct scanoutd_frame* frame,
                           struct scanoutd_submission* submission);

/* Takes a submission back that the daemon has not taken: 1 when it was, and `submission->reclaimed` tells
 * which. */
int scanoutd_client_withdraw(struct scanoutd_client* client, uint32_t plane,
                             struct scanoutd_submission* submission);

/* True when buffer `id` is registered and may be drawn into: no frame with it is pending or held by the
 * daemon. */
bool scanoutd_client_buffer_free(struct scanoutd_client* client, uint32_t id);

/* The free one of `buffers` (bit n: id n) that was submitted longest ago, or waits for one. Returns its id.
 * After a reconnect all are free, and the display may still show the newest: the others come first. -ENOENT:
 * none of them exists; -ETIMEDOUT. */
int scanoutd_client_acquire(struct scanoutd_client* client, uint64_t buffers, int timeout_ms);

/* Sleeps until the daemon has taken the newest submission: the pace of fifo. -ETIMEDOUT. */
int scanoutd_client_wait_taken(struct scanoutd_client* client, uint32_t plane, int timeout_ms);

/* A consistent copy of the plane's feedback. -EAGAIN: the daemon was writing all the time. */
int scanoutd_client_feedback(const struct scanoutd_client* client, uint32_t plane,
                             struct scanoutd_flip_feedback* feedback);

/* The mapped flip page, for tools and tests that read it by atomic loads; NULL when not connected. */
const struct scanoutd_flip_page* scanoutd_client_page(const struct scanoutd_client* client);

/* ---- Input
 *
 * Keyboards, pointers, touch screens and tablets of the seat that shows the guest, as evdev events
 * (linux/input-event-codes.h). */

struct scanoutd_input_value {
  uint16_t type, code;
  int32_t value;
};

/* What one device sent at one time. Its last event is EV_SYN, SYN_REPORT. */
struct scanoutd_input_frame {
  uint32_t device;  /* enum scanoutd_input_class */
  uint32_t count;   /* of events */
  uint64_t time_ns; /* CLOCK_MONOTONIC, of the kernel */
  struct scanoutd_input_value events[SCANOUTD_INPUT_MAX_FRAME];
};

/*
 * Asks for the seat's input, now and after every later connect. DONE comes when it is there, which may be
 * later than answers to other requests. ERROR: the configuration says otherwise, and it is not asked for any
 * more. When it ends, a general ERROR has the code SCANOUTD_INPUT_ENDED, and it may be asked for anew.
 * -EEXIST: it is there; -EBUSY: it was asked for; -EOPNOTSUPP: the daemon is older than version 1.4 (a later
 * connection with such a daemon says nothing, and gives none); or the error of eventfd(2).
 */
int scanoutd_client_take_input(struct scanoutd_client* client, uint32_t* serial);

/* The event eventfd: poll for input, then scanoutd_client_dispatch, which gives SCANOUTD_EVENT_INPUT. The
 * same for the client's whole life; -1 before the first scanoutd_client_take_input. */
int scanoutd_client_input_fd(const struct scanoutd_client* client);

/*
 * Reads on: 1 and a frame; 2: from here on the devices are others, see scanoutd_client_input_device; 0:
 * nothing more, for now. Call until it returns 0. `frame` is the caller's.
 *
 * A guest that does not read in time gets motion merged, and at last not all of it, but every release. When
 * the input has ended, or the connection, what was left pressed is released by frames of the client's own.
 */
int scanoutd_client_read_input(struct scanoutd_client* client, struct scanoutd_input_frame* frame);

/* What the guest's device of a class (enum scanoutd_input_class) can do, or NULL when it has none. What is
 * described no more, or in another way, has been released. Events that the device does not have are to be
 * passed over. Valid until the client is closed, changed by scanoutd_client_read_input. */
const struct scanoutd_input_device* scanoutd_client_input_device(const struct scanoutd_client* client,
                                                                 uint32_t device);

/* Sets the LEDs of the guest's keyboard: bits by LED_*, all of them at once. Kept over connections. */
void scanoutd_client_set_leds(struct scanoutd_client* client, uint32_t leds);

/* ---- A device of VFIO, offered
 *
 * For a virtual machine monitor that has a vGPU: the daemon shows the device's display plane by itself. This
 * needs no client, and nothing of the above. */

/*
 * Offers `device` (its VFIO descriptor, which stays the caller's) as guest `name` of the configuration.
 * Returns the connection: the daemon shows the device until the caller, or its end, closes it. Timeout 0: one
 * attempt, whose answer scanoutd_offer_news tells; otherwise as scanoutd_client_connect. -EREMOTEIO: refused,
 * and `error` says why.
 */
int scanoutd_offer_open(const char* path, const char* name, int device, int timeout_ms,
                        struct scanoutd_error* error);

/* What came on that connection; poll it for input. 1: the device is taken; 0: nothing; -EREMOTEIO: the daemon
 * gives the device up, and `error` says why; another negative value: the connection is over. Never sleeps. */
int scanoutd_offer_news(int connection, struct scanoutd_error* error);

/* ---- A lease
 *
 * For a guest that drives a part of a card by itself, and so has no pictures for the daemon. This needs no
 * client, and nothing of the above. */

enum scanoutd_lease_event {
  SCANOUTD_LEASE_GRANTED = 1,  /* the lease has come */
  SCANOUTD_LEASE_NOTICED = 2,  /* it will be taken back: say bye before */
  SCANOUTD_LEASE_RETURNED = 3, /* the daemon has heard the bye */
};

/*
 * Takes the lease of guest `name` of the configuration, and waits for it where the daemon lets it wait.
 * Returns the connection: the lease lasts until it is closed, by the caller, by its end, or by the end of who
 * inherited it; to the daemon that is a crash, unless scanoutd_lease_bye came before. `lease` gets the
 * descriptor of the card, the caller's to close. Timeout 0: one attempt, `lease` is -1, and
 * scanoutd_lease_news tells the answer; otherwise as scanoutd_client_connect. -EREMOTEIO: refused, and
 * `error` says why.
 */
int scanoutd_lease_open(const char* path, const char* name, int timeout_ms, int* lease,
                        struct scanoutd_error* error);

/*
 * What came on that connection; poll it for input. An enum scanoutd_lease_event: GRANTED puts the descriptor
 * into `lease`, which has to be -1 until then, NOTICED fills `notice`; 0: nothing; -EREMOTEIO: the lease is
 * refused or was taken back, and `error` says why; another negative value: the connection is over, and with
 * it the lease. Never sleeps.
 */
int scanoutd_lease_news(int connection, int* lease, struct scanoutd_lease_notice* notice,
                        struct scanoutd_error* error);

/* Gives the lease back; with a timeout waits until the daemon has heard of it, or the connection is over
 * anyway. The caller closes it. -ETIMEDOUT. */
int scanoutd_lease_bye(int connection, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
