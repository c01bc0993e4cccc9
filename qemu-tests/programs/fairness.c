// Who gets the CPU: a long call does not keep others off it, and those that spin get equal shares of two
// CPUs. Every figure is a ratio, so that neither a slow nor a busy machine changes the output.
#include "test.h"
#include <sched.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define PIECE (1 << 20)
#define PIECES 1024
#define TRIES 20

#define SPINNERS 7

static void stay_on_cpus(int count) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < count; i++) CPU_SET(i, &set);
    sched_setaffinity(0, sizeof set, &set);
}

// Seven processes spin on two CPUs (or one) for a while: whether none of them had three times its share of the
// CPU time, nor less than a third.
static int spinners_share(long ms) {
    long long used[SPINNERS], all = 0;
    pid_t children[SPINNERS];
    long long end = now_ns() + ms * 1000000;
    for (int i = 0; i < SPINNERS; i++)
        if ((children[i] = fork_clean()) == 0) {
            while (now_ns() < end) continue;
            _exit(0);
        }
    for (int i = 0; i < SPINNERS; i++) {
        struct rusage usage;
        wait4(children[i], 0, 0, &usage);
        used[i] = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL +
                  usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
        all += used[i];
    }
    for (int i = 0; i < SPINNERS; i++)
        if (used[i] * SPINNERS > all * 3 || used[i] * SPINNERS * 3 < all) return 0;
    return 1;
}

static struct iovec pieces[PIECES];

// How long a call over `count` pieces takes, in nanoseconds.
static long long time_of(int fd, int count) {
    long long before = now_ns();
    if (readv(fd, pieces, count) != (ssize_t)count * PIECE) say("a short read\n");
    return now_ns() - before;
}

// The longest time for which a child on the same CPU does not run while this process makes one call of
// `count` pieces, against the time of the call.
static int others_run_during(int fd, int count) {
    volatile long long *shared =
        mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        long long last = now_ns();
        shared[1] = 1;
        while (!shared[2]) {
            long long now = now_ns();
            if (now - last > shared[0]) shared[0] = now - last;
            last = now;
        }
        _exit(0);
    }
    while (!shared[1]) sched_yield();
    long long took = time_of(fd, count);
    shared[2] = 1;
    waitpid(child, 0, 0);
    long long gap = shared[0];
    munmap((void *)shared, 4096);
    return gap * 3 < took;
}

// Reads ever more in one call until that takes a while, then looks at who else runs meanwhile. A host that
// holds the machine up spoils a try, never all of them.
static int is_shared(const char *path) {
    int fd = open(path, O_RDONLY);
    int count = 8;
    while (count < PIECES && time_of(fd, count) < 60000000) count *= 2;
    int shared = 0;
    for (int i = 0; i < TRIES && !shared; i++) shared = others_run_during(fd, count);
    close(fd);
    return shared;
}

int main(void) {
    stay_on_cpus(2);
    int fair = 0;
    for (int i = 0; i < 6 && !fair; i++) fair = spinners_share(400 << i / 2);
    say("spinners share the CPUs: %s\n", fair ? "yes" : "no");
    stay_on_cpus(1);
    void *buffer = mmap(0, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(buffer, 1, PIECE);
    for (int i = 0; i < PIECES; i++) pieces[i] = (struct iovec){buffer, PIECE};
    say("others run during a long read of zeroes: %s\n", is_shared("/dev/zero") ? "yes" : "no");
    say("others run during a long read of noise: %s\n", is_shared("/dev/urandom") ? "yes" : "no");
    return 0;
}
