// How children end, and every way of asking.
#include "test.h"
#include <sys/resource.h>

static pid_t exits(int code) {
    pid_t child = fork_clean();
    if (child == 0) _exit(code);
    return child;
}

static pid_t sleeps(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        for (;;) pause();
    }
    return child;
}

static void show_status(pid_t child, int options) {
    int status = 0;
    pid_t got = waitpid(child, &status, options);
    if (got != child) {
        say("waitpid: %d %s\n", got, got < 0 ? strerrorname_np(errno) : "");
    } else if (WIFEXITED(status)) {
        say("exited %d\n", WEXITSTATUS(status));
    } else if (WIFSIGNALED(status)) {
        say("signaled %d core %d\n", WTERMSIG(status), WCOREDUMP(status) != 0);
    } else if (WIFSTOPPED(status)) {
        say("stopped %d\n", WSTOPSIG(status));
    } else if (WIFCONTINUED(status)) {
        say("continued\n");
    }
}

int main(void) {
    SHOW(waitpid(-1, 0, 0));
    show_status(exits(0), 0);
    show_status(exits(3), 0);
    show_status(exits(256 + 7), 0);
    pid_t child = sleeps();
    SHOW(waitpid(child, 0, WNOHANG));
    kill(child, SIGTERM);
    show_status(child, 0);
    SHOW(waitpid(child, 0, 0));
    child = sleeps();
    kill(child, SIGSTOP);
    show_status(child, WUNTRACED);
    kill(child, SIGCONT);
    show_status(child, WCONTINUED);
    kill(child, SIGKILL);
    show_status(child, WUNTRACED | WCONTINUED);

    child = exits(9);
    siginfo_t info = {0};
    SHOW(waitid(P_PID, child, &info, WEXITED | WNOWAIT));
    TRUE(info.si_pid == child);
    SHOW(info.si_signo);
    SHOW(info.si_code);
    SHOW(info.si_status);
    struct rusage usage;
    TRUE(wait4(child, 0, 0, &usage) == child);
    SHOW(waitid(P_PID, child, &info, WEXITED));
    SHOW(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
    SHOW(waitid(P_ALL, 0, &info, 0));
    SHOW(waitpid(-1, 0, 0x4000));

    // Any child of a process group.
    child = fork_clean();
    if (child == 0) {
        setpgid(0, 0);
        _exit(5);
    }
    setpgid(child, child);
    show_status(child, 0);
    child = exits(1);
    int status;
    TRUE(waitpid(0, &status, 0) == child);
    child = exits(2);
    TRUE(waitpid(-getpgrp(), &status, 0) == child);

    // Children whose death nobody wants to hear of.
    signal(SIGCHLD, SIG_IGN);
    exits(0);
    SHOW(waitpid(-1, 0, 0));
    return 0;
}
