// clone, clone3 and vfork by themselves: what is shared, and what is refused.
#include "test.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile int shared;
static int parent_tid, child_tid;

static int body(void *argument) {
    (void)argument;
    shared++;
    return 7;
}

static int changes_directory(void *argument) {
    (void)argument;
    return chdir("/etc");
}

static int closes(void *argument) { return close((int)(intptr_t)argument); }

static int sets_handler(void *argument) {
    (void)argument;
    signal(SIGUSR1, SIG_IGN);
    return 0;
}

static pid_t start(int (*function)(void *), int flags, void *argument) {
    fflush(stdout);
    return clone(function, stack + sizeof stack, flags, argument, &parent_tid, 0, &child_tid);
}

static void refused(const char *what, unsigned long flags) {
    long result = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (result == 0) _exit(0);
    say("%s: %ld %s\n", what, result < 0 ? result : 1, result < 0 ? strerrorname_np(errno) : "");
    if (result > 0) waitpid((pid_t)result, 0, __WALL);
}

// An orphan's own exit signal is no longer asked for: its reaper waits for it as for any child.
static void orphan(const char *what, unsigned long signal, int ends_first) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        pid_t parent = getpid();
        if (syscall(SYS_clone, signal, 0, 0, 0, 0) == 0) {
            // As a zombie already, or alive, when its parent goes.
            while (!ends_first && getppid() == parent) usleep(1000);
            _exit(9);
        }
        if (ends_first) waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOWAIT | __WALL);
        _exit(0);
    }
    waitpid(child, 0, 0);
    pid_t found = waitpid(-1, &status, 0);
    say("%s: %s %x\n", what, found > 0 ? "waited for" : strerrorname_np(errno), (unsigned)status);
}

static void orphans(void) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    orphan("orphan without a signal", 0, 0);
    orphan("orphan with another signal", SIGWINCH, 0);
    orphan("dead orphan without a signal", 0, 1);
    orphan("dead orphan with another signal", SIGWINCH, 1);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int main(void) {
    shared = 0;
    show_end("copy", start(body, SIGCHLD, 0));
    SHOW(shared);
    show_end("shared memory", start(body, CLONE_VM | SIGCHLD, 0));
    SHOW(shared);
    show_end("vfork", start(body, CLONE_VM | CLONE_VFORK | SIGCHLD, 0));
    SHOW(shared);

    chdir("/tmp");
    char cwd[64];
    show_end("own directory", start(changes_directory, SIGCHLD, 0));
    say("%s\n", getcwd(cwd, sizeof cwd));
    show_end("shared directory", start(changes_directory, CLONE_FS | SIGCHLD, 0));
    say("%s\n", getcwd(cwd, sizeof cwd));
    int file = open("/etc/data", O_RDONLY);
    show_end("own descriptors", start(closes, SIGCHLD, (void *)(intptr_t)file));
    SHOW(fcntl(file, F_GETFD));
    show_end("shared descriptors", start(closes, CLONE_FILES | SIGCHLD, (void *)(intptr_t)file));
    SHOW(fcntl(file, F_GETFD));
    show_end("shared handlers", start(sets_handler, CLONE_VM | CLONE_SIGHAND | SIGCHLD, 0));
    struct sigaction action;
    sigaction(SIGUSR1, 0, &action);
    TRUE(action.sa_handler == SIG_IGN);

    child_tid = -1;
    pid_t child = start(body, CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
                                  CLONE_CHILD_CLEARTID | SIGCHLD, 0);
    TRUE(parent_tid == child);
    show_end("thread ids", child);
    SHOW(child_tid);

    // No signal at its end: only __WALL or __WCLONE finds it.
    child = start(body, 0, 0);
    SHOW(waitpid(child, 0, 0));
    TRUE(waitpid(child, 0, __WALL) == child);
    signal(SIGUSR2, SIG_IGN);
    child = start(body, SIGUSR2, 0);
    TRUE(waitpid(child, 0, __WCLONE) == child);
    signal(SIGUSR2, SIG_DFL);

    refused("sighand without vm", CLONE_SIGHAND | SIGCHLD);
    refused("thread without sighand", CLONE_THREAD | CLONE_VM | SIGCHLD);
    refused("fs with new namespace", CLONE_FS | CLONE_NEWNS | SIGCHLD);

    child = fork_clean();
    if (child == 0) {
        // CLONE_PARENT makes a sibling.
        long sibling = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (sibling == 0) _exit(12);
        SHOW(waitpid((pid_t)sibling, 0, 0));
        _exit(0);
    }
    int sum = 0, status;
    while (wait(&status) > 0) sum += WEXITSTATUS(status);
    SHOW(sum);

    struct clone_args arguments = {.exit_signal = SIGCHLD};
    fflush(stdout);
    long result = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (result == 0) _exit(4);
    show_end("clone3", (pid_t)result);
    SHOW(syscall(SYS_clone3, &arguments, 8));
    arguments.flags = CLONE_SIGHAND;
    SHOW(syscall(SYS_clone3, &arguments, sizeof arguments));
    SHOW(syscall(SYS_clone3, 8, sizeof arguments));

    child = vfork();
    if (child == 0) {
        shared = 100;
        execl("/tests/hello_pie", "vforked", (char *)0);
        _exit(1);
    }
    show_end("vfork and exec", child);
    SHOW(shared);
    SHOW(unshare(CLONE_FILES));
    SHOW(unshare(CLONE_FS));
    SHOW(unshare(0x1));
    orphans();
    return 0;
}
