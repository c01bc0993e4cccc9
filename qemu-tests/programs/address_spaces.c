// Address spaces at their limits: many mappings, sparse ones, pages that nobody may access, threads that
// fault side by side, ranges whose end wraps.
#include "test.h"
#include <pthread.h>
#include <setjmp.h>

#define P 4096L
#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define SHARED (MAP_SHARED | MAP_ANONYMOUS)

static sigjmp_buf back;

static void fault(int signal) {
    (void)signal;
    siglongjmp(back, 1);
}

static char *map(long pages, int prot, int flags) {
    return mmap(0, (size_t)(pages * P), prot, flags, -1, 0);
}

static const char *touch(volatile char *at) {
    if (sigsetjmp(back, 1)) return "faults";
    (void)*at;
    return "is readable";
}

// The tables of mappings that are each 2 MiB from the next.
static void sparse(void) {
    long failed = 0;
    for (long n = 0; n < 6000; n++) {
        char *at = (char *)(1L << 40) + (n << 21);
        if (mmap(at, P, RW, PRIVATE | MAP_FIXED, -1, 0) != at) failed++;
        else *at = 1;
        if (munmap(at, P)) failed++;
    }
    say("sparse mappings that failed: %ld\n", failed);
    // All at once, then taken away in one go, twice.
    for (int round = 0; round < 2; round++) {
        char *base = (char *)(1L << 41);
        for (long n = 0; n < 1000; n++) {
            char *at = base + (n << 21);
            if (mmap(at, P, RW, PRIVATE | MAP_FIXED, -1, 0) == at) *at = (char)n;
        }
        SHOW(munmap(base, 1000L << 21));
    }
}

static void many(void) {
    long pages = 34000, failed = 0;
    char *base = mmap(0, (size_t)(pages * P), RW, PRIVATE | MAP_NORESERVE, -1, 0);
    base[0] = 1, base[(pages - 1) * P] = 2;
    for (long n = 0; n < pages; n += 2)
        if (mprotect(base + n * P, P, PROT_READ)) failed++;
    say("mprotect calls that failed: %ld\n", failed);
    pid_t child = fork();
    if (child == 0) _exit(base[0] * 10 + base[(pages - 1) * P]);
    int status = 0;
    waitpid(child, &status, 0);
    say("the child saw %d\n", WEXITSTATUS(status));
    SHOW(mprotect(base, (size_t)(pages * P), PROT_READ));
    say("%d %d\n", base[0], base[(pages - 1) * P]);
    SHOW(munmap(base, (size_t)(pages * P)));
}

static void kept_pages(void) {
    for (int shared = 0; shared < 2; shared++) {
        char *at = mmap(0, 1024 * P, RW, shared ? SHARED : PRIVATE, -1, 0);
        for (int n = 0; n < 1024; n++) at[n * P] = (char)n;
        SHOW(mprotect(at, 1024 * P, PROT_NONE));
        say("the first %s, the last %s\n", touch(at), touch(at + 1023 * P));
        pid_t child = fork();
        if (child == 0) {
            if (mprotect(at, 1024 * P, RW)) _exit(99);
            int sum = at[7 * P] + at[100 * P];
            at[7 * P] = 50;
            _exit(sum);
        }
        int status = 0;
        waitpid(child, &status, 0);
        say("the child saw %d\n", WEXITSTATUS(status));
        if (!shared) {
            char *moved = mremap(at, 1024 * P, 2048 * P, MREMAP_MAYMOVE);
            if (moved == MAP_FAILED) say("mremap failed\n");
            else at = moved;
            say("moved, the first %s\n", touch(at));
        }
        SHOW(mprotect(at + P, 1022 * P, PROT_READ));
        say("%d %d, the first %s\n", at[7 * P], at[1000 * P], touch(at));
        SHOW(mprotect(at, 1024 * P, RW));
        int wrong = 0;
        for (int n = 0; n < 1024; n++) wrong += at[n * P] != (char)n && n != 7;
        say("%d pages lost what was in them\n", wrong);
        munmap(at, (shared ? 1024 : 2048) * P);
    }
}

static void locks(void) {
    char *none = mmap(0, 4 * P, PROT_NONE, PRIVATE, -1, 0);
    SHOW(mlock(none, P));
    SHOW(munlock(none, P));
    char *hole = mmap(0, 4 * P, RW, PRIVATE, -1, 0);
    munmap(hole + P, P);
    SHOW(mlock(hole, 3 * P));
    SHOW(munlock(hole, 3 * P));
    SHOW(mlock(hole, -1UL));
    SHOW(mlock(hole + 100, -100UL));
    SHOW(mlock(hole, 1UL << 63));
    SHOW(mlock((char *)-4096L, P));
    SHOW(syscall(SYS_mlock2, hole, P, 1));
    SHOW(syscall(SYS_mlock2, hole, P, 2));
    SHOW(msync(hole, P, MS_SYNC));
    SHOW(msync(hole, P, MS_SYNC | MS_INVALIDATE));
    SHOW(msync(hole, P, MS_ASYNC | MS_INVALIDATE));
    SHOW(msync(hole, 2 * P, MS_SYNC));
    SHOW(msync(hole, -1UL, MS_SYNC));
    SHOW(msync(hole, -8192UL, MS_SYNC));
    SHOW(msync(hole + 1, P, MS_SYNC));
    SHOW(munlock(hole, P));
    SHOW(madvise(hole, -1UL, MADV_NORMAL));
    SHOW(madvise(hole, P, MADV_REMOVE));
    SHOW(madvise(hole, P, 12345));
    SHOW(mprotect(hole, 0, PROT_READ));
    SHOW(mprotect(hole, -1UL, PROT_READ));
    SHOW(mprotect(hole, -8192UL, PROT_READ));
    SHOW(munmap(hole, -1UL));
    SHOW(munmap(hole, 0));
}

