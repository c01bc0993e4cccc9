// Arguments of random calls: mostly plausible, at times from the edges.
#include "driver.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define ONE_OF(random, ...)                                   \
    ({                                                        \
        static const long values[] = {__VA_ARGS__};           \
        values[below(random, COUNT(values))];                 \
    })

char *arena;

uint64_t draw(struct random *random) {
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545f4914f6cdd1dULL;
}

uint64_t below(struct random *random, uint64_t limit) { return (draw(random) >> 16) % limit; }

void make_arena(struct random *random) {
    arena = mmap(0, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) _exit(3);
    // Some of it is there, some is not mapped, some cannot be written to.
    for (int i = 0; i < 64; i++) {
        char *page = arena + below(random, ARENA_PAGES) * PAGE;
        if (i % 8 == 0) munmap(page, PAGE);
        else if (i % 8 == 1) mprotect(page, PAGE, PROT_READ);
        else if (i % 8 == 2) mprotect(page, PAGE, PROT_NONE);
        else memset(page, i, PAGE);
    }
}

// Descriptors of every kind, from number 3 on.
void make_descriptors(void) {
    int pair[2];
    sigset_t set;
    struct itimerspec soon = {{0, 1000000}, {0, 1000000}};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    open("/dev/zero", O_RDWR);
    open("/dev/full", O_RDWR);
    if (pipe(pair) == 0) fcntl(pair[0], F_SETFL, O_NONBLOCK);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair);
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
    eventfd(3, EFD_NONBLOCK);
    timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &soon, 0);
    signalfd(-1, &set, SFD_NONBLOCK);
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, 5, &event);
    ftruncate(memfd_create("driver", MFD_ALLOW_SEALING), 3 * PAGE + 7);
    write(open("file", O_RDWR | O_CREAT, 0644), arena + 7 * PAGE, 100);
    open("file", O_RDONLY | O_APPEND);
    mkdir("d", 0755);
    symlink("loop", "loop");
    symlink("file", "link");
    open(".", O_RDONLY | O_DIRECTORY);
    open("d", O_PATH);
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK), unlock = 0, number = 0;
    char path[32];
    ioctl(master, TIOCSPTLCK, &unlock);
    ioctl(master, TIOCGPTN, &number);
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    open("/proc/self/maps", O_RDONLY);
    open("/proc", O_RDONLY | O_DIRECTORY);
    syscall(SYS_pidfd_open, getpid(), 0);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    strcpy(name.sun_path, "socket");
    bind(listener, (struct sockaddr *)&name, sizeof name);
    listen(listener, 5);
    socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
}

static long descriptor(struct random *random) {
    if (below(random, 20) == 0) return ONE_OF(random, -1, AT_FDCWD, 1 << 20, INT32_MAX, INT32_MIN);
    return (long)below(random, LOW_FDS);
}

// A place in the arena: anywhere, or so that a page's end is near.
static char *place(struct random *random) {
    char *page = arena + below(random, ARENA_PAGES) * PAGE;
    switch (below(random, 4)) {
    case 0: return page;
    case 1: return page + below(random, PAGE);
    case 2: return page + PAGE - below(random, 32);
    default: return arena + below(random, 16) * PAGE + 8 * below(random, 512);
    }
}

static long pointer(struct random *random) {
    if (below(random, 16) == 0) {
        return ONE_OF(random, 0, 1, 0x7ffffffff000, 0x7fffffffffff, (long)0x800000000000,
                      (long)0xffff800000000000, (long)0xffffffff80000000, -1, -4096);
    }
    return (long)place(random);
}

static long length(struct random *random) {
    switch (below(random, 8)) {
    case 0: return ONE_OF(random, 0, 1, 4095, 4096, 4097, 65536, 1 << 20);
    case 1: return ONE_OF(random, -1, INT32_MAX, 0x7ffff000, 1L << 32, INT64_MAX, (long)UINT32_MAX, 1L << 40);
    default: return (long)below(random, 9000);
    }
}

static long offset(struct random *random) {
    if (below(random, 6) == 0) {
        return ONE_OF(random, -1, INT32_MAX, INT64_MAX, INT64_MAX - 4095, INT64_MIN, 1L << 40, 1L << 31);
    }
    return (long)below(random, 5 * PAGE);
}

