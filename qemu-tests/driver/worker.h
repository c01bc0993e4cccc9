// A worker: one process, its threads and its short-lived children, which make the calls.
#pragma once
#include "driver.h"

extern struct settings {
    uint64_t seed, share;
    unsigned workers, threads, uid, traces;
    const char *folder;
    long slowness;
} settings;

// One worker's life; `life` counts those that this place has had.
_Noreturn void work(unsigned index, unsigned life);
// Removes what workers left in a folder that outlives them.
void empty_folder(const char *path);
