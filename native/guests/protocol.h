/*
 * scanoutd guest protocol, version 1.4: the single source of the wire format, of the flip page and of
 * the input ring.
 *
 * Transport: an AF_UNIX SOCK_SEQPACKET socket (default /run/scanoutd/guest.sock), host endianness, one
 * message a packet, file descriptors by SCM_RIGHTS. Every message begins with struct scanoutd_header and has
 * exactly the size that its type says; a message of another size, or with another number of descriptors, is
 * refused and its descriptors are closed. docs/guest-protocol.md tells the rules in prose.
 *
 * Frames do not travel over the socket: the guest puts an entry into the flip page and signals its kick
 * eventfd. Nor does input: the daemon puts events into the input ring and signals the guest's eventfd.
 *
 * Plain C11, no dependency. All structures are naturally aligned, without padding that is not named.
 */
#ifndef SCANOUTD_PROTOCOL_H
#define SCANOUTD_PROTOCOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SCANOUTD_VERSION_MAJOR 1u /* differs: no common language, the hello is refused */
#define SCANOUTD_VERSION_MINOR 4u /* the smaller of both sides' is spoken; a minor only adds */

#define SCANOUTD_SOCKET_PATH "/run/scanoutd/guest.sock"

#define SCANOUTD_MAX_PLANES 4u   /* of one guest */
#define SCANOUTD_MAX_BUFFERS 64u /* of one guest; ids are 0 to 63 */
#define SCANOUTD_MAX_DAMAGE 8u   /* rectangles of one entry; more: send none, which means everything */
#define SCANOUTD_MAX_FORMATS 128u
#define SCANOUTD_MAX_FDS 4u      /* in one message */
#define SCANOUTD_MAX_SIZE 16384u /* width or height of a buffer, in pixels */
#define SCANOUTD_NAME_SIZE 64u
#define SCANOUTD_TEXT_SIZE 208u

/* ---- Messages
 * ---------------------------------------------------------------------------------------------- */

enum scanoutd_message {
  /* guest to daemon */
  SCANOUTD_HELLO = 1,         /* fds: kick eventfd, release eventfd. Answer: WELCOME or ERROR */
  SCANOUTD_ADD_BUFFER = 2,    /* fds: one dma-buf for all planes, or one a plane. Answer: DONE or ERROR */
  SCANOUTD_REMOVE_BUFFER = 3, /* Answer: DONE, once nothing shows the buffer any more */
  SCANOUTD_SET_PRESENT = 4,   /* Answer: DONE or ERROR */
  SCANOUTD_BYE = 5,           /* clean leave. Answer: DONE, then the daemon closes */
  /* 1.2; the memory of a buffer has moved. fds: none, or as in ADD_BUFFER. Answer: DONE, once new frames use
   * it, or ERROR: the buffer is what it was */
  SCANOUTD_RENEW_BUFFER = 6,
  /* 1.1; instead of HELLO. fds: a device of VFIO. Answer: DONE or ERROR */
  SCANOUTD_OFFER_DEVICE = 7,
  /* 1.3; instead of HELLO. Answer: LEASE, once the lease is free, or ERROR */
  SCANOUTD_TAKE_LEASE = 8,
  /* 1.4; fds: event eventfd, room eventfd. Answer: INPUT, once the guest's seat is there, or ERROR */
  SCANOUTD_TAKE_INPUT = 9,
  /* daemon to guest */
  SCANOUTD_WELCOME = 0x8001,   /* fds: flip page memfd; with SCANOUTD_CAP_FENCE also the fence socket */
  SCANOUTD_CONFIGURE = 0x8002, /* the guest's area: at first, and whenever it changes (resize) */
  SCANOUTD_FORMATS = 0x8003,   /* what a plane shows without a copy: at first, and after a new assignment */
  SCANOUTD_STATE = 0x8004,     /* how a plane of the guest is shown, and why not directly */
  SCANOUTD_LEASE = 0x8005,     /* 1.3; fds: the lease, a descriptor of the card */
  SCANOUTD_LEASE_NOTICE = 0x8006, /* 1.3; the lease will be taken back */
  SCANOUTD_INPUT = 0x8007,        /* 1.4; fds: input ring memfd, reply page memfd */
  SCANOUTD_DONE = 0x80fe,
  SCANOUTD_ERROR = 0x80ff,
};

