// Clocks, sleeping, timers.
#include "test.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

static volatile int alarms;
static void handler(int signal) {
    (void)signal;
    alarms++;
}

static long long read_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void) {
    clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
                          CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};
    for (int i = 0; i < 6; i++) {
        long long last = read_ns(clocks[i]), backward = 0;
        for (int j = 0; j < 1000; j++) {
            long long now = read_ns(clocks[i]);
            backward += now < last;
            last = now;
        }
        long long before = read_ns(clocks[i]);
        sleep_ms(30);
        long long passed = read_ns(clocks[i]) - before;
        say("clock %d: backward %lld, passes: %s\n", clocks[i], backward,
            passed > 20000000 && passed < 2000000000 ? "yes" : "NO");
    }
    TRUE(read_ns(CLOCK_REALTIME) > 1700000000LL * 1000000000);
    struct timeval day;
    gettimeofday(&day, 0);
    TRUE(labs(day.tv_sec - time(0)) <= 1);
    struct timespec resolution;
    SHOW(clock_getres(CLOCK_MONOTONIC, &resolution));
    TRUE(resolution.tv_nsec >= 1 && resolution.tv_nsec <= 4000000);
    SHOW(clock_gettime(99, &resolution));
    TRUE(read_ns(CLOCK_PROCESS_CPUTIME_ID) > 0);
    TRUE(read_ns(CLOCK_THREAD_CPUTIME_ID) > 0);

    for (int i = 0; i < 3; i++) {
        long wanted[] = {0, 1000000, 60000000};
        struct timespec time = {0, wanted[i]};
        long long start = now_ns();
        SHOW(nanosleep(&time, 0));
        long long took = now_ns() - start;
        TRUE(took >= wanted[i] && took < wanted[i] + 1000000000);
    }
    struct timespec bad = {0, 1000000000};
    SHOW(nanosleep(&bad, 0));
    SHOW(nanosleep(&(struct timespec){-1, 0}, 0));
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_nsec += 30000000;
    if (deadline.tv_nsec >= 1000000000) deadline.tv_sec++, deadline.tv_nsec -= 1000000000;
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, 0));
    SHOW(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, 0));
    SHOW(clock_nanosleep(99, 0, &deadline, 0));

    // A signal ends a sleep, and what is left is told.
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, 0);
    struct itimerval timer = {.it_value = {0, 30000}}, old;
    SHOW(setitimer(ITIMER_REAL, &timer, 0));
    struct timespec left, second = {1, 0};
    SHOW(nanosleep(&second, &left));
    TRUE(left.tv_sec == 0 && left.tv_nsec > 500000000);
    timer.it_interval.tv_usec = 10000;
    setitimer(ITIMER_REAL, &timer, 0);
    alarms = 0;
    while (alarms < 5) pause();
    memset(&timer, 0, sizeof timer);
    SHOW(setitimer(ITIMER_REAL, &timer, &old));
    SHOW(old.it_interval.tv_usec);
    SHOW(alarm(100));
    SHOW(alarm(0));
    SHOW(getitimer(ITIMER_REAL, &old));
    SHOW(old.it_value.tv_sec);

    struct tms ticks;
    TRUE(times(&ticks) != -1);
    SHOW(sysconf(_SC_CLK_TCK));
    struct rusage usage;
    SHOW(getrusage(RUSAGE_SELF, &usage));
    SHOW(getrusage(RUSAGE_CHILDREN, &usage));
    SHOW(getrusage(99, &usage));
    TRUE(usage.ru_maxrss >= 0);
    volatile long work = 0;
    long long cpu = read_ns(CLOCK_PROCESS_CPUTIME_ID);
    while (read_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 20000000) work++;
    TRUE(work > 0);
    return 0;
}
