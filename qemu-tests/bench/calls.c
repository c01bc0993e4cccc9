// Rows of the kernel benchmark: calls that touch one object or none.
#include "bench.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MANY = 200, SETS = 10 };

static int null_fd, zero_fd, event_fd, epoll_fd, pipes[SETS][2];
static char buffer[65536];
static uint32_t word;

static void call_getppid(void) { syscall(SYS_getppid); }
static void call_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
}
static void call_read(void) { read(zero_fd, buffer, 1); }
static void call_read_large(void) { read(zero_fd, buffer, sizeof buffer); }
static void call_write(void) { write(null_fd, buffer, 1); }
static void call_dup(void) { close(dup(null_fd)); }
static void call_fcntl(void) { fcntl(null_fd, F_GETFL); }
static void call_yield(void) { sched_yield(); }

static void ignore(int signal) { (void)signal; }
static void call_sigaction(void) {
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, 0);
}
static void call_sigprocmask(void) {
    sigset_t set;
    sigemptyset(&set);
    sigprocmask(SIG_BLOCK, &set, 0);
}
static void call_signal(void) { kill(1, SIGUSR1); }

static void call_futex_wake(void) { syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); }
static void call_futex_wait(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0); }

static void call_event(void) {
    uint64_t value = 1;
    write(event_fd, &value, sizeof value);
    read(event_fd, &value, sizeof value);
}
static void call_epoll_wait(void) {
    struct epoll_event event;
    epoll_wait(epoll_fd, &event, 1, 0);
}
static void call_epoll_ctl(void) {
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipes[0][0], &event);
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, pipes[0][0], &event);
}
static void call_poll(void) {
    struct pollfd set[SETS];
    for (int i = 0; i < SETS; i++) set[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
    poll(set, SETS, 0);
}
static void call_select(void) {
    fd_set set;
    struct timeval none = {0, 0};
    FD_ZERO(&set);
    for (int i = 0; i < SETS; i++) FD_SET(pipes[i][0], &set);
    select(pipes[SETS - 1][0] + 1, &set, 0, 0, &none);
}
static void call_timer(void) {
    static timer_t timer;
    static int is_made;
    struct itimerspec later = {.it_value = {1000, 0}};
    if (!is_made) need(timer_create(CLOCK_MONOTONIC, 0, &timer), "timer_create");
    is_made = 1;
    timer_settime(timer, 0, &later, 0);
}

static void open_all(void) {
    need(zero_fd = open("/dev/zero", O_RDONLY), "open zero");
    need(null_fd = open("/dev/null", O_WRONLY), "open null");
    need(event_fd = eventfd(1, 0), "eventfd");
    need(epoll_fd = epoll_create1(0), "epoll_create1");
    for (int i = 0; i < SETS; i++) need(pipe(pipes[i]), "pipe");
    struct epoll_event event = {.events = EPOLLIN};
    need(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event), "epoll_ctl");
}

void rows_of_calls(void) {
    open_all();
    row("getppid", MANY, 1, call_getppid);
    row("clock_gettime", MANY, 1, call_clock);
    row("read-zero", MANY, 1, call_read);
    row("read-zero-64k", 10, 1, call_read_large);
    row("write-null", MANY, 1, call_write);
    row("dup+close", MANY, 1, call_dup);
    row("fcntl", MANY, 1, call_fcntl);
    row("sched_yield", MANY, 1, call_yield);
    row("sigaction", MANY, 1, call_sigaction);
    row("sigprocmask", MANY, 1, call_sigprocmask);
    row("signal", MANY, 1, call_signal);
    row("futex-wake", MANY, 1, call_futex_wake);
    row("futex-wait-changed", MANY, 1, call_futex_wait);
    row("eventfd", MANY, 1, call_event);
    row("epoll_wait", MANY, 1, call_epoll_wait);
    row("epoll_ctl-add+del", MANY, 1, call_epoll_ctl);
    row("poll-10", MANY, 1, call_poll);
    row("select-10", MANY, 1, call_select);
    row("timer_settime", MANY, 1, call_timer);
}