struct scanoutd_header {
  uint32_t type;   /* enum scanoutd_message */
  uint32_t size;   /* of the whole message, in bytes */
  uint32_t serial; /* chosen by the asker, repeated in the answer; 0 in what is no answer */
  uint32_t reserved;
};

/* Capabilities, offered in HELLO and granted in WELCOME. Unknown bits are ignored. */
#define SCANOUTD_CAP_FENCE (1ull << 0) /* acquire fences over the fence socket */

enum scanoutd_plane_kind {
  SCANOUTD_PLANE_NONE = 0,
  SCANOUTD_PLANE_PRIMARY = 1,
  SCANOUTD_PLANE_OVERLAY = 2,
  SCANOUTD_PLANE_CURSOR = 3,
};

struct scanoutd_hello {
  struct scanoutd_header header;
  uint32_t version_major;
  uint32_t version_minor;
  uint64_t capabilities;
  char name[SCANOUTD_NAME_SIZE]; /* NUL-terminated: letters, digits, '.', '_', '-'; names the guest in the
                                    configuration */
  uint32_t plane_count;          /* 1 to SCANOUTD_MAX_PLANES */
  uint32_t plane_kinds[SCANOUTD_MAX_PLANES]; /* bottom to top; unused ones SCANOUTD_PLANE_NONE */
  uint32_t reserved;
};

/*
 * A device of VFIO whose display plane the daemon shows by itself, as guest `name` of the configuration, as
 * long as the connection lasts. The sender keeps its own descriptor.
 */
struct scanoutd_offer_device {
  struct scanoutd_header header;
  uint32_t version_major;
  uint32_t version_minor;
  char name[SCANOUTD_NAME_SIZE]; /* as in HELLO */
};

/*
 * Asks for the lease of guest `name` of the configuration, a part of a card that the guest drives by itself.
 * It lasts as long as the connection: BYE gives it back, and an end without BYE is a crash of the guest.
 */
struct scanoutd_take_lease {
  struct scanoutd_header header;
  uint32_t version_major;
  uint32_t version_minor;
  char name[SCANOUTD_NAME_SIZE]; /* as in HELLO */
};

/* The lease: a descriptor of the card that has no more than what is leased, and is master of that. */
struct scanoutd_lease {
  struct scanoutd_header header;
  char lease[SCANOUTD_NAME_SIZE]; /* name of the lease, NUL-terminated, as in HELLO */
};

/* The lease ends after `milliseconds`, or with an earlier BYE. An ERROR with SCANOUTD_LEASE_ENDED follows. */
struct scanoutd_lease_notice {
  struct scanoutd_header header;
  uint32_t milliseconds;
  uint32_t reserved;
  char text[SCANOUTD_TEXT_SIZE]; /* why, NUL-terminated */
};

struct scanoutd_welcome {
  struct scanoutd_header header;
  uint32_t version_major;
  uint32_t version_minor;
  uint64_t capabilities;
  uint32_t page_size; /* bytes to map, read and write, shared: SCANOUTD_FLIP_PAGE_SIZE */
  uint32_t reserved;
};

struct scanoutd_configure {
  struct scanoutd_header header;
  uint32_t width; /* of the area that the guest fills, in pixels of the output */
  uint32_t height;
  uint32_t refresh_mhz; /* of the output, in thousandths of a hertz; paces the guest */
  uint32_t lit;         /* 0: no output shows the guest now; its flips complete at refresh_mhz all the same */
  char output[SCANOUTD_NAME_SIZE]; /* connector name, empty when not lit */
};

struct scanoutd_format {
  uint32_t fourcc; /* drm_fourcc.h */
  uint32_t reserved;
  uint64_t modifier;
};

struct scanoutd_formats {
  struct scanoutd_header header;
  uint32_t plane;
  uint32_t count; /* size = offsetof(formats) + count * sizeof(struct scanoutd_format) */
  struct scanoutd_format formats[SCANOUTD_MAX_FORMATS];
};

enum scanoutd_plane_state {
  SCANOUTD_STATE_OFF = 0,    /* nothing submitted yet, or hidden by the guest */
  SCANOUTD_STATE_DIRECT = 1, /* the guest's buffers are scanned out */
  SCANOUTD_STATE_COPIED = 2, /* shown by shadow copy; text says why */
  SCANOUTD_STATE_UNSEEN = 3, /* no output shows the guest; completions are synthetic */
};

