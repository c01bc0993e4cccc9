// PID 1 of the random driver: makes random system calls with random arguments from several processes
// and threads, and looks what is left of the memory when they are gone.
//
// The environment says how: DRIVER_SEED, DRIVER_CALLS (of one boot), DRIVER_WORKERS, DRIVER_THREADS, DRIVER_UID;
// DRIVER_TRACE=1 prints each call before it is made. Prints
//
//     [driver round N calls N free KIB]
//     [driver worker does not die]       a process that SIGKILL does not end in time, and then
//     [driver left: TEXT]                what /proc has of each process that is left
//     [driver done calls N lost KIB]
#include "driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKERS = 16, MAX_THREADS = 8, ROUND_CALLS = 10000, LIFE_MS = 4000, DEATH_MS = 20000, STACK = 64 * 1024 };

enum { NOTES = 1024, NOTED = 6 };
static struct shared {
    uint64_t calls;
    // The last calls of each process and their arguments, by its number.
    struct note {
        uint64_t count;
        const struct call *calls[NOTED];
        long arguments[NOTED][6];
    } notes[NOTES];
} *shared;
static unsigned workers, threads, uid, traces;
static uint64_t seed, share;

static unsigned long setting(const char *name, unsigned long otherwise) {
    const char *text = getenv(name);
    return text ? strtoul(text, 0, 0) : otherwise;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void ignore(int signal) { (void)signal; }

// What a blocked call and a handler of another call's making cannot keep: a steady signal.
static void keep_moving(void) {
    struct sigaction action = {.sa_handler = ignore};
    struct itimerval often = {{0, 5000}, {0, 5000}};
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        if (signal != SIGSEGV && signal != SIGBUS && signal != SIGILL && signal != SIGFPE) sigaction(signal, &action, 0);
    }
    setitimer(ITIMER_REAL, &often, 0);
}

