// The tables of the protocol, for both ends of it.
#include "drm-lease-v1-code.h"
