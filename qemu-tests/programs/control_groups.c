// Control groups of version 2: their tree, who is in them, what their files say and take.
// Controllers are seldom there for version 2 on the machine that runs this first: what is said of them is a fact of Linux
// that only our kernel has to show.
#include "test.h"
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#define ROOT "/tmp/"
static char base[64];

static char *in(const char *path) {
    static char full[4][160];
    static int next;
    char *to = full[next++ % 4];
    snprintf(to, sizeof full[0], "%s/%s", base, path);
    return to;
}

static int put(const char *path, const char *text) {
    int file = open(in(path), O_WRONLY | O_TRUNC);
    if (file < 0) return -1;
    int done = write(file, text, strlen(text)) < 0 ? -1 : 0, error = errno;
    close(file);
    errno = error;
    return done;
}

static int put_pid(const char *path, pid_t pid) {
    char text[16];
    snprintf(text, sizeof text, "%d", pid);
    return put(path, text);
}

static const char *get(const char *path) {
    static char text[4096];
    int file = open(in(path), O_RDONLY);
    ssize_t len = file < 0 ? -1 : read(file, text, sizeof text - 1);
    snprintf(text + (len < 0 ? 0 : len), 64, "%s", len < 0 ? strerrorname_np(errno) : "");
    close(file);
    for (char *at = text; *at; at++)
        if (*at == '\n') *at = ';';
    return text;
}

static void show(const char *path) { say("%s: %s\n", path, get(path)); }

static pid_t child_in(const char *group) {
    pid_t child = fork_clean();
    if (child == 0) {
        if (group) put(group, "0");
        for (;;) pause();
    }
    return child;
}

static void end(pid_t child) {
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
}

// Waits until a file says what it is to say; it tells by POLLPRI when it has changed.
static int await(const char *path, const char *text) {
    struct pollfd watch = {open(in(path), O_RDONLY), POLLPRI, 0};
    char now[256] = "";
    for (;;) {
        ssize_t len = pread(watch.fd, now, sizeof now - 1, 0);
        now[len < 0 ? 0 : len] = 0;
        if (len < 0 || strstr(now, text)) break;
        poll(&watch, 1, 10000);
    }
    close(watch.fd);
    return strstr(now, text) != 0;
}

static void tree(void) {
    static const char *files[] = {
        "cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.controllers", "cgroup.subtree_control", "cgroup.events",
        "cgroup.max.descendants", "cgroup.max.depth", "cgroup.stat", "cgroup.freeze", "cgroup.kill", "pids.max",
    };
    struct stat info;
    struct statfs system;
    statfs(ROOT, &system);
    say("magic %lx\n", (long)system.f_type);
    SHOW(mkdir(base, 0755));
    for (int i = 0; i < 12; i++)
        say("%s: %o\n", files[i], stat(in(files[i]), &info) ? 0 : info.st_mode);
    show("cgroup.type");
    show("cgroup.events");
    show("cgroup.max.depth");
    show("cgroup.procs");
    show("cgroup.freeze");
    show("cgroup.kill");
    SHOW(mkdir(in("a"), 0700));
    SHOW(mkdir(in("a"), 0700));
    SHOW(mkdir(in("cgroup.procs"), 0700));
    SHOW(mkdir(in("a\nb"), 0700));
    SHOW(mkdir(in("a/b"), 0700));
    stat(in("a"), &info);
    say("%o, links %lu\n", info.st_mode, (long)info.st_nlink);
    SHOW(rmdir(in("a")));
    SHOW(rmdir(in("cgroup.procs")));
    SHOW(unlink(in("cgroup.procs")));
    SHOW(unlink(in("a")));
    SHOW(open(in("new"), O_CREAT | O_WRONLY, 0600));
    SHOW(symlink("x", in("new")));
    SHOW(link(in("cgroup.procs"), in("new")));
    SHOW(mknod(in("new"), S_IFIFO | 0600, 0));
    SHOW(rename(in("a/b"), in("c")));
    SHOW(mkdir(in("cgroup.procs/x"), 0700));
    SHOW(put("cgroup.max.depth", "1\n"));
    SHOW(mkdir(in("a/c"), 0700));
    SHOW(mkdir(in("c"), 0700));
    SHOW(put("cgroup.max.descendants", "3"));
    SHOW(mkdir(in("d"), 0700));
    SHOW(put("cgroup.max.depth", "-1"));
    SHOW(put("cgroup.max.depth", "none"));
    SHOW(put("cgroup.max.depth", "max"));
    SHOW(put("cgroup.max.descendants", "0x10"));
    show("cgroup.max.descendants");
    SHOW(put("cgroup.events", "1"));
    SHOW(put("cgroup.type", "domain"));
    SHOW(put("cgroup.subtree_control", "+none"));
    SHOW(put("cgroup.subtree_control", ""));
    int file = open(in("a/b/cgroup.events"), O_RDONLY), made = open(in("a/b"), O_RDONLY | O_DIRECTORY);
    SHOW(rmdir(in("a/b")));
    SHOW(read(file, &info, 1));
    SHOW(mkdirat(made, "x", 0700));
    SHOW(openat(made, "cgroup.procs", O_RDONLY));
    SHOW(access(in("a/b"), F_OK));
    SHOW(rmdir(in("a")));
    SHOW(rmdir(in("c")));
    close(file);
    close(made);
}