static void trace(const struct call *call, const long *arguments) {
    char line[300];
    int len = snprintf(line, sizeof line, "%d %s %lx %lx %lx %lx %lx %lx\n", (int)getpid(), call->name, arguments[0],
                       arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    syscall(SYS_write, LOW_FDS + 2, line, len);
}

static void make_call(struct random *random, const struct call *call) {
    long arguments[6] = {0};
    for (size_t i = 0; call->arguments[i]; i++) arguments[i] = argument(random, call->arguments[i]);
    if (traces) trace(call, arguments);
    struct note *note = &shared->notes[getpid() % NOTES];
    uint64_t at = __atomic_fetch_add(&note->count, 1, __ATOMIC_RELAXED) % NOTED;
    note->calls[at] = call;
    memcpy(note->arguments[at], arguments, sizeof arguments);
    syscall(call->number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    __atomic_fetch_add(&shared->calls, 1, __ATOMIC_RELAXED);
}

// A child that makes a few calls, one of them perhaps its last.
static void in_child(struct random *random, const struct call *call) {
    uint64_t child_seed = draw(random) | 1;
    pid_t child = fork();
    if (child == 0) {
        struct random own = {child_seed};
        make_call(&own, call);
        for (uint64_t more = below(&own, 8); more > 0; more--) make_call(&own, &calls[below(&own, call_count)]);
        _exit(0);
    }
    if (child < 0) return;
    for (int i = 0; i < 20 && waitpid(child, 0, WNOHANG) == 0; i++) usleep(500);
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
}

static void *calls_of_thread(void *argument) {
    struct random random = {(uint64_t)(uintptr_t)argument};
    for (uint64_t i = 0; i < share; i++) {
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
    char path[64];
    snprintf(path, sizeof path, "/tmp/work/%u", index);
    mkdir(path, 0777);
    chmod(path, 0777);
    if (chdir(path) != 0) _exit(2);
}

// One worker's life; `life` counts those that this place has had.
static void work(unsigned index, unsigned life) {
    struct random random = {(seed * 1000003 + index * 10007 + life * 101 + 1) | 1};
    for (int i = 0; i < 8; i++) draw(&random);
    setsid();
    if (uid == 0) unshare(CLONE_NEWNS);
    enter_folder(index);
    if (uid != 0 && (setgroups(0, 0) != 0 || setgid(uid) != 0 || setuid(uid) != 0)) _exit(2);
    for (int fd = 0; fd < 3; fd++) dup2(LOW_FDS + 1, fd);
    make_arena(&random);
    make_descriptors();
    keep_moving();
    pthread_t ids[MAX_THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    unsigned started = 0;
    while (started + 1 < threads &&
           pthread_create(&ids[started], &attributes, calls_of_thread, (void *)(uintptr_t)(draw(&random) | 1)) == 0) {
        started++;
    }
    calls_of_thread((void *)(uintptr_t)(draw(&random) | 1));
    while (started > 0) pthread_join(ids[--started], 0);
    _exit(0);
}

static long free_kib(void) {
    struct sysinfo memory;
    sysinfo(&memory);
    return (long)(memory.freeram * memory.mem_unit / 1024);
}

// Prints the last calls of process `pid`, oldest first.
static void show_calls(int pid) {
    struct note *note = &shared->notes[pid % NOTES];
    for (uint64_t i = note->count > NOTED ? note->count - NOTED : 0; i < note->count; i++) {
        const long *arguments = note->arguments[i % NOTED];
        printf("[driver left: %d %s", pid, note->calls[i % NOTED]->name);
        for (int at = 0; at < 6; at++) printf(" %lx", arguments[at]);
        printf("]\n");
    }
}

// Prints what /proc knows of each process but us.
static void show_left(void) {
    static const char *const files[] = {"stat", "syscall", "wchan", "stack"};
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (atoi(entry->d_name) <= 1) continue;
        show_calls(atoi(entry->d_name));
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            char path[64], text[1000];
            snprintf(path, sizeof path, "/proc/%.20s/%s", entry->d_name, files[i]);
            int fd = open(path, O_RDONLY);
            ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text);
            if (fd >= 0) close(fd);
            printf("[driver left: %.*s]\n", len > 0 ? (int)len - (text[len - 1] == '\n') : 0, text);
        }
    }
    if (folder) closedir(folder);
}

// Kills everything but us, and waits until it is gone.
static void end_all(void) {
    long end = now_ms() + DEATH_MS;
    kill(-1, SIGKILL);
    for (;;) {
        pid_t child = waitpid(-1, 0, WNOHANG);
        if (child < 0 && errno == ECHILD) return;
        if (child > 0) continue;
        if (now_ms() > end) {
            printf("[driver worker does not die]\n");
            show_left();
            fflush(stdout);
            return;
        }
        usleep(2000);
        kill(-1, SIGKILL);
    }
}

static void one_round(unsigned number, uint64_t wanted) {
    pid_t pids[MAX_WORKERS] = {0};
    long ends[MAX_WORKERS] = {0}, last = now_ms() + 60000;
    unsigned life = number * 1000;
    uint64_t before = shared->calls;
    mkdir("/tmp/work", 0777);
    if (mount("tmpfs", "/tmp/work", "tmpfs", 0, "size=32m,mode=777") != 0) printf("[driver: no tmpfs: %s]\n", strerror(errno));
    share = wanted / workers / threads + 1;
    while (__atomic_load_n(&shared->calls, __ATOMIC_RELAXED) < before + wanted && now_ms() < last) {
        for (unsigned i = 0; i < workers; i++) {
            if (pids[i] > 0 && waitpid(pids[i], 0, WNOHANG) == pids[i]) pids[i] = 0;
            if (pids[i] > 0 && now_ms() > ends[i]) kill(pids[i], SIGKILL);
            if (pids[i] > 0) continue;
            fflush(stdout);
            pids[i] = fork();
            if (pids[i] == 0) work(i, life);
            life++;
            ends[i] = now_ms() + LIFE_MS;
        }
        usleep(5000);
    }
    end_all();
    if (umount2("/tmp/work", 0) != 0) printf("[driver: umount: %s]\n", strerror(errno));
    usleep(100000);
    printf("[driver round %u calls %lu free %ld]\n", number, shared->calls, free_kib());
    fflush(stdout);
}

static void set_up(void) {
    mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    int console = open("/dev/console", O_RDWR), null = open("/dev/null", O_RDWR);
    for (int fd = 0; console >= 0 && fd < 3; fd++) dup2(console, fd);
    fcntl(null, F_DUPFD, LOW_FDS + 1);
    fcntl(console, F_DUPFD, LOW_FDS + 2);
    close(null);
    close(console);
    mount("proc", "/proc", "proc", 0, 0);
    mkdir("/dev/pts", 0755);
    mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=666");
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    write(score, "-1000", 5);
    close(score);
}

int main(void) {
    set_up();
    seed = setting("DRIVER_SEED", 1);
    workers = (unsigned)setting("DRIVER_WORKERS", 4);
    threads = (unsigned)setting("DRIVER_THREADS", 2);
    uid = (unsigned)setting("DRIVER_UID", 0);
    traces = (unsigned)setting("DRIVER_TRACE", 0);
    uint64_t wanted = setting("DRIVER_CALLS", 50000);
    if (workers > MAX_WORKERS) workers = MAX_WORKERS;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    // The first round fills caches and is not compared.
    one_round(0, ROUND_CALLS);
    long before = free_kib();
    for (unsigned round = 1; shared->calls < wanted && round < 100; round++) one_round(round, ROUND_CALLS);
    printf("[driver done calls %lu lost %ld]\n", shared->calls, before - free_kib());
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
