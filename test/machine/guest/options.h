/* What the kernel's command line asks for: words NAME=VALUE, described in test/machine/README.md. */
#pragma once
#include "machine.h"

enum mode { MODE_FLIP, MODE_SINGLE, MODE_CURSOR, MODE_BLOB };
enum end { END_HOLD, END_OFF, END_REBOOT };

struct options {
  bool bochs;
  enum mode mode;
  enum end end;
  uint32_t frames;        /* 0: for ever */
  uint32_t width, height; /* 0: what the device says */
  uint32_t output;
  uint32_t buffers;
  uint32_t pieces, offset; /* of a resource's memory: how many, and how far off a page it begins (bytes) */
  uint32_t gap_ms;         /* from the end of a flip to the next */
  uint32_t band;           /* rows drawn a frame once a buffer was drawn whole; 0: all */
  bool fence, event_index, indirect;
  bool step; /* a flip for each byte that comes */
};

void parse_options(const char* words, struct options* options);
