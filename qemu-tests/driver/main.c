// The random driver: makes random system calls with random arguments from several processes
// and threads, and looks what is left of the memory when they are gone. PID 1, or the program of a container.
//
// The environment says how: DRIVER_SEED, DRIVER_CALLS (of one boot), DRIVER_ROUND, DRIVER_WORKERS, DRIVER_THREADS, DRIVER_UID;
// DRIVER_SHARE=PATH lets half of the workers use that folder; DRIVER_TRACE=1 prints each call before it is made;
// DRIVER_SLOWNESS=N gives everything N times as long. Prints
//
//     [driver round N calls N free KIB]
//     [driver worker does not die]       a process that SIGKILL does not end in time, and then
//     [driver left: TEXT]                what /proc has of each process that is left
//     [driver alarm: TEXT]               something else that must not be
//     [driver done calls N lost KIB]
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "worker.h"

// Of a machine of ordinary speed; DRIVER_SLOWNESS says how many times as long all takes.
enum { LIFE_MS = 4000, DEATH_MS = 20000, ROUND_MS = 60000 };

struct shared *shared;
static uint64_t round_calls;
static int is_first;

static unsigned long setting(const char *name, unsigned long otherwise) {
    const char *text = getenv(name);
    return text ? strtoul(text, 0, 0) : otherwise;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Kills everything but us (and, in a container, its first process), and waits until it is gone.
static void end_all(void) {
    long end = now_ms() + DEATH_MS * settings.slowness;
    kill(-1, SIGKILL);
    for (;;) {
        pid_t child = waitpid(-1, 0, WNOHANG);
        if (child < 0 && errno == ECHILD) return;
        if (child > 0) continue;
        if (now_ms() > end) {
            printf("[driver worker does not die]\n");
            show_left();
            return;
        }
        usleep(2000);
        kill(-1, SIGKILL);
    }
}

// Devices that a worker of root's may have removed.
static void make_devices(void) {
    static const struct {
        const char *path;
        unsigned major, minor;
    } devices[] = {{"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}, {"/dev/ptmx", 5, 2}};
    for (size_t i = 0; is_first && i < COUNT(devices); i++) {
        mknod(devices[i].path, S_IFCHR, makedev(devices[i].major, devices[i].minor));
        chmod(devices[i].path, 0666);
    }
}

static void keep_workers(unsigned number, uint64_t until) {
    long ends[MAX_WORKERS] = {0}, last = now_ms() + ROUND_MS * settings.slowness, looked = 0;
    unsigned life = number * 1000, shown = 0;
    pid_t *pids = shared->workers;
    while (__atomic_load_n(&shared->calls, __ATOMIC_RELAXED) < until && now_ms() < last) {
        // Orphans are ours, too.
        int status;
        for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
            for (unsigned i = 0; i < settings.workers; i++) {
                if (pids[i] != ended) continue;
                pids[i] = 0;
                if (status != 0 && status != SIGKILL && shown++ < 5) printf("[driver: worker %u ended with %x]\n", i, (unsigned)status);
            }
        }
        for (unsigned i = 0; i < settings.workers; i++) {
            if (pids[i] > 0 && now_ms() > ends[i]) kill(pids[i], SIGKILL);
            if (pids[i] > 0) continue;
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) work(i, life);
            pids[i] = child > 0 ? child : 0;
            life++;
            ends[i] = now_ms() + LIFE_MS * settings.slowness;
        }
        if (now_ms() > looked + 300) {
            check_answers(0);
            looked = now_ms();
        }
        usleep(5000);
    }
}

// Files that were sent over sockets and never received go when sockets are closed and somebody looks for them: a little
// after the processes, on Linux, too.
static void unmount_work(void) {
    for (int tries = 0; umount2("/tmp/work", 0) != 0; tries++) {
        if (tries == 100) {
            printf("[driver alarm: umount: %s]\n", strerror(errno));
            return;
        }
        close(socket(AF_UNIX, SOCK_STREAM, 0));
        usleep(20000);
    }
}

static void one_round(unsigned number, uint64_t wanted) {
    mkdir("/tmp/work", 0777);
    if (mount("tmpfs", "/tmp/work", "tmpfs", 0, "size=32m,mode=777") != 0) printf("[driver: no tmpfs: %s]\n", strerror(errno));
    make_devices();
    make_common_descriptors();
    settings.share = wanted / settings.workers / settings.threads + 1;
    keep_workers(number, shared->calls + wanted);
    end_all();
    memset(shared->workers, 0, sizeof shared->workers);
    drop_common_descriptors();
    if (settings.folder) empty_folder(settings.folder);
    unmount_work();
    usleep(100000);
    check_answers(1);
    check_leftovers();
    printf("[driver round %u calls %lu free %ld]\n", number, shared->calls, free_kib());
    show_memory();
    fflush(stdout);
}

// As the first process: file systems and a console.
static void set_up_machine(void) {
    mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; console >= 0 && fd < 3; fd++) dup2(console, fd);
    close(console);
    mount("proc", "/proc", "proc", 0, 0);
    mkdir("/dev/pts", 0755);
    mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=666");
}

// In a container: the workers' orphans come here, and what they remove does not matter.
static void set_up_container(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    unshare(CLONE_NEWNS);
    mount(0, "/", 0, MS_REC | MS_PRIVATE, 0);
    mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
    if (settings.folder) {
        mkdir(settings.folder, 0777);
        mount(settings.folder, settings.folder, 0, MS_BIND, 0);
        mount(0, "/", 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0);
    }
}

static void set_up(void) {
    if (is_first) set_up_machine();
    else set_up_container();
    int null = open("/dev/null", O_RDWR);
    fcntl(null, F_DUPFD, NULL_FD);
    fcntl(1, F_DUPFD, CONSOLE_FD);
    keep_program();
    close(null);
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    write(score, "-1000", 5);
    close(score);
}

static void read_settings(void) {
    settings.seed = setting("DRIVER_SEED", 1);
    settings.workers = (unsigned)setting("DRIVER_WORKERS", 4);
    settings.threads = (unsigned)setting("DRIVER_THREADS", 2);
    settings.uid = (unsigned)setting("DRIVER_UID", 0);
    settings.traces = (unsigned)setting("DRIVER_TRACE", 0);
    settings.folder = getenv("DRIVER_SHARE");
    settings.slowness = (long)setting("DRIVER_SLOWNESS", 1);
    round_calls = setting("DRIVER_ROUND", 10000);
    if (settings.workers > MAX_WORKERS) settings.workers = MAX_WORKERS;
    if (settings.threads > MAX_THREADS) settings.threads = MAX_THREADS;
}

int main(void) {
    is_first = getpid() == 1;
    // A worker that executes its own program.
    if (!is_first && !getenv("DRIVER_CALLS")) return 0;
    read_settings();
    uint64_t wanted = setting("DRIVER_CALLS", 50000);
    unsetenv("DRIVER_CALLS");
    set_up();
    shared = mmap((void *)0x30000000, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (shared == MAP_FAILED) return 1;
    note_leftovers();
    // The first round fills caches and is not compared.
    one_round(0, round_calls);
    long before = free_kib();
    for (unsigned round = 1; shared->calls < wanted && round < 100; round++) one_round(round, round_calls);
    printf("[driver done calls %lu lost %ld]\n", shared->calls, before - free_kib());
    fflush(stdout);
    if (!is_first) return 0;
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
