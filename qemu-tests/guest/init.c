// PID 1 of the test guest, and of the sandbox in which the same programs run on the host's Linux.
//
// Runs each program named in /tests.list, with nothing but a pipe for its output, and prints
//
//     [begin NAME]
//     NAME| a line that the program printed
//     [end NAME exit 0]          or `signal N`, or `timeout`
//     [done]
//
// so that whatever else is on the console (the kernel's log) can be told apart. Environment:
// NACRE_HOST=1 on the host; NACRE_FROM=NAME starts at that program (after a crash in the one
// before); NACRE_LIMIT_MS=N ends a program after that time instead of 30 s; NACRE_MEMORY=1 prints at the end
//
//     [init: KIB KiB of WHAT]    what has more memory than before the first program
//     [lost KIB]                 how much less memory is free than then
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NAME = 64, LINE = 400 };

static long limit_ms = 30000;

static void say(const char *text) {
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t done = write(1, text, len);
        if (done <= 0) return;
        text += done;
        len -= (size_t)done;
    }
}

// A call that may fail for want of memory on purpose: the next allocation does not.
#define PATIENTLY(call) \
    ({ \
        long result_ = -1; \
        for (int try_ = 0; try_ < 10; try_++) { \
            errno = 0; \
            result_ = (long)(call); \
            if (errno != ENOMEM && errno != EAGAIN) break; \
        } \
        result_; \
    })

static void mount_one(const char *type, const char *dir, const char *data) {
    if (PATIENTLY(mount(type, dir, type, 0, data)) == 0) return;
    char line[LINE];
    snprintf(line, sizeof line, "[init: mounting %s on %s: %s]\n", type, dir, strerror(errno));
    say(line);
}

