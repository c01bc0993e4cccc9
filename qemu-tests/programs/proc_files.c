// The parts of /proc that programs read.
#include "test.h"
#include <dirent.h>
#include <sys/prctl.h>
#include <pthread.h>

static char text[65536];

static const char *slurp(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) {
        say("%s: %s\n", path, strerrorname_np(errno));
        text[0] = 0;
        return text;
    }
    ssize_t total = 0, got;
    while ((got = read(file, text + total, sizeof text - 1 - total)) > 0) total += got;
    text[total] = 0;
    close(file);
    return text;
}

// The line of the file that starts with `key`.
static void show_line(const char *path, const char *key) {
    const char *found = slurp(path);
    while (found && strncmp(found, key, strlen(key)) != 0) {
        found = strchr(found, '\n');
        if (found) found++;
    }
    say("%s: %.*s\n", path, found ? (int)strcspn(found, "\n") : 7, found ? found : "missing");
}

static int has_line(const char *path, const char *key) {
    const char *found = strstr(slurp(path), key);
    return found && (found == text || found[-1] == '\n');
}

static void links(void) {
    const char *names[] = {"/proc/self/exe", "/proc/self/cwd", "/proc/self/root"};
    for (int i = 0; i < 3; i++) {
        char target[64] = {0};
        readlink(names[i], target, sizeof target - 1);
        say("%s -> %s\n", names[i], target);
    }
    int file = open("/etc/data", O_RDONLY);
    char name[64], target[64] = {0};
    sprintf(name, "/proc/self/fd/%d", file);
    readlink(name, target, sizeof target - 1);
    say("fd -> %s\n", target);
    int again = open(name, O_RDONLY);
    TRUE(again >= 0 && lseek(again, 0, SEEK_END) == 20000);
    int ends[2];
    pipe(ends);
    sprintf(name, "/proc/self/fd/%d", ends[0]);
    memset(target, 0, sizeof target);
    readlink(name, target, sizeof target - 1);
    say("pipe -> %.6s\n", target);
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(dir)) count++;
    closedir(dir);
    SHOW(count);
}

static void *pauses(void *argument) {
    for (;;) pause();
    return argument;
}

static void positions(void) {
    const char *paths[] = {"/proc", "/proc/self/stat", "/proc/self/task", "/proc/uptime",
                           "/proc/sys/kernel/hostname"};
    for (int i = 0; i < 5; i++) {
        int file = open(paths[i], O_RDONLY);
        SHOW(lseek(file, 0, SEEK_END));
        SHOW(lseek(file, 0, SEEK_SET));
        close(file);
    }
}

static void memory(void) {
    static volatile long word = 0x1234;
    long seen = 0;
    int file = open("/proc/self/mem", O_RDWR);
    SHOW(pread(file, &seen, sizeof seen, (off_t)&word));
    SHOW(seen);
    seen = 77;
    SHOW(pwrite(file, &seen, sizeof seen, (off_t)&word));
    SHOW(word);
    SHOW(pread(file, &seen, sizeof seen, 16));
    // What the program may not store to, its debugger may.
    const char *constant = "constant";
    SHOW(pwrite(file, "C", 1, (off_t)constant));
    close(file);
}

static void newer_files(void) {
    char path[64];
    show_line("/proc/self/uid_map", "");
    show_line("/proc/self/gid_map", "");
    show_line("/proc/self/setgroups", "");
    show_line("/proc/self/timerslack_ns", "");
    TRUE(has_line("/proc/self/mountstats", "device "));
    TRUE(has_line("/proc/self/status", "Mems_allowed_list:"));
    TRUE(has_line("/proc/self/status", "HugetlbPages:"));
    TRUE(has_line("/proc/stat", "softirq "));
    TRUE(has_line("/proc/meminfo", "HugePages_Total:"));
    pid_t child = fork_clean();
    if (child == 0) pause();
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    TRUE(atoi(slurp(path)) == child);
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
    SHOW((int)strlen(slurp(path)));
    int file = open("/proc/self/oom_score_adj", O_RDWR);
    SHOW(write(file, "5\0", 2));
    SHOW(write(file, "x", 1));
    show_line("/proc/self/oom_score_adj", "");
    close(file);
    struct stat info;
    stat("/proc", &info);
    SHOW(info.st_ino);
    TRUE(info.st_nlink > 2);
}

static void put(const char *path, const char *value) {
    int file = open(path, O_WRONLY | O_TRUNC);
    say("%s <- %s: ", path, value);
    ssize_t count = file < 0 ? -1 : write(file, value, strlen(value));
    say("%s\n", count < 0 ? strerrorname_np(errno) : "ok");
    close(file);
}

static long number_in(const char *path) {
    return atol(slurp(path));
}

