/* The display of `-device bochs-display`, `-device VGA` and mbochs, by its registers in BAR 2. */
#pragma once
#include "screen.h"

void bochs_start(struct screen* screen);
