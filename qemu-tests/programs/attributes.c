// Modes, owners, times, sizes, and what file systems say of themselves.
#include "test.h"
#include <sys/sysmacros.h>
#include <sys/vfs.h>

static void show(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0) {
        say("%s: %s\n", path, strerrorname_np(errno));
        return;
    }
    say("%s: mode %o links %ld owner %d:%d size %ld\n", path, info.st_mode, (long)info.st_nlink,
        info.st_uid, info.st_gid, S_ISDIR(info.st_mode) ? -1L : (long)info.st_size);
}

static void device(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) {
        say("%s: %s\n", path, strerrorname_np(errno));
        return;
    }
    say("%s: type %o device %d:%d\n", path, info.st_mode & S_IFMT, major(info.st_rdev),
        minor(info.st_rdev));
}

int main(void) {
    mkdir("/tmp/attributes", 0755);
    chdir("/tmp/attributes");
    SHOW(umask(0));
    close(open("all", O_CREAT | O_WRONLY, 0666));
    SHOW(umask(027));
    close(open("some", O_CREAT | O_WRONLY, 0666));
    mkdir("dir", 0777);
    symlink("some", "link");
    mknod("fifo", S_IFIFO | 0640, 0);
    show("all");
    show("some");
    show("dir");
    show("link");
    show("fifo");
    SHOW(chmod("all", 04751));
    show("all");
    SHOW(chmod("none", 0600));
    SHOW(chmod("link", 0600));
    show("some");
    int file = open("all", O_RDWR);
    SHOW(fchmod(file, 0600));
    SHOW(chown("all", 12, 34));
    show("all");
    SHOW(chown("all", -1, 56));
    SHOW(lchown("link", 7, 8));
    show("link");
    SHOW(fchown(file, 0, 0));
    SHOW(fchownat(AT_FDCWD, "link", 1, 2, AT_SYMLINK_NOFOLLOW));
    show("link");
    show("some");

    struct timespec times[2] = {{1000, 111}, {2000, 222}};
    struct stat info;
    SHOW(utimensat(AT_FDCWD, "all", times, 0));
    stat("all", &info);
    SHOW(info.st_atim.tv_sec);
    SHOW(info.st_mtim.tv_sec);
    SHOW(info.st_mtim.tv_nsec);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_nsec = UTIME_NOW;
    SHOW(utimensat(AT_FDCWD, "all", times, 0));
    stat("all", &info);
    SHOW(info.st_atim.tv_sec);
    TRUE(labs(info.st_mtim.tv_sec - time(0)) < 3);
    SHOW(futimens(file, 0));
    struct timespec before = info.st_ctim;
    sleep_ms(20);
    write(file, "1234567890", 10);
    fstat(file, &info);
    TRUE(info.st_ctim.tv_sec > before.tv_sec || info.st_ctim.tv_nsec > before.tv_nsec);
    SHOW(info.st_size);
    SHOW(info.st_blksize);
    SHOW(info.st_blocks);
    struct statx extended;
    SHOW(statx(AT_FDCWD, "all", 0, STATX_BASIC_STATS, &extended));
    TRUE((extended.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    SHOW(extended.stx_size);
    SHOW(statx(AT_FDCWD, "none", 0, STATX_BASIC_STATS, &extended));
    TRUE(stat("all", &info) == 0 && info.st_ino != 0);
    struct stat other;
    stat("some", &other);
    TRUE(info.st_ino != other.st_ino && info.st_dev == other.st_dev);
    SHOW(access("some", R_OK | W_OK));
    SHOW(access("some", X_OK));
    SHOW(access("some", 77));

    struct statfs system;
    SHOW(statfs("/tmp", &system));
    say("/tmp type %lx\n", (long)system.f_type);
    SHOW(statfs("/proc", &system));
    say("/proc type %lx\n", (long)system.f_type);
    SHOW(system.f_namelen);
    SHOW(statfs("/none", &system));
    device("/dev/null");
    device("/dev/zero");
    device("/dev/full");
    device("/dev/random");
    device("/dev/urandom");
    device("/dev/tty");
    device("/dev/ptmx");
    return 0;
}