// What supervisors and monitors read and set.
static void settings(void) {
    const char *filters[] = {"0x7f", "077", "33", "0xffffffff", "all"};
    for (int i = 0; i < 5; i++) {
        put("/proc/self/coredump_filter", filters[i]);
        say("filter: %s", slurp("/proc/self/coredump_filter"));
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        say("inherited: %s", slurp("/proc/self/coredump_filter"));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, 0, 0);
    long long ran = -1, waited = -1, turns = -1, later;
    for (int i = 0; i < 3; i++) usleep(1000);
    TRUE(sscanf(slurp("/proc/self/schedstat"), "%lld %lld %lld", &ran, &waited, &turns) == 3);
    TRUE(ran > 0 && waited >= 0 && turns >= 3);
    for (volatile int i = 0; i < 1000000; i++) continue;
    sscanf(slurp("/proc/thread-self/schedstat"), "%lld %lld %lld", &later, &waited, &turns);
    TRUE(later > ran);
    TRUE(number_in("/proc/sys/fs/epoll/max_user_watches") > 10000);
    TRUE(number_in("/proc/sys/kernel/ns_last_pid") > 0);
    say("dirty_ratio: %s", slurp("/proc/sys/vm/dirty_ratio"));
}

int main(void) {
    settings();
    positions();
    memory();
    newer_files();
    prctl(PR_SET_NAME, "renamed");
    say("comm: %s", slurp("/proc/self/comm"));
    show_line("/proc/self/status", "Name:");
    show_line("/proc/self/status", "State:");
    show_line("/proc/self/status", "TracerPid:");
    show_line("/proc/self/status", "Uid:");
    show_line("/proc/self/status", "Gid:");
    show_line("/proc/self/status", "Threads:");
    show_line("/proc/self/status", "SigIgn:");
    show_line("/proc/self/status", "SigBlk:");
    TRUE(has_line("/proc/self/status", "VmSize:") && has_line("/proc/self/status", "VmRSS:"));
    char expected[64];
    sprintf(expected, "Pid:\t%d\n", getpid());
    TRUE(has_line("/proc/self/status", expected));
    sprintf(expected, "PPid:\t%d\n", getppid());
    TRUE(has_line("/proc/self/status", expected));
    slurp("/proc/self/cmdline");
    say("cmdline: %s, %s, %s\n", text, text + strlen(text) + 1,
        text + strlen(text) + 2 + strlen(text + strlen(text) + 1));
    say("environ starts: %s\n", slurp("/proc/self/environ"));

    slurp("/proc/self/stat");
    int fields = 0;
    for (char *word = strtok(text, " "); word; word = strtok(0, " ")) fields++;
    SHOW(fields);
    slurp("/proc/self/stat");
    char name[32], state;
    int pid, parent, group, session;
    SHOW(sscanf(text, "%d (%[^)]) %c %d %d %d", &pid, name, &state, &parent, &group, &session));
    TRUE(pid == getpid() && parent == getppid() && group == getpgrp() && session == getsid(0));
    say("stat: %s %c\n", name, state);
    SHOW(sscanf(slurp("/proc/self/statm"), "%*d %*d %*d %*d %*d %*d %d", &fields));

    slurp("/proc/self/maps");
    TRUE(strstr(text, "[stack]") != 0);
    TRUE(strstr(text, "/tests/proc_files\n") != 0);
    uintptr_t start, end;
    char mode[5];
    SHOW(sscanf(text, "%lx-%lx %4s", &start, &end, mode));
    TRUE(end > start && (start & 4095) == 0);
    links();

    pthread_t thread;
    pthread_create(&thread, 0, pauses, 0);
    show_line("/proc/self/status", "Threads:");
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    while (tasks && readdir(tasks)) count++;
    SHOW(count);

    pid_t child = fork_clean();
    if (child == 0) {
        for (;;) pause();
    }
    sleep_ms(30);
    sprintf(name, "/proc/%d/status", child);
    say("%s\n", has_line(name, "State:\tS (sleeping)\n") ? "the child sleeps" : slurp(name));
    kill(child, SIGSTOP);
    waitpid(child, 0, WUNTRACED);
    say("%s\n", has_line(name, "State:\tT (stopped)\n") ? "the child is stopped" : slurp(name));
    kill(child, SIGKILL);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    say("%s\n", has_line(name, "State:\tZ (zombie)\n") ? "the child is a zombie" : slurp(name));
    waitpid(child, 0, 0);
    SHOW(open(name, O_RDONLY) < 0 && errno == ENOENT);

    TRUE(has_line("/proc/meminfo", "MemTotal:") && has_line("/proc/meminfo", "MemFree:") &&
         has_line("/proc/meminfo", "MemAvailable:"));
    TRUE(has_line("/proc/stat", "cpu ") && has_line("/proc/stat", "btime "));
    TRUE(has_line("/proc/cpuinfo", "processor\t: 0\n"));
    double up, idle;
    SHOW(sscanf(slurp("/proc/uptime"), "%lf %lf", &up, &idle));
    SHOW(sscanf(slurp("/proc/loadavg"), "%lf %lf %*f %*d/%*d %d", &up, &idle, &fields));
    TRUE(strstr(slurp("/proc/mounts"), " /tmp tmpfs rw") != 0);
    TRUE(strstr(slurp("/proc/self/mounts"), " /proc proc rw") != 0);
    TRUE(strstr(slurp("/proc/filesystems"), "nodev\ttmpfs\n") != 0);
    TRUE(strncmp(slurp("/proc/version"), "Linux version ", 14) == 0);
    TRUE(atoi(slurp("/proc/sys/kernel/pid_max")) >= 32768);
    say("ostype: %s", slurp("/proc/sys/kernel/ostype"));
    SHOW(open("/proc/none", O_RDONLY));
    SHOW(open("/proc/99999/status", O_RDONLY));
    SHOW(open("/proc/new", O_WRONLY | O_CREAT, 0600));
    return 0;
}
