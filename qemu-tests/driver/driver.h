// What the parts of the random driver share. Each worker is a process with one random sequence a
// thread, so that one seed gives the same calls again as far as threads and time allow.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>

// A call: its number, a letter for each argument (arguments.c), and whether it may end or block its
// thread for good, so that it belongs in a child.
struct call {
    const char *name;
    long number;
    const char *arguments;
    int is_final;
};
extern const struct call calls[];
extern const size_t call_count;

struct random {
    uint64_t state;
};
uint64_t draw(struct random *random);
// A number below `limit`.
uint64_t below(struct random *random, uint64_t limit);

enum { PAGE = 4096, ARENA_PAGES = 1024, LOW_FDS = 48 };
// Memory that calls may write to, unmap and change; nothing else of the worker's is named to them.
extern char *arena;

void make_arena(struct random *random);
void make_descriptors(void);
// A value for the argument `letter`.
long argument(struct random *random, char letter);
