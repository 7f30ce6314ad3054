#include "options.h"

/* The text after `name` and an equals sign at `word`; null when that is not there. */
static const char* value_of(const char* word, const char* name) {
  while (*name != '\0' && *word == *name)
    word++, name++;
  return *name == '\0' && *word == '=' ? word + 1 : NULL;
}

static bool is(const char* word, const char* text) {
  while (*text != '\0' && *word == *text)
    word++, text++;
  return *text == '\0' && (*word == '\0' || *word == ' ');
}

static const char* read_number(const char* text, uint32_t* number) {
  if (*text < '0' || *text > '9') fail("option-number");
  for (*number = 0; *text >= '0' && *text <= '9'; text++)
    *number = *number * 10 + (uint32_t)(*text - '0');
  return text;
}

/* Which of the names, which end with a null. */
static uint32_t read_name(const char* text, const char* const* names) {
  for (uint32_t i = 0; names[i] != NULL; i++) {
    if (is(text, names[i])) return i;
  }
  fail("option-value");
}

static bool read_numbers(const char* word, struct options* options) {
  struct {
    const char* name;
    uint32_t* number;
  } numbers[] = {
      {"frames", &options->frames}, {"output", &options->output}, {"buffers", &options->buffers},
      {"pieces", &options->pieces}, {"offset", &options->offset}, {"gap", &options->gap_ms},
      {"band", &options->band},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    const char* value = value_of(word, numbers[i].name);
    if (value == NULL) continue;
    read_number(value, numbers[i].number);
    return true;
  }
  struct {
    const char* name;
    bool* flag;
  } flags[] = {
      {"fence", &options->fence},
      {"event_idx", &options->event_index},
      {"indirect", &options->indirect},
      {"step", &options->step},
  };
  for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
    const char* value = value_of(word, flags[i].name);
    if (value == NULL) continue;
    *flags[i].flag = *value == '1';
    return true;
  }
  return false;
}

static void read_word(const char* word, struct options* options) {
  static const char* const devices[] = {"virtio", "bochs", NULL};
  static const char* const modes[] = {"flip", "single", "cursor", "blob", NULL};
  static const char* const ends[] = {"hold", "off", "reboot", NULL};
  const char* value;
  if (read_numbers(word, options)) return;
  if ((value = value_of(word, "device")) != NULL) {
    options->bochs = read_name(value, devices) == 1;
  } else if ((value = value_of(word, "mode")) != NULL) {
    options->mode = (enum mode)read_name(value, modes);
  } else if ((value = value_of(word, "end")) != NULL) {
    options->end = (enum end)read_name(value, ends);
  } else if ((value = value_of(word, "size")) != NULL) {
    value = is(value, "auto") ? value : read_number(value, &options->width);
    if (*value == 'x') read_number(value + 1, &options->height);
  } else if (is(word, "reboot")) {
    options->end = END_REBOOT;
  } else {
    fail("option");
  }
}

void parse_options(const char* words, struct options* options) {
  *options = (struct options){.width = 640,
                              .height = 480,
                              .buffers = 2,
                              .pieces = 1,
                              .fence = true,
                              .event_index = true,
                              .indirect = true};
  for (;;) {
    while (*words == ' ')
      words++;
    if (*words == '\0') break;
    if (value_of(words, "size") != NULL) options->width = options->height = 0;
    read_word(words, options);
    while (*words != '\0' && *words != ' ')
      words++;
  }
  if (options->buffers < 1 || options->buffers > 8 || options->pieces < 1) fail("option-range");
  if (options->mode == MODE_SINGLE || options->mode == MODE_CURSOR) options->buffers = 1;
}