struct scanoutd_state {
  struct scanoutd_header header;
  uint32_t plane;
  uint32_t state;  /* enum scanoutd_plane_state */
  uint32_t errnum; /* errno of the refusal, or 0 */
  uint32_t reserved;
  char text[SCANOUTD_TEXT_SIZE]; /* which stage refused what, NUL-terminated */
};

struct scanoutd_add_buffer {
  struct scanoutd_header header;
  uint32_t buffer; /* 0 to SCANOUTD_MAX_BUFFERS - 1, not in use */
  uint32_t width;  /* pixels, 1 to SCANOUTD_MAX_SIZE */
  uint32_t height;
  uint32_t fourcc;      /* drm_fourcc.h */
  uint64_t modifier;    /* DRM_FORMAT_MOD_INVALID: none given */
  uint32_t plane_count; /* memory planes of the format, 1 to 4 */
  uint32_t reserved;
  uint32_t strides[4]; /* bytes; unused ones 0 */
  uint32_t offsets[4]; /* bytes from the start of the dma-buf; unused ones 0 */
};

struct scanoutd_remove_buffer {
  struct scanoutd_header header;
  uint32_t buffer;
  uint32_t reserved;
};

/* The memory behind a buffer has moved, or its dma-bufs were replaced; its layout stays. */
struct scanoutd_renew_buffer {
  struct scanoutd_header header;
  uint32_t buffer;
  uint32_t reserved;
};

enum scanoutd_present_mode {
  SCANOUTD_PRESENT_MAILBOX = 0, /* the newest frame wins; an older one is released unseen */
  SCANOUTD_PRESENT_FIFO = 1, /* every frame is shown for at least one refresh; wait until the slot is taken */
  SCANOUTD_PRESENT_ASYNC = 2, /* at once, may tear; where refused: mailbox, and STATE says why */
};

struct scanoutd_set_present {
  struct scanoutd_header header;
  uint32_t plane;
  uint32_t mode; /* enum scanoutd_present_mode */
};

/*
 * Asks for the input of the seat that shows the guest. Descriptors: the event eventfd, which the daemon
 * signals when there is something new in the ring, and the room eventfd, which the guest signals as the reply
 * page says. Not while a former one is open or has not ended. After SCANOUTD_INPUT_ENDED it may be asked
 * again.
 */
struct scanoutd_take_input {
  struct scanoutd_header header;
};

struct scanoutd_input {
  struct scanoutd_header header;
  uint32_t ring_size;  /* bytes to map, read only, shared: SCANOUTD_INPUT_RING_SIZE */
  uint32_t reply_size; /* bytes to map, read and write, shared: SCANOUTD_INPUT_REPLY_SIZE */
};

struct scanoutd_bye {
  struct scanoutd_header header;
};

struct scanoutd_done {
  struct scanoutd_header header;
};

/* Codes of ERROR, and of refused flips in the feedback. */
enum scanoutd_code {
  SCANOUTD_OK = 0,
  SCANOUTD_BAD_MESSAGE = 1, /* wrong size, truncated, reserved field not 0 */
  SCANOUTD_BAD_VERSION = 2,
  SCANOUTD_BAD_STATE = 3,  /* out of order: no hello, second hello */
  SCANOUTD_BAD_NAME = 4,   /* malformed or unknown */
  SCANOUTD_BAD_FD = 5,     /* wrong number, no eventfd, no dma-buf, no device that can be shown */
  SCANOUTD_BAD_BUFFER = 6, /* id out of range, in use, or unknown */
  SCANOUTD_BAD_FORMAT = 7, /* fourcc or modifier unknown, wrong number of planes */
  SCANOUTD_BAD_LAYOUT = 8, /* size, stride or offset outside the buffer or the limits */
  SCANOUTD_BAD_PLANE = 9,
  SCANOUTD_BAD_RECT = 10,      /* source outside the buffer, destination empty or absurd */
  SCANOUTD_BAD_SEQUENCE = 11,  /* not greater than the one before, or not the one announced */
  SCANOUTD_BAD_FENCE = 12,     /* announced but not sent, or no sync_file */
  SCANOUTD_BUSY = 13,          /* a limit is reached, or the name is taken for now: try again */
  SCANOUTD_IMPORT_FAILED = 14, /* the display refused the buffer; errnum and text say at which stage */
  SCANOUTD_COMMIT_FAILED = 15, /* the display refused the flip */
  SCANOUTD_NOT_ALLOWED = 16,   /* policy: credentials, name */
  SCANOUTD_INTERNAL = 17,
  SCANOUTD_NO_LEASE = 18,    /* 1.3; it cannot be had: an output is not there, or planes or CRTCs are short */
  SCANOUTD_LEASE_ENDED = 19, /* 1.3; it was taken back; the text says why */
  SCANOUTD_INPUT_ENDED = 20, /* 1.4; nothing comes into the input ring any more; the text says why */
};

