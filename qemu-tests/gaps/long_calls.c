// PID 1 of the test of long calls: makes calls whose length the caller sets, and measures for how long each keeps
// the CPU from a thread that has to have it. Time is instructions (QEMU's -icount), on one CPU: so the figures are
// exact, and the same on every host. For each family it prints, when it has ended,
//
//     gap NAME INSTRUCTIONS CALL     the longest time that the CPU could not be given away, and in which call
//     done
//
// A family whose calls fail prints "failed NAME ..." instead: it would measure nothing.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MEGABYTE = 1 << 20, LARGE = 96 * MEGABYTE, PERIOD_NS = 1000000 };

// Shared by all processes.
static struct {
    volatile long worst_ns, named_ns;
    char call[200];
} *gaps;

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// Wants the CPU each millisecond, before everybody else. How late it gets it is how long nobody could take it.
static void *watch(void *argument) {
    for (long long due = now_ns() + PERIOD_NS;; due += PERIOD_NS) {
        struct timespec at = {due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, 0);
        long late = now_ns() - due;
        if (late > gaps->worst_ns) gaps->worst_ns = late;
        if (late > PERIOD_NS) due += late;
    }
    return argument;
}

static const char *family;

// The longest gap so far, if it is new, was in `call`.
static void name_gap(const char *call) {
    if (gaps->worst_ns <= gaps->named_ns) return;
    gaps->named_ns = gaps->worst_ns;
    snprintf(gaps->call, sizeof(gaps->call), "%s", call);
}

static long need(long result, const char *what) {
    name_gap(what);
    if (result >= 0) return result;
    printf("failed %s: %s: %s\n", family, what, strerrorname_np(errno));
    fflush(stdout);
    _exit(1);
}
#define NEED(call) need((long)(call), #call)

static char *map(size_t length, int flags) {
    char *at = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    NEED(at == MAP_FAILED ? -1 : 0);
    return at;
}

static int make_file(const char *name, size_t length) {
    int file = NEED(open(name, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0644));
    static char block[MEGABYTE];
    for (size_t at = 0; at < length; at += sizeof(block)) NEED(write(file, block, sizeof(block)));
    return file;
}

// The same buffer again and again: a long call without much memory.
static struct iovec pieces[1024];
static void fill_pieces(size_t length) {
    char *buffer = map(length, MAP_POPULATE);
    for (int i = 0; i < 1024; i++) pieces[i] = (struct iovec){buffer, length};
}

static void zero(void) {
    int zero = NEED(open("/dev/zero", O_RDWR)), null = NEED(open("/dev/null", O_WRONLY));
    fill_pieces(256 << 10);
    NEED(readv(zero, pieces, 1024));
    NEED(writev(null, pieces, 1024));
    NEED(readv(NEED(open("/dev/full", O_RDWR)), pieces, 1024));
    char *large = map(LARGE, 0);
    NEED(read(zero, large, LARGE));
}

static void random_bytes(void) {
    char *buffer = map(12 * MEGABYTE, MAP_POPULATE);
    NEED(getrandom(buffer, 12 * MEGABYTE, 0));
    NEED(read(NEED(open("/dev/urandom", O_RDONLY)), buffer, 4 * MEGABYTE));
}

static void file_contents(void) {
    fill_pieces(64 << 10);
    int file = NEED(open("/tmp/contents", O_RDWR | O_CREAT, 0644));
    NEED(pwritev(file, pieces, 1024, 0));
    NEED(preadv(file, pieces, 1024, 0));
    NEED(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * MEGABYTE));
    NEED(fallocate(file, 0, 0, LARGE));
    NEED(ftruncate(file, 0));
    // Far apart: what looks for data must not look at every page between.
    NEED(pwrite(file, "x", 1, 1LL << 42));
    NEED(lseek(file, 0, SEEK_DATA));
    NEED(ftruncate(file, 0));
    NEED(unlink("/tmp/contents"));
    int memory = NEED(memfd_create("memory", 0));
    NEED(ftruncate(memory, LARGE));
    char *shared = mmap(0, LARGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory, 0);
    NEED(shared == MAP_FAILED ? -1 : 0);
    NEED(msync(shared, LARGE, MS_SYNC));
    NEED(ftruncate(memory, 0));
}

