// Allocators at work: many mappings, many sizes, memory given back and taken again.
#include "test.h"

static unsigned long state = 88172645463325252;

static unsigned long next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int main(void) {
    enum { SLOTS = 100 };
    unsigned char *slots[SLOTS] = {0};
    size_t sizes[SLOTS] = {0};
    long wrong = 0, done = 0;
    for (int i = 0; i < 2000; i++) {
        int slot = (int)(next() % SLOTS);
        if (slots[slot]) {
            unsigned char mark = (unsigned char)slot;
            wrong += slots[slot][0] != mark || slots[slot][sizes[slot] - 1] != mark;
            free(slots[slot]);
        }
        sizes[slot] = next() % 20 == 0 ? 200000 + next() % 300000 : 1 + next() % 4000;
        slots[slot] = malloc(sizes[slot]);
        if (!slots[slot]) break;
        slots[slot][0] = slots[slot][sizes[slot] - 1] = (unsigned char)slot;
        done++;
    }
    SHOW(done);
    SHOW(wrong);
    // Single pages mapped, written, unmapped, in random order.
    char *pages[64] = {0};
    for (int i = 0; i < 1000; i++) {
        int at = (int)(next() % 64);
        if (pages[at]) {
            wrong += pages[at][7] != at;
            wrong += munmap(pages[at], 4096) != 0;
            pages[at] = 0;
        } else {
            pages[at] = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            wrong += pages[at][7] != 0;
            pages[at][7] = (char)at;
        }
    }
    SHOW(wrong);
    // The same memory many times over: it must come back.
    for (int round = 0; round < 20; round++) {
        char *area = mmap(0, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) {
            say("round %d: no memory\n", round);
            break;
        }
        for (size_t at = 0; at < 16 << 20; at += 16384) area[at] = 1;
        munmap(area, 16 << 20);
    }
    for (int round = 0; round < 5; round++) {
        pid_t child = fork_clean();
        if (child == 0) {
            char *area = malloc(16 << 20);
            for (size_t at = 0; at < 16 << 20; at += 4096) area[at] = 1;
            _exit(0);
        }
        show_end("child with 16 MiB", child);
    }
    // A large reservation costs nothing until it is used.
    char *large = mmap(0, 4L << 30, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TRUE(large != MAP_FAILED);
    large[3L << 30] = 5;
    SHOW(large[3L << 30]);
    return 0;
}
