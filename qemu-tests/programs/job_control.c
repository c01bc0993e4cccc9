// Sessions, process groups, and what the terminal does to background jobs.
#include "test.h"
#include <sys/ioctl.h>
#include <termios.h>

static void show_stop(const char *who, pid_t child) {
    int status = 0;
    waitpid(child, &status, WUNTRACED);
    if (WIFSTOPPED(status)) {
        say("%s: stopped by %d\n", who, WSTOPSIG(status));
    } else {
        say("%s: status %x\n", who, status);
    }
}

static pid_t job(int background, void (*body)(int), int terminal) {
    pid_t child = fork_clean();
    if (child == 0) {
        setpgid(0, 0);
        if (!background) {
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(terminal, getpgrp());
            signal(SIGTTOU, SIG_DFL);
        }
        body(terminal);
        _exit(0);
    }
    setpgid(child, child);
    return child;
}

static void reads(int terminal) {
    char byte;
    say("read %zd\n", read(terminal, &byte, 1));
}

static void changes(int terminal) {
    struct termios mode;
    tcgetattr(terminal, &mode);
    tcsetattr(terminal, TCSANOW, &mode);
}

static void waits(int terminal) {
    (void)terminal;
    for (;;) pause();
}

static void leader(int master, int slave) {
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    signal(SIGTTOU, SIG_IGN);
    pid_t own = getpgrp();
    SHOW(tcgetpgrp(slave) == own);

    pid_t child = job(1, reads, slave);
    show_stop("background reader", child);
    SHOW(tcsetpgrp(slave, child));
    write(master, "x\n", 2);
    int continued = kill(-child, SIGCONT);
    show_end("reader in the foreground", child);
    SHOW(continued);
    SHOW(tcsetpgrp(slave, own));

    signal(SIGTTOU, SIG_DFL);
    child = job(1, changes, slave);
    show_stop("background change of modes", child);
    kill(-child, SIGKILL);
    waitpid(child, 0, 0);
    signal(SIGTTOU, SIG_IGN);

    child = job(0, waits, slave);
    sleep_ms(50);
    write(master, "\032", 1);
    show_stop("foreground job and Ctrl-Z", child);
    SHOW(tcgetpgrp(slave) == child);
    kill(-child, SIGCONT);
    int status;
    waitpid(child, &status, WCONTINUED);
    TRUE(WIFCONTINUED(status));
    write(master, "\003", 1);
    show_end("foreground job and Ctrl-C", child);
    SHOW(tcsetpgrp(slave, own));
    SHOW(tcsetpgrp(slave, 99999));
    _exit(0);
}

int main(void) {
    TRUE(getsid(0) == getpid() && getpgrp() == getpid());
    SHOW(setsid());
    SHOW(setpgid(0, 0));
    SHOW(setpgid(99999, 0));
    SHOW(getpgid(99999));
    SHOW(getsid(99999));
    pid_t child = fork_clean();
    if (child == 0) {
        TRUE(getpgrp() == getppid());
        SHOW(setpgid(0, 0));
        TRUE(getpgrp() == getpid());
        SHOW(setpgid(0, 99999));
        SHOW(setpgid(0, getppid()));
        TRUE(getpgrp() == getppid());
        TRUE(setsid() == getpid());
        _exit(0);
    }
    show_end("child", child);
    child = fork_clean();
    if (child == 0) {
        char *arguments[] = {"sh", "-c", "sleep 5", 0};
        execv("/bin/busybox", arguments);
        _exit(0);
    }
    sleep_ms(100);
    SHOW(setpgid(child, child));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);

    // A signal to a group reaches all of it.
    pid_t group = 0;
    for (int i = 0; i < 3; i++) {
        child = fork_clean();
        if (child == 0) {
            for (;;) pause();
        }
        setpgid(child, group);
        if (group == 0) group = child;
    }
    SHOW(kill(-group, SIGTERM));
    for (int i = 0; i < 3; i++) {
        int status;
        TRUE(waitpid(-group, &status, 0) > 0 && WTERMSIG(status) == SIGTERM);
    }
    SHOW(kill(-group, SIGTERM));

    int master = posix_openpt(O_RDWR | O_NOCTTY);
    unlockpt(master);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    SHOW(tcgetpgrp(slave));
    child = fork_clean();
    if (child == 0) leader(master, slave);
    show_end("leader", child);

    // An orphaned stopped group is told and continued.
    int ends[2];
    pipe(ends);
    child = fork_clean();
    if (child == 0) {
        pid_t stopped = fork_clean();
        if (stopped == 0) {
            setpgid(0, 0);
            signal(SIGHUP, SIG_IGN);
            raise(SIGSTOP);
            write(ends[1], "c", 1);
            _exit(0);
        }
        waitpid(stopped, 0, WUNTRACED);
        _exit(0);
    }
    waitpid(child, 0, 0);
    close(ends[1]);
    char byte = 0;
    SHOW(read(ends[0], &byte, 1));
    return 0;
}