static void file_to_file(void) {
    int from = make_file("/tmp/from", 256 * MEGABYTE);
    int to = NEED(open("/tmp/to", O_RDWR | O_CREAT, 0644));
    int zero = NEED(open("/dev/zero", O_RDONLY)), null = NEED(open("/dev/null", O_WRONLY));
    off_t start = 0;
    NEED(sendfile(to, from, &start, 64 * MEGABYTE));
    start = 0;
    NEED(sendfile(null, from, &start, 64 * MEGABYTE));
    // Linux refuses some of these, and so may we.
    sendfile(null, zero, 0, 192 * MEGABYTE);
    start = 0;
    off_t end = 0;
    copy_file_range(from, &start, to, &end, 64 * MEGABYTE, 0);
    sync();
    NEED(syncfs(to));
    NEED(unlink("/tmp/from"));
    NEED(unlink("/tmp/to"));
}

static void large_mapping(void) {
    char *at = map(LARGE, MAP_POPULATE);
    NEED(mprotect(at, LARGE, PROT_READ));
    NEED(mprotect(at, LARGE, PROT_READ | PROT_WRITE));
    static unsigned char resident[LARGE / PAGE];
    NEED(mincore(at, LARGE, resident));
    char *moved = mremap(at, LARGE, LARGE, MREMAP_MAYMOVE | MREMAP_FIXED, map(LARGE, 0));
    NEED(moved == MAP_FAILED ? -1 : 0);
    pid_t child = NEED(fork());
    if (child == 0) {
        for (size_t i = 0; i < LARGE / 4; i += PAGE) moved[i] = 1;
        _exit(0);
    }
    NEED(waitpid(child, 0, 0));
    NEED(madvise(moved, LARGE / 2, MADV_DONTNEED));
    NEED(munmap(moved, LARGE));
    at = map(LARGE, 0);
    NEED(mlock(at, LARGE));
    NEED(munlock(at, LARGE));
    struct iovec own = {at, LARGE / 2}, other = {at + LARGE / 2, LARGE / 2};
    NEED(process_vm_readv(getpid(), &own, 1, &other, 1, 0));
    // Ends with all of it mapped.
}

// Nothing there, but much of it.
static void sparse_mapping(void) {
    size_t length = 1ULL << 44;
    char *at = mmap(0, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(at == MAP_FAILED ? -1 : 0);
    NEED(mprotect(at, length, PROT_READ | PROT_WRITE));
    for (size_t i = 0; i < 4000; i++) at[i * (2ULL << 20)] = 1;
    NEED(mprotect(at, length, PROT_READ));
    NEED(madvise(at, length, MADV_DONTNEED));
    pid_t child = NEED(fork());
    if (child == 0) _exit(0);
    NEED(waitpid(child, 0, 0));
    NEED(munmap(at, length));
}

static void many_areas(void) {
    enum { AREAS = 24000 };
    char *at = map((size_t)AREAS * 2 * PAGE, MAP_NORESERVE);
    for (size_t i = 0; i < AREAS; i++) NEED(mprotect(at + i * 2 * PAGE, PAGE, PROT_READ));
    char *text = map(8 * MEGABYTE, MAP_POPULATE);
    int maps = NEED(open("/proc/self/maps", O_RDONLY));
    while (NEED(read(maps, text, 8 * MEGABYTE)) > 0) continue;
    pid_t child = NEED(fork());
    if (child == 0) _exit(0);
    NEED(waitpid(child, 0, 0));
    NEED(madvise(at, (size_t)AREAS * 2 * PAGE, MADV_RANDOM));
    NEED(mprotect(at, (size_t)AREAS * 2 * PAGE, PROT_NONE));
    for (size_t i = 0; i < AREAS; i++) NEED(mprotect(at + i * 2 * PAGE, PAGE, PROT_READ));
    NEED(munmap(at, (size_t)AREAS * 2 * PAGE));
}

static void directories(void) {
    enum { ENTRIES = 12000 };
    NEED(mkdir("/tmp/large", 0755));
    NEED(mount("large", "/tmp/large", "tmpfs", 0, "mode=777"));
    NEED(chdir("/tmp/large"));
    NEED(close(NEED(open("first", O_CREAT | O_WRONLY, 0644))));
    char name[32];
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof(name), "entry%d", i);
        NEED(link("first", name));
    }
    int folder = NEED(open(".", O_RDONLY | O_DIRECTORY));
    char *entries = map(4 * MEGABYTE, MAP_POPULATE);
    while (NEED(syscall(SYS_getdents64, folder, entries, 4 * MEGABYTE)) > 0) continue;
    NEED(close(folder));
    NEED(chdir("/"));
    NEED(umount("/tmp/large"));
    NEED(rmdir("/tmp/large"));
}

