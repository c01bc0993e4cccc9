// Resource limits that are enforced, not only kept.
#include "test.h"
#include <sched.h>
#include <sys/resource.h>

static void show(int resource) {
    struct rlimit limit;
    SHOW(getrlimit(resource, &limit));
    say("%lx\n", (unsigned long)limit.rlim_cur);
}

// struct sched_attr, with room behind it for what a later version may add.
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t deadline[3];
    uint32_t clamp[2];
    uint64_t later[8];
};

static long set(int pid, struct attributes wanted) {
    return syscall(SYS_sched_setattr, pid, &wanted, 0);
}

static void show_attributes(unsigned room) {
    static struct attributes got[40];
    SHOW(syscall(SYS_sched_getattr, 0, got, room, 0));
    say("size %u policy %u flags %lx nice %d priority %u\n", got->size, got->policy, (long)got->flags, got->nice,
        got->priority);
}

static void scheduling(void) {
    struct sched_param param = {0};
    struct attributes attributes = {.size = 12};
    void *nowhere = (void *)8;
    SHOW(sched_getparam(0, 0));
    SHOW(sched_getparam(-1, &param));
    SHOW(sched_getparam(1 << 29, &param));
    SHOW(sched_getparam(0, nowhere));
    SHOW(sched_setparam(0, 0));
    SHOW(sched_setscheduler(-1, SCHED_OTHER, &param));
    SHOW(sched_setscheduler(0, SCHED_OTHER, 0));
    SHOW(sched_setscheduler(0, -1, &param));
    SHOW(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &param));
    SHOW(sched_getscheduler(0));
    SHOW(syscall(SYS_sched_setattr, 0, 0, 0));
    SHOW(syscall(SYS_sched_setattr, 0, nowhere, 0));
    SHOW(syscall(SYS_sched_setattr, 0, &attributes, 1));
    SHOW(syscall(SYS_sched_setattr, 0, &attributes, 0));
    TRUE(attributes.size >= 56);
    attributes = (struct attributes){.size = sizeof attributes, .later = {[7] = 1}};
    SHOW(syscall(SYS_sched_setattr, 0, &attributes, 0));
    SHOW(set(0, (struct attributes){.size = sizeof attributes, .nice = 3}));
    SHOW(set(-1, (struct attributes){.size = 48}));
    SHOW(set(1 << 29, (struct attributes){.size = 48}));
    SHOW(set(0, (struct attributes){.size = 0, .policy = SCHED_IDLE, .nice = 4}));
    show_attributes(48);
    SHOW(set(0, (struct attributes){.size = 48, .policy = 77, .flags = 8, .nice = 6}));
    show_attributes(4096);
    show_attributes(47);
    show_attributes(4097);
    SHOW(set(0, (struct attributes){.size = 48, .policy = SCHED_OTHER, .flags = 16, .nice = 9}));
    show_attributes(56);
    SHOW(set(0, (struct attributes){.size = 48, .policy = SCHED_OTHER, .priority = 1}));
    SHOW(set(0, (struct attributes){.size = 48, .flags = 1 << 20}));
    SHOW(syscall(SYS_sched_getattr, 0, 0, 48, 0));
}