struct scanoutd_error {
  struct scanoutd_header header; /* serial of the refused message */
  uint32_t code;                 /* enum scanoutd_code */
  uint32_t errnum;               /* errno behind it, or 0 */
  uint32_t fatal;                /* 1: the daemon closes the connection */
  uint32_t reserved;
  char text[SCANOUTD_TEXT_SIZE]; /* what, where and why; NUL-terminated */
};

/* Over the fence socket (SOCK_SEQPACKET), before the entry that has SCANOUTD_FLIP_FENCED. fds: one sync_file.
 */
struct scanoutd_fence {
  uint32_t plane;
  uint32_t reserved;
  uint64_t sequence;
};

/* ---- The flip page
 * ----------------------------------------------------------------------------------------- */

#define SCANOUTD_FLIP_PAGE_SIZE 4096u
#define SCANOUTD_FLIP_PAGE_MAGIC 0x50494c46u /* "FLIP" */
#define SCANOUTD_FLIP_ENTRIES 3u

#define SCANOUTD_FLIP_FENCED (1u << 0) /* a struct scanoutd_fence with this sequence was sent before */
#define SCANOUTD_FLIP_HIDE (1u << 1)   /* switch the plane off; buffer and rectangles are ignored */

struct scanoutd_rect {
  int32_t x1, y1, x2, y2; /* pixels, x2 and y2 exclusive */
};

/* Written by the guest, copied and then checked by the daemon. */
struct scanoutd_flip_entry {
  uint64_t sequence; /* 1 to 2^62 - 1, greater than the former one of this plane */
  uint32_t buffer;
  uint32_t flags;
  uint32_t src_x, src_y, src_w, src_h; /* part of the buffer, 16.16 fixed point pixels */
  int32_t dst_x, dst_y;                /* in the guest's area, in pixels; may reach beyond it, is clipped */
  uint32_t dst_w, dst_h;
  int32_t hot_x, hot_y;  /* cursor: hotspot in the buffer, pixels */
  uint32_t damage_count; /* 0: everything changed */
  uint32_t reserved;
  struct scanoutd_rect damage[SCANOUTD_MAX_DAMAGE]; /* in buffer pixels */
};

/* Flags of the feedback. */
#define SCANOUTD_PRESENTED_VSYNC (1u << 0)    /* at a vertical blank */
#define SCANOUTD_PRESENTED_HW_CLOCK (1u << 1) /* the timestamp is the kernel's, of the vblank */
#define SCANOUTD_PRESENTED_DIRECT (1u << 2)   /* scanned out without a copy */

/*
 * Written by the daemon only. A reader takes `lock` (acquire), reads, takes it again: odd or changed means
 * read again.
 */
struct scanoutd_flip_feedback {
  uint32_t lock;
  uint32_t flags;
  uint64_t taken;        /* sequence of the newest entry that the daemon took */
  uint64_t presented;    /* sequence of the newest frame whose flip event came */
  uint64_t presented_ns; /* CLOCK_MONOTONIC, when its first pixel left */
  uint64_t vblank;       /* the output's vblank counter then */
  uint32_t refresh_ns;   /* one refresh, 0 when unknown */
  uint32_t refused_code; /* enum scanoutd_code of the newest refused entry */
  uint64_t refused;      /* its sequence, 0 when none was */
  uint32_t refused_errno;
  uint32_t reserved0;
  uint64_t flips;      /* frames presented */
  uint64_t superseded; /* frames that a newer one replaced before they were shown */
  uint64_t missed;     /* vblanks that a frame which was there in time did not make */
  uint64_t reserved[5];
};