// 39 links, each to 1,900 times "./" and the next one.
static void paths(void) {
    char target[PAGE], name[16];
    NEED(mkdir("/tmp/paths", 0755));
    NEED(chdir("/tmp/paths"));
    NEED(mkdir("end", 0755));
    memset(target, 0, sizeof(target));
    for (int i = 0; i < 1900; i++) memcpy(target + 2 * i, "./", 2);
    for (int i = 0; i < 39; i++) {
        if (i == 38) strcpy(target + 3800, "end");
        else snprintf(target + 3800, 16, "link%d", i + 1);
        snprintf(name, sizeof(name), "link%d", i);
        NEED(symlink(target, name));
    }
    struct stat status;
    NEED(stat("link0", &status));
    NEED(access("link0", R_OK));
    // A deep folder's name, made one by one, and taken apart again.
    for (int i = 0; i < 2500; i++) NEED(mkdir("deep", 0755) | chdir("deep"));
    syscall(SYS_getcwd, target, sizeof(target));
    for (int i = 0; i < 2500; i++) NEED(chdir("..") | rmdir("deep"));
}

static void descriptors(void) {
    enum { COUNT = 60000 };
    struct rlimit limit = {COUNT + 100, COUNT + 100};
    NEED(setrlimit(RLIMIT_NOFILE, &limit));
    int null = NEED(open("/dev/null", O_RDWR));
    for (int i = 0; i < COUNT; i++) NEED(dup(null));
    pid_t child = NEED(fork());
    if (child == 0) {
        NEED(syscall(SYS_close_range, 10, COUNT, 4));  // CLOSE_RANGE_CLOEXEC
        NEED(syscall(SYS_close_range, 10, COUNT, 0));
        _exit(0);
    }
    NEED(waitpid(child, 0, 0));
    struct pollfd *set = (struct pollfd *)map(COUNT * sizeof(*set), MAP_POPULATE);
    for (int i = 0; i < COUNT; i++) set[i] = (struct pollfd){i < 3 ? null : i, POLLIN, 0};
    NEED(poll(set, COUNT, 0));
    int events = NEED(eventfd(0, 0));
    for (int i = 0; i < COUNT; i++) set[i] = (struct pollfd){events, POLLIN, 0};
    NEED(poll(set, COUNT, 1));
    fd_set *sets = (fd_set *)map(COUNT / 8 + PAGE, MAP_POPULATE);
    memset(sets, 0xff, COUNT / 8);
    NEED(syscall(SYS_select, COUNT - 7, sets, 0, 0, &(struct timeval){0, 0}));
    int folder = NEED(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
    while (NEED(syscall(SYS_getdents64, folder, set, COUNT * sizeof(*set))) > 0) continue;
    // Ends with all of them open.
}

// A wake-up tells all of them in one go, as it may be an interrupt handler's.
static void epolls(void) {
    enum { COUNT = 40000 };
    struct rlimit limit = {COUNT + 100, COUNT + 100};
    NEED(setrlimit(RLIMIT_NOFILE, &limit));
    int set = NEED(epoll_create1(0)), one = NEED(eventfd(1, 0));
    static struct epoll_event events[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int fd = NEED(dup(one));
        NEED(epoll_ctl(set, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN}));
    }
    NEED(epoll_wait(set, events, COUNT, 0));
    // Nothing of it is ready any more, and all is on the list: who asks asks all of them.
    uint64_t value;
    NEED(read(one, &value, sizeof(value)));
    int outer = NEED(epoll_create1(0));
    NEED(epoll_ctl(outer, EPOLL_CTL_ADD, set, &(struct epoll_event){.events = EPOLLIN}));
    NEED(epoll_wait(set, events, COUNT, 0));
    char name[40], *text = map(MEGABYTE, MAP_POPULATE);
    snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", set);
    int info = NEED(open(name, O_RDONLY));
    while (NEED(read(info, text, MEGABYTE)) > 0) continue;
    NEED(close(set));
}

