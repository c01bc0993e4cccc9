// Anonymous memory in pages of 2 MiB: what becomes of the bytes when a part of one is unmapped, protected, dropped,
// moved, shared by fork, or touched by several threads at once.
#include "test.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/prctl.h>

#define P 4096L
#define LARGE (2L << 20)
#define RW (PROT_READ | PROT_WRITE)

static sigjmp_buf back;

static void fault(int signal) {
    siglongjmp(back, signal);
}

// Whether a byte can be read, or written.
static int touch(volatile char *at, int write) {
    int signal = sigsetjmp(back, 1);
    if (signal != 0) return signal;
    if (write) *at = *at;
    else (void)*at;
    return 0;
}

// Memory of so many large pages, aligned to one, with small pages before and behind.
static char *area(int pages, int advice) {
    char *whole = mmap(0, (size_t)((pages + 2) * LARGE), RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) return 0;
    char *start = (char *)(((unsigned long)whole + LARGE) & ~(LARGE - 1UL));
    if (advice != 0 && madvise(start, (size_t)(pages * LARGE), advice) != 0) return 0;
    return start;
}

static long word(long page, long round) {
    return page * 1000003 + round;
}

static void fill(char *start, long first, long end, long round) {
    for (long page = first; page < end; page++) *(long *)(start + page * P + 8) = word(page, round);
}

// How many of the pages hold what `fill` wrote, and how many are zero.
static void count(const char *what, const char *start, long first, long end, long round) {
    long right = 0, zero = 0;
    for (long page = first; page < end; page++) {
        long is = *(const long *)(start + page * P + 8);
        right += is == word(page, round);
        zero += is == 0;
    }
    printf("%s: %ld right, %ld zero of %ld\n", what, right, zero, end - first);
}

static void parts(int advice) {
    char *at = area(4, advice);
    fill(at, 0, 2048, 1);
    count("filled", at, 0, 2048, 1);
    SHOW(munmap(at + 100 * P, 3 * P));
    SHOW(touch(at + 99 * P, 1));
    SHOW(touch(at + 100 * P, 0));
    SHOW(touch(at + 102 * P, 0));
    count("before the gap", at, 0, 100, 1);
    count("behind the gap", at, 103, 2048, 1);
    SHOW(madvise(at + 700 * P, 10 * P, MADV_DONTNEED));
    count("dropped", at, 690, 720, 1);
    SHOW(mprotect(at + 1024 * P, 5 * P, PROT_READ));
    SHOW(touch(at + 1023 * P, 1));
    SHOW(touch(at + 1024 * P, 1));
    SHOW(touch(at + 1028 * P, 0));
    SHOW(touch(at + 1029 * P, 1));
    SHOW(mprotect(at + 1024 * P, 5 * P, PROT_NONE));
    SHOW(touch(at + 1026 * P, 0));
    SHOW(mprotect(at + 1024 * P, 5 * P, RW));
    count("protected and not", at, 1020, 1040, 1);
    // A whole one, and all of it again.
    SHOW(mprotect(at + 1536 * P, LARGE, PROT_NONE));
    SHOW(touch(at + 1600 * P, 0));
    SHOW(mprotect(at + 1536 * P, LARGE, PROT_READ));
    SHOW(touch(at + 1600 * P, 1));
    SHOW(mprotect(at + 1536 * P, LARGE, RW));
    fill(at, 1700, 1701, 2);
    count("whole, protected and not", at, 1536, 2048, 1);
    char *to = area(4, advice);
    char *moved = mremap(at + 1536 * P, LARGE, LARGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + LARGE);
    SHOW(moved == to + LARGE);
    count("moved", to + LARGE - 1536 * P, 1536, 2048, 1);
    SHOW(touch(at + 1536 * P, 0));
    moved = mremap(to + LARGE, LARGE, LARGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 3 * LARGE + 8 * P);
    SHOW(moved == to + 3 * LARGE + 8 * P);
    count("moved off its place", to + 3 * LARGE + 8 * P - 1536 * P, 1536, 2048, 1);
    SHOW(munmap(at, 1536 * P));
    SHOW(munmap(to, 4 * LARGE));
}

static void forks(int advice) {
    char *at = area(2, advice);
    fill(at, 0, 1024, 3);
    for (int round = 0; round < 2; round++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            count("child", at, 0, 1024, 3);
            fill(at, 256, 768, 4);
            count("child's own", at, 256, 768, 4);
            fflush(stdout);
            _exit(0);
        }
        fill(at, 1000, 1024, 3);
        waitpid(child, 0, 0);
        count("parent", at, 0, 1024, 3);
    }
    SHOW(madvise(at, 2 * LARGE, MADV_DONTNEED));
    count("parent's, dropped", at, 0, 1024, 3);
    fill(at, 0, 1024, 5);
    count("filled again", at, 0, 1024, 5);
    // The kernel's own look at it.
    int ends[2];
    pipe(ends);
    SHOW(write(ends[1], at + 600 * P, 16));
    SHOW(read(ends[0], at + 601 * P - 4, 16));
    SHOW(*(long *)(at + 601 * P + 4) == word(600, 5));
    close(ends[0]);
    close(ends[1]);
}

static char *shared;
static pthread_barrier_t start;

