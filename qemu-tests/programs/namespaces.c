// Namespaces as files: what they are called, what their files tell, how they are entered.
#include "test.h"
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#define NS_GET_USERNS 0xb701
#define NS_GET_PARENT 0xb702
#define NS_GET_NSTYPE 0xb703
#define NS_GET_OWNER_UID 0xb704

static const char *kinds[] = {"mnt", "pid", "pid_for_children", "uts"};

static unsigned long inode_of(const char *path) {
    struct stat info;
    return stat(path, &info) ? 0 : info.st_ino;
}

static unsigned long own(const char *kind) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    return inode_of(path);
}

static void links(void) {
    for (int i = 0; i < 4; i++) {
        char path[64], text[64], expected[64];
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
        ssize_t len = readlink(path, text, sizeof text - 1);
        text[len < 0 ? 0 : len] = 0;
        snprintf(expected, sizeof expected, "%.3s:[%lu]", kinds[i], inode_of(path));
        say("%s names itself: %d\n", kinds[i], strcmp(text, expected) == 0);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        struct stat info;
        fstat(file, &info);
        say("mode %o, type %x\n", info.st_mode, ioctl(file, NS_GET_NSTYPE));
        SHOW(read(file, text, 1));
        SHOW(ioctl(file, NS_GET_OWNER_UID, text));
        int user = ioctl(file, NS_GET_USERNS);
        TRUE(user >= 0);
        say("owner type %x\n", ioctl(user, NS_GET_NSTYPE));
        SHOW(setns(file, CLONE_NEWNET));
        close(user);
        close(file);
    }
    SHOW(open("/proc/self/ns/none", O_RDONLY));
    TRUE(own("pid") == own("pid_for_children"));
}

static void show_name(const char *who) {
    struct utsname name;
    uname(&name);
    say("%s: %s %s\n", who, name.nodename, name.domainname);
}

static void host_names(void) {
    int old = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    unsigned long before = own("uts");
    SHOW(unshare(CLONE_NEWUTS));
    TRUE(own("uts") != before);
    SHOW(sethostname("inner", 5));
    SHOW(setdomainname("domain", 6));
    show_name("inner");
    int inner = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
    pid_t child = fork_clean();
    if (child == 0) {
        show_name("child");
        SHOW(setns(old, CLONE_NEWUTS));
        say("child is back: %d\n", own("uts") == before);
        _exit(0);
    }
    show_end("child", child);
    SHOW(setns(old, 0));
    TRUE(own("uts") == before);
    SHOW(setns(inner, CLONE_NEWPID));
    SHOW(setns(inner, CLONE_NEWUTS));
    show_name("inner again");
    int file = open("/proc/sys/kernel/hostname", O_RDWR);
    SHOW(write(file, "written\n", 8));
    show_name("written");
    close(file);
    SHOW(setns(old, 0));
}

static void pids(void) {
    SHOW(unshare(CLONE_NEWPID));
    // Nobody is in it yet.
    TRUE(own("pid") != 0);
    pid_t child = fork_clean();
    if (child == 0) pause();
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/pid", child);
    TRUE(inode_of(path) != own("pid"));
    TRUE(inode_of(path) == own("pid_for_children"));
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int parent = ioctl(file, NS_GET_PARENT);
    struct stat info;
    fstat(parent, &info);
    TRUE(info.st_ino == own("pid"));
    SHOW(kill(child, SIGKILL));
    show_end("init", child);
    SHOW(setns(file, CLONE_NEWPID));
    SHOW(fork());
}

// Where allocations are made to fail this may fail, too: a program must not change the mounts of all others then.
static void unshare_mounts(void) {
    int made = unshare(CLONE_NEWNS);
    show_result("unshare(CLONE_NEWNS)", made);
    if (made != 0) exit(1);
}

// Whoever waits for mounts to change is told once by each open file.
static void mount_events(void) {
    unshare_mounts();
    struct pollfd watch = {open("/proc/self/mountinfo", O_RDONLY), POLLPRI, 0};
    SHOW(poll(&watch, 1, 0));
    SHOW(mount("none", "/tmp", "tmpfs", 0, 0));
    SHOW(poll(&watch, 1, 0));
    SHOW(watch.revents);
    SHOW(poll(&watch, 1, 0));
    SHOW(umount("/tmp"));
    SHOW(poll(&watch, 1, 1000));
    close(watch.fd);
    struct epoll_event event = {.events = EPOLLPRI};
    int instance = epoll_create1(0);
    const char *paths[] = {"/proc/self/mounts", "/proc/self/stat", "/proc/sys/kernel/hostname"};
    for (int i = 0; i < 3; i++)
        SHOW(epoll_ctl(instance, EPOLL_CTL_ADD, open(paths[i], O_RDONLY), &event));
    struct stat info;
    int modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", open("/dev/null", modes[i]));
        lstat(path, &info);
        say("mode %o\n", info.st_mode);
    }
}

// What is mounted in another namespace is reached through /proc, but not changed from here. (How it propagates was let be
// changed before Linux 6.16, so that is tested elsewhere.)
static void foreign_mounts(void) {
    int ready[2], end[2];
    char byte = 0, path[64];
    SHOW(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
    pipe(ready);
    pipe(end);
    pid_t child = fork_clean();
    if (child == 0) {
        close(end[1]);
        unshare_mounts();
        SHOW(mount("none", "/tmp", "tmpfs", 0, 0));
        write(ready[1], &byte, 1);
        read(end[0], &byte, 1);
        // Nothing has come, gone or changed.
        SHOW(close(open("/tmp/new", O_CREAT | O_WRONLY, 0644)));
        SHOW(umount("/tmp"));
        SHOW(umount("/tmp"));
        _exit(0);
    }
    read(ready[0], &byte, 1);
    snprintf(path, sizeof path, "/proc/%d/root/tmp", child);
    SHOW(mount(0, path, 0, MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
    SHOW(mount(0, path, 0, MS_REMOUNT | MS_RDONLY, 0));
    SHOW(mount("none", path, "tmpfs", 0, 0));
    SHOW(mount(path, "/tmp", 0, MS_BIND, 0));
    SHOW(mount("/tmp", path, 0, MS_BIND, 0));
    SHOW(mount(path, "/tmp", 0, MS_MOVE, 0));
    SHOW(umount2(path, MNT_DETACH));
    SHOW(umount(path));
    SHOW(syscall(SYS_pivot_root, path, path));
    close(end[1]);
    show_end("other", child);
}

static void unprivileged(void) {
    pid_t child = fork_clean();
    if (child == 0) {
        int file = open("/proc/self/ns/uts", O_RDONLY);
        SHOW(setresuid(1000, 1000, 1000));
        SHOW(setns(file, CLONE_NEWUTS));
        SHOW(unshare(CLONE_NEWUTS));
        // Kinds that are not there ask for the privilege first, too; flags that are none do not.
        SHOW(unshare(CLONE_NEWIPC));
        SHOW(unshare(CLONE_NEWNET));
        SHOW(unshare(CLONE_NEWCGROUP));
        SHOW(unshare(0x80 /* CLONE_NEWTIME */));
        SHOW(syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0));
        SHOW(unshare(1));
        SHOW(sethostname("x", 1));
        SHOW(readlink("/proc/1/ns/uts", (char[64]){0}, 64));
        _exit(0);
    }
    show_end("user", child);
}

int main(void) {
    links();
    host_names();
    mount_events();
    foreign_mounts();
    unprivileged();
    pids();
    return 0;
}