static void locks_and_timers(void) {
    enum { LOCKS = 8000, TIMERS = 4000 };
    int file = NEED(open("/tmp/locked", O_RDWR | O_CREAT, 0644));
    for (int i = 0; i < LOCKS; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_start = 2 * i, .l_len = 1};
        NEED(fcntl(file, F_SETLK, &lock));
    }
    struct rlimit limit = {TIMERS, TIMERS};
    NEED(setrlimit(RLIMIT_SIGPENDING, &limit));
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec spec = {{3600, 0}, {3600, 0}};
    for (int i = 0; i < TIMERS; i++) {
        timer_t timer;
        NEED(timer_create(CLOCK_MONOTONIC, &event, &timer));
        NEED(timer_settime(timer, 0, &spec, 0));
    }
    NEED(unlink("/tmp/locked"));
    // Ends with all of them.
}

static void arguments(void) {
    enum { COUNT = 180000 };
    pid_t child = NEED(fork());
    if (child == 0) {
        static char *many[COUNT + 1];
        for (int i = 0; i < COUNT; i++) many[i] = "";
        many[0] = "end";
        NEED(execve("/init", many, (char *[]){"END=1", 0}));
    }
    int status;
    NEED(waitpid(child, &status, 0));
    NEED(WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1);
}

static void messages(void) {
    int ends[2];
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    fill_pieces(64 << 10);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 1024};
    NEED(sendmsg(ends[0], &message, 0));
    NEED(recvmsg(ends[1], &message, 0));
    int pipe_ends[2];
    NEED(pipe(pipe_ends));
    fcntl(pipe_ends[1], F_SETPIPE_SZ, MEGABYTE);
    NEED(fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK));
    for (int i = 0; i < 10; i++) {
        NEED(writev(pipe_ends[1], pieces, 1024));
        NEED(readv(pipe_ends[0], pieces, 1024));
    }
    static gid_t groups[65536];
    for (int i = 0; i < 65536; i++) groups[i] = 65536 - i;
    NEED(setgroups(65536, groups));
    NEED(getgroups(65536, groups));
}

static void many_processes(void) {
    int ends[2];
    NEED(pipe(ends));
    for (int i = 0; i < 400; i++) {
        if (NEED(fork()) == 0) {
            char byte;
            close(ends[1]);
            read(ends[0], &byte, 1);
            _exit(0);
        }
    }
    kill(-1, SIGCONT);
    NEED(close(ends[1]));
    while (wait(0) > 0) continue;
}

// Many mounts beside each other, and some on each other.
static void mounts(void) {
    enum { COUNT = 12000, STACK = 1500 };
    NEED(unshare(CLONE_NEWNS));
    NEED(mkdir("/tmp/mounts", 0755));
    NEED(mount("mounts", "/tmp/mounts", "tmpfs", 0, 0));
    NEED(chdir("/tmp/mounts"));
    NEED(mkdir("from", 0755));
    NEED(mkdir("copy", 0755));
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "at%d", i);
        NEED(mkdir(name, 0755));
        NEED(mount("from", name, 0, MS_BIND, 0));
    }
    for (int i = 0; i < STACK; i++) NEED(mount("from", "/tmp/mounts/from", 0, MS_BIND, 0));
    NEED(mount(0, "/tmp/mounts", 0, MS_REC | MS_UNBINDABLE, 0));
    NEED(mount(0, "/tmp/mounts", 0, MS_REC | MS_PRIVATE, 0));
    NEED(chdir("/"));
    pid_t child = NEED(fork());
    if (child == 0) {
        NEED(unshare(CLONE_NEWNS));
        _exit(0);
    }
    NEED(waitpid(child, 0, 0));
    NEED(mount("/tmp/mounts", "/tmp/mounts/copy", 0, MS_BIND | MS_REC, 0));
    NEED(umount2("/tmp/mounts/copy", MNT_DETACH));
    char *text = map(4 * MEGABYTE, MAP_POPULATE);
    int info = NEED(open("/proc/self/mountinfo", O_RDONLY));
    while (NEED(read(info, text, 4 * MEGABYTE)) > 0) continue;
    NEED(close(info));
    NEED(umount2("/tmp/mounts", MNT_DETACH));
    NEED(rmdir("/tmp/mounts"));
}