static void *toucher(void *number) {
    long mine = (long)number;
    pthread_barrier_wait(&start);
    for (long page = mine; page < 2048; page += 4) *(long *)(shared + page * P + 8) = word(page, 6);
    pthread_barrier_wait(&start);
    for (long round = 0; round < 20; round++) {
        // Each has every fourth 64 KiB, so that all are in each large page.
        long first = (round * 64 + mine * 16) % 2048;
        mprotect(shared + first * P, 16 * P, PROT_READ);
        mprotect(shared + first * P, 16 * P, RW);
        fill(shared, first, first + 16, 6);
        if (round % 5 == 0) madvise(shared + first * P, P, MADV_DONTNEED);
    }
    return 0;
}

static void threads(int advice) {
    pthread_t all[4];
    shared = area(4, advice);
    pthread_barrier_init(&start, 0, 4);
    for (long n = 0; n < 4; n++) pthread_create(&all[n], 0, toucher, (void *)n);
    for (int n = 0; n < 4; n++) pthread_join(all[n], 0);
    count("threads", shared, 0, 2048, 6);
}

// How much of the memory around an address is in large pages, in units of them; -1 where there are none of it.
static long large_around(const char *at) {
    char line[256];
    int is_inside = 0;
    long kib = 0;
    FILE *smaps = fopen("/proc/self/smaps", "r");
    while (fgets(line, sizeof line, smaps)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            is_inside = start < (unsigned long)at + 6 * LARGE && end > (unsigned long)at - LARGE;
        long some = 0;
        if (is_inside && sscanf(line, "AnonHugePages: %ld kB", &some) == 1) kib += some;
    }
    fclose(smaps);
    return kib * 1024 / LARGE;
}

static int has_large;

// How much of it is in large pages; whatever where memory was too much in pieces to have any.
static void expect(const char *what, const char *at, long wanted) {
    long is = large_around(at);
    if (is == wanted || !has_large) say("%s: as many large pages as it should have\n", what);
    else say("%s: %ld large pages, not %ld\n", what, is, wanted);
}

// What fork, stores and changes of a part leave of large pages, and that a parent has its own again afterwards.
static void kept(void) {
    char *at = area(4, MADV_HUGEPAGE);
    mprotect(at - P, P, PROT_NONE);
    say("untouched: %ld large\n", large_around(at));
    fill(at, 0, 2048, 7);
    has_large = large_around(at) == 4;
    int to_child[2], to_parent[2];
    char byte = 0;
    pipe(to_child);
    pipe(to_parent);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        count("child's", at, 0, 2048, 7);
        expect("child", at, 4);
        fill(at, 5, 6, 8);
        fill(at, 600, 601, 8);
        expect("child that stored to two", at, 2);
        fflush(stdout);
        write(to_parent[1], &byte, 1);
        read(to_child[0], &byte, 1);
        count("child's own", at, 5, 6, 8);
        count("child's, the parent stored to others", at, 6, 600, 7);
        count("child's, the parent stored to others", at, 1024, 2048, 7);
        fflush(stdout);
        _exit(0);
    }
    read(to_parent[0], &byte, 1);
    count("parent's", at, 0, 2048, 7);
    expect("parent", at, 4);
    // Of the first one the child has all but one page still.
    fill(at, 5, 8, 9);
    fill(at, 1024, 1025, 9);
    expect("parent that stored to two", at, 2);
    write(to_child[1], &byte, 1);
    waitpid(child, 0, 0);
    fill(at, 0, 1024, 9);
    count("parent's again", at, 0, 1025, 9);
    count("and the rest", at, 1025, 2048, 7);
    expect("parent alone again", at, 2);
    SHOW(mprotect(at + 3 * LARGE / 2, P, PROT_READ));
    expect("a part protected", at, 1);
    SHOW(madvise(at + 3 * P, P, MADV_DONTNEED));
    expect("a part dropped", at, 1);
    SHOW(munmap(at + 4 * LARGE - P, P));
    expect("a part unmapped", at, 0);
    munmap(at, 4 * LARGE);
}

// A fork that copies some of it, over and over: more than there is memory for if any of it stays.
static void exits(void) {
    long right = 0;
    for (int round = 0; round < 24; round++) {
        pid_t child = fork();
        if (child == 0) {
            char *at = area(6, MADV_HUGEPAGE);
            for (int page = 0; page < 6; page++) at[page * LARGE] = 1;
            pid_t grandchild = fork();
            if (grandchild == 0) {
                for (int page = 0; page < 6; page += 2) at[page * LARGE + 7 * P] = 1;
                if (round % 2 == 0) munmap(at + LARGE, LARGE);
                _exit(0);
            }
            at[LARGE] = 2;
            if (round % 3 == 0) _exit(0);
            waitpid(grandchild, 0, 0);
            at[3 * LARGE] = 3;
            _exit(at[LARGE] == 2 && at[7 * P] == 0 ? 0 : 1);
        }
        int status = -1;
        waitpid(child, &status, 0);
        right += status == 0;
    }
    printf("rounds: %ld right\n", right);
}

int main(void) {
    signal(SIGSEGV, fault);
    kept();
    exits();
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    for (int advice = MADV_HUGEPAGE; advice <= MADV_NOHUGEPAGE; advice++) {
        printf("advice %d\n", advice);
        parts(advice);
        forks(advice);
        threads(advice);
    }
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    SHOW(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0));
    SHOW(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0));
    forks(MADV_HUGEPAGE);
    return 0;
}
