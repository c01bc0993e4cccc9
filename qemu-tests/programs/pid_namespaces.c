// PID namespaces: numbers inside and outside, signals to an init, orphans, /proc, entering by pidfd.
#include "test.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>

static int ready[2];

static pid_t clone_into(unsigned long flags) {
    return syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

static const char *outcome(int status) {
    static char text[40];
    if (WIFEXITED(status)) snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    else snprintf(text, sizeof text, "status %x", status);
    return text;
}

static void show_line(const char *path, const char *key) {
    char line[256];
    FILE *file = fopen(path, "r");
    if (!file) {
        say("%s: %s\n", path, strerror(errno));
        return;
    }
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) say("%s", line);
    fclose(file);
}

static void numbers_inside(void) {
    pid_t child = clone_into(CLONE_NEWPID);
    if (child == 0) {
        say("inside: pid %d, ppid %d, tid %ld\n", getpid(), getppid(), syscall(SYS_gettid));
        say("inherited group visible: %d, session visible: %d\n", getpgrp() != 0, getsid(0) != 0);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            say("its child: pid %d, ppid %d\n", getpid(), getppid());
            say("setsid: %d\n", setsid());
            say("group %d, session %d\n", getpgid(0), getsid(1) == 0 ? 0 : getsid(0));
                _exit(5);
        }
        int status;
        pid_t waited = waitpid(grandchild, &status, 0);
        say("waited for %d: %s\n", waited, outcome(status));
        SHOW(kill(4711, 0));
        SHOW(waitpid(4711, &status, 0));
        _exit(7);
    }
    int status;
    say("waited: %d", waitpid(child, &status, 0) == child);
    say(", %s, outside it has another number: %d\n", outcome(status), child != 1);
}

static volatile int senders = -1;

static void note_sender(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    senders = info->si_pid;
}

static void signals_to_init(void) {
    pid_t child = clone_into(CLONE_NEWPID);
    if (child == 0) {
        struct sigaction action = {.sa_sigaction = note_sender, .sa_flags = SA_SIGINFO};
        sigaction(SIGUSR1, &action, NULL);
        // From itself and from its children, even SIGKILL does nothing.
        kill(getpid(), SIGKILL);
        if (fork() == 0) _exit(kill(1, SIGKILL) == 0 && kill(1, SIGTERM) == 0 ? 0 : 1);
        int status;
        wait(&status);
        say("init lives on, %s\n", outcome(status));
        if (fork() == 0) _exit(kill(1, SIGUSR1) != 0);
        wait(&status);
        say("sender inside is %d\n", senders);
        // The signal must not come between the look and the wait.
        char byte = 1;
        sigset_t held, none;
        sigemptyset(&none);
        sigemptyset(&held);
        sigaddset(&held, SIGUSR1);
        sigprocmask(SIG_BLOCK, &held, NULL);
        write(ready[1], &byte, 1);
        while (senders != 0) sigsuspend(&none);
        say("sender outside is %d\n", senders);
        write(ready[1], &byte, 1);
        for (;;) pause();
    }
    char byte;
    read(ready[0], &byte, 1);
    kill(child, SIGTERM);
    kill(child, SIGUSR1);
    read(ready[0], &byte, 1);
    int status;
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    say("stopped from outside: %d\n", WIFSTOPPED(status));
    kill(child, SIGCONT);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    say("killed from outside: %s\n", outcome(status));
}

static void the_end_of_init(void) {
    int alive[2];
    pipe(alive);
    pid_t child = clone_into(CLONE_NEWPID);
    if (child == 0) {
        close(alive[0]);
        for (int i = 0; i < 3; i++)
            if (fork() == 0) {
                signal(SIGTERM, SIG_IGN);
                if (i == 2) setsid();
                for (;;) pause();
            }
        _exit(3);
    }
    close(alive[1]);
    int status;
    waitpid(child, &status, 0);
    // Everyone else is gone by now, and with them the other end of the pipe.
    char byte;
    fcntl(alive[0], F_SETFL, O_NONBLOCK);
    say("init ended: %s, the others' pipe: %zd\n", outcome(status), read(alive[0], &byte, 1));
    close(alive[0]);
}