/*
 * One plane of the guest. `pending` hands one entry over, lock-free, both sides by atomic exchange:
 *   guest:  fill an entry that is neither pending nor the one taken last, exchange `pending` with
 *           (sequence << 2 | index + 1), signal the kick eventfd. What the exchange gives back was never seen
 * by the daemon (its buffer is free at once) unless it is 0. daemon: exchange `pending` with 0, copy the
 * entry, check the copy.
 */
struct scanoutd_flip_slot {
  uint64_t pending;
  uint64_t reserved[7];
  struct scanoutd_flip_entry entries[SCANOUTD_FLIP_ENTRIES];
  struct scanoutd_flip_feedback feedback;
};

/*
 * `released[b]`: the daemon is done with every taken frame with buffer b up to this sequence, refused ones
 * included, on all planes of the guest (a cursor is moved by submitting its buffer again: while one frame
 * with b is still held, released[b] stays below that frame). The guest numbers the frames of all its planes
 * by one counter, and may draw into b again when released[b] is at least the sequence of every taken frame
 * that showed b. The daemon writes `feedback` first, then the `released` that follows from it, then signals
 * the release eventfd.
 */
struct scanoutd_flip_page {
  uint32_t magic;
  uint32_t version_major;
  uint32_t version_minor;
  uint32_t plane_count;
  uint64_t reserved[62];
  uint64_t released[SCANOUTD_MAX_BUFFERS];
  struct scanoutd_flip_slot slots[SCANOUTD_MAX_PLANES];
};

/* ---- The input ring (1.4)
 *
 * Two pieces of memory, both made and sealed by the daemon: the ring, which the guest can only read, and the
 * reply page, which the daemon only reads.
 * ----------------------------------------------------------------------------------------- */

#define SCANOUTD_INPUT_RING_SIZE 131072u
#define SCANOUTD_INPUT_REPLY_SIZE 4096u
#define SCANOUTD_INPUT_MAGIC 0x54504e49u /* "INPT" */
#define SCANOUTD_INPUT_EVENTS 4096u      /* a power of two */
#define SCANOUTD_INPUT_DEVICES 16u
#define SCANOUTD_INPUT_MAX_FRAME 1024u /* events of one frame, SYN_REPORT included */

/* A guest has one device of each at most: what all devices of its seat that are of that class send. */
enum scanoutd_input_class {
  SCANOUTD_INPUT_KEYBOARD = 0,
  SCANOUTD_INPUT_POINTER = 1,  /* relative */
  SCANOUTD_INPUT_ABSOLUTE = 2, /* a pointer with a position */
  SCANOUTD_INPUT_TOUCHSCREEN = 3,
  SCANOUTD_INPUT_TOUCHPAD = 4,
  SCANOUTD_INPUT_TABLET = 5,
  SCANOUTD_INPUT_PAD = 6, /* buttons, rings and strips of a tablet */
  SCANOUTD_INPUT_SWITCH = 7,
  SCANOUTD_INPUT_JOYSTICK = 8,
};

/* As struct input_absinfo of linux/input.h. */
struct scanoutd_input_axis {
  int32_t value; /* when the device was described; later ones are in events */
  int32_t minimum, maximum;
  int32_t fuzz, flat;
  int32_t resolution; /* units a millimetre, or a radian for rotations; 0: unknown */
};

/* All that is needed to make a device of it (uinput, a virtual machine's): bits by the numbers of
 * linux/input-event-codes.h. */
struct scanoutd_input_device {
  char name[80];    /* NUL-terminated */
  uint32_t present; /* 1; 0: the guest has no device of this class, and the rest is 0 */
  uint16_t bus, vendor, product, version;
  uint32_t properties; /* INPUT_PROP_* */
  uint32_t types;      /* EV_* */
  uint32_t relative;   /* REL_* */
  uint32_t misc;       /* MSC_* */
  uint32_t switches;   /* SW_* */
  uint32_t leds;       /* LED_* */
  uint32_t reserved0;
  uint64_t absolute;                   /* ABS_* */
  uint64_t keys[12];                   /* KEY_*, BTN_* */
  struct scanoutd_input_axis axes[64]; /* by ABS_*; those that `absolute` has */
  uint32_t reserved1[8];
};

/* A frame is the events up to and including EV_SYN, SYN_REPORT. All of one frame have one time, one device
 * and one epoch. */
