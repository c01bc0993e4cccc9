// PID 1 of short boots that look for guests that fall silent: programs that wait for children, for timers and for
// each other, all at once and a few times over. Prints
//
//     [waits round N]        when all of a round have ended
//     [waits alarm: TEXT]    one that did not end in time, and what /proc has of it, or one that failed
//     [waits done]
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 3, LIMIT_MS = 100000, RING = 6 };

static volatile sig_atomic_t alarms, children;

static void count_alarm(int signal) { (void)signal, alarms++; }
static void count_child(int signal) { (void)signal, children++; }

// Jobs of a shell: pipelines, background children that are killed and waited for, nested shells.
static int in_shell(void) {
    static char script[] = "i=0; while [ $i -lt 4 ]; do i=$((i+1)); sleep 10 & kill $!; wait $!; (exit 3) & (true) & wait; "
                           "echo $i | cat | cat > /dev/null; done; sh -c 'sh -c \"exit 5\"; exit $?' ; [ $? = 5 ]";
    execl("/bin/sh", "sh", "-c", script, (char *)0);
    return 1;
}

// As make does: children of children, each waited for by number or as they come, some through vfork.
static int tree(int depth) {
    pid_t pids[3];
    extern char **environ;
    char *arguments[] = {"exit", 0};
    for (int i = 0; i < 3; i++) {
        if (depth == 0) {
            if (posix_spawn(&pids[i], "/bin/exit", 0, 0, arguments, environ) != 0) return 1;
        } else if ((pids[i] = fork()) == 0) {
            _exit(tree(depth - 1));
        }
    }
    int failed = 0, status = 0;
    for (int i = 0; i < 3; i++) {
        if (waitpid(depth == 1 ? -1 : pids[2 - i], &status, 0) < 0 || status != 0) failed = 1;
    }
    return failed;
}

static int trees(void) { return tree(2); }

// Waits for SIGCHLD with the signal blocked but while it sleeps.
static int by_signal(void) {
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    signal(SIGCHLD, count_child);
    for (int i = 0; i < 12; i++) {
        sig_atomic_t seen = children;
        if (fork() == 0) _exit(i);
        while (children == seen) sigsuspend(&before);
        while (waitpid(-1, 0, WNOHANG) > 0) continue;
    }
    return 0;
}

static int interval_timer(void) {
    struct itimerval often = {{0, 1500}, {0, 1500}};
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    signal(SIGALRM, count_alarm);
    setitimer(ITIMER_REAL, &often, 0);
    while (alarms < 60) sigsuspend(&before);
    return 0;
}

static int cpu_timer(void) {
    struct itimerval often = {{0, 4000}, {0, 4000}};
    signal(SIGPROF, count_alarm);
    setitimer(ITIMER_PROF, &often, 0);
    struct tms used;
    while (alarms < 8) times(&used);
    return 0;
}

static int descriptor_timer(void) {
    struct itimerspec often = {{0, 2000000}, {0, 2000000}};
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(timer, 0, &often, 0);
    for (uint64_t all = 0, some; all < 40; all += some) {
        struct pollfd ready = {timer, POLLIN, 0};
        if (poll(&ready, 1, all % 2 ? 1 : -1) < 0 || read(timer, &some, sizeof some) != sizeof some) return 1;
    }
    return 0;
}

static int sleeps(void) {
    for (int i = 0; i < 40; i++) {
        struct timespec time = {0, 100000L * (i % 8)};
        if (nanosleep(&time, 0) != 0 || poll(0, 0, i % 3) != 0) return 1;
    }
    return 0;
}

// A token goes round through pipes.
static int ring(void) {
    int ends[RING][2];
    char token = 't';
    for (int i = 0; i < RING; i++) {
        if (pipe(ends[i]) != 0) return 1;
    }
    for (int i = 1; i < RING; i++) {
        if (fork() != 0) continue;
        for (int turn = 0; turn < 60; turn++) {
            if (read(ends[i - 1][0], &token, 1) != 1 || write(ends[i][1], &token, 1) != 1) _exit(1);
        }
        _exit(0);
    }
    for (int turn = 0; turn < 60; turn++) {
        if (write(ends[0][1], &token, 1) != 1 || read(ends[RING - 1][0], &token, 1) != 1) return 1;
    }
    int failed = 0;
    for (int i = 1, status; i < RING; i++) failed |= wait(&status) < 0 || status != 0;
    return failed;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *argument) {
    int mine = (int)(intptr_t)argument;
    for (int i = 0; i < 60; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 3 != mine) pthread_cond_wait(&turned, &mutex);
        turn++;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&mutex);
    }
    return 0;
}

static int futexes(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, take_turns, (void *)(intptr_t)i);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(void);
} works[] = {{"shell", in_shell}, {"tree", trees}, {"by signal", by_signal}, {"interval timer", interval_timer}, {"cpu timer", cpu_timer},
             {"timerfd", descriptor_timer}, {"sleeps", sleeps}, {"ring", ring}, {"futexes", futexes}};
enum { WORKS = sizeof works / sizeof *works };

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// What /proc knows of each process but us.
static void show_left(void) {
    static const char *const files[] = {"stat", "status", "wchan"};
    DIR *folder = opendir("/proc");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (atoi(entry->d_name) <= 1) continue;
        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
            char path[64], text[2000];
            snprintf(path, sizeof path, "/proc/%.20s/%s", entry->d_name, files[i]);
            int fd = open(path, O_RDONLY);
            ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text);
            if (fd >= 0) close(fd);
            printf("[waits alarm: %s %.*s]\n", files[i], len > 0 ? (int)len : 0, text);
        }
    }
    if (folder) closedir(folder);
}

static void one_round(int number) {
    pid_t pids[WORKS];
    long end = now_ms() + LIMIT_MS;
    int left = WORKS;
    for (int i = 0; i < WORKS; i++) {
        fflush(stdout);
        pids[i] = fork();
        if (pids[i] == 0) _exit(works[i].run());
        if (pids[i] < 0) printf("[waits alarm: no child: %s]\n", strerror(errno));
    }
    while (left > 0 && now_ms() < end) {
        int status = 0;
        pid_t child = waitpid(-1, &status, WNOHANG);
        for (int i = 0; child > 0 && i < WORKS; i++) {
            if (pids[i] != child) continue;
            left--;
            if (status != 0) printf("[waits alarm: %s ended with %x]\n", works[i].name, (unsigned)status);
        }
        if (child <= 0) usleep(2000);
    }
    if (left > 0) show_left();
    printf("[waits round %d]\n", number);
    fflush(stdout);
}

int main(void) {
    mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; console >= 0 && fd < 3; fd++) dup2(console, fd);
    mount("proc", "/proc", "proc", 0, 0);
    setenv("PATH", "/bin", 1);
    for (int number = 0; number < ROUNDS; number++) one_round(number);
    printf("[waits done]\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 1;
}
