// What a program can use up: memory, files in memory, queued signals, arguments. It gets an error or is
// killed; the kernel and everybody else live on. Without bounds of its own only in a small machine.
#include "test.h"
#include <sys/resource.h>
#include <sys/sysinfo.h>

// The children that use things up are only as greedy as the machine is small.
static int is_small(void) {
    struct sysinfo info;
    sysinfo(&info);
    return info.totalram < 1L << 29;
}

static void still_works(const char *after) {
    pid_t child = fork_clean();
    if (child == 0) {
        char *area = malloc(8 << 20);
        memset(area, 1, 8 << 20);
        int ends[2];
        _exit(pipe(ends) == 0 && write(ends[1], "x", 1) == 1 ? 0 : 1);
    }
    show_end(after, child);
}

// Runs `eat` in a child, and says only whether it ended in one of the ways there are.
static void greedy(const char *what, void (*eat)(void)) {
    if (is_small()) {
        pid_t child = fork_clean();
        if (child == 0) {
            setpgid(0, 0);
            // Whatever it uses up: it goes before those that do not.
            int file = open("/proc/self/oom_score_adj", O_WRONLY);
            write(file, "1000", 4);
            close(file);
            eat();
            _exit(0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        kill(-child, SIGKILL);
        int ok = WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL;
        say("%s: %s\n", what, ok ? "ended" : "wrong end");
        while (waitpid(-1, 0, 0) > 0) continue;
    } else {
        say("%s: ended\n", what);
    }
    still_works(what);
}

static void memory_hog(void) {
    for (;;) {
        char *area = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) _exit(0);
        memset(area, 1, 1 << 20);
    }
}

// The kernel stores to pages that are not there: it waits for memory like the program itself.
static void read_hog(void) {
    int zeroes = open("/dev/zero", O_RDONLY);
    for (;;) {
        char *area = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) _exit(0);
        if (read(zeroes, area, 1 << 20) != 1 << 20) _exit(1);
    }
}

static void hogs(void) {
    for (int i = 0; i < 6; i++) {
        if (fork() == 0) memory_hog();
    }
    while (wait(0) > 0) continue;
}

// Memory is short from the start: to fill all of it with signals takes two million calls.
static void signal_bomb(void) {
    for (struct sysinfo info; sysinfo(&info) == 0 && info.freeram > 16 << 20;)
        memset(mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 1 << 20);
    struct rlimit limit = {1 << 30, 1 << 30};
    setrlimit(RLIMIT_SIGPENDING, &limit);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    while (sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) continue;
    _exit(errno == EAGAIN ? 0 : 1);
}

static void huge_arguments(void) {
    static char *arguments[400000];
    static char text[100000];
    memset(text, 'x', sizeof text - 1);
    for (int i = 0; i < 60; i++) arguments[i] = text;
    for (int i = 0; i < 20; i++) {
        if (fork() == 0) {
            for (;;) execve("/proc/self/exe", arguments, 0);
        }
    }
    for (int i = 0; i < 399999; i++) arguments[i] = "";
    execve("/proc/self/exe", arguments, arguments);
    _exit(errno == E2BIG || errno == ENOMEM ? 0 : 1);
}

static void temporary_files(void) {
    char junk[65536] = {1};
    int file = memfd_create("hog", 0);
    while (write(file, junk, sizeof junk) > 0) continue;
    if (errno != ENOMEM && errno != ENOSPC) _exit(1);
}

// Uses memory up but for a little, and keeps it.
static void hold_nearly_all(int ready) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY);
    write(file, "1000", 4);
    close(file);
    for (struct sysinfo info; sysinfo(&info) == 0 && info.freeram > 3 << 20;) {
        char *area = mmap(0, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(area, 1, 1 << 18);
    }
    write(ready, "r", 1);
    for (;;) pause();
}

// The kernel's own small objects, many in one call: who has the most memory dies for them, rather than that the call fails.
static void many_objects(void) {
    enum { AREAS = 30000, PAGE = 4096 };
    int ready[2], ok = 1;
    char byte;
    if (is_small() && pipe(ready) == 0) {
        char *area = mmap(0, (long)AREAS * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (long i = 0; i < AREAS; i += 2) ok &= mprotect(area + i * PAGE, PAGE, PROT_NONE) == 0;
        pid_t hog = fork_clean();
        if (hog == 0) {
            munmap(area, (long)AREAS * PAGE);
            hold_nearly_all(ready[1]);
        }
        ok &= read(ready[0], &byte, 1) == 1;
        for (int i = 0; i < 2; i++) {
            int status = 1;
            pid_t child = fork_clean();
            if (child == 0) _exit(0);
            ok &= child > 0 && waitpid(child, &status, 0) == child && status == 0;
        }
        kill(hog, SIGKILL);
        waitpid(hog, 0, 0);
        munmap(area, (long)AREAS * PAGE);
    }
    say("many objects in one call: %s\n", ok ? "there" : "REFUSED");
}

int main(void) {
    many_objects();
    greedy("memory hog", memory_hog);
    greedy("hog by read(2)", read_hog);
    greedy("six memory hogs", hogs);
    greedy("temporary file", temporary_files);
    greedy("signals", signal_bomb);
    greedy("arguments", huge_arguments);
    // An adjustment decides who goes first.
    int file = open("/proc/self/oom_score_adj", O_RDWR);
    SHOW(write(file, "1001", 4));
    SHOW(write(file, "300", 3));
    char text[16] = {0};
    SHOW(pread(file, text, 15, 0));
    SHOW(atoi(text));
    return 0;
}
