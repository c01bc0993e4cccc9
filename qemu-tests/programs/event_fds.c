// eventfd, timerfd and signalfd.
#include "test.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int ready(int descriptor, short events) {
    struct pollfd one = {descriptor, events, 0};
    poll(&one, 1, 0);
    return one.revents;
}

static void event_fd(void) {
    int event = eventfd(3, EFD_NONBLOCK);
    uint64_t value = 4;
    TRUE(event > 0);
    SHOW(ready(event, POLLIN | POLLOUT));
    SHOW(write(event, &value, 8));
    SHOW(read(event, &value, 8));
    SHOW(value);
    SHOW(read(event, &value, 8));
    SHOW(read(event, &value, 4));
    SHOW(ready(event, POLLIN | POLLOUT));
    value = UINT64_MAX;
    SHOW(write(event, &value, 8));
    value = UINT64_MAX - 1;
    SHOW(write(event, &value, 8));
    SHOW(ready(event, POLLIN | POLLOUT));
    SHOW(write(event, &value, 8));
    int semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    SHOW(read(semaphore, &value, 8));
    SHOW(value);
    SHOW(read(semaphore, &value, 8));
    SHOW(read(semaphore, &value, 8));
    SHOW(eventfd(0, 12345));
    int shared = eventfd(0, 0);
    pid_t child = fork_clean();
    if (child == 0) {
        sleep_ms(20);
        value = 77;
        write(shared, &value, 8);
        _exit(0);
    }
    SHOW(read(shared, &value, 8));
    SHOW(value);
    waitpid(child, 0, 0);
}

static void timer_fd(void) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    uint64_t count = 0;
    TRUE(timer > 0);
    SHOW(read(timer, &count, 8));
    struct itimerspec time = {.it_value = {0, 20000000}}, now;
    SHOW(timerfd_settime(timer, 0, &time, 0));
    SHOW(ready(timer, POLLIN));
    struct pollfd one = {timer, POLLIN, 0};
    SHOW(poll(&one, 1, 3000));
    SHOW(read(timer, &count, 8));
    SHOW(count);
    SHOW(read(timer, &count, 8));
    time.it_interval.tv_nsec = 10000000;
    time.it_value.tv_nsec = 1;
    timerfd_settime(timer, 0, &time, 0);
    sleep_ms(65);
    SHOW(read(timer, &count, 8));
    TRUE(count >= 6 && count < 60);
    SHOW(timerfd_gettime(timer, &now));
    SHOW(now.it_interval.tv_nsec);
    memset(&time, 0, sizeof time);
    SHOW(timerfd_settime(timer, 0, &time, &now));
    SHOW(now.it_interval.tv_nsec);
    SHOW(ready(timer, POLLIN));
    time.it_interval.tv_sec = 3;
    SHOW(timerfd_settime(timer, 0, &time, 0));
    SHOW(timerfd_gettime(timer, &now));
    SHOW(now.it_interval.tv_sec * 10 + now.it_value.tv_sec);
    time.it_interval.tv_sec = 0;
    clock_gettime(CLOCK_MONOTONIC, &time.it_value);
    SHOW(timerfd_settime(timer, TFD_TIMER_ABSTIME, &time, 0));
    SHOW(poll(&one, 1, 3000));
    time.it_value.tv_nsec = 2000000000;
    SHOW(timerfd_settime(timer, 0, &time, 0));
    SHOW(timerfd_create(99, 0));
}

static void signal_fd(void) {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, 0);
    int descriptor = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
    struct signalfd_siginfo info[2];
    TRUE(descriptor > 0);
    SHOW(read(descriptor, info, sizeof info));
    raise(SIGUSR1);
    SHOW(ready(descriptor, POLLIN));
    SHOW(read(descriptor, info, sizeof info));
    SHOW(info[0].ssi_signo);
    TRUE(info[0].ssi_pid == (unsigned)getpid());
    SHOW(ready(descriptor, POLLIN));
    pid_t child = fork_clean();
    if (child == 0) _exit(3);
    struct pollfd one = {descriptor, POLLIN, 0};
    SHOW(poll(&one, 1, 3000));
    SHOW(read(descriptor, info, sizeof info));
    SHOW(info[0].ssi_signo);
    SHOW(info[0].ssi_status);
    SHOW(read(descriptor, info, 10));
    waitpid(child, 0, 0);
    while (read(descriptor, info, sizeof info) > 0) continue;

    // What sigqueue(3) sends has a value; what it may not claim, it may not claim with no signal, either.
    sigaddset(&mask, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &mask, 0);
    TRUE(signalfd(descriptor, &mask, 0) == descriptor);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 77});
    SHOW(read(descriptor, info, sizeof info));
    TRUE(info[0].ssi_signo == (unsigned)SIGRTMIN && info[0].ssi_pid == (unsigned)getpid());
    TRUE(info[0].ssi_code == SI_QUEUE);
    SHOW(info[0].ssi_int);
    SHOW((int)info[0].ssi_ptr);
    child = fork_clean();
    if (child == 0) {
        pause();
        _exit(0);
    }
    siginfo_t claim = {.si_code = SI_USER};
    SHOW(syscall(SYS_rt_sigqueueinfo, child, 0, &claim));
    claim.si_code = SI_QUEUE;
    SHOW(syscall(SYS_rt_sigqueueinfo, child, 0, &claim));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
}

// What fstat and /proc say of them.
static void shown(void) {
    sigset_t mask;
    sigemptyset(&mask);
    const int all[] = {eventfd(1, 0), signalfd(-1, &mask, 0), epoll_create1(0),
                       timerfd_create(CLOCK_BOOTTIME, 0), timerfd_create(CLOCK_REALTIME, 0)};
    struct itimerspec time = {{7, 5}, {4000000000, 7}};
    timerfd_settime(all[4], TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &time, 0);
    for (int i = 0; i < 5; i++) {
        struct stat status;
        char path[40], line[100];
        fstat(all[i], &status);
        say("mode %o links %ld size %ld\n", status.st_mode, (long)status.st_nlink, (long)status.st_size);
        snprintf(path, sizeof path, "/proc/self/fd/%d", all[i]);
        stat(path, &status);
        say("mode %o\n", status.st_mode);
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", all[i]);
        FILE *info = fopen(path, "r");
        while (i > 2 && info && fgets(line, sizeof line, info))
            if (strncmp(line, "clockid", 7) == 0 || strncmp(line, "ticks", 5) == 0 ||
                strncmp(line, "settime", 7) == 0 || strncmp(line, "it_interval", 11) == 0)
                say("%s", line);
        if (info) fclose(info);
        close(all[i]);
    }
}

// A period that is over before the next instruction, many times: the program gets on, and each read counts what was missed.
static void shortest_periods(void) {
    struct itimerspec time = {.it_value = {0, 1}, .it_interval = {0, 1}};
    int timers[32], is_counted = 1;
    for (int i = 0; i < 32; i++) {
        timers[i] = timerfd_create(CLOCK_MONOTONIC, 0);
        timerfd_settime(timers[i], 0, &time, 0);
    }
    for (volatile int work = 0; work < 200000; work++) continue;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 32; i++) {
            uint64_t count = 0;
            if (read(timers[i], &count, 8) != 8 || count < 1 + 100000 * (round == 0)) is_counted = 0;
        }
    TRUE(is_counted);
    for (int i = 0; i < 32; i++) close(timers[i]);
}

int main(void) {
    event_fd();
    timer_fd();
    signal_fd();
    shown();
    shortest_periods();
    return 0;
}
