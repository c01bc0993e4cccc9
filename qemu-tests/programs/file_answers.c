// Answers of files at their edges: signals for what becomes ready, limits, ranges, partial buffers, privileges.
#include "test.h"
#include <limits.h>
#include <poll.h>
#include <linux/fs.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static volatile int last, count, band_fd;
static volatile int code, sender;
static volatile long band;
static void note(int signal) { last = signal, count++; }
static void note_info(int signal, siginfo_t *info, void *context) {
    (void)context;
    last = signal, count++, band_fd = info->si_fd;
    band = info->si_band, code = info->si_code, sender = info->si_pid;
}

static void expect(int signal) {
    for (int i = 0; i < 100 && last != signal; i++) sleep_ms(5);
    say("signal %d\n", last);
    last = 0;
}

static void signalled_io(void) {
    int ends[2], pair[2], on = 1;
    struct f_owner_ex owner = {F_OWNER_TID, getpid()};
    signal(SIGIO, note);
    pipe(ends);
    SHOW(fcntl(ends[0], F_GETOWN));
    SHOW(fcntl(ends[0], F_SETOWN, getpid()));
    SHOW(fcntl(ends[0], F_GETOWN) == getpid());
    SHOW(fcntl(ends[0], F_SETFL, O_ASYNC));
    SHOW((fcntl(ends[0], F_GETFL) & O_ASYNC) != 0);
    write(ends[1], "x", 1);
    expect(SIGIO);
    SHOW(fcntl(ends[0], F_SETFL, 0));
    write(ends[1], "x", 1);
    sleep_ms(30);
    say("signal %d when off\n", last);

    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    SHOW(ioctl(pair[0], FIOASYNC, &on));
    SHOW(fcntl(pair[0], F_SETOWN, -getpgrp()));
    SHOW(fcntl(pair[0], F_GETOWN) == -getpgrp());
    struct sigaction action = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO};
    sigaction(SIGRTMIN + 1, &action, NULL);
    SHOW(fcntl(pair[0], F_SETOWN_EX, &owner));
    SHOW(fcntl(pair[0], F_SETSIG, SIGRTMIN + 1));
    SHOW(fcntl(pair[0], F_GETSIG) == SIGRTMIN + 1);
    write(pair[1], "x", 1);
    expect(SIGRTMIN + 1);
    TRUE(band_fd == pair[0]);
    TRUE(band == (POLLIN | POLLRDNORM));
    // What was ready before is no news.
    SHOW(fcntl(pair[0], F_SETFL, 0));
    last = 0;
    SHOW(fcntl(pair[0], F_SETFL, O_ASYNC));
    sleep_ms(30);
    say("signal %d for what was there before\n", last);
    memset(&owner, 0, sizeof owner);
    SHOW(fcntl(pair[0], F_GETOWN_EX, &owner));
    TRUE(owner.type == F_OWNER_TID && owner.pid == getpid());
    SHOW(fcntl(pair[0], F_SETSIG, 65));
    SHOW(fcntl(pair[0], F_SETOWN, 4000000));
    owner.pid = -5;
    SHOW(fcntl(pair[0], F_SETOWN_EX, &owner));
    owner.type = 7;
    SHOW(fcntl(pair[0], F_SETOWN_EX, &owner));
    int file = open("/tmp/answers", O_RDWR | O_CREAT, 0644);
    SHOW(ioctl(file, FIOASYNC, &on));
    close(file);
}

static void polling(void) {
    struct epoll_event event = {.events = EPOLLIN}, *events = calloc(4000, sizeof *events);
    int epoll = epoll_create1(0);
    const char *devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random"};
    for (int i = 0; i < 5; i++) {
        int file = open(devices[i], O_RDWR);
        say("%s: ", devices[i]);
        SHOW(epoll_ctl(epoll, EPOLL_CTL_ADD, file, &event));
        close(file);
    }
    close(epoll);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max < 2000 ? limit.rlim_max : 2000;
    setrlimit(RLIMIT_NOFILE, &limit);
    epoll = epoll_create1(0);
    int one = eventfd(1, 0), added = 0;
    for (; added < 1500; added++) {
        int copy = dup(one);
        if (copy < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, copy, &event) != 0) break;
    }
    SHOW(added);
    SHOW(epoll_wait(epoll, events, 4000, 0));
    SHOW(epoll_wait(epoll, events, 1200, 0));
    SHOW(epoll_wait(epoll, (void *)16, 10, 0));
    SHOW(epoll_wait(epoll, events, 4000, 0));
    for (int i = 0; i < 2000; i++) {
        if (i > 2) close(i);
    }
    int timer = timerfd_create(CLOCK_REALTIME, 0);
    struct itimerspec spec = {{0, 0}, {4000000000, 0}};
    SHOW(timerfd_settime(timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec, NULL));
    SHOW(timerfd_settime(timer, 4, &spec, NULL));
    close(timer);
    free(events);
}

