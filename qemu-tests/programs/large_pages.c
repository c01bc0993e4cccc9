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

int main(void) {
    signal(SIGSEGV, fault);
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