static void set_up(int on_host) {
    mount_one("tmpfs", "/tmp", "mode=1777");
    mount_one("devtmpfs", "/dev", 0);
    if (!on_host) {
        int console = (int)PATIENTLY(open("/dev/console", O_RDWR));
        for (int fd = 0; console >= 0 && fd < 3; fd++) PATIENTLY(dup2(console, fd));
        if (console > 2) close(console);
    }
    mount_one("proc", "/proc", 0);
    mkdir("/dev/pts", 0755);
    mount_one("devpts", "/dev/pts", on_host ? "newinstance,ptmxmode=666" : 0);
    if (on_host) mount("/dev/pts/ptmx", "/dev/ptmx", 0, MS_BIND, 0);
    // Our kernel's root cannot be written to in any case; Linux's initramfs can.
    if (!on_host) mount(0, "/", 0, MS_REMOUNT | MS_RDONLY, 0);
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static pid_t start(const char *name, int output) {
    pid_t child = (pid_t)PATIENTLY(fork());
    if (child != 0) return child;
    char path[LINE];
    char *const arguments[] = {(char *)name, "one", "two words", 0};
    char *const environment[] = {"PATH=/bin", "HOME=/", "TERM=linux", 0};
    snprintf(path, sizeof path, "/tests/%s", name);
    setsid();
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(output, 1);
    dup2(output, 2);
    close_range(3, ~0U, 0);
    if (chdir("/tmp") != 0) say("cannot enter /tmp\n");
    execve(path, arguments, environment);
    say("cannot execute\n");
    _exit(126);
}

// Copies the program's lines with its name in front; returns 0 when its time is up.
static int relay(const char *name, int output) {
    char line[LINE + 80], buffer[LINE];
    size_t used = 0;
    long end = now_ms() + limit_ms;
    for (;;) {
        struct pollfd ready = {.fd = output, .events = POLLIN};
        long left = end - now_ms();
        if (left <= 0 || poll(&ready, 1, (int)left) == 0) return 0;
        ssize_t got = read(output, buffer, sizeof buffer);
        for (ssize_t i = 0; i < got; i++) {
            if (used == 0) used = (size_t)snprintf(line, sizeof line, "%s| ", name);
            line[used++] = buffer[i];
            if (buffer[i] != '\n' && used < sizeof line - 2) continue;
            if (buffer[i] != '\n') line[used++] = '\n';
            line[used] = 0;
            say(line);
            used = 0;
        }
        if (got > 0 || (got < 0 && errno == EINTR)) continue;
        if (used > 0) {
            line[used++] = '\n';
            line[used] = 0;
            say(line);
        }
        return 1;
    }
}

static void run(const char *name) {
    char line[LINE];
    int ends[2], status = 0;
    snprintf(line, sizeof line, "[begin %s]\n", name);
    say(line);
    if (PATIENTLY(pipe(ends)) != 0) {
        say("[init: no pipe]\n");
        return;
    }
    pid_t child = start(name, ends[1]);
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        say("[init: cannot fork]\n");
        return;
    }
    int in_time = relay(name, ends[0]);
    close(ends[0]);
    if (!in_time) kill(-child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    if (!in_time) {
        snprintf(line, sizeof line, "[end %s timeout]\n", name);
    } else if (WIFSIGNALED(status)) {
        snprintf(line, sizeof line, "[end %s signal %d]\n", name, WTERMSIG(status));
    } else {
        snprintf(line, sizeof line, "[end %s exit %d]\n", name, WEXITSTATUS(status));
    }
    say(line);
    // Orphans of the program are ours now.
    while (waitpid(-1, &status, WNOHANG) > 0) continue;
}

// Where memory is, in KiB: lines of /proc/meminfo, and of /proc/slabinfo by their pages.
struct use {
    int count;
    struct {
        char name[NAME];
        long kib;
    } of[64];
};

static void look(struct use *use) {
    char line[LINE];
    use->count = 0;
    FILE *meminfo = fopen("/proc/meminfo", "re"), *slabs = fopen("/proc/slabinfo", "re");
    while (meminfo && use->count < 64 && fgets(line, sizeof line, meminfo)) {
        if (sscanf(line, "%63[^:]: %ld kB", use->of[use->count].name, &use->of[use->count].kib) == 2) use->count++;
    }
    while (slabs && use->count < 64 && fgets(line, sizeof line, slabs)) {
        const char *pages = strstr(line, "slabdata");
        if (sscanf(line, "%63[^# ]", use->of[use->count].name) != 1 || !pages) continue;
        use->of[use->count++].kib = 4 * atol(pages + sizeof "slabdata");
    }
    if (meminfo) fclose(meminfo);
    if (slabs) fclose(slabs);
}

static void show_use(const struct use *before) {
    static struct use now;
    char line[LINE];
    look(&now);
    for (int i = 0; i < now.count; i++) {
        for (int j = 0; j < before->count; j++) {
            long more = now.of[i].kib - before->of[j].kib;
            if (strcmp(now.of[i].name, before->of[j].name) || more == 0) continue;
            snprintf(line, sizeof line, "[init: %ld KiB of %s]\n", more, now.of[i].name);
            say(line);
        }
    }
}

static long free_kib(void) {
    struct sysinfo memory;
    return sysinfo(&memory) == 0 ? (long)(memory.freeram * memory.mem_unit / 1024) : 0;
}

// Ends what programs left running, throws away their files, and says what is missing then.
static void show_lost(long before, const struct use *use) {
    char line[LINE];
    kill(-1, SIGKILL);
    while (waitpid(-1, 0, 0) > 0 || errno == EINTR) continue;
    chdir("/");
    PATIENTLY(umount2("/tmp", MNT_DETACH));
    usleep(200000);
    long lost = before - free_kib();
    show_use(use);
    snprintf(line, sizeof line, "[lost %ld]\n", lost);
    say(line);
}

int main(void) {
    int on_host = getenv("NACRE_HOST") != 0;
    const char *from = getenv("NACRE_FROM"), *limit = getenv("NACRE_LIMIT_MS");
    char name[NAME];
    if (limit) limit_ms = atol(limit);
    set_up(on_host);
    static struct use use;
    if (getenv("NACRE_MEMORY")) look(&use);
    long before = free_kib();
    FILE *list = (FILE *)PATIENTLY(fopen("/tests.list", "re"));
    if ((long)list == -1) list = 0;
    if (!list) say("[init: no /tests.list]\n");
    while (list && fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        if (from && strcmp(from, name) != 0) continue;
        from = 0;
        run(name);
    }
    if (list) fclose(list);
    if (getenv("NACRE_MEMORY")) show_lost(before, &use);
    say("[done]\n");
    if (on_host) return 0;
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
