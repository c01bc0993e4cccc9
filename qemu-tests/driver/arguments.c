// Arguments of random calls: mostly plausible, at times from the edges.
#include "driver.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

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

// Writes to a page that may not be there any more.
static void fill(char *page, int with) {
    char bytes[PAGE];
    struct iovec from = {memset(bytes, with, PAGE), PAGE}, to = {page, PAGE};
    syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0);
}

// Calls write with long lengths: behind the arena is a range that lets them come to an end.
void make_arena(struct random *random) {
    const size_t size = ARENA_PAGES * PAGE, guard = 4UL << 30;
    arena = mmap(0, size + guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) _exit(3);
    mmap(arena, size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mmap(arena + COMMON * PAGE, COMMON_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_SHARED, COMMON_FDS, 0);
    // Some of it is there, some is not mapped, some cannot be written to.
    for (int i = 0; i < 64; i++) {
        char *page = arena + below(random, ARENA_PAGES) * PAGE;
        if (i % 8 == 0) munmap(page, PAGE);
        else if (i % 8 == 1) mprotect(page, PAGE, PROT_READ);
        else if (i % 8 == 2) mprotect(page, PAGE, PROT_NONE);
        else fill(page, i);
    }
}

// A process: most often oneself, or another worker, whose threads have the numbers behind its own.
static long process(struct random *random) {
    switch (below(random, 6)) {
    case 0: return ONE_OF(random, 0, 999999, -999999, INT32_MIN);
    case 1:
    case 2: {
        // Not the driver's own number, which 0 and a thread behind it would be.
        pid_t worker = shared->workers[below(random, 4)];
        return worker > 2 && below(random, 3) == 0 ? worker + 1 : worker;
    }
    case 3: return syscall(SYS_gettid);
    default: return getpid();
    }
}

static const char *const paths[] = {
    "file", "link", "loop", "d", "d/x", "d/y", "new", "../file", ".", "..", "d/../d/./x", "/", "/tmp", "",
    "socket", "fifo", "fifo", "script", "../common", "../common", "../x", "../0/file", "../1/file", "../2/d", "../3/new", "m", "m/x",
    "/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/console", "/proc/self/maps", "/proc/self/status",
    "/proc/self/fd/5", "/proc/self/fd/12", "/proc/self/fd", "/proc/self/exe", "/proc/self/mem", "/proc/mounts",
    "/proc/self/stat", "/proc/1/status", "/proc/1/fd", "/proc/meminfo", "/proc/thread-self/comm", "/sys", "/sys/kernel",
    "/bin/exit", "/none/x", "file/x", "d/", "/proc/self/cwd/d", "/proc/self/root/tmp", "/proc/self/environ",
    "/proc/self/ns/mnt", "/proc/self/ns/pid", "/proc/self/ns/uts", "/proc/self/task", "/proc/locks",
    "/proc/self/smaps", "/proc/self/smaps_rollup", "/proc/self/mountinfo", "/proc/self/limits", "/proc/self/timerslack_ns",
    "/proc/self/uid_map", "/proc/self/setgroups", "/proc/self/coredump_filter", "/proc/self/clear_refs",
    "/proc/self/oom_score_adj", "/proc/self/comm", "/proc/sys/kernel/hostname", "/proc/sys/kernel/random/uuid", "/proc/stat",
    "/proc/vmstat", "/proc/slabinfo", "/proc/net/tcp", "/proc/net/udp6", "/proc/net/snmp", "/proc/filesystems", "/proc/self/auxv", "/proc/self/wchan", "/proc/self/syscall",
};

// A file of another worker's in /proc, which may be ending.
static long path_of_process(struct random *random) {
    static const char *const names[] = {"maps", "smaps", "status", "stat", "fd", "mem", "cwd", "root", "exe", "environ", "cmdline", "task",
                                        "ns/mnt", "fdinfo/3", "comm", "limits", "mountinfo", "auxv", "wchan", "oom_score_adj"};
    static __thread char text[64];
    snprintf(text, sizeof text, "/proc/%ld/%s", process(random), names[below(random, COUNT(names))]);
    return (long)text;
}

static long path(struct random *random) {
    static char name_too_long[300], path_too_long[5000];
    if (below(random, 30) == 0) return pointer(random);
    if (below(random, 30) == 0) {
        char *text = below(random, 2) ? name_too_long : path_too_long;
        size_t size = text == name_too_long ? sizeof name_too_long : sizeof path_too_long;
        for (size_t i = 0; i + 1 < size; i++) text[i] = text == path_too_long && i % 2 ? '/' : '.';
        return (long)text;
    }
    if (below(random, 12) == 0) return path_of_process(random);
    return (long)paths[below(random, below(random, 2) ? 27 : COUNT(paths))];
}

// A program; the driver itself ends at once when it is not the first process.
static long program(struct random *random) {
    static const char *const programs[] = {"/bin/exit", "/bin/exit", "/bin/exit", "script", "/proc/self/exe", "file", "d"};
    return below(random, 8) ? (long)programs[below(random, COUNT(programs))] : path(random);
}

static long attribute(struct random *random) {
    static const char *const names[] = {"user.a", "user.b", "trusted.c", "security.capability", "security.d",
                                        "system.posix_acl_access", "system.posix_acl_default", "user.", "nonsense"};
    return below(random, 8) ? (long)names[below(random, COUNT(names))] : path(random);
}

static long file_system(struct random *random) {
    static const char *const types[] = {"tmpfs", "tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "ramfs", "virtiofs", "nonsense"};
    return below(random, 8) ? (long)types[below(random, COUNT(types))] : path(random);
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
    // A FIFO's other end may never come; a signal ends the wait.
    return below(random, 8) ? access | O_NONBLOCK : access;
}

// Flags of clone(2) that leave the child memory or a stack of its own.
static long clone_flags(struct random *random) {
    long all = ONE_OF(random, SIGCHLD, SIGCHLD, SIGCHLD, 0, SIGUSR1);
    for (uint64_t more = below(random, 4); more > 0; more--) {
        all |= ONE_OF(random, CLONE_FS, CLONE_FILES, CLONE_PARENT, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, CLONE_NEWIPC,
                      CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWCGROUP, CLONE_PIDFD, CLONE_SYSVSEM, CLONE_IO, CLONE_PARENT_SETTID,
                      CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID, CLONE_PTRACE, CLONE_VFORK | CLONE_VM, CLONE_SIGHAND);
    }
    return all;
}

static long ioctl_command(struct random *random) {
    return ONE_OF(random, TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TCXONC, TCFLSH, TIOCSTI, TIOCGWINSZ, TIOCSWINSZ,
                  TIOCGPGRP, TIOCSPGRP, TIOCSCTTY, TIOCNOTTY, TIOCGSID, TIOCOUTQ, FIONREAD, FIONBIO, FIOASYNC, FIOCLEX,
                  FIONCLEX, TIOCGPTN, TIOCSPTLCK, TIOCPKT, TIOCEXCL, TIOCNXCL, TIOCGETD, TIOCSETD, TIOCVHANGUP, 0, -1, 0x5460,
                  0x80045430, 0xb701, 0xb702, 0xb703, 0xb704);
}

static long option(struct random *random) {
    return below(random, 3) == 0 ? (long)below(random, 70)
                                 : ONE_OF(random, SO_RCVBUF, SO_SNDBUF, SO_PASSCRED, SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT, SO_PEEK_OFF,
                                          SO_LINGER, SO_PEERCRED, SO_ERROR, SO_ACCEPTCONN, SO_TYPE, SO_DOMAIN, SO_REUSEADDR);
}

static long futex_operation(struct random *random) {
    long operation = ONE_OF(random, FUTEX_WAKE, FUTEX_WAIT, FUTEX_WAIT, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE, FUTEX_WAKE_OP,
                            FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_LOCK_PI, FUTEX_UNLOCK_PI, FUTEX_TRYLOCK_PI, 99);
    return operation | (below(random, 2) ? FUTEX_PRIVATE_FLAG : 0) | (below(random, 6) ? 0 : FUTEX_CLOCK_REALTIME);
}

// Where all workers wait, or this one.
static long word(struct random *random) {
    return (long)(arena + (below(random, 2) ? COMMON * PAGE : 0) + 4 * below(random, 16));
}

static long number(struct random *random, char letter) {
    switch (letter) {
    case 'l': return length(random);
    case 'o': return offset(random);
    case 'g': return flags(random);
    case 'm': return (long)below(random, 010000);
    case 'i': return (long)below(random, 12);
    case 'I': return below(random, 2) ? (long)below(random, 200) : ONE_OF(random, -1, INT32_MAX, INT32_MIN, INT64_MIN, 1 << 16);
    case 'a': return (long)(arena + below(random, ARENA_PAGES) * PAGE + (below(random, 20) ? 0 : 1));
    case 'n': return below(random, 10) ? (long)(1 + below(random, 40)) * PAGE : length(random);
    case 'c': return below(random, 10) ? (long)below(random, 9) : ONE_OF(random, -1, 1024, 1025, INT32_MAX);
    case 'T': return (long)below(random, 3);
    case 'r': return (long)below(random, 8);
    case 'V': return below(random, 8) ? (long)below(random, 26) : ONE_OF(random, 100, 101, 102, -1);
    case '#': return below(random, 6) ? 4 : length(random);
    case '0': return 0;
    case '8': return 8;
    case 'Z': return 16;
    default: return (long)draw(random);
    }
}

static long constant(struct random *random, char letter) {
    switch (letter) {
    case 'M': return ONE_OF(random, S_IFREG | 0644, S_IFIFO | 0644, S_IFSOCK | 0600, S_IFCHR | 0600, S_IFBLK, S_IFDIR, 0);
    case 's': return ONE_OF(random, 0, SIGUSR1, SIGUSR2, SIGCHLD, SIGWINCH, SIGURG, SIGCONT, 34, 64, 65, -1);
    case 'L': return ONE_OF(random, 0, 2, 3, 9, 16, 110, 111, 128, -1);
    case 'u': return ONE_OF(random, -1, 0, 1000, 1000, 65534, 1L << 31);
    case 'A': return ONE_OF(random, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
                            MAP_SHARED | MAP_FIXED, MAP_PRIVATE | MAP_FIXED, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE | MAP_ANONYMOUS,
                            MAP_FIXED_NOREPLACE | MAP_PRIVATE | MAP_ANONYMOUS, MAP_FIXED | MAP_SHARED_VALIDATE, MAP_FIXED,
                            MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
    case 'C': return ONE_OF(random, 0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, -1, -6);
    case 'k': return ONE_OF(random, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 15, 16, 1024, 1025, 1026, 1030, 1031, 1032, 1033, 1034, 99);
    case '?': return ONE_OF(random, F_GETLK, F_SETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW);
    case 'q': return ONE_OF(random, SOL_SOCKET, SOL_SOCKET, SOL_SOCKET, 0, 6, 6, 41, 40);
    case 'Y': return ONE_OF(random, AF_UNIX, AF_UNIX, AF_INET, AF_INET, AF_INET6, 40, 0, 99);
    case 'y': return ONE_OF(random, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM | SOCK_NONBLOCK, SOCK_RAW, 77);
    case 'X': return ONE_OF(random, WNOHANG, WNOHANG | WUNTRACED, WNOHANG | WEXITED, WNOHANG | WEXITED | WSTOPPED | WNOWAIT);
    case 'B': return ONE_OF(random, 0, 0, MS_BIND, MS_BIND | MS_REC, MS_MOVE, MS_REMOUNT | MS_RDONLY | MS_BIND, MS_REMOUNT, MS_PRIVATE | MS_REC,
                            MS_SHARED, MS_SLAVE, MS_UNBINDABLE, MS_RDONLY, MS_NOSUID | MS_NODEV | MS_NOEXEC);
    case 'U': return ONE_OF(random, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, CLONE_FS, CLONE_FILES, CLONE_NEWUSER, CLONE_NEWIPC, CLONE_NEWNET,
                            CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS, CLONE_THREAD, CLONE_VM, 0, -1);
    default: return number(random, letter);
    }
}

long argument(struct random *random, char letter) {
    long value;
    if (structure(random, letter, &value)) return value;
    switch (letter) {
    case 'f': return descriptor_of(random, ANY);
    case 'F': return (long)below(random, LOW_FDS) + 1;
    case 'D': return below(random, 3) ? AT_FDCWD : descriptor_of(random, FOLDER);
    case 'e': return descriptor_of(random, EPOLL);
    case 'h': return descriptor_of(random, SOCKET);
    case 'z': return descriptor_of(random, PIPE);
    case 'j': return descriptor_of(random, REGULAR);
    case 'd': return descriptor_of(random, FOLDER);
    case 'J': return descriptor_of(random, TIMER);
    case '%': return descriptor_of(random, TERMINAL);
    case 'b': return pointer(random);
    case 'p': return path(random);
    case '^': return program(random);
    case 'R': return attribute(random);
    case '*': return file_system(random);
    case 'P': return process(random);
    case 'W': return word(random);
    case 'w': return futex_operation(random);
    case 'O': return open_flags(random);
    case 'K': return clone_flags(random);
    case 'x': return ioctl_command(random);
    case 'Q': return option(random);
    case 'N': return (below(random, 12) ? MSG_DONTWAIT : 0) | (below(random, 2) ? flags(random) : 0);
    default: return constant(random, letter);
    }
}
