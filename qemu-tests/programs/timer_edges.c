// Timers and clocks at their edges: what is refused, what is left, what a fast one may cost.
#include "test.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

static volatile int caught, overrun;

static void count(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    caught++;
    overrun += info->si_overrun;
}

static void catch(int signal) {
    struct sigaction action = {.sa_sigaction = count, .sa_flags = SA_SIGINFO};
    sigaction(signal, &action, 0);
}

static int make(int clock, int notify, int signal) {
    struct sigevent event = {.sigev_notify = notify, .sigev_signo = signal};
    int id = -1;
    if (syscall(SYS_timer_create, clock, &event, &id) != 0) return -1;
    return id;
}

static long set(int id, int flags, long value_ns, long interval_ns) {
    struct itimerspec time = {{interval_ns / 1000000000, interval_ns % 1000000000},
                              {value_ns / 1000000000, value_ns % 1000000000}};
    return syscall(SYS_timer_settime, id, flags, &time, 0);
}

static void creating(void) {
    int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI,
                    CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, 10, 99};
    for (int i = 0; i < 9; i++) {
        say("clock %d: ", clocks[i]);
        OK(make(clocks[i], SIGEV_NONE, 0));
    }
    SHOW(make(CLOCK_MONOTONIC, 77, SIGUSR1));
    SHOW(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, 65));
    SHOW(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, 0));
    SHOW(make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGUSR1));
    SHOW(syscall(SYS_timer_create, CLOCK_MONOTONIC, 0, 8));
    SHOW(syscall(SYS_timer_delete, 12345));
    SHOW(syscall(SYS_timer_gettime, 12345, 0));
    SHOW(syscall(SYS_timer_getoverrun, -1));
    int id = make(CLOCK_MONOTONIC, SIGEV_NONE, 0);
    struct itimerspec bad = {{0, 0}, {0, 1000000000}};
    SHOW(syscall(SYS_timer_settime, id, 0, &bad, 0));
    bad = (struct itimerspec){{0, 0}, {-1, 0}};
    SHOW(syscall(SYS_timer_settime, id, 0, &bad, 0));
    SHOW(syscall(SYS_timer_settime, id, 0, 0, 0));
    SHOW(syscall(SYS_timer_settime, id, 0, 8, 0));
}

static void leftovers(void) {
    struct itimerspec left;
    int id = make(CLOCK_MONOTONIC, SIGEV_NONE, 0);
    SHOW(set(id, 0, 0, 5000000));
    SHOW(syscall(SYS_timer_gettime, id, &left));
    say("disarmed: value %ld, interval %ld\n", left.it_value.tv_nsec, left.it_interval.tv_nsec);
    SHOW(set(id, 0, 10000000, 0));
    sleep_ms(50);
    SHOW(syscall(SYS_timer_gettime, id, &left));
    say("expired: value %ld, interval %ld\n", left.it_value.tv_nsec, left.it_interval.tv_nsec);
    SHOW(set(id, TIMER_ABSTIME, 1, 3600000000000));
    SHOW(syscall(SYS_timer_gettime, id, &left));
    TRUE(left.it_value.tv_sec > 0 && left.it_value.tv_sec <= 3600);
    SHOW((long)left.it_interval.tv_sec);
    SHOW(syscall(SYS_timer_getoverrun, id));

    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        struct itimerval timer = {{0, 5000}, {0, 0}}, now;
        SHOW(setitimer(which, &timer, 0));
        SHOW(getitimer(which, &now));
        say("disarmed: value %ld, interval %ld\n", now.it_value.tv_usec, now.it_interval.tv_usec);
    }
    struct itimerval timer = {{0, 0}, {0, 1000000}};
    SHOW(setitimer(ITIMER_REAL, &timer, 0));
    SHOW(setitimer(3, &timer, 0));
    SHOW(syscall(SYS_setitimer, ITIMER_REAL, 8, 0));
    SHOW(syscall(SYS_getitimer, ITIMER_REAL, 8));
}

// A signal that was ignored or dropped does not silence the timer for ever.
static void ignored(void) {
    signal(SIGUSR1, SIG_IGN);
    int id = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1);
    SHOW(set(id, 0, 5000000, 5000000));
    sleep_ms(60);
    catch(SIGUSR1);
    caught = 0;
    sleep_ms(100);
    TRUE(caught > 1);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, 0);
    sleep_ms(60);
    // Pending now: ignoring it drops it.
    signal(SIGUSR1, SIG_IGN);
    catch(SIGUSR1);
    caught = overrun = 0;
    sleep_ms(60);
    sigprocmask(SIG_UNBLOCK, &set, 0);
    TRUE(caught >= 1);
    sleep_ms(100);
    TRUE(caught > 1);
    TRUE(overrun > 1);
    SHOW(syscall(SYS_timer_delete, id));
}