static void offsets(void) {
    int file = open("/tmp/offsets", O_RDWR | O_CREAT, 0600);
    SHOW(ftruncate(file, 2 * P));
#define MAP(length, offset) (mmap(0, length, PROT_READ, MAP_SHARED, file, offset) == MAP_FAILED ? -1 : 0)
    SHOW(MAP(P, 0x7fffffffffffe000L));
    SHOW(MAP(P, 0x7ffffffffffff000L));
    SHOW(MAP(2 * P, 0x7fffffffffffe000L));
    SHOW(MAP(P, (long)0x8000000000000000UL));
    SHOW(MAP(P, -P));
    SHOW(MAP(P, 1));
    SHOW(mmap(0, 0, PROT_READ, MAP_SHARED, 99, 0) == MAP_FAILED ? -1 : 0);
    SHOW(mmap(0, P, PROT_READ, PRIVATE, -1, -P) == MAP_FAILED ? -1 : 0);
    close(file);
    unlink("/tmp/offsets");
}

#define THREADS 4
static char *common;
static pthread_barrier_t start;

static void *faulter(void *number) {
    long me = (long)number;
    for (int round = 0; round < 9; round++) {
        pthread_barrier_wait(&start);
        // Each thread stores to its own byte of every page: all fault on the same pages.
        for (long n = 0; n < 64; n++) common[n * P + me] = (char)(round + me);
        pthread_barrier_wait(&start);
    }
    return 0;
}

static void side_by_side(void) {
    pthread_t threads[THREADS];
    int wrong = 0;
    common = mmap(0, 64 * P, RW, PRIVATE, -1, 0);
    pthread_barrier_init(&start, 0, THREADS + 1);
    for (long n = 0; n < THREADS; n++) pthread_create(&threads[n], 0, faulter, (void *)n);
    for (int round = 0; round < 9; round++) {
        pid_t child = 0;
        if (round % 3 == 0) madvise(common, 64 * P, MADV_DONTNEED);
        if (round % 3 == 1) {
            // The pages are shared with a child while the threads store.
            child = fork();
            if (child == 0) pause();
        }
        if (round % 3 == 2) for (long n = 0; n < 64; n++) wrong += common[n * P] < 0;
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&start);
        for (long n = 0; n < 64; n++)
            for (long t = 0; t < THREADS; t++) wrong += common[n * P + t] != (char)(round + t);
        if (child) {
            kill(child, SIGKILL);
            waitpid(child, 0, 0);
        }
    }
    for (int n = 0; n < THREADS; n++) pthread_join(threads[n], 0);
    say("stores of threads that were lost: %d\n", wrong);
}

static long meminfo(const char *name) {
    char text[8192], *at;
    int file = open("/proc/meminfo", O_RDONLY);
    long length = read(file, text, sizeof text - 1);
    close(file);
    text[length < 0 ? 0 : length] = 0;
    return (at = strstr(text, name)) ? atol(at + strlen(name) + 1) : -1;
}

// What a number of /proc/meminfo changed by, in MiB. Only asked of a small machine that nobody else uses.
static int is_small;
static void changed(const char *name, long before, long mib) {
    long by = (meminfo(name) - before) / 1024;
    int right = by >= mib - 1 && by <= mib + 2;
    if (is_small && !right) say("%s changed by %ld MiB\n", name, by);
    else say("%s changed by about %ld MiB\n", name, mib);
}

static void numbers(void) {
    const char *names[] = {"AnonPages", "Shmem", "Cached", "MemFree", "MemAvailable", "PageTables"};
    long before[6];
    is_small = meminfo("MemTotal") < 512 * 1024;
    for (int n = 0; n < 6; n++) before[n] = meminfo(names[n]);
    char *own = map(2048, RW, PRIVATE), *shared = map(2048, RW, SHARED);
    for (long n = 0; n < 2048; n++) own[n * P] = shared[n * P] = 1;
    changed(names[0], before[0], 8);
    changed(names[1], before[1], 8);
    changed(names[2], before[2], 8);
    changed(names[3], before[3], -17);
    changed(names[4], before[4], -17);
    munmap(own, 2048 * P);
    munmap(shared, 2048 * P);
    for (int n = 0; n < 6; n++) changed(names[n], before[n], 0);
}

int main(void) {
    signal(SIGSEGV, fault);
    numbers();
    kept_pages();
    locks();
    offsets();
    side_by_side();
    sparse();
    many();
    return 0;
}
