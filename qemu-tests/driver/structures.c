// Arguments that point to structures: mostly well-formed ones, in memory that other calls change.
#include "driver.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// A place in the arena: anywhere, or so that a page's end is near.
static char *place(struct random *random) {
    char *page = arena + below(random, ARENA_PAGES) * PAGE;
    switch (below(random, 5)) {
    case 0: return page;
    case 1: return page + below(random, PAGE);
    case 2: return page + PAGE - below(random, 32);
    case 3: return arena + (COMMON + below(random, COMMON_PAGES)) * PAGE + 8 * below(random, 512);
    default: return arena + below(random, 16) * PAGE + 8 * below(random, 512);
    }
}

long pointer(struct random *random) {
    if (below(random, 16) == 0) {
        return ONE_OF(random, 0, 1, 0x7ffffffff000, 0x7fffffffffff, (long)0x800000000000,
                      (long)0xffff800000000000, (long)0xffffffff80000000, -1, -4096);
    }
    return (long)place(random);
}

long length(struct random *random) {
    switch (below(random, 8)) {
    case 0: return ONE_OF(random, 0, 1, 4095, 4096, 4097, 65536, 1 << 20);
    case 1: return ONE_OF(random, -1, INT32_MAX, 0x7ffff000, 1L << 32, INT64_MAX, (long)UINT32_MAX, 1L << 40);
    default: return (long)below(random, 9000);
    }
}

long offset(struct random *random) {
    if (below(random, 6) == 0) {
        return ONE_OF(random, -1, INT32_MAX, INT64_MAX, INT64_MAX - 4095, INT64_MIN, 1L << 40, 1L << 31);
    }
    return (long)below(random, 5 * PAGE);
}

// Copies a structure to where calls read it. The page may have been taken away by a call before; then the
// call gets a bad pointer.
static long stored(char *at, const void *data, size_t size) {
    struct iovec from = {(void *)data, size}, to = {at, size};
    syscall(SYS_process_vm_writev, getpid(), &from, 1, &to, 1, 0);
    return (long)at;
}

long small_structure(struct random *random, const void *data, size_t size) {
    if (below(random, 12) == 0) return pointer(random);
    return stored(arena + below(random, 8) * PAGE + 2048, data, size);
}

static struct iovec part(struct random *random) {
    return (struct iovec){(void *)pointer(random), below(random, 8) ? below(random, 3000) : (size_t)length(random)};
}

static long vector(struct random *random) {
    struct iovec vector[8];
    for (size_t i = 0; i < COUNT(vector); i++) vector[i] = part(random);
    return stored(arena + below(random, 8) * PAGE, vector, sizeof vector);
}

static struct timespec a_time(struct random *random) {
    struct timespec time = {0, (long)below(random, 200000)};
    if (below(random, 8) == 0) time.tv_nsec = ONE_OF(random, -1, 1000000000, INT64_MAX);
    if (below(random, 30) == 0) time.tv_sec = ONE_OF(random, -1, INT64_MIN, INT64_MAX);
    return time;
}

static long internet_address(struct random *random) {
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)(7000 + below(random, 3)))};
    struct sockaddr_in *four = (struct sockaddr_in *)&name;
    if (below(random, 3) == 0) {
        name.sin6_addr.s6_addr[15] = (uint8_t)below(random, 3);
    } else {
        four->sin_family = AF_INET;
        four->sin_addr.s_addr = htonl((uint32_t)ONE_OF(random, INADDR_LOOPBACK, INADDR_LOOPBACK, INADDR_ANY, INADDR_BROADCAST, 0xe0000001, 0xc0000201));
    }
    if (below(random, 8) == 0) name.sin6_port = 0;
    return small_structure(random, &name, below(random, 2) ? sizeof name : sizeof *four);
}

