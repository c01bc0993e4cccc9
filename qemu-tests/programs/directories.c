// Names: directories, links, renames, paths.
#include "test.h"
#include <dirent.h>
#include <sys/vfs.h>
#include <limits.h>

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        say("%s: %s\n", path, strerrorname_np(errno));
        return;
    }
    char *names[300];
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) && count < 300) {
        char *name = malloc(strlen(entry->d_name) + 3);
        sprintf(name, "%s:%d", entry->d_name, entry->d_type);
        names[count++] = name;
    }
    qsort(names, count, sizeof *names, compare);
    say("%s:", path);
    for (int i = 0; i < count && count < 20; i++) say(" %s", names[i]);
    say(" (%d)\n", count);
    closedir(dir);
}

static long links_of(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0 ? (long)info.st_nlink : -1;
}

static void touch(const char *path) { close(open(path, O_WRONLY | O_CREAT, 0600)); }

static void renames(void) {
    touch("r1");
    touch("r2");
    mkdir("rd1", 0700);
    mkdir("rd2", 0700);
    touch("rd2/inside");
    SHOW(rename("r1", "r2"));
    SHOW(access("r1", F_OK));
    SHOW(rename("none", "r2"));
    SHOW(rename("r2", "rd1"));
    SHOW(rename("rd1", "r2"));
    SHOW(rename("rd1", "rd2"));
    SHOW(rename("rd2", "rd1"));
    list("rd1");
    SHOW(rename("rd1", "rd1/below"));
    SHOW(rename(".", "x"));
    SHOW(rename("r2", "rd1/moved"));
    SHOW(rename("rd1/moved", "rd1/moved"));
    SHOW(renameat2(AT_FDCWD, "rd1/moved", AT_FDCWD, "rd1/inside", RENAME_NOREPLACE));
    SHOW(renameat2(AT_FDCWD, "rd1/moved", AT_FDCWD, "rd1/inside", 64));
    list("rd1");
}

static void links(void) {
    touch("one");
    SHOW(link("one", "two"));
    SHOW(links_of("one"));
    SHOW(link("one", "two"));
    SHOW(link("none", "three"));
    SHOW(link(".", "three"));
    SHOW(unlink("one"));
    SHOW(links_of("two"));
    SHOW(symlink("two", "soft"));
    SHOW(symlink("two", "soft"));
    SHOW(symlink("", "empty"));
    char target[8];
    SHOW(readlink("soft", target, sizeof target));
    SHOW(readlink("soft", target, 2));
    SHOW(readlink("two", target, sizeof target));
    SHOW(readlink("soft", target, 0));
    symlink("loop", "loop");
    SHOW(access("loop", F_OK));
    symlink("/tmp/dirs/", "slash");
    SHOW(access("slash/two", F_OK));
    SHOW(access("slash/../dirs/soft", F_OK));
    SHOW(linkat(AT_FDCWD, "soft", AT_FDCWD, "hard-of-soft", 0));
    struct stat info;
    lstat("hard-of-soft", &info);
    TRUE(S_ISLNK(info.st_mode));
    SHOW(info.st_size);
}

static void paths(void) {
    char path[PATH_MAX + 10], cwd[64];
    SHOW(chdir("deep/er"));
    say("%s\n", getcwd(cwd, sizeof cwd));
    SHOW(getcwd(cwd, 5) != 0);
    SHOW(errno);
    SHOW(chdir("../.."));
    SHOW(access("deep/er/../../deep//./er", F_OK));
    SHOW(access("two/..", F_OK));
    SHOW(access("/../../tmp", F_OK));
    memset(path, 'a', sizeof path);
    path[256] = 0;
    SHOW(access(path, F_OK));
    path[256] = 'a';
    path[PATH_MAX + 9] = 0;
    SHOW(access(path, F_OK));
    int dir = open("deep", O_RDONLY | O_DIRECTORY);
    SHOW(faccessat(dir, "er", F_OK, 0));
    SHOW(faccessat(dir, "none", F_OK, 0));
    SHOW(mkdirat(dir, "made", 0700));
    SHOW(unlinkat(dir, "made", 0));
    SHOW(unlinkat(dir, "made", AT_REMOVEDIR));
    SHOW(openat(999, "x", O_RDONLY));
    SHOW(access("/", F_OK));
    SHOW(openat(999, "/", O_RDONLY | O_DIRECTORY) > 0);
    SHOW(fchdir(dir));
    say("%s\n", getcwd(cwd, sizeof cwd));
    SHOW(rmdir("/tmp/dirs/deep/er"));
    SHOW(chdir("/tmp/dirs"));
    SHOW(fchdir(open("two", O_RDONLY)));
    struct stat info;
    SHOW(fstatat(dir, "", &info, AT_EMPTY_PATH));
    TRUE(S_ISDIR(info.st_mode));
    char byte;
    SHOW(read(dir, &byte, 1));
}

int main(void) {
    SHOW(mkdir("/tmp/dirs", 0755));
    SHOW(mkdir("/tmp/dirs", 0755));
    SHOW(chdir("/tmp/dirs"));
    SHOW(mkdir("deep", 0755));
    SHOW(mkdir("deep/er", 0755));
    SHOW(mkdir("no/such", 0755));
    SHOW(links_of("."));
    SHOW(links_of("deep"));
    SHOW(rmdir("deep"));
    SHOW(rmdir("."));
    SHOW(rmdir("none"));
    touch("file");
    SHOW(rmdir("file"));
    SHOW(unlink("deep"));
    SHOW(mkdir("file/x", 0755));
    SHOW(mkdir("trailing///", 0755));
    SHOW(rmdir("trailing/"));
    list(".");
    list("/none");
    list("file");
    links();
    renames();
    paths();
    list("/tmp/dirs");

    mkdir("many", 0755);
    for (int i = 0; i < 250; i++) {
        char name[32];
        sprintf(name, "many/file-%03d", i);
        touch(name);
    }
    list("many");
    for (int i = 0; i < 250; i += 2) {
        char name[32];
        sprintf(name, "many/file-%03d", i);
        unlink(name);
    }
    list("many");
    // A directory that is gone can still be stood in.
    mkdir("gone", 0755);
    chdir("gone");
    SHOW(rmdir("../gone"));
    SHOW(open("x", O_WRONLY | O_CREAT, 0600));
    char cwd[64];
    SHOW(getcwd(cwd, sizeof cwd) != 0);
    SHOW(errno);
    return 0;
}