static void show_place(pid_t pid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(text, sizeof text, file))
        if (strncmp(text, "0::", 3) == 0) break;
    if (file) fclose(file);
    text[strcspn(text, "\n")] = 0;
    char *own = strstr(text, base + strlen(ROOT));
    say("in %s\n", own ? own + strlen(base) - strlen(ROOT) : "another");
}

static void show_own(pid_t pid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(text, sizeof text, file))
        if (strncmp(text, "0::", 3) == 0) break;
    if (file) fclose(file);
    text[strcspn(text, "\n")] = 0;
    say("seen as %s\n", text);
}

static void members(void) {
    SHOW(mkdir(in("a"), 0755));
    pid_t child = child_in(0), other = child_in(0);
    show_place(child);
    struct pollfd watch = {open(in("cgroup.events"), O_RDONLY), POLLPRI, 0};
    char byte;
    SHOW(poll(&watch, 1, 0));
    SHOW(read(watch.fd, &byte, 1));
    SHOW(poll(&watch, 1, 0));
    SHOW(put_pid("a/cgroup.procs", child));
    SHOW(put_pid("a/cgroup.procs", child));
    SHOW(poll(&watch, 1, 0));
    say("events %x\n", watch.revents);
    show_place(child);
    show("cgroup.events");
    TRUE(atoi(get("a/cgroup.procs")) == child);
    TRUE(atoi(get("a/cgroup.threads")) == child);
    TRUE(strlen(get("cgroup.procs")) == 0);
    SHOW(rmdir(in("a")));
    SHOW(put("a/cgroup.procs", "999999999"));
    SHOW(put("a/cgroup.procs", "-1"));
    SHOW(put("a/cgroup.procs", "1 2"));
    SHOW(put("a/cgroup.procs", ""));
    // What a process makes is where it is.
    SHOW(put("a/cgroup.procs", "0"));
    pid_t made = child_in(0);
    show_place(made);
    SHOW(put_pid("../cgroup.procs", getpid()));
    show_place(getpid());
    TRUE(strtol(get("a/cgroup.procs"), 0, 10) != 0);
    // A zombie is in its group, which is empty nevertheless.
    kill(child, SIGKILL);
    kill(made, SIGKILL);
    TRUE(await("a/cgroup.events", "populated 0"));
    show_place(child);
    SHOW(put_pid("a/cgroup.procs", child));
    SHOW(rmdir(in("a")));
    show_place(child);
    waitpid(child, 0, 0);
    waitpid(made, 0, 0);
    end(other);
    close(watch.fd);
}

static void starts_in(void) {
    SHOW(mkdir(in("a"), 0755));
    struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
    args.cgroup = open(in("a"), O_RDONLY | O_DIRECTORY);
    pid_t child = syscall(SYS_clone3, &args, sizeof args);
    if (child == 0) for (;;) pause();
    show_place(child);
    SHOW(syscall(SYS_clone3, &args, 64));
    SHOW(rmdir(in("a")));
    SHOW(put("a/cgroup.kill", "0"));
    SHOW(put("a/cgroup.kill", "1"));
    show_end("killed", child);
    SHOW(rmdir(in("a")));
    SHOW(syscall(SYS_clone3, &args, sizeof args));
    close(args.cgroup);
    args.cgroup = open("/", O_RDONLY | O_DIRECTORY);
    SHOW(syscall(SYS_clone3, &args, sizeof args));
    close(args.cgroup);
}

static volatile int *beats;