static long address(struct random *random) {
    if (below(random, 2)) return internet_address(random);
    struct sockaddr_un name = {.sun_family = (sa_family_t)ONE_OF(random, AF_UNIX, AF_UNIX, AF_UNIX, AF_INET, 40, 0, 99)};
    if (below(random, 2)) strcpy(name.sun_path, "socket");
    else snprintf(name.sun_path + 1, 20, "n%d", (int)below(random, 4));
    return small_structure(random, &name, sizeof name);
}

// Descriptors or claimed credentials; at times neither, and at times nonsense.
static size_t fill_control(struct random *random, char *control) {
    struct cmsghdr *header = (struct cmsghdr *)control;
    struct ucred claim = {getpid(), getuid(), getgid()};
    int fds[3];
    for (size_t i = 0; i < COUNT(fds); i++) fds[i] = (int)descriptor_of(random, below(random, 2) ? SOCKET : ANY);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = (int)ONE_OF(random, SCM_RIGHTS, SCM_RIGHTS, SCM_CREDENTIALS, 99);
    int has_claim = header->cmsg_type == SCM_CREDENTIALS;
    size_t size = has_claim ? sizeof claim : sizeof(int) * (1 + below(random, COUNT(fds)));
    memcpy(CMSG_DATA(header), has_claim ? (void *)&claim : (void *)fds, size);
    header->cmsg_len = below(random, 12) ? CMSG_LEN(size) : (size_t)length(random);
    return below(random, 4) ? CMSG_SPACE(size) : 0;
}

static struct msghdr a_message(struct random *random, char *page) {
    char control[128] = {0};
    struct iovec parts[3];
    for (size_t i = 0; i < COUNT(parts); i++) parts[i] = part(random);
    size_t size = fill_control(random, control);
    struct msghdr message = {
        .msg_name = below(random, 3) ? 0 : (void *)address(random), .msg_namelen = below(random, 128),
        .msg_iov = (void *)stored(page + 512, parts, sizeof parts), .msg_iovlen = 1 + below(random, 3),
        .msg_control = (void *)stored(page + 1024, control, sizeof control), .msg_controllen = size,
    };
    if (message.msg_name == 0) message.msg_namelen = 0;
    return message;
}

static long messages(struct random *random) {
    struct mmsghdr some[4];
    char *page = arena + (8 + below(random, 4)) * PAGE;
    for (size_t i = 0; i < COUNT(some); i++) some[i] = (struct mmsghdr){.msg_hdr = a_message(random, page)};
    return stored(page, some, sizeof some);
}

static long one_message(struct random *random) {
    char *page = arena + (8 + below(random, 4)) * PAGE;
    struct msghdr message = a_message(random, page);
    return stored(page, &message, sizeof message);
}

static long polled(struct random *random) {
    struct pollfd some[12];
    for (size_t i = 0; i < COUNT(some); i++) {
        some[i] = (struct pollfd){(int)descriptor_of(random, ANY), (short)below(random, 64), 0};
    }
    return small_structure(random, some, sizeof some);
}

static long strings(struct random *random) {
    if (below(random, 3) == 0) return 0;
    char *page = arena + (12 + below(random, 4)) * PAGE;
    char *list[4] = {page + 100, (char *)pointer(random), page + 100, 0};
    stored(page + 100, "argument", 9);
    if (below(random, 3)) list[1] = 0;
    return stored(page, list, sizeof list);
}

static long a_lock(struct random *random) {
    struct flock lock = {.l_type = (short)ONE_OF(random, F_RDLCK, F_WRLCK, F_UNLCK, 9), .l_start = (long)below(random, 200),
                         .l_len = (long)below(random, 100)};
    if (below(random, 10) == 0) lock.l_start = offset(random);
    return small_structure(random, &lock, sizeof lock);
}

