// Descriptors of every kind: each worker's own, and some that all workers of a round have in common.
#include "driver.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

// Calls may put another thing at a number later; most do not.
static unsigned char kinds[COMMON_LIMIT];

static int noted(int fd, enum kind kind) {
    if (fd >= 0 && fd < COMMON_LIMIT) kinds[fd] = (unsigned char)kind;
    return fd;
}

static void noted_pair(const int *pair, enum kind kind) {
    noted(pair[0], kind);
    noted(pair[1], kind);
}

static void make_terminal(void) {
    int master = noted(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK), TERMINAL), unlock = 0, number = 0;
    char path[32];
    ioctl(master, TIOCSPTLCK, &unlock);
    ioctl(master, TIOCGPTN, &number);
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    noted(open(path, O_RDWR | O_NOCTTY | O_NONBLOCK), TERMINAL);
}

static void make_sockets(int flags) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | flags, 0, pair) == 0) noted_pair(pair, SOCKET);
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0) noted_pair(pair, SOCKET);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | flags, 0, pair) == 0) noted_pair(pair, SOCKET);
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | (fd % 3 ? 0 : EPOLLET), .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

void make_common_descriptors(void) {
    int pair[2];
    if (pipe2(pair, O_NONBLOCK) == 0) noted_pair(pair, PIPE);
    make_sockets(0);
    noted(eventfd(1, 0), ANY);
    int epoll = noted(epoll_create1(0), EPOLL);
    for (int fd = 3; fd < 10; fd++) watch(epoll, fd);
    make_terminal();
    noted(open("/tmp/work/common", O_RDWR | O_CREAT, 0666), REGULAR);
    int memory = noted(memfd_create("common", MFD_ALLOW_SEALING), REGULAR);
    ftruncate(memory, COMMON_PAGES * PAGE);
    noted(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), TIMER);
    // Out of the way of the worker's own; the memory first, where make_arena() finds it.
    int to = COMMON_FDS;
    fcntl(memory, F_DUPFD, to++);
    for (int fd = 3; fd < LOW_FDS; fd++) {
        if (fcntl(fd, F_GETFD) < 0) continue;
        int copy = fcntl(fd, F_DUPFD, to);
        if (copy >= 0) kinds[copy] = kinds[fd];
        if (copy >= to) to = copy + 1;
        close(fd);
    }
    kinds[COMMON_FDS] = REGULAR;
}

void drop_common_descriptors(void) {
    for (int fd = COMMON_FDS; fd < COMMON_LIMIT; fd++) close(fd);
}

static void make_files(void) {
    memset(kinds, ANY, COMMON_FDS);
    write(noted(open("file", O_RDWR | O_CREAT, 0644), REGULAR), arena + 7 * PAGE, 100);
    noted(open("file", O_RDONLY | O_APPEND), REGULAR);
    noted(open("file", O_WRONLY | O_DIRECT | O_CREAT, 0644), REGULAR);
    mkdir("d", 0755);
    symlink("loop", "loop");
    symlink("file", "link");
    mkfifo("fifo", 0666);
    int script = open("script", O_WRONLY | O_CREAT | O_EXCL, 0755);
    if (script >= 0) {
        write(script, "#!/bin/exit -x\n", 15);
        close(script);
    }
    noted(open(".", O_RDONLY | O_DIRECTORY), FOLDER);
    noted(open("..", O_RDONLY | O_DIRECTORY), FOLDER);
    noted(open("d", O_PATH), FOLDER);
    int memory = noted(memfd_create("driver", MFD_ALLOW_SEALING), REGULAR);
    ftruncate(memory, 3 * PAGE + 7);
}

// Ports that structures.c names, too: whoever comes first has them.
static void make_internet_sockets(void) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(7000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int listener = noted(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), SOCKET);
    ioctl(listener, SIOCSIFFLAGS, &up);
    bind(listener, (struct sockaddr *)&name, sizeof name);
    listen(listener, 5);
    int caller = noted(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), SOCKET);
    connect(caller, (struct sockaddr *)&name, sizeof name);
    noted(accept(listener, NULL, NULL), SOCKET);
    noted(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), SOCKET);
    int receiver = noted(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), SOCKET);
    bind(receiver, (struct sockaddr *)&name, sizeof name);
    noted(socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0), SOCKET);
}

static void make_others(void) {
    sigset_t set;
    struct itimerspec soon = {{0, 1000000}, {0, 1000000}};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    open("/dev/zero", O_RDWR);
    open("/dev/full", O_RDWR);
    open("/dev/urandom", O_RDONLY);
    eventfd(3, EFD_NONBLOCK);
    timerfd_settime(noted(timerfd_create(CLOCK_MONOTONIC, 0), TIMER), 0, &soon, 0);
    signalfd(-1, &set, SFD_NONBLOCK);
    open("/proc/self/maps", O_RDONLY);
    noted(open("/proc", O_RDONLY | O_DIRECTORY), FOLDER);
    noted(open("/proc/self/fd", O_RDONLY | O_DIRECTORY), FOLDER);
    open("/proc/self/mem", O_RDWR);
    open("/proc/self/ns/mnt", O_RDONLY);
    open("/proc/self/ns/uts", O_RDONLY);
    syscall(SYS_pidfd_open, getpid(), 0);
    int listener = noted(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), SOCKET);
    strcpy(name.sun_path, "socket");
    bind(listener, (struct sockaddr *)&name, sizeof name);
    listen(listener, 5);
    int caller = noted(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), SOCKET);
    connect(caller, (struct sockaddr *)&name, sizeof name);
    noted(socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0), SOCKET);
    make_internet_sockets();
}

// A worker's descriptors, from number 3 on. Some of the pipes and sockets block.
void make_descriptors(void) {
    int pair[2];
    make_files();
    for (int i = 0; i < 2; i++) {
        if (pipe(pair) != 0) continue;
        noted_pair(pair, PIPE);
        fcntl(pair[i], F_SETFL, O_NONBLOCK);
    }
    make_sockets(0);
    make_others();
    make_terminal();
    int epoll = noted(epoll_create1(0), EPOLL), outer = noted(epoll_create1(0), EPOLL);
    for (int fd = 3; fd < LOW_FDS; fd += 2) watch(epoll, fd);
    watch(outer, epoll);
    for (int fd = COMMON_FDS; fd < COMMON_LIMIT; fd++) {
        int copy = fcntl(fd, F_DUPFD, 3);
        if (copy >= 0) noted(copy, kinds[fd]);
        close(fd);
    }
}

// One that was made as `kind`; at times any, and at times none.
long descriptor_of(struct random *random, enum kind kind) {
    if (below(random, 20) == 0) return ONE_OF(random, -1, AT_FDCWD, 1 << 20, INT32_MAX, INT32_MIN);
    long start = (long)below(random, LOW_FDS);
    if (kind == ANY || below(random, 6) == 0) return start;
    for (long i = 0; i < LOW_FDS; i++) {
        long fd = (start + i) % LOW_FDS;
        if (kinds[fd] == kind) return fd;
    }
    return start;
}