// The shortest period there is, with nobody to take the signals: everybody else still gets on.
static void fast(void) {
    for (int kind = 0; kind < 2; kind++) {
        pid_t child = fork_clean();
        if (child == 0) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, 0);
            if (kind == 1) sigprocmask(SIG_UNBLOCK, &all, 0);
            signal(SIGUSR1, SIG_IGN);
            signal(SIGALRM, SIG_IGN);
            for (int i = 0; i < 4; i++) set(make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1), 0, 1, 1);
            struct itimerval timer = {{0, 1}, {0, 1}};
            setitimer(ITIMER_REAL, &timer, 0);
            for (;;) pause();
        }
        sleep_ms(100);
        for (int i = 0; i < 10; i++) {
            pid_t other = fork_clean();
            if (other == 0) _exit(0);
            waitpid(other, 0, 0);
            sleep_ms(1);
        }
        kill(child, SIGKILL);
        show_end("ticker", child);
    }
}

static void many(void) {
    int made = 0;
    struct rlimit limit = {100, 100};
    setrlimit(RLIMIT_SIGPENDING, &limit);
    while (made < 100000 && make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1) >= 0) made++;
    TRUE(made <= 100);
    TRUE(errno == EAGAIN);
}

static void clocks(void) {
    struct timespec time = {0, 1000}, now;
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_COARSE, 0, &time, 0));
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC_RAW, 0, &time, 0));
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &time, 0));
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &time, 0));
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_TAI, 0, &time, 0));
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, 8, 0));
    SHOW(syscall(SYS_clock_settime, CLOCK_MONOTONIC, &time));
    SHOW(syscall(SYS_clock_settime, CLOCK_PROCESS_CPUTIME_ID, &time));
    SHOW(syscall(SYS_clock_settime, 99, &time));
    SHOW(syscall(SYS_clock_gettime, CLOCK_TAI, &now));
    SHOW(syscall(SYS_clock_getres, CLOCK_PROCESS_CPUTIME_ID, &now));
    SHOW(now.tv_nsec);
    SHOW(syscall(SYS_clock_getres, 10, &now));
    SHOW(syscall(SYS_clock_getres, CLOCK_MONOTONIC, 0));
    clockid_t clock;
    SHOW(clock_getcpuclockid(0, &clock));
    SHOW(clock_gettime(clock, &now));
    SHOW(clock_getcpuclockid(1, &clock));
    SHOW(clock_gettime(clock, &now));
    SHOW(clock_getcpuclockid(0x7ffffff, &clock));
    // Of a process: user time, and with the kernel's.
    SHOW(syscall(SYS_clock_gettime, (~(unsigned)getpid() << 3) | 0, &now));
    SHOW(syscall(SYS_clock_gettime, (~(unsigned)getpid() << 3) | 1, &now));
    SHOW(syscall(SYS_clock_gettime, (~(unsigned)getpid() << 3) | 3, &now));
    struct timeval bad = {0, 1000001};
    SHOW(settimeofday(&bad, 0));
    SHOW(syscall(SYS_alarm, 0));
}

static volatile int ticks;

static void tick(int signal) {
    (void)signal;
    ticks++;
}

static void spin_until(int want) {
    long long end = now_ns() + 20000000000LL;
    for (volatile long work = 0; ticks < want && (work & 0xfff || now_ns() < end);) work++;
}