static long clone_arguments(struct random *random) {
    struct clone_args arguments = {.exit_signal = (uint64_t)ONE_OF(random, SIGCHLD, SIGCHLD, 0, SIGUSR1, 99)};
    arguments.flags = (uint64_t)argument(random, 'K') & ~0xffUL;
    if (below(random, 4) == 0) arguments.pidfd = (uint64_t)pointer(random);
    if (below(random, 4) == 0) arguments.parent_tid = (uint64_t)pointer(random);
    if (below(random, 8) == 0) arguments.set_tid = (uint64_t)pointer(random);
    if (below(random, 8) == 0) arguments.set_tid_size = below(random, 40);
    // Without a stack of its own, a child in the same memory would not live long.
    if (arguments.flags & CLONE_VM && !(arguments.flags & CLONE_VFORK)) arguments.flags &= ~(uint64_t)CLONE_VM;
    return small_structure(random, &arguments, sizeof arguments);
}

static long signal_event(struct random *random) {
    struct sigevent event = {.sigev_notify = (int)ONE_OF(random, SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID, 99),
                             .sigev_signo = (int)argument(random, 's')};
    event._sigev_un._tid = below(random, 2) ? (int)syscall(SYS_gettid) : (int)argument(random, 'P');
    return small_structure(random, &event, sizeof event);
}

// A filter of system calls: one call gets some answer, decided by its number or by an argument; or anything.
static long filter_program(struct random *random) {
    unsigned action = (unsigned)ONE_OF(random, SECCOMP_RET_ERRNO | 1, SECCOMP_RET_ERRNO | 1, SECCOMP_RET_TRAP, SECCOMP_RET_TRACE,
                                       SECCOMP_RET_LOG, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_ALLOW);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, below(random, 3) ? 0 : 4 * (unsigned)below(random, 17)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)below(random, 340), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (below(random, 8) == 0) {
        filter[below(random, 4)] = (struct sock_filter){(unsigned short)below(random, 256), (unsigned char)below(random, 3),
                                                        (unsigned char)below(random, 3), (unsigned)draw(random)};
    }
    struct sock_fprog program = {4, (void *)small_structure(random, filter, sizeof filter)};
    return small_structure(random, &program, sizeof program);
}

int structure(struct random *random, char letter, long *value) {
    struct epoll_event event = {.events = (uint32_t)draw(random) & (below(random, 4) ? 0xc000201f : ~0U), .data.u64 = 1};
    struct itimerspec timer = {a_time(random), a_time(random)};
    struct timespec times[2] = {a_time(random), a_time(random)};
    struct rlimit limit = {below(random, 1 << 26), RLIM_INFINITY};
    struct timex clock = {.modes = (unsigned)draw(random) & 0xffff, .tick = 10000};
    sigset_t set = {{draw(random)}};
    int64_t at = below(random, 8) ? (int64_t)below(random, 2 * PAGE) : offset(random);
    int number = (int)below(random, 100) - 1;
    switch (letter) {
    case 'v': return *value = vector(random), 1;
    case 't': return *value = small_structure(random, times, sizeof *times), 1;
    case '2': return *value = small_structure(random, times, sizeof times), 1;
    case '4': return *value = small_structure(random, &timer, sizeof timer), 1;
    case '5': return *value = below(random, 4) ? 0 : small_structure(random, &at, sizeof at), 1;
    case '6': return *value = one_message(random), 1;
    case '7': return *value = messages(random), 1;
    case '9': return *value = small_structure(random, &set, sizeof set), 1;
    case 'E': return *value = small_structure(random, &event, sizeof event), 1;
    case 'G': return *value = polled(random), 1;
    case 'H': return *value = signal_event(random), 1;
    case 'S': return *value = address(random), 1;
    case '$': return *value = a_lock(random), 1;
    case '@': return *value = strings(random), 1;
    case '1': return *value = small_structure(random, &limit, sizeof limit), 1;
    case '3': return *value = clone_arguments(random), 1;
    case '&': return *value = small_structure(random, &number, sizeof number), 1;
    case '!': return *value = filter_program(random), 1;
    case '~': return *value = small_structure(random, &clock, sizeof clock), 1;
    default: return 0;
    }
}