struct scanoutd_input_event {
  uint64_t time_ns; /* CLOCK_MONOTONIC, the kernel's, of when the device sent it */
  uint32_t epoch;   /* of the devices that it belongs to */
  uint16_t device;  /* enum scanoutd_input_class */
  uint16_t type;
  uint16_t code;
  uint16_t reserved;
  int32_t value;
};

/*
 * Written by the daemon, mapped by the guest for reading only.
 *
 * Event n, counted from 0 for as long as the ring lasts, is events[n % SCANOUTD_INPUT_EVENTS]. The daemon
 * writes whole frames, then stores `written` (release), then signals the event eventfd. The guest takes
 * `written` (acquire), copies what is before it, then stores `read` of the reply page (release).
 *
 * A guest that does not read makes the daemon wait: frames that find no room are kept, their motion merged,
 * and at last the oldest motion is dropped, never a release. `waiting` is 1 meanwhile. The guest, after it
 * has stored `read` and a full fence: when `waiting` is 1 and half of the ring or more is free, signals its
 * room eventfd.
 */
struct scanoutd_input_ring {
  uint32_t magic;
  uint32_t version_major;
  uint32_t version_minor;
  uint32_t capacity;    /* SCANOUTD_INPUT_EVENTS */
  uint32_t event_size;  /* sizeof(struct scanoutd_input_event) */
  uint32_t device_size; /* sizeof(struct scanoutd_input_device) */
  uint32_t reserved0[10];

  uint64_t written; /* events so far */
  uint32_t waiting;
  uint32_t reserved1;
  uint64_t merged;  /* events that became part of others, since the guest was slow */
  uint64_t dropped; /* events that it will never see */
  uint64_t reserved2[4];

  /* Even, and greater after the devices have changed; odd while the daemon writes them: take it (acquire),
   * copy the devices, take it again; changed or odd means copy again. */
  uint32_t epoch;
  uint32_t reserved3[15];

  uint64_t reserved4[488];
  struct scanoutd_input_device devices[SCANOUTD_INPUT_DEVICES]; /* by enum scanoutd_input_class */
  struct scanoutd_input_event events[SCANOUTD_INPUT_EVENTS];
};

#define SCANOUTD_INPUT_LEDS_SET (1u << 31)

/* Written by the guest, copied and then checked by the daemon: a nonsensical `read` ends the ring. */
struct scanoutd_input_reply {
  uint64_t read; /* events that the guest has read: never less than before, never more than `written` */
  uint64_t reserved0[7];
  /* The LEDs of its keyboard, bits by LED_*, with SCANOUTD_INPUT_LEDS_SET; then the room eventfd. */
  uint32_t leds;
  uint32_t reserved1[15];
  uint64_t reserved2[496];
};

#ifdef __cplusplus
}
static_assert(sizeof(struct scanoutd_flip_entry) == 192);
static_assert(sizeof(struct scanoutd_flip_feedback) == 128);
static_assert(sizeof(struct scanoutd_flip_slot) == 768);
static_assert(sizeof(struct scanoutd_flip_page) == SCANOUTD_FLIP_PAGE_SIZE);
static_assert(sizeof(struct scanoutd_input_device) == 1792);
static_assert(sizeof(struct scanoutd_input_event) == 24);
static_assert(sizeof(struct scanoutd_input_ring) == SCANOUTD_INPUT_RING_SIZE);
static_assert(sizeof(struct scanoutd_input_reply) == SCANOUTD_INPUT_REPLY_SIZE);
#else
_Static_assert(sizeof(struct scanoutd_flip_entry) == 192, "entry");
_Static_assert(sizeof(struct scanoutd_flip_feedback) == 128, "feedback");
_Static_assert(sizeof(struct scanoutd_flip_slot) == 768, "slot");
_Static_assert(sizeof(struct scanoutd_flip_page) == SCANOUTD_FLIP_PAGE_SIZE, "page");
_Static_assert(sizeof(struct scanoutd_input_device) == 1792, "device");
_Static_assert(sizeof(struct scanoutd_input_event) == 24, "event");
_Static_assert(sizeof(struct scanoutd_input_ring) == SCANOUTD_INPUT_RING_SIZE, "ring");
_Static_assert(sizeof(struct scanoutd_input_reply) == SCANOUTD_INPUT_REPLY_SIZE, "reply");
#endif

#endif