// Timers on CPU time, of a thread that never calls the kernel.
static void by_cpu_time(void) {
    struct itimerval every = {{0, 20000}, {0, 20000}}, once = {{0, 0}, {0, 50000}}, none = {0};
    signal(SIGPROF, tick);
    signal(SIGVTALRM, tick);
    signal(SIGUSR2, tick);
    ticks = 0;
    SHOW(setitimer(ITIMER_PROF, &once, 0));
    spin_until(1);
    SHOW(ticks);
    ticks = 0;
    SHOW(setitimer(ITIMER_VIRTUAL, &every, 0));
    spin_until(3);
    TRUE(ticks >= 3);
    SHOW(setitimer(ITIMER_VIRTUAL, &none, 0));
    clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (int i = 0; i < 2; i++) {
        timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
        struct itimerspec spec = {{0, 0}, {0, 30000000}}, left;
        ticks = 0;
        SHOW(timer_create(clocks[i], &event, &timer));
        SHOW(timer_gettime(timer, &left));
        SHOW(left.it_value.tv_nsec);
        SHOW(timer_settime(timer, 0, &spec, 0));
        SHOW(timer_gettime(timer, &left));
        TRUE(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 30000000);
        spin_until(1);
        SHOW(ticks);
        SHOW(timer_delete(timer));
    }
    // Nobody uses the CPU while its only thread sleeps by it: only the signal ends this.
    struct timespec time = {100, 0};
    signal(SIGALRM, tick);
    struct itimerval soon = {{0, 0}, {0, 50000}};
    setitimer(ITIMER_REAL, &soon, 0);
    SHOW(syscall(SYS_clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, &time, &time));
    TRUE(time.tv_sec == 99);
    struct timeval old;
    SHOW(adjtime(0, &old));
    SHOW(old.tv_sec == 0 && old.tv_usec == 0);
}

static volatile int is_over, own[3], strays;
static __thread int number = -1;

static void own_tick(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    if (info->si_value.sival_int == number) own[number]++;
    else strays++;
}

// Busy until the others are through, and told each 10 ms of its own CPU time.
static void *busy(void *argument) {
    number = (int)(intptr_t)argument;
    clockid_t clock;
    pthread_getcpuclockid(pthread_self(), &clock);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1,
                             .sigev_value.sival_int = number};
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    struct itimerspec spec = {{0, 10000000}, {0, 10000000}};
    timer_t timer;
    timer_create(clock, &event, &timer);
    timer_settime(timer, 0, &spec, 0);
    while (!is_over) continue;
    return 0;
}

// Several threads that are busy at once, none of which calls the kernel: each is told by its own clock, and all
// together by the process's.
static void by_cpu_time_of_threads(void) {
    struct sigaction action = {.sa_sigaction = own_tick, .sa_flags = SA_SIGINFO};
    struct itimerval every = {{0, 20000}, {0, 20000}}, none = {0};
    pthread_t threads[3];
    sigaction(SIGUSR1, &action, 0);
    ticks = 0;
    // The first threads are there before the timer is, the last one joins.
    for (intptr_t i = 0; i < 2; i++) pthread_create(&threads[i], 0, busy, (void *)i);
    SHOW(setitimer(ITIMER_PROF, &every, 0));
    pthread_create(&threads[2], 0, busy, (void *)2);
    spin_until(5);
    TRUE(ticks >= 5);
    long long end = now_ns() + 20000000000LL;
    while (now_ns() < end && (own[0] < 3 || own[1] < 3 || own[2] < 3)) continue;
    TRUE(own[0] >= 3 && own[1] >= 3 && own[2] >= 3);
    SHOW(strays);
    SHOW(setitimer(ITIMER_PROF, &none, 0));
    // They wait now; the one that is left is told of what it uses itself.
    is_over = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    ticks = 0;
    SHOW(setitimer(ITIMER_VIRTUAL, &every, 0));
    spin_until(3);
    TRUE(ticks >= 3);
    SHOW(setitimer(ITIMER_VIRTUAL, &none, 0));
}

// Past the soft limit SIGXCPU each second, past the hard one the end; the threads use it up together.
static void over_the_limit(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        struct rlimit limit = {1, 2};
        pthread_t thread;
        signal(SIGXCPU, tick);
        signal(SIGUSR1, SIG_IGN);
        setrlimit(RLIMIT_CPU, &limit);
        ticks = is_over = 0;
        for (intptr_t i = 0; i < 2; i++) pthread_create(&thread, 0, busy, (void *)i);
        spin_until(1);
        SHOW(ticks);
        getrlimit(RLIMIT_CPU, &limit);
        SHOW(limit.rlim_cur);
        for (;;) spin_until(1 << 30);
    }
    show_end("over its limit", child);
    // Inherited, and without a second's notice.
    child = fork_clean();
    if (child == 0) {
        struct rlimit limit = {0, 0};
        setrlimit(RLIMIT_CPU, &limit);
        pid_t grandchild = fork_clean();
        if (grandchild != 0) waitpid(grandchild, 0, 0);
        for (;;) spin_until(1 << 30);
    }
    show_end("without time", child);
}

int main(void) {
    by_cpu_time();
    by_cpu_time_of_threads();
    over_the_limit();
    creating();
    leftovers();
    ignored();
    clocks();
    fast();
    many();
    return 0;
}