// Directories in each other, of which the last one holds all others when their names are gone.
static void deep_directories(void) {
    enum { DEPTH = 25000 };
    NEED(mkdir("/tmp/deep", 0755));
    NEED(mount("deep", "/tmp/deep", "tmpfs", 0, 0));
    NEED(chdir("/tmp/deep"));
    for (int i = 0; i < DEPTH; i++) NEED(mkdir("deep", 0755) | chdir("deep"));
    char target[PAGE];
    syscall(SYS_getcwd, target, sizeof(target));
    readlink("/proc/self/cwd", target, sizeof(target));
    NEED(mkdir("one", 0755) | mkdir("other", 0755));
    NEED(rename("one", "other/one"));
    NEED(mount("other", "other", 0, MS_BIND, 0));
    NEED(chdir("other/one") | chdir(".."));
    NEED(chdir(".."));
    NEED(umount2("other", MNT_DETACH));
    NEED(umount2("/tmp/deep", MNT_DETACH));
    NEED(chdir("/"));
    NEED(rmdir("/tmp/deep"));
    // The same with no name left but the working directory's.
    NEED(mkdir("/tmp/gone", 0755) | chdir("/tmp/gone"));
    for (int i = 0; i < DEPTH; i++) {
        NEED(mkdir("/tmp/moved", 0755));
        NEED(rename("/tmp/gone", "/tmp/moved/gone") | rename("/tmp/moved", "/tmp/gone"));
    }
    NEED(chdir("/"));
    NEED(mkdir("/tmp/end", 0755) | rename("/tmp/gone", "/tmp/end/gone"));
    NEED(umount2("/tmp", MNT_DETACH));
    NEED(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777,size=400m"));
}

static const struct {
    const char *name;
    void (*make)(void);
} families[] = {
    {"zero", zero},
    {"random", random_bytes},
    {"file-contents", file_contents},
    {"file-to-file", file_to_file},
    {"large-mapping", large_mapping},
    {"sparse-mapping", sparse_mapping},
    {"many-areas", many_areas},
    {"directories", directories},
    {"paths", paths},
    {"descriptors", descriptors},
    {"epolls", epolls},
    {"locks-and-timers", locks_and_timers},
    {"arguments", arguments},
    {"messages", messages},
    {"many-processes", many_processes},
    {"mounts", mounts},
    {"deep-directories", deep_directories},
};

int main(void) {
    if (getenv("END")) return 0;
    gaps = mmap(0, sizeof(*gaps), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NEED(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777,size=400m"));
    NEED(mount("proc", "/proc", "proc", 0, 0));
    pthread_attr_t attributes;
    struct sched_param first = {.sched_priority = 50};
    pthread_t watcher;
    pthread_attr_init(&attributes);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &first);
    NEED(-pthread_create(&watcher, &attributes, watch, 0));
    const char *only = getenv("NACRE_FAMILY");
    for (unsigned i = 0; i < sizeof(families) / sizeof(*families); i++) {
        family = families[i].name;
        if (only && strcmp(only, family) != 0) continue;
        gaps->worst_ns = gaps->named_ns = 0;
        fflush(stdout);
        pid_t child = NEED(fork());
        if (child == 0) {
            families[i].make();
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        // What the end leaves to others is part of it.
        for (int turn = 0; turn < 3; turn++) usleep(2000);
        name_gap("exit");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) printf("gap %s %ld %s\n", family, gaps->worst_ns, gaps->call);
        else if (WIFSIGNALED(status)) printf("failed %s: signal %d\n", family, WTERMSIG(status));
        fflush(stdout);
    }
    printf("done\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