static void frozen(void) {
    int pipes[2];
    char byte;
    beats = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pipe(pipes);
    SHOW(mkdir(in("a"), 0755));
    SHOW(mkdir(in("a/b"), 0755));
    pid_t busy = fork_clean();
    if (busy == 0)
        for (;;) ++*beats;
    pid_t waiting = fork_clean();
    if (waiting == 0) _exit(read(pipes[0], &byte, 1) == 1 ? 7 : 8);
    SHOW(put_pid("a/b/cgroup.procs", busy));
    SHOW(put_pid("a/b/cgroup.procs", waiting));
    while (!*beats) sched_yield();
    SHOW(put("a/cgroup.freeze", "2"));
    SHOW(put("a/cgroup.freeze", "1"));
    TRUE(await("a/cgroup.events", "frozen 1"));
    show("a/cgroup.freeze");
    show("a/b/cgroup.freeze");
    show("a/b/cgroup.events");
    int seen = *beats;
    write(pipes[1], &byte, 1);
    sleep_ms(20);
    TRUE(*beats == seen);
    // It does not stop, nor go on, for signals, but dies of them.
    kill(busy, SIGCONT);
    SHOW(waitpid(waiting, 0, WNOHANG));
    pid_t late = child_in("a/b/cgroup.procs");
    TRUE(await("a/cgroup.events", "frozen 1"));
    kill(late, SIGKILL);
    show_end("late", late);
    kill(busy, SIGTERM);
    show_end("busy", busy);
    SHOW(put("a/cgroup.freeze", "0"));
    show_end("waiting", waiting);
    TRUE(await("a/cgroup.events", "frozen 0"));
    // One that is stopped is as good as frozen.
    pid_t stopped = child_in("a/b/cgroup.procs");
    TRUE(await("a/b/cgroup.events", "populated 1"));
    kill(stopped, SIGSTOP);
    waitpid(stopped, 0, WUNTRACED);
    SHOW(put("a/cgroup.freeze", "1"));
    TRUE(await("a/cgroup.events", "frozen 1"));
    SHOW(put_pid("../cgroup.procs", stopped));
    kill(stopped, SIGCONT);
    end(stopped);
    SHOW(rmdir(in("a/b")));
    SHOW(rmdir(in("a")));
}

static int ready[2];

static void *thread(void *unused) {
    (void)unused;
    char text[16];
    snprintf(text, sizeof text, "%d", gettid());
    int file = open(in("a/two/cgroup.threads"), O_WRONLY);
    long moved = write(file, text, strlen(text));
    say("thread moves: %s\n", moved > 0 ? "ok" : strerrorname_np(errno));
    write(ready[1], "", 1);
    pause();
    return 0;
}

static void threaded(void) {
    char byte;
    SHOW(mkdir(in("a"), 0755));
    SHOW(mkdir(in("a/one"), 0755));
    SHOW(mkdir(in("a/two"), 0755));
    SHOW(put("a/one/cgroup.type", "threaded"));
    SHOW(put("a/one/cgroup.type", "threaded"));
    show("a/cgroup.type");
    show("a/one/cgroup.type");
    show("a/two/cgroup.type");
    SHOW(put("a/two/cgroup.procs", "0"));
    SHOW(put("a/two/cgroup.type", "threaded"));
    SHOW(put("a/one/cgroup.threads", "0"));
    pipe(ready);
    pid_t child = fork_clean();
    if (child == 0) {
        SHOW(put("a/one/cgroup.procs", "0"));
        pthread_t other;
        pthread_create(&other, 0, thread, 0);
        for (;;) pause();
    }
    read(ready[0], &byte, 1);
    TRUE(atoi(get("a/cgroup.procs")) == child);
    show("a/one/cgroup.procs");
    TRUE(atoi(get("a/one/cgroup.threads")) == child);
    TRUE(atoi(get("a/two/cgroup.threads")) > 0);
    show("a/two/cgroup.events");
    SHOW(put("a/one/cgroup.kill", "1"));
    SHOW(put("a/cgroup.kill", "1"));
    show_end("killed", child);
    SHOW(rmdir(in("a/one")));
    SHOW(rmdir(in("a/two")));
    show("a/cgroup.type");
    SHOW(rmdir(in("a")));
}

// Who was given a directory moves processes below it, and no others.
static void delegated(void) {
    SHOW(mkdir(in("a"), 0755));
    SHOW(chown(in("a"), 1000, 1000));
    SHOW(chown(in("a/cgroup.procs"), 1000, 1000));
    SHOW(mkdir(in("other"), 0755));
    pid_t outside = child_in(0), inside = child_in(0);
    SHOW(put_pid("a/cgroup.procs", inside));
    SHOW(chmod(in("other/cgroup.procs"), 0666));
    pid_t child = fork_clean();
    if (child == 0) {
        SHOW(setresgid(1000, 1000, 1000));
        SHOW(setresuid(1000, 1000, 1000));
        struct stat info;
        SHOW(mkdir(in("a/sub"), 0750));
        stat(in("a/sub/cgroup.procs"), &info);
        say("owner %d, mode %o\n", info.st_uid, info.st_mode);
        SHOW(put_pid("a/sub/cgroup.procs", inside));
        SHOW(put_pid("a/sub/cgroup.procs", outside));
        SHOW(put_pid("other/cgroup.procs", inside));
        SHOW(put("a/cgroup.freeze", "1"));
        SHOW(mkdir(in("other/sub"), 0750));
        _exit(0);
    }
    show_end("user", child);
    end(outside);
    end(inside);
    SHOW(rmdir(in("a/sub")));
    SHOW(rmdir(in("a")));
    SHOW(rmdir(in("other")));
}