static long path(struct random *random) {
    static const char *const paths[] = {
        "file", "link", "loop", "d", "d/x", "d/y", "new", "../file", ".", "..", "d/../d/./x", "/", "/tmp", "",
        "socket", "fifo", "/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/proc/self/maps", "/proc/self/status",
        "/proc/self/fd/5", "/proc/self/fd", "/proc/self/exe", "/proc/self/mem", "/proc/mounts", "/proc/self/stat",
        "/proc/1/status", "/proc/meminfo", "/proc/thread-self/comm", "/sys", "/bin/exit", "/none/x", "file/x", "d/",
        "/proc/self/cwd/d", "/proc/self/root/tmp", "/proc/self/oom_score_adj", "/proc/self/environ",
    };
    static char name_too_long[300], path_too_long[5000];
    if (below(random, 30) == 0) return pointer(random);
    if (below(random, 30) == 0) {
        char *text = below(random, 2) ? name_too_long : path_too_long;
        size_t size = text == name_too_long ? sizeof name_too_long : sizeof path_too_long;
        for (size_t i = 0; i + 1 < size; i++) text[i] = text == path_too_long && i % 2 ? '/' : '.';
        return (long)text;
    }
    return (long)paths[below(random, below(random, 2) ? 12 : COUNT(paths))];
}

static long vector(struct random *random) {
    struct iovec vector[8];
    char *at = arena + below(random, 8) * PAGE;
    for (size_t i = 0; i < COUNT(vector); i++) {
        vector[i].iov_base = (void *)pointer(random);
        vector[i].iov_len = below(random, 8) ? below(random, 3000) : (size_t)length(random);
    }
    // The page may have been taken away by a call before; then the call gets a bad pointer.
    if (syscall(SYS_write, LOW_FDS + 1, at, 1) != 1) return (long)at;
    memcpy(at, vector, sizeof vector);
    return (long)at;
}

static long small_structure(struct random *random, const void *data, size_t size) {
    char *at = arena + below(random, 8) * PAGE + 2048;
    if (below(random, 12) == 0 || syscall(SYS_write, LOW_FDS + 1, at, 1) != 1) return pointer(random);
    memcpy(at, data, size);
    return (long)at;
}

static long short_time(struct random *random) {
    struct timespec time = {0, (long)below(random, 200000)};
    if (below(random, 8) == 0) time.tv_nsec = ONE_OF(random, -1, 1000000000, INT64_MAX);
    if (below(random, 30) == 0) time.tv_sec = ONE_OF(random, -1, INT64_MIN);
    return small_structure(random, &time, sizeof time);
}

static long address(struct random *random) {
    union {
        struct sockaddr_un unix_name;
        struct sockaddr_in internet;
        char bytes[128];
    } name = {0};
    name.unix_name.sun_family = (sa_family_t)ONE_OF(random, AF_UNIX, AF_UNIX, AF_UNIX, AF_INET, 40, 0, 99);
    if (below(random, 2)) strcpy(name.unix_name.sun_path, "socket");
    else snprintf(name.unix_name.sun_path + 1, 20, "n%d", (int)below(random, 4));
    return small_structure(random, &name, sizeof name);
}

static long process(struct random *random) {
    return below(random, 3) ? ONE_OF(random, 0, 999999, -999999, INT32_MIN) : getpid();
}

static long flags(struct random *random) {
    switch (below(random, 4)) {
    case 0: return 0;
    case 1: return 1L << below(random, 32);
    case 2: return (1L << below(random, 16)) | (1L << below(random, 16));
    default: return (long)below(random, 16);
    }
}

static long open_flags(struct random *random) {
    long access = ONE_OF(random, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, 3);
    for (uint64_t more = below(random, 3); more > 0; more--) {
        access |= ONE_OF(random, O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC,
                         O_PATH, O_TMPFILE, O_DIRECT, O_NOATIME, O_SYNC);
    }
    // A FIFO's other end may never come.
    return access | O_NONBLOCK;
}