static void half_written(void) {
    static char bytes[256 * 1024];
    int ends[2];
    signal(SIGPIPE, note);
    pipe(ends);
    last = 0;
    pid_t child = fork_clean();
    if (child == 0) {
        close(ends[1]);
        sleep_ms(60);
        _exit(0);
    }
    close(ends[0]);
    SHOW(write(ends[1], bytes, sizeof bytes));
    expect(SIGPIPE);
    show_end("reader", child);
    close(ends[1]);
}

static void size_limits(void) {
    static char bytes[8192];
    struct rlimit limit = {4096, RLIM_INFINITY};
    struct sigaction action = {.sa_sigaction = note_info, .sa_flags = SA_SIGINFO};
    sigaction(SIGXFSZ, &action, NULL);
    int from = open("/tmp/answers", O_RDWR | O_CREAT | O_TRUNC, 0644);
    write(from, bytes, sizeof bytes);
    int to = open("/tmp/answers2", O_RDWR | O_CREAT | O_TRUNC, 0644), ends[2];
    pipe(ends);
    write(ends[1], bytes, sizeof bytes);
    setrlimit(RLIMIT_FSIZE, &limit);
    off_t offset = 0;
    SHOW(sendfile(to, from, &offset, 8192));
    last = 0;
    SHOW(sendfile(to, from, &offset, 8192));
    expect(SIGXFSZ);
    TRUE(code == SI_USER && sender == getpid());
    loff_t at = 4096;
    SHOW(splice(ends[0], NULL, to, &at, 100, 0));
    expect(SIGXFSZ);
    at = 4000;
    SHOW(splice(ends[0], NULL, to, &at, 200, 0));
    SHOW(ftruncate(to, 5000));
    expect(SIGXFSZ);
    SHOW(ftruncate(from, 5000));
    last = 0;
    SHOW(fallocate(to, 0, 4000, 200));
    expect(SIGXFSZ);
    SHOW(fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4000, 200));
    SHOW(fallocate(from, 0, 4096, 100));
    at = 0;
    loff_t end = 4096;
    SHOW(copy_file_range(from, &at, to, &end, 100, 0));
    expect(SIGXFSZ);
    end = 4090;
    SHOW(copy_file_range(from, &at, to, &end, 100, 0));
    struct iovec piece = {bytes, 100};
    SHOW(pwritev2(to, &piece, 1, 0, RWF_APPEND));
    expect(SIGXFSZ);
    SHOW(pwritev2(from, &piece, 1, 0, RWF_APPEND));
    expect(SIGXFSZ);
    SHOW(truncate("/tmp/answers2", 5000));
    expect(SIGXFSZ);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    close(ends[0]), close(ends[1]), close(from), close(to);
}