static void orphans(void) {
    pid_t child = clone_into(CLONE_NEWPID);
    if (child == 0) {
        int gate[2];
        pipe(gate);
        if (fork() == 0) {
            if (fork() == 0) {
                char byte;
                close(gate[1]);
                read(gate[0], &byte, 1);
                say("orphan's parent: %d\n", getppid());
                        _exit(9);
            }
            _exit(0);
        }
        int status;
        wait(&status);
        close(gate[1]);
        pid_t orphan = wait(&status);
        say("init reaps %d: %s\n", orphan, outcome(status));
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void unshared(void) {
    pid_t helper = fork();
    if (helper == 0) {
        pid_t before = getpid();
        SHOW(unshare(CLONE_NEWPID));
        say("own number stays: %d\n", getpid() == before);
        SHOW(unshare(CLONE_NEWPID));
        int status;
        pid_t first = fork();
        if (first == 0) {
            say("first child: %d\n", getpid());
                _exit(0);
        }
        waitpid(first, &status, 0);
        // The namespace has lost its init.
        SHOW(fork());
        _exit(0);
    }
    waitpid(helper, NULL, 0);
}

static void proc_inside(void) {
    pid_t child = clone_into(CLONE_NEWPID | CLONE_NEWNS);
    if (child == 0) {
        mkdir("/tmp/pidns-proc", 0755);
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
        if (mount("proc", "/tmp/pidns-proc", "proc", 0, NULL)) say("mount: %s\n", strerror(errno));
        char link[64] = "";
        ssize_t length = readlink("/tmp/pidns-proc/self", link, sizeof link - 1);
        say("self: %.*s\n", (int)length, link);
        show_line("/tmp/pidns-proc/self/status", "Pid:");
        show_line("/tmp/pidns-proc/self/status", "PPid:");
        say("2 is there: %d\n", access("/tmp/pidns-proc/2", F_OK) == 0);
        if (fork() == 0) {
            show_line("/tmp/pidns-proc/self/status", "Tgid:");
            show_line("/tmp/pidns-proc/2/status", "NSpid:");
                _exit(0);
        }
        wait(NULL);
        // The old /proc shows us by the number outside.
        char path[64];
        length = readlink("/proc/self", link, sizeof link - 1);
        snprintf(path, sizeof path, "/proc/%.*s/status", (int)length, link);
        int outside = 0, inside = 0;
        FILE *file = fopen(path, "r");
        char line[256];
        while (file && fgets(line, sizeof line, file)) sscanf(line, "NSpid: %d %d", &outside, &inside);
        say("outside and inside: %d %d\n", outside > 1, inside);
        umount("/tmp/pidns-proc");
        _exit(0);
    }
    waitpid(child, NULL, 0);
    rmdir("/tmp/pidns-proc");
}

// A namespace with nobody but its init, which waits; a pidfd of that is a way in.
static pid_t idle_namespace(int *fd) {
    pid_t init = clone_into(CLONE_NEWPID);
    if (init == 0)
        for (;;) pause();
    *fd = syscall(SYS_pidfd_open, init, 0);
    return init;
}

static void entering(void) {
    int fd;
    pid_t init = idle_namespace(&fd);
    pid_t helper = fork();
    if (helper == 0) {
        OK(setns(fd, CLONE_NEWPID));
        pid_t child = clone_into(0);
        if (child == 0) {
            say("entered as %d, parent %d\n", getpid(), getppid());
                _exit(0);
        }
        int status;
        say("waited: %d", waitpid(child, &status, 0) == child);
        say(", %s\n", outcome(status));
        // A sibling in the namespace, as runc makes it.
        child = clone_into(CLONE_PARENT);
        if (child == 0) {
            say("sibling is %d\n", getpid());
                _exit(4);
        }
        _exit(0);
    }
    int status;
    waitpid(helper, NULL, 0);
    pid_t sibling = wait(&status);
    say("sibling ended, seen outside as another: %d, %s\n", sibling != 3, outcome(status));
    kill(init, SIGKILL);
    waitpid(init, NULL, 0);
    OK(setns(fd, CLONE_NEWPID));
    close(fd);
}

// Who was put in from outside dies with the namespace, and is its parent's to wait for.
static void put_in_from_outside(void) {
    int fd;
    pid_t init = idle_namespace(&fd);
    pid_t helper = fork();
    if (helper == 0) {
        setns(fd, CLONE_NEWPID);
        pid_t child = clone_into(0);
        if (child == 0)
            for (;;) pause();
        kill(init, SIGKILL);
        int status;
        say("waited: %d", waitpid(child, &status, 0) == child);
        say(", %s\n", outcome(status));
        _exit(0);
    }
    waitpid(helper, NULL, 0);
    waitpid(init, NULL, 0);
    close(fd);
}

static void credentials_cross(void) {
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    pid_t child = clone_into(CLONE_NEWPID);
    if (child == 0) {
        struct ucred peer;
        socklen_t length = sizeof peer;
        getsockopt(pair[1], SOL_SOCKET, SO_PEERCRED, &peer, &length);
        say("peer from outside: %d\n", peer.pid);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(pair[0]);
    close(pair[1]);
}

// Only the namespace ends, whoever in it asks.
static void restarting(void) {
    int commands[] = {RB_AUTOBOOT, RB_POWER_OFF, RB_HALT_SYSTEM, RB_DISABLE_CAD};
    for (int i = 0; i < 4; i++) {
        pid_t child = clone_into(CLONE_NEWPID);
        if (child == 0) {
            if (getpid() != 1) _exit(9);
            if (fork_clean() == 0) {
                SHOW(reboot(commands[i]));
                _exit(0);
            }
            wait(NULL);
            _exit(3);
        }
        show_end("restarted", child);
    }
}

// As checkpoints do that restore a process under its old number.
static void chosen_numbers(void) {
    pid_t child = clone_into(CLONE_NEWPID);
    if (child == 0) {
        const char *values[] = {"76", "4", "0", "-1", "x", "99999999"};
        for (int i = 0; i < 6; i++) {
            int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
            say("%s: %d\n", values[i], write(file, values[i], strlen(values[i])) < 0 ? errno : 0);
            close(file);
            pid_t next = fork();
            if (next == 0) _exit(0);
            say("next: %d\n", next);
            waitpid(next, 0, 0);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void refusals(void) {
    SHOW(syscall(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0));
    if (fork() == 0) {
        setuid(65534);
        SHOW(clone_into(CLONE_NEWPID));
        SHOW(unshare(CLONE_NEWPID));
        _exit(0);
    }
    wait(NULL);
    OK(setns(ready[0], CLONE_NEWPID));
    OK(setns(999, CLONE_NEWPID));
}

int main(void) {
    pipe(ready);
    void (*tests[])(void) = {numbers_inside, signals_to_init, the_end_of_init, orphans, unshared,
                             proc_inside, entering, put_in_from_outside, credentials_cross, restarting,
                             chosen_numbers, refusals};
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
        say("-- %u\n", i);
        tests[i]();
    }
    return 0;
}
