// What the parts of the random driver share. Each worker is a process with one random sequence a
// thread, so that one seed gives the same calls again as far as threads and time allow.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
// Not a call: loads from memory, or stores to it.
enum { TOUCH = -1 };

struct random {
    uint64_t state;
};
uint64_t draw(struct random *random);
// A number below `limit`.
uint64_t below(struct random *random, uint64_t limit);

enum { PAGE = 4096, ARENA_PAGES = 1024, COMMON_PAGES = 16, LOW_FDS = 64, MAX_WORKERS = 16, MAX_THREADS = 8 };
// The driver's own descriptors, which calls do not name: /dev/null, the console, a program, what workers have in common.
enum { NULL_FD = LOW_FDS + 1, CONSOLE_FD, PROGRAM_FD, COMMON_FDS = LOW_FDS + 8, COMMON_LIMIT = COMMON_FDS + 40 };

// Memory that calls may write to, unmap and change; nothing else of the worker's is named to them. Its pages
// from COMMON on are the same memory in all workers.
enum { COMMON = 512 };
extern char *arena;

// What all processes of the driver see. Below the arena, so that no length reaches it from there.
enum { NOTES = 1024, NOTED = 6 };
struct shared {
    uint64_t calls;
    pid_t workers[MAX_WORKERS];
    // The last calls of each process and their arguments, by its number.
    struct note {
        uint64_t count;
        const struct call *calls[NOTED];
        long arguments[NOTED][6];
    } notes[NOTES];
};
extern struct shared *shared;

// What a descriptor was when it was made.
enum kind { ANY, EPOLL, SOCKET, PIPE, REGULAR, FOLDER, TIMER, TERMINAL, KINDS };

// descriptors.c: those that a round's workers have in common, and those of one worker.
void make_common_descriptors(void);
void drop_common_descriptors(void);
void make_descriptors(void);
long descriptor_of(struct random *random, enum kind kind);

void make_arena(struct random *random);
// A value for the argument `letter`.
long argument(struct random *random, char letter);

// structures.c
long pointer(struct random *random);
long length(struct random *random);
long offset(struct random *random);
long small_structure(struct random *random, const void *data, size_t size);
// What the letter's pointer points to; 0 when the letter stands for no structure.
int structure(struct random *random, char letter, long *value);

// health.c: what the machine must be able to do at any time, and what must be gone when the workers are.
long free_kib(void);
void show_memory(void);
void keep_program(void);
// Prints what /proc knows of each process but us.
void show_left(void);
void note_leftovers(void);
void check_leftovers(void);
void check_answers(int is_quiet);

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define ONE_OF(random, ...)                   \
    ({                                        \
        static const long of[] = {__VA_ARGS__}; \
        of[below(random, COUNT(of))];         \
    })