// Who is in a namespace sees its own group as the root, and groups beside it by way of that.
static void separated(void) {
    SHOW(mkdir(in("a"), 0755));
    SHOW(mkdir(in("a/b"), 0755));
    pid_t beside = child_in("cgroup.procs");
    // It puts itself there.
    TRUE(await("cgroup.events", "populated 1"));
    pid_t child = fork_clean();
    if (child == 0) {
        SHOW(put("a/cgroup.procs", "0"));
        struct stat before, after;
        stat("/proc/self/ns/cgroup", &before);
        int old = open("/proc/self/ns/cgroup", O_RDONLY);
        SHOW(unshare(CLONE_NEWCGROUP));
        stat("/proc/self/ns/cgroup", &after);
        TRUE(before.st_ino != after.st_ino);
        show_own(getpid());
        show_own(beside);
        SHOW(put("a/b/cgroup.procs", "0"));
        show_own(getpid());
        SHOW(unshare(CLONE_NEWNS));
        SHOW(mount("none", "/dev", "cgroup2", 0, 0));
        SHOW(access("/dev/b/cgroup.procs", F_OK));
        SHOW(access("/dev/cgroup.type", F_OK));
        SHOW(access("/dev/a", F_OK));
        SHOW(setns(old, CLONE_NEWCGROUP));
        show_place(getpid());
        _exit(0);
    }
    show_end("inside", child);
    end(beside);
    SHOW(rmdir(in("a/b")));
    SHOW(rmdir(in("a")));
}

static int is_ours(void) {
    char text[256] = "";
    int file = open("/proc/version", O_RDONLY);
    read(file, text, sizeof text - 1);
    close(file);
    return strstr(text, "(nacre)") != 0;
}

// What only a machine with controllers can show.
#define FACT(condition) say("%s: %s\n", #condition, !is_ours() || (condition) ? "yes" : "NO")

static int refused(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        if (put("a/cgroup.procs", "0")) _exit(9);
        int made = 0;
        while (made < 100) {
            pid_t one = fork();
            if (one == 0) for (;;) pause();
            if (one < 0) break;
            made++;
        }
        _exit(errno == EAGAIN ? made : 99);
    }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

// A fork bomb in a group with a limit: who is not in it forks as before.
static int bomb(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        put("a/cgroup.procs", "0");
        for (;;)
            if (fork() < 0) sleep_ms(1);
    }
    int worked = await("a/pids.events", "max ");
    for (int i = 0; i < 20; i++) {
        pid_t one = fork_clean();
        if (one == 0) _exit(0);
        worked &= one > 0 && waitpid(one, 0, 0) == one;
    }
    worked &= atoi(get("a/pids.current")) <= 8;
    put("a/cgroup.kill", "1");
    waitpid(child, 0, 0);
    return worked && await("a/cgroup.events", "populated 0");
}

static long long number(const char *path, const char *key) {
    const char *text = get(path);
    if (!*key) return atoll(text);
    const char *found = strstr(text, key);
    return found ? atoll(found + strlen(key)) : -1;
}

#define MIB (1 << 20)

static int has_all;

// Takes memory in a group until it is killed for it, or for good.
static pid_t hog(const char *group, size_t size) {
    int told[2];
    char byte;
    pipe(told);
    pid_t child = fork_clean();
    if (child == 0) {
        close(told[0]);
        put(group, "0");
        char *memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
        write(told[1], "", 1);
        for (;;) pause();
    }
    close(told[1]);
    has_all = read(told[0], &byte, 1) == 1;
    close(told[0]);
    return child;
}