static void ranges(void) {
    char byte = 0;
    int file = open("/tmp/answers", O_RDWR | O_CREAT, 0644);
    SHOW(pread(file, &byte, 1, LLONG_MAX));
    SHOW(pwrite(file, &byte, 1, LLONG_MAX));
    SHOW(pread(file, &byte, 1, -1));
    SHOW(syscall(SYS_sync_file_range, file, LLONG_MAX, 1L, 0));
    SHOW(fallocate(file, 0, LLONG_MAX, 1));
    SHOW(fallocate(file, 0, 0, 0));
    int timer = timerfd_create(CLOCK_MONOTONIC, 0), event = eventfd(0, 0);
    SHOW(fallocate(timer, 0, 0, 1));
    SHOW(fallocate(event, 0, 0, 1));
    close(timer), close(event), close(file);

    long page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(memory + page, page);
    mkdir("/tmp/entries", 0755);
    for (int i = 0; i < 40; i++) {
        char name[64];
        snprintf(name, sizeof name, "/tmp/entries/%030d", i);
        close(open(name, O_CREAT | O_RDWR, 0600));
    }
    int directory = open("/tmp/entries", O_RDONLY | O_DIRECTORY), entries = 0;
    long len = syscall(SYS_getdents64, directory, memory + page - 512, 4096);
    TRUE(len > 0 && len <= 512);
    while (len > 0) {
        char *start = entries == 0 ? memory + page - 512 : memory;
        for (long i = 0; i < len; i += *(unsigned short *)(start + i + 16)) entries++;
        len = syscall(SYS_getdents64, directory, memory, page);
    }
    SHOW(entries);
    lseek(directory, 0, SEEK_SET);
    SHOW(syscall(SYS_getdents64, directory, memory, 0x80000000L));
    SHOW(syscall(SYS_getdents64, directory, memory, 0xffffffffL));
    SHOW(open("/tmp/entries", O_RDONLY | O_DIRECT));
    // Only where there is a cache to go past.
    int kinds[] = {open("/dev/null", O_RDWR), eventfd(0, 0), directory, open("/proc/version", O_RDONLY),
                   socket(AF_UNIX, SOCK_STREAM, 0), epoll_create1(0)};
    for (int i = 0; i < 6; i++) {
        SHOW(fcntl(kinds[i], F_SETFL, O_DIRECT));
        SHOW(read(kinds[i], NULL, 0) == -1 ? -errno : 0);
        if (kinds[i] != directory) close(kinds[i]);
    }
    SHOW(open("/dev/null", O_RDWR | O_DIRECT));
    SHOW(open("/proc/version", O_RDONLY | O_DIRECT));
    int proc = open("/proc", O_RDONLY), size = 0;
    SHOW(read(proc, &byte, 1));
    SHOW(ioctl(proc, FIGETBSZ, &size));
    SHOW(size);
    close(proc);
    close(directory);
    SHOW(fchmodat(-1, "", 0600, 0));
    SHOW(openat(-1, "", O_RDONLY));
    munmap(memory, page);
}

static void privileges(void) {
    const char capability[20] = {1, 0, 0, 2, (char)0xff, (char)0xff};
    char value[64];
    struct stat status;
    int file = open("/tmp/privileged", O_RDWR | O_CREAT | O_TRUNC, 0755);
    SHOW(fsetxattr(file, "security.capability", capability, sizeof capability, 0));
    SHOW(fgetxattr(file, "security.capability", value, sizeof value));
    SHOW(write(file, "x", 1));
    SHOW(fgetxattr(file, "security.capability", value, sizeof value));
    SHOW(fsetxattr(file, "security.capability", capability, sizeof capability, 0));
    SHOW(fchown(file, 1, 1));
    SHOW(fgetxattr(file, "security.capability", value, sizeof value));
    fchown(file, 0, 0);
    fchmod(file, 0777);
    write(file, "x", 1);
    fchmod(file, 06777);
    pid_t child = fork_clean();
    if (child == 0) {
        setuid(1000);
        int own = open("/tmp/privileged", O_WRONLY);
        SHOW(write(own, "y", 1));
        fstat(own, &status);
        say("mode %o\n", status.st_mode & 07777);
        SHOW(link("/tmp/privileged", "/tmp/linked"));
        close(open("/tmp/mine", O_CREAT | O_RDWR, 0600));
        SHOW(link("/tmp/mine", "/tmp/linked1"));
        SHOW(link("/etc/passwd", "/tmp/linked2") == 0 ? 0 : -1);
        unlink("/tmp/linked");
        unlink("/tmp/mine");
        _exit(0);
    }
    show_end("another user", child);
    fchmod(file, 0600);
    child = fork_clean();
    if (child == 0) {
        setuid(1000);
        SHOW(link("/tmp/privileged", "/tmp/linked3"));
        _exit(0);
    }
    show_end("another user", child);
    // What counts is who writes, not who opened.
    fchmod(file, 06777);
    child = fork_clean();
    if (child == 0) {
        setuid(1000);
        SHOW(write(file, "z", 1));
        fstat(file, &status);
        say("mode %o\n", status.st_mode & 07777);
        _exit(0);
    }
    show_end("another user", child);
    unlink("/tmp/linked"), unlink("/tmp/linked1"), unlink("/tmp/privileged");
    close(file);
}

int main(void) {
    signal(SIGRTMIN + 1, SIG_IGN);
    chmod("/tmp", 01777);
    signalled_io();
    polling();
    half_written();
    size_limits();
    ranges();
    privileges();
    return 0;
}