// What an I/O priority may be, and whose.
static void io_priorities(void) {
    SHOW(syscall(SYS_ioprio_set, 0, 0, 0));
    SHOW(syscall(SYS_ioprio_set, 4, 0, 0));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 3 << 13 | 7));
    SHOW(syscall(SYS_ioprio_set, 1, -1, 0));
    SHOW(syscall(SYS_ioprio_get, 1, 1 << 29));
    setpgid(0, 0);
    int ends[2];
    pipe(ends);
    pid_t child = fork_clean();
    if (child == 0) {
        char byte;
        close(ends[1]);
        read(ends[0], &byte, 1);
        _exit(0);
    }
    SHOW(syscall(SYS_ioprio_set, 2, 0, 2 << 13 | 6));
    SHOW(syscall(SYS_ioprio_get, 1, child));
    SHOW(syscall(SYS_ioprio_set, 1, child, 2 << 13 | 5));
    SHOW(syscall(SYS_ioprio_get, 2, 0));
    SHOW(syscall(SYS_ioprio_get, 2, 1 << 29));
    setresuid(54321, 54321, 54321);
    SHOW(syscall(SYS_ioprio_set, 1, child, 2 << 13 | 1));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 4));
    SHOW(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 1));
    SHOW(syscall(SYS_ioprio_get, 3, 54321));
    SHOW(setpriority(PRIO_PROCESS, child, 19));
    SHOW(setpriority(PRIO_PROCESS, 0, 2));
    SHOW(setpriority(PRIO_PROCESS, 0, 1));
    SHOW(set(0, (struct attributes){.size = 48, .nice = 1}));
    SHOW(set(0, (struct attributes){.size = 48, .policy = SCHED_FIFO, .priority = 1}));
    SHOW(set(child, (struct attributes){.size = 48, .policy = SCHED_FIFO}));
    SHOW(set(0, (struct attributes){.size = 48, .policy = SCHED_BATCH, .flags = 1, .nice = 2}));
    SHOW(set(0, (struct attributes){.size = 48, .policy = SCHED_BATCH, .nice = 2}));
    close(ends[1]);
    waitpid(child, 0, 0);
}

int main(void) {
    struct rlimit limit;
    SHOW(getrlimit(99, &limit));
    show(RLIMIT_STACK);
    show(RLIMIT_FSIZE);
    show(RLIMIT_AS);
    limit = (struct rlimit){20, 30};
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    int last = -1, next;
    while ((next = open("/dev/null", O_RDONLY)) >= 0) last = next;
    SHOW(last);
    SHOW(errno == EMFILE);
    SHOW(dup(0));
    SHOW(dup2(0, 20));
    SHOW(fcntl(0, F_DUPFD, 25));
    int ends[2];
    SHOW(pipe(ends));
    SHOW(open("/tmp/not-made", O_CREAT | O_EXCL | O_WRONLY, 0600));
    SHOW(access("/tmp/not-made", F_OK));
    limit.rlim_cur = 31;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 30;
    SHOW(setrlimit(RLIMIT_NOFILE, &limit));
    SHOW(dup2(0, 29));
    for (int i = 3; i < 30; i++) close(i);

    pid_t child = fork_clean();
    if (child == 0) {
        limit = (struct rlimit){1000, 1000};
        SHOW(setrlimit(RLIMIT_FSIZE, &limit));
        signal(SIGXFSZ, SIG_IGN);
        int file = open("/tmp/limited", O_WRONLY | O_CREAT | O_TRUNC, 0600);
        char block[1500] = {0};
        SHOW(write(file, block, 900));
        SHOW(write(file, block, 900));
        SHOW(write(file, block, 1));
        SHOW(ftruncate(file, 2000));
        signal(SIGXFSZ, SIG_DFL);
        write(file, block, 1);
        _exit(0);
    }
    show_end("file size", child);
    child = fork_clean();
    if (child == 0) {
        limit = (struct rlimit){64 << 20, 64 << 20};
        SHOW(setrlimit(RLIMIT_AS, &limit));
        SHOW(mmap(0, 128 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        TRUE(mmap(0, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        _exit(0);
    }
    show_end("address space", child);
    child = fork_clean();
    if (child == 0) {
        SHOW(setuid(1000));
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_max = 100;
        SHOW(setrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_max = 25;
        limit.rlim_cur = 25;
        SHOW(prlimit(0, RLIMIT_NOFILE, &limit, 0));
        SHOW(prlimit(0, RLIMIT_NOFILE, 0, &limit));
        SHOW(limit.rlim_max);
        _exit(0);
    }
    show_end("as a user", child);
    getrlimit(RLIMIT_NOFILE, &limit);
    SHOW(limit.rlim_max);
    SHOW(setpriority(PRIO_PROCESS, 0, 0));
    SHOW(getpriority(PRIO_PROCESS, 0));
    SHOW(setpriority(PRIO_PROCESS, 0, 5));
    SHOW(getpriority(PRIO_PROCESS, 0));
    child = fork_clean();
    if (child == 0) {
        scheduling();
        _exit(0);
    }
    show_end("scheduling", child);
    child = fork_clean();
    if (child == 0) {
        io_priorities();
        _exit(0);
    }
    show_end("I/O priorities", child);
    return 0;
}