static long ioctl_command(struct random *random) {
    return ONE_OF(random, TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TCXONC, TCFLSH, TIOCSTI, TIOCGWINSZ, TIOCSWINSZ,
                  TIOCGPGRP, TIOCSPGRP, TIOCSCTTY, TIOCNOTTY, TIOCGSID, TIOCOUTQ, FIONREAD, FIONBIO, FIOASYNC, FIOCLEX,
                  FIONCLEX, TIOCGPTN, TIOCSPTLCK, TIOCPKT, TIOCEXCL, TIOCNXCL, TIOCGETD, TIOCSETD, 0, -1, 0x5460, 0x80045430);
}

long argument(struct random *random, char letter) {
    switch (letter) {
    case 'f': return descriptor(random);
    case 'F': return (long)below(random, LOW_FDS) + 1;
    case 'D': return below(random, 3) ? AT_FDCWD : descriptor(random);
    case 'b': return pointer(random);
    case 'l': return length(random);
    case 'o': return offset(random);
    case 'p': return path(random);
    case 'g': return flags(random);
    case 'm': return (long)below(random, 010000);
    case 'M': return ONE_OF(random, S_IFREG | 0644, S_IFIFO | 0644, S_IFSOCK | 0600, S_IFCHR | 0600, S_IFBLK, S_IFDIR, 0);
    case 'i': return (long)below(random, 12);
    case 'I': return below(random, 2) ? (long)below(random, 200) : ONE_OF(random, -1, INT32_MAX, INT32_MIN, INT64_MIN, 1 << 16);
    case 'a': return (long)(arena + below(random, ARENA_PAGES) * PAGE + (below(random, 20) ? 0 : 1));
    case 'n': return below(random, 10) ? (long)(1 + below(random, 40)) * PAGE : length(random);
    case 's': return ONE_OF(random, 0, SIGUSR1, SIGUSR2, SIGCHLD, SIGWINCH, SIGURG, SIGCONT, 34, 64, 65, -1);
    case 'P': return process(random);
    case 'v': return vector(random);
    case 'c': return below(random, 10) ? (long)below(random, 9) : ONE_OF(random, -1, 1024, 1025, INT32_MAX);
    case 't': return short_time(random);
    case 'T': return (long)below(random, 3);
    case 'S': return address(random);
    case 'L': return ONE_OF(random, 0, 2, 3, 9, 16, 110, 111, 128, -1);
    case 'u': return ONE_OF(random, -1, 0, 1000, 1000, 65534, 1L << 31);
    case 'W': return (long)(arena + 4 * below(random, 64));
    case 'w': return ONE_OF(random, FUTEX_WAKE, FUTEX_WAIT, FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE, FUTEX_REQUEUE,
                            FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_LOCK_PI,
                            FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, 99);
    case 'O': return open_flags(random);
    case 'r': return (long)below(random, 8);
    case 'A': return ONE_OF(random, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
                            MAP_SHARED | MAP_FIXED, MAP_PRIVATE | MAP_FIXED, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE | MAP_ANONYMOUS,
                            MAP_FIXED_NOREPLACE | MAP_PRIVATE | MAP_ANONYMOUS, MAP_FIXED | MAP_SHARED_VALIDATE, MAP_FIXED);
    case 'V': return (long)below(random, 26);
    case 'C': return ONE_OF(random, 0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, -1, -6);
    case 'x': return ioctl_command(random);
    case 'k': return ONE_OF(random, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 15, 16, 36, 37, 1024, 1025, 1026, 1030, 1031, 1032,
                            1033, 1034, 99);
    case 'q': return ONE_OF(random, SOL_SOCKET, SOL_SOCKET, 0, 6, 40);
    case 'Q': return (long)below(random, 70);
    case 'Y': return ONE_OF(random, AF_UNIX, AF_UNIX, AF_INET, AF_INET6, 40, 0, 99);
    case 'y': return ONE_OF(random, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM | SOCK_NONBLOCK, SOCK_RAW, 77);
    case 'N': return MSG_DONTWAIT | (below(random, 2) ? flags(random) : 0);
    case 'X': return ONE_OF(random, WNOHANG, WNOHANG | WUNTRACED, WNOHANG | WEXITED, WNOHANG | WEXITED | WSTOPPED | WNOWAIT);
    case '0': return 0;
    case '8': return 8;
    default: return (long)draw(random);
    }
}
