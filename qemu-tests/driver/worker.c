// A worker: one process, its threads and its short-lived children, which make the calls.
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 64 * 1024, TIMERS = 12, OFTEN_NS = 5000000, SECOND_NS = 1000000000 };
static const rlim_t LARGEST_FILE = 64 << 20;

struct settings settings;

static __thread sigjmp_buf after_fault;
static __thread volatile sig_atomic_t touches;

static void ignore(int signal) { (void)signal; }

static void fault(int signal) {
    if (touches) siglongjmp(after_fault, 1);
    // Met again by itself; now it ends the process.
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal, &action, 0);
}

// Loads from memory or stores to it: one byte, or some in each page of several.
static void touch(long place, long how) {
    if (sigsetjmp(after_fault, 1) == 0) {
        touches = 1;
        volatile char *at = (volatile char *)place;
        for (int page = 0; page < (how == 2 ? 8 : 1); page++, at += PAGE) {
            char value = *at;
            if (how != 0) *at = (char)(value + 1);
        }
    }
    touches = 0;
}

// A blocked call, and a handler of another call's making, end by a steady signal to each thread. The timer's number is
// above those that calls name.
static void keep_moving(void) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
    struct timespec tick = {OFTEN_NS * settings.slowness / SECOND_NS, OFTEN_NS * settings.slowness % SECOND_NS};
    struct itimerspec often = {tick, tick};
    int timer = -1, made[TIMERS + 1], count = 0;
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    while (count <= TIMERS && syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0 && timer < TIMERS) made[count++] = timer;
    if (timer >= TIMERS) syscall(SYS_timer_settime, timer, 0, &often, 0);
    while (count > 0) syscall(SYS_timer_delete, made[--count]);
}

static void handle_signals(void) {
    struct sigaction action = {.sa_handler = ignore}, on_fault = {.sa_handler = fault};
    struct timeval tick = {OFTEN_NS * settings.slowness / SECOND_NS, OFTEN_NS * settings.slowness % SECOND_NS / 1000};
    struct itimerval often = {tick, tick};
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        int is_fault = signal == SIGSEGV || signal == SIGBUS;
        if (signal != SIGILL && signal != SIGFPE) sigaction(signal, is_fault ? &on_fault : &action, 0);
    }
    setitimer(ITIMER_REAL, &often, 0);
}

static void trace(const struct call *call, const long *arguments) {
    char line[300];
    int len = snprintf(line, sizeof line, "%d %s %lx %lx %lx %lx %lx %lx\n", (int)getpid(), call->name, arguments[0],
                       arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    syscall(SYS_write, CONSOLE_FD, line, len);
}

static void make_call(struct random *random, const struct call *call) {
    long arguments[6] = {0};
    for (size_t i = 0; call->arguments[i]; i++) arguments[i] = argument(random, call->arguments[i]);
    if (settings.traces) trace(call, arguments);
    struct note *note = &shared->notes[getpid() % NOTES];
    uint64_t at = __atomic_fetch_add(&note->count, 1, __ATOMIC_RELAXED) % NOTED;
    note->calls[at] = call;
    memcpy(note->arguments[at], arguments, sizeof arguments);
    if (call->number == TOUCH) touch(arguments[0], arguments[1]);
    else syscall(call->number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    __atomic_fetch_add(&shared->calls, 1, __ATOMIC_RELAXED);
}

static void make_some(struct random *random, const struct call *first) {
    make_call(random, first);
    for (uint64_t more = below(random, 8); more > 0; more--) make_call(random, &calls[below(random, call_count)]);
}

static void *calls_of_helper(void *argument) {
    struct random random = {(uint64_t)(uintptr_t)argument};
    make_some(&random, &calls[below(&random, call_count)]);
    return 0;
}

// A child's life: a few calls, at times beside a thread or a child of its own, which ends with it.
static _Noreturn void live(struct random *random, const struct call *call) {
    pthread_t helper;
    uint64_t kind = below(random, 4), seed = draw(random) | 1;
    if (kind == 0) {
        pthread_create(&helper, 0, calls_of_helper, (void *)(uintptr_t)seed);
    } else if (kind == 1 && fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct random own = {seed};
        if (getppid() != 1) make_some(&own, call);
        _exit(0);
    }
    make_some(random, call);
    _exit(0);
}

static void in_child(struct random *random, const struct call *call) {
    struct random own = {draw(random) | 1};
    pid_t child = fork();
    if (child == 0) live(&own, call);
    if (child < 0) return;
    for (int i = 0; i < 20 && waitpid(child, 0, WNOHANG) == 0; i++) usleep((useconds_t)(500 * settings.slowness));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
}

static void *calls_of_thread(void *argument) {
    struct random random = {(uint64_t)(uintptr_t)argument};
    keep_moving();
    for (uint64_t i = 0; i < settings.share; i++) {
        const struct call *call = &calls[below(&random, call_count)];
        if (!call->is_final) {
            make_call(&random, call);
        } else if (below(&random, 4) == 0) {
            in_child(&random, call);
        }
    }
    return 0;
}

static void enter_folder(unsigned index) {
    char path[200];
    const char *base = settings.folder && index % 2 ? settings.folder : "/tmp/work";
    snprintf(path, sizeof path, "%s/%u", base, index);
    mkdir(path, 0777);
    chmod(path, 0777);
    if (chdir(path) != 0) {
        dprintf(CONSOLE_FD, "[driver: %s: %s]\n", path, strerror(errno));
        _exit(2);
    }
    mkdir("m", 0777);
}

static void become_mortal(void) {
    struct rlimit limit = {LARGEST_FILE, LARGEST_FILE};
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    write(score, "0", 1);
    close(score);
    setrlimit(RLIMIT_FSIZE, &limit);
}

_Noreturn void work(unsigned index, unsigned life) {
    struct random random = {(settings.seed * 1000003 + index * 10007 + life * 101 + 1) | 1};
    for (int i = 0; i < 8; i++) draw(&random);
    setsid();
    if (settings.uid == 0) unshare(CLONE_NEWNS);
    become_mortal();
    enter_folder(index);
    if (settings.uid != 0 && (setgroups(0, 0) != 0 || setgid(settings.uid) != 0 || setuid(settings.uid) != 0)) _exit(2);
    for (int fd = 0; fd < 3; fd++) dup2(NULL_FD, fd);
    make_arena(&random);
    make_descriptors();
    handle_signals();
    pthread_t ids[MAX_THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    unsigned started = 0;
    while (started + 1 < settings.threads &&
           pthread_create(&ids[started], &attributes, calls_of_thread, (void *)(uintptr_t)(draw(&random) | 1)) == 0) {
        started++;
    }
    calls_of_thread((void *)(uintptr_t)(draw(&random) | 1));
    while (started > 0) pthread_join(ids[--started], 0);
    _exit(0);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk) {
    (void)status;
    (void)kind;
    if (walk->level > 0) remove(path);
    return 0;
}

void empty_folder(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }
