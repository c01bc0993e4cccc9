// Corners of naming files: dots, slashes, flags that exclude each other, and who may do what.
#include "test.h"
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

static void make(const char *name) { close(open(name, O_CREAT | O_WRONLY, 0644)); }

static int open2(const char *path, unsigned flags, unsigned resolve, int at) {
    struct open_how how = {.flags = flags, .resolve = resolve};
    return syscall(SYS_openat2, at, path, &how, sizeof how);
}

static void flags(void) {
    OK(open("d", O_RDONLY | O_TRUNC));
    OK(open("d", O_RDONLY | O_DIRECTORY | O_TRUNC));
    OK(open("d", O_RDWR));
    OK(open("d/.", O_CREAT | O_RDONLY, 0600));
    OK(open("d/.", O_CREAT | O_EXCL, 0600));
    OK(open("new/", O_CREAT | O_WRONLY, 0600));
    OK(open("f/", O_RDONLY));
    OK(open("f/.", O_RDONLY));
    OK(open("f", O_DIRECTORY));
    OK(open("link", O_NOFOLLOW));
    OK(open("link", O_NOFOLLOW | O_DIRECTORY));
    OK(open("link", O_CREAT | O_EXCL, 0600));
    OK(open("dangling", O_RDONLY));
    OK(open("dangling", O_CREAT | O_NOFOLLOW, 0600));
    OK(open("loop", O_RDONLY));
    OK(open("f", O_CREAT | O_DIRECTORY, 0600));
    OK(open(".", O_TMPFILE & ~O_DIRECTORY, 0600));
    OK(open(".", O_TMPFILE, 0600));
    OK(open(".", O_TMPFILE | O_CREAT | O_RDWR, 0600));
    OK(open("f", O_TMPFILE | O_RDWR, 0600));
    SHOW(fcntl(open("f", O_RDONLY | O_CLOEXEC), F_GETFL) & ~O_LARGEFILE & 0xfffffff);
    SHOW(fcntl(open("f", O_PATH | O_CLOEXEC), F_GETFL) & ~O_LARGEFILE);
    SHOW(fcntl(open("d", O_PATH | O_DIRECTORY | O_NOFOLLOW), F_GETFL) & ~O_LARGEFILE);
    int odd = SHOW(open("f", 3) < 0);
    (void)odd;
    char byte;
    int none = open("f", 3);
    SHOW(read(none, &byte, 1));
    SHOW(write(none, &byte, 1));
}

static void dots(void) {
    SHOW(mkdir("d/.", 0700));
    SHOW(mkdir("d/..", 0700));
    SHOW(mkdir("none/.", 0700));
    SHOW(rmdir("d/."));
    SHOW(rmdir("d/.."));
    SHOW(rmdir("f/."));
    SHOW(rmdir("/"));
    SHOW(unlink("d/."));
    SHOW(unlink("f/"));
    SHOW(unlink("d/"));
    SHOW(unlink("d"));
    SHOW(rename("d/.", "e"));
    SHOW(rename("d", "e/."));
    SHOW(rename("f", "e/"));
    SHOW(rename("f/", "e"));
    SHOW(rename("d", "d/in"));
    SHOW(rename("d", "f"));
    SHOW(rename("f", "d"));
    SHOW(symlink("", "x"));
    SHOW(symlink("x", "f"));
    SHOW(symlink("x", "new/"));
    SHOW(link("d", "x"));
    SHOW(link("f", "new/"));
    SHOW(link("f", "f"));
    SHOW(link("none", "f"));
    SHOW(mknod("new/", S_IFREG | 0600, 0));
    SHOW(mknod("x", S_IFDIR | 0600, 0));
    SHOW(mknod("x", S_IFLNK | 0600, 0));
}

static void beneath(void) {
    int d = open("d", O_PATH);
    OK(open2("../f", O_RDONLY, RESOLVE_BENEATH, d));
    OK(open2("sub/../../f", O_RDONLY, RESOLVE_BENEATH, d));
    OK(open2("sub/..", O_RDONLY, RESOLVE_BENEATH, d));
    OK(open2("/", O_RDONLY, RESOLVE_BENEATH, d));
    OK(open2("/sub", O_RDONLY, RESOLVE_IN_ROOT, d));
    OK(open2("../../../sub", O_RDONLY, RESOLVE_IN_ROOT, d));
    OK(open2("up/f", O_RDONLY, RESOLVE_BENEATH, d));
    OK(open2("up/sub", O_RDONLY, RESOLVE_IN_ROOT, d));
    OK(open2("link", O_RDONLY, RESOLVE_NO_SYMLINKS, AT_FDCWD));
    OK(open2("link", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS, AT_FDCWD));
    OK(open2("/proc/self/exe", O_RDONLY, RESOLVE_NO_MAGICLINKS, AT_FDCWD));
    OK(open2("/proc/self", O_RDONLY, RESOLVE_NO_XDEV, AT_FDCWD));
    OK(open2("f", O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT, AT_FDCWD));
    OK(open2("f", O_RDONLY, 0x1000, AT_FDCWD));
    OK(open2("f", O_PATH | O_TRUNC, 0, AT_FDCWD));
    OK(open2("f", 1u << 30, 0, AT_FDCWD));
    // A directory that was moved out of the scope leads nowhere by its "..".
    int sub = open("d/sub", O_PATH);
    int deep = openat(sub, "deep", O_PATH);
    OK(rename("d/sub", "out"));
    OK(open2("..", O_RDONLY, RESOLVE_BENEATH, deep));
    OK(rename("out", "d/sub"));
    close(d), close(sub), close(deep);
}

static void unnamed(void) {
    char path[64];
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    struct stat st;
    fstat(fd, &st);
    say("links %ld\n", (long)st.st_nlink);
    unlink("linked");
    fstat(fd, &st);
    say("links %ld\n", (long)st.st_nlink);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    close(fd);
    fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "linked", AT_SYMLINK_FOLLOW));
    close(fd);
    make("gone");
    fd = open("gone", O_RDWR);
    unlink("gone");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    SHOW(linkat(AT_FDCWD, path, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));
    SHOW(linkat(fd, "", AT_FDCWD, "back", AT_EMPTY_PATH));
    close(fd);
    mkdir("dead", 0700);
    fd = open("dead", O_RDONLY);
    rmdir("dead");
    char entries[1024];
    SHOW(syscall(SYS_getdents64, fd, entries, sizeof entries));
    SHOW(openat(fd, "x", O_CREAT | O_WRONLY, 0600));
    SHOW(mkdirat(fd, "x", 0700));
    SHOW(symlinkat("x", fd, "y"));
    SHOW(openat(fd, "..", O_RDONLY) < 0);
    close(fd);
}

static void modes(void) {
    struct stat st;
    SHOW(chmod("f", 06755));
    SHOW(chown("f", -1, -1));
    stat("f", &st);
    say("mode %o\n", st.st_mode);
    SHOW(chmod("f", 06745));
    SHOW(chown("f", 0, 0));
    stat("f", &st);
    say("mode %o\n", st.st_mode);
    SHOW(chmod("f", 0644));
    SHOW(chmod("d", 06755));
    SHOW(chown("d", 0, 0));
    stat("d", &st);
    say("mode %o\n", st.st_mode);
    SHOW(chown("d", 0, 50));
    mkdir("d/inherits", 0700);
    stat("d/inherits", &st);
    say("mode %o group %d\n", st.st_mode, st.st_gid);
    rmdir("d/inherits");
    SHOW(chmod("d", 0755));
    SHOW(fchmodat(AT_FDCWD, "link", 0600, AT_SYMLINK_NOFOLLOW));
    SHOW(truncate("d", 0));
    SHOW(truncate("f", -1));
    SHOW(ftruncate(open("f", O_RDONLY), 0));
    SHOW(ftruncate(open("f", O_RDONLY), -1));
    SHOW(access("f", 8));
    SHOW(faccessat(AT_FDCWD, "f", R_OK, 0x4000));
}

static void as_nobody(void) {
    mkdir("closed", 0700);
    mkdir("closed/in", 0777);
    make("closed/f");
    mkdir("sticky", 01777);
    chmod("sticky", 01777);
    make("sticky/mine");
    mkdir("open", 0777);
    chmod("open", 0777);
    make("open/own");
    chown("open/own", 1000, 1000);
    chmod("open/own", 0600);
    int closed = open("closed", O_RDONLY | O_DIRECTORY);
    pid_t child = fork_clean();
    if (child == 0) {
        setgid(1000), setuid(1000);
        OK(open("closed/f", O_RDONLY));
        OK(open("closed/.", O_RDONLY));
        OK(open("closed/..", O_RDONLY));
        OK(openat(closed, "f", O_RDONLY));
        OK(openat(closed, ".", O_RDONLY));
        struct stat st;
        SHOW(fstatat(closed, ".", &st, 0));
        SHOW(fstatat(closed, "", &st, AT_EMPTY_PATH));
        SHOW(stat("closed", &st));
        SHOW(stat("closed/", &st));
        SHOW(stat("closed/.", &st));
        SHOW(fchdir(closed));
        SHOW(chdir("closed"));
        SHOW(unlink("sticky/mine"));
        SHOW(rename("sticky/mine", "sticky/theirs"));
        SHOW(rename("sticky/mine", "open/taken"));
        SHOW(unlink("none"));
        SHOW(mkdir("refused", 0700));
        SHOW(mkdir("closed", 0700));
        SHOW(chown("open/own", 0, -1));
        SHOW(chown("open/own", -1, 0));
        SHOW(chown("open/own", 1000, 1000));
        SHOW(chown("f", -1, -1));
        SHOW(chmod("f", 0600));
        SHOW(mknod("open/dev", S_IFCHR | 0600, makedev(1, 3)));
        SHOW(mknod("open/fifo", S_IFIFO | 0600, 0));
        SHOW(utimensat(AT_FDCWD, "f", NULL, 0));
        struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
        struct timespec part[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
        SHOW(utimensat(AT_FDCWD, "f", now, 0));
        SHOW(utimensat(AT_FDCWD, "f", part, 0));
        SHOW(utimensat(AT_FDCWD, "open/own", part, 0));
        SHOW(link("closed/f", "open/x"));
        SHOW(chroot("open"));
        SHOW(mount("none", "open", "tmpfs", 0, NULL));
        OK(open("f", O_RDONLY | O_NOATIME));
        _exit(0);
    }
    show_end("nobody", child);
    close(closed);
}

// What a path through links leads to. Asked twice: the second time the names are known.
static void goes(const char *path) {
    for (int round = 0; round < 2; round++) {
        struct stat st, own;
        int found = stat(path, &st), there = lstat(path, &own);
        const char *error = found ? strerrorname_np(errno) : "";
        int fd = open(path, O_RDONLY), made = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        const char *exists = made < 0 ? strerrorname_np(errno) : "made";
        long size = found ? -1 : S_ISDIR(st.st_mode) ? 0 : (long)st.st_size;
        say("%s: %s %ld %s, %s, %s\n", path, error, size, !there && S_ISLNK(own.st_mode) ? "link" : "",
            fd < 0 ? "closed" : "open", exists);
        close(fd);
        if (made >= 0) {
            close(made);
            unlink(path);
        }
    }
}

static void through_links(void) {
    mkdir("l", 0755);
    chdir("l");
    mkdir("a", 0755);
    mkdir("a/b", 0755);
    int fd = open("a/b/c", O_CREAT | O_WRONLY, 0644);
    (void)!write(fd, "12345", 5);
    close(fd);
    symlink("a/b", "directory");
    symlink("a/b/c", "file");
    symlink("/tmp/path_edges/l/a/b", "absolute");
    symlink("///tmp//path_edges/./l/file", "slashes");
    symlink("a/../a/b/c", "up");
    symlink("../../l/directory/c", "a/climbs");
    symlink("a/b/c/", "file-slash");
    symlink("a/b/none", "none");
    symlink(".", "here");
    symlink("/", "root");
    symlink("second", "first");
    symlink("first", "second");
    symlink("directory", "chain0");
    for (int i = 1; i < 45; i++) {
        char name[20], target[20];
        sprintf(name, "chain%d", i);
        sprintf(target, "chain%d", i - 1);
        symlink(target, name);
    }
    const char *paths[] = {
        "directory/c", "directory/./c", "directory/", "directory/none", "directory/c/", "directory/c/x",
        "directory", "file", "file/", "file/x", "absolute/c", "slashes", "up", "a/climbs", "file-slash",
        "none", "none/", "none/x", "here/here/here/file", "here/here/here/here/here/here/here/here/here/file",
        "root/tmp/path_edges/l/here/file", "first", "first/x", "chain2/c", "chain3/c", "chain4/c", "chain7/c",
        "chain20/../b/c", "chain39/c", "chain40/c", "directory/../b/c", "here/directory/../climbs",
    };
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) goes(paths[i]);
    // Forty links in one path, and one more.
    char many[250] = "";
    for (int i = 0; i < 40; i++) strcat(many, "here/");
    goes(strcat(many, "a"));
    strcpy(strrchr(many, '/'), "/here");
    goes(many);
    // Known links change.
    OK(unlink("file"));
    OK(symlink("a/climbs", "file"));
    goes("slashes");
    OK(rename("a/b", "a/moved"));
    goes("directory/c");
    goes("slashes");
    OK(mkdir("a/b", 0755));
    goes("directory/c");
    OK(rename("a/moved/c", "directory/c"));
    goes("slashes");
    // A link to where something is mounted.
    OK(mount("none", "a/b", "tmpfs", 0, "size=64k"));
    goes("directory/c");
    fd = open("directory/c", O_CREAT | O_WRONLY, 0644);
    (void)!write(fd, "123", 3);
    close(fd);
    goes("slashes");
    OK(symlink("/tmp/path_edges/l/a/climbs", "directory/back"));
    goes("absolute/back");
    OK(umount("a/b"));
    goes("absolute/back");
    goes("slashes");
    // Who may not search the directory behind a link.
    OK(chmod("a/b", 0));
    pid_t child = fork();
    if (child == 0) {
        setresuid(65534, 65534, 65534);
        goes("directory/c");
        goes("slashes");
        fflush(stdout);
        _exit(0);
    }
    show_end("through links", child);
    chdir("..");
}

int main(void) {
    umask(022);
    mkdir("/tmp/path_edges", 0755);
    chdir("/tmp/path_edges");
    mkdir("d", 0755);
    mkdir("d/sub", 0755);
    mkdir("d/sub/deep", 0755);
    symlink("..", "d/up");
    mkdir("e", 0755);
    make("f");
    symlink("f", "link");
    symlink("nowhere", "dangling");
    symlink("loop", "loop");
    flags();
    dots();
    beneath();
    unnamed();
    modes();
    as_nobody();
    through_links();
    chdir("/");
    system("rm -rf /tmp/path_edges");
    return 0;
}