// A group of 8 MiB: who wants more is killed there, and a neighbour does not notice.
static int limited(void) {
    int worked = put("a/memory.max", "8M") == 0 && number("a/memory.max", "") == 8 * MIB;
    pid_t neighbour = hog("b/cgroup.procs", 4 * MIB), small = hog("a/cgroup.procs", 2 * MIB);
    worked &= number("b/memory.current", "") > 4 * MIB && number("b/memory.stat", "anon ") > 3 * MIB;
    worked &= number("a/memory.current", "") > 2 * MIB && number("a/memory.current", "") < 8 * MIB;
    pid_t large = hog("a/cgroup.procs", 32 * MIB);
    worked &= !has_all && waitpid(large, 0, 0) == large;
    worked &= waitpid(neighbour, 0, WNOHANG) == 0 && waitpid(small, 0, WNOHANG) == 0;
    worked &= number("a/memory.events", "oom_kill ") == 1 && number("a/memory.events", "max ") > 0;
    worked &= number("b/memory.events", "oom_kill ") == 0 && number("b/memory.events", "max ") == 0;
    worked &= number("memory.events", "oom_kill ") == 1 && number("memory.events.local", "oom_kill ") == 0;
    worked &= number("a/memory.peak", "") <= 8 * MIB;
    // All of it, when that is wanted.
    worked &= put("a/memory.oom.group", "1") == 0;
    pid_t again = hog("a/cgroup.procs", 32 * MIB);
    worked &= !has_all && waitpid(again, 0, 0) == again;
    waitpid(small, 0, 0);
    worked &= number("a/memory.events", "oom_group_kill ") == 1;
    end(neighbour);
    return worked;
}

static int cached(void) {
    char block[4096] = {1};
    pid_t child = fork_clean();
    if (child == 0) {
        put("a/cgroup.procs", "0");
        int file = open("/proc/self/exe", O_RDONLY);
        while (read(file, block, sizeof block) > 0) continue;
        _exit(0);
    }
    waitpid(child, 0, 0);
    return put("a/memory.reclaim", "1G") < 0 && errno == EAGAIN;
}

static void memory(void) {
    FACT(put("../cgroup.subtree_control", "+memory") == 0);
    FACT(put("cgroup.subtree_control", "+memory") == 0);
    SHOW(mkdir(in("a"), 0755));
    SHOW(mkdir(in("b"), 0755));
    FACT(strcmp(get("a/memory.max"), "max;") == 0);
    FACT(strcmp(get("a/memory.high"), "max;") == 0);
    FACT(strcmp(get("a/memory.low"), "0;") == 0);
    FACT(strcmp(get("a/memory.swap.current"), "0;") == 0);
    FACT(strncmp(get("a/memory.events"), "low 0;high 0;max 0;oom 0;oom_kill 0;oom_group_kill 0;", 48) == 0);
    FACT(put("a/memory.max", "much") < 0 && errno == EINVAL);
    FACT(limited());
    FACT(cached());
    // No internal processes.
    pid_t child = child_in("a/cgroup.procs");
    TRUE(await("a/cgroup.events", "populated 1"));
    FACT(put("a/cgroup.subtree_control", "+memory") < 0 && errno == EBUSY);
    end(child);
    SHOW(rmdir(in("a")));
    SHOW(rmdir(in("b")));
    FACT(put("cgroup.subtree_control", "-memory") == 0);
}

static void numbers(void) {
    FACT(put("../cgroup.subtree_control", "+pids") == 0);
    FACT(put("cgroup.subtree_control", "+pids") == 0);
    SHOW(mkdir(in("a"), 0755));
    FACT(strcmp(get("a/pids.max"), "max;") == 0);
    FACT(strcmp(get("a/pids.current"), "0;") == 0);
    FACT(put("a/pids.max", "-1") < 0 && errno == EINVAL);
    FACT(put("a/pids.max", "8") == 0);
    FACT(refused() == 7);
    FACT(strcmp(get("a/pids.events"), "max 1;") == 0);
    FACT(strcmp(get("a/pids.peak"), "8;") == 0);
    SHOW(put("a/cgroup.kill", "1"));
    TRUE(await("a/cgroup.events", "populated 0"));
    FACT(bomb());
    SHOW(rmdir(in("a")));
    // A group with processes hands on controllers that go by threads; then they are threads of one domain.
    FACT(put("cgroup.subtree_control", "-pids") == 0);
}

int main(void) {
    // What goes on in the hierarchy is everybody's affair, what is mounted is not.
    if (show_result("unshare(CLONE_NEWNS)", unshare(CLONE_NEWNS))) return 1;
    SHOW(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
    SHOW(mount("none", ROOT, "cgroup2", 0, 0));
    snprintf(base, sizeof base, ROOT "nacre-test-%d", getpid());
    tree();
    members();
    starts_in();
    frozen();
    threaded();
    delegated();
    separated();
    numbers();
    memory();
    SHOW(rmdir(base));
    return 0;
}
