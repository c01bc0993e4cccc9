// Users and groups: changing them, and what they may do.
#include "test.h"
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/uio.h>

static void show_ids(void) {
    uid_t u[3];
    gid_t g[3];
    getresuid(&u[0], &u[1], &u[2]);
    getresgid(&g[0], &g[1], &g[2]);
    say("uid %d %d %d gid %d %d %d\n", u[0], u[1], u[2], g[0], g[1], g[2]);
}

static void as_user(void) {
    SHOW(setgroups(2, (gid_t[]){100, 200}));
    SHOW(getgroups(0, 0));
    gid_t groups[8];
    SHOW(getgroups(8, groups));
    say("%d %d\n", groups[0], groups[1]);
    SHOW(getgroups(1, groups));
    SHOW(setresgid(500, 500, 500));
    SHOW(setresuid(1000, 1000, 1000));
    show_ids();
    SHOW(setuid(0));
    SHOW(setgid(0));
    SHOW(setresuid(-1, 2000, -1));
    SHOW(setgroups(0, 0));
    SHOW(open("/tmp/roots", O_RDONLY));
    SHOW(open("/tmp/roots", O_WRONLY));
    SHOW(close(open("/tmp/group", O_RDONLY)));
    SHOW(open("/tmp/group", O_WRONLY));
    SHOW(open("/tmp/private/x", O_RDONLY));
    SHOW(chdir("/tmp/private"));
    SHOW(open("/tmp/closed/new", O_WRONLY | O_CREAT, 0600));
    SHOW(close(open("/tmp/closed/x", O_RDONLY)));
    SHOW(unlink("/tmp/closed/x"));
    SHOW(close(open("/tmp/mine", O_WRONLY | O_CREAT, 0600)));
    struct stat info;
    stat("/tmp/mine", &info);
    say("mine: %d:%d\n", info.st_uid, info.st_gid);
    SHOW(chmod("/tmp/mine", 0644));
    SHOW(chmod("/tmp/roots", 0777));
    SHOW(chown("/tmp/mine", 0, -1));
    SHOW(chown("/tmp/mine", -1, 100));
    SHOW(chown("/tmp/mine", -1, 300));
    SHOW(unlink("/tmp/roots"));
    SHOW(rename("/tmp/roots", "/tmp/taken"));
    SHOW(kill(1, 0));
    SHOW(kill(getppid(), SIGTERM));
    SHOW(kill(getpid(), 0));
    SHOW(access("/tmp/group", R_OK));
    SHOW(access("/tmp/group", W_OK));
    SHOW(sethostname("x", 1));
    SHOW(mkdir("/tmp/own", 0700));
    SHOW(close(open("/tmp/own/file", O_WRONLY | O_CREAT, 0)));
    SHOW(open("/tmp/own/file", O_RDONLY));
    SHOW(execl("/tmp/group", "x", (char *)0));
}

// Who may look into a process while it executes a set-user-id program sees the old memory, or nothing: never the new one
// (EFAULT: what is looked for is only in the old).
static void looked_at_in_exec(void) {
    char *mark = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    chmod("/tmp/setuid", 04755);
    pid_t user = fork_clean();
    if (user == 0) {
        int strays = 0, seen = 0;
        setgid(1000);
        setuid(1000);
        prctl(PR_SET_DUMPABLE, 1);
        for (int round = 0; round < 60; round++) {
            pid_t child = fork_clean();
            if (child == 0) {
                dup2(open("/dev/null", O_WRONLY), 1);
                for (int i = 0; i < 100; i++) open("/dev/null", O_RDONLY | O_CLOEXEC);
                execl("/tmp/setuid", "as root", (char *)0);
                _exit(1);
            }
            char byte;
            struct iovec here = {&byte, 1}, there = {mark, 1};
            while (process_vm_readv(child, &here, 1, &there, 1, 0) == 1) seen = 1;
            strays += errno == EFAULT;
            waitpid(child, 0, 0);
        }
        SHOW(seen);
        SHOW(strays);
        _exit(0);
    }
    show_end("looked at in exec", user);
}

int main(void) {
    show_ids();
    close(open("/tmp/roots", O_WRONLY | O_CREAT, 0600));
    int file = open("/tmp/group", O_WRONLY | O_CREAT, 0640);
    fchown(file, 0, 200);
    mkdir("/tmp/private", 0700);
    mkdir("/tmp/closed", 0755);
    close(open("/tmp/closed/x", O_WRONLY | O_CREAT, 0644));
    pid_t child = fork_clean();
    if (child == 0) {
        as_user();
        _exit(0);
    }
    show_end("as a user", child);
    child = fork_clean();
    if (child == 0) {
        SHOW(seteuid(1000));
        show_ids();
        SHOW(open("/tmp/roots", O_RDONLY));
        SHOW(access("/tmp/roots", R_OK));
        SHOW(faccessat(AT_FDCWD, "/tmp/roots", R_OK, AT_EACCESS));
        SHOW(seteuid(0));
        SHOW(setreuid(1000, -1));
        show_ids();
        SHOW(setuid(55));
        show_ids();
        _exit(0);
    }
    show_end("there and back", child);
    // A set-user-id program.
    int in = open("/tests/hello_pie", O_RDONLY);
    int out = open("/tmp/setuid", O_WRONLY | O_CREAT | O_TRUNC, 0700);
    char block[4096];
    ssize_t got;
    while ((got = read(in, block, sizeof block)) > 0) write(out, block, (size_t)got);
    close(out);
    chmod("/tmp/setuid", 0755);
    child = fork_clean();
    if (child == 0) {
        setuid(1000);
        execl("/tmp/setuid", "as user", (char *)0);
        _exit(1);
    }
    show_end("executed by a user", child);
    SHOW(setgroups(-1, 0));
    looked_at_in_exec();
    return 0;
}
