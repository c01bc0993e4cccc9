// Rows of the kernel benchmark: names and contents of files on tmpfs.
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MANY = 100, ENTRIES = 30, DEPTH = 8 };

static int file_fd, directory_fd;
static char buffer[65536];
static const char deep[] = "/tmp/deep/d/d/d/d/d/d/d/file";

static void call_stat(void) {
    struct stat status;
    stat("/tmp/file", &status);
}
static void call_stat_deep(void) {
    struct stat status;
    stat(deep, &status);
}
static void call_stat_missing(void) {
    struct stat status;
    stat("/tmp/missing", &status);
}
static void call_fstat(void) {
    struct stat status;
    fstat(file_fd, &status);
}
static void call_access(void) { access("/tmp/file", R_OK); }
static void call_open(void) { close(open("/tmp/file", O_RDONLY)); }
static void call_create(void) {
    close(open("/tmp/new", O_WRONLY | O_CREAT, 0600));
    unlink("/tmp/new");
}
static void call_mkdir(void) {
    mkdir("/tmp/new", 0700);
    rmdir("/tmp/new");
}
static void call_rename(void) {
    rename("/tmp/name-a", "/tmp/name-b");
    rename("/tmp/name-b", "/tmp/name-a");
}
static void call_stat_link(void) {
    struct stat status;
    stat("/tmp/linked/link", &status);
}
static void call_open_link(void) { close(open("/tmp/linked/link", O_RDONLY)); }
static void call_readlink(void) { readlink("/tmp/link", buffer, sizeof buffer); }
static void call_getcwd(void) { syscall(SYS_getcwd, buffer, sizeof buffer); }
static void call_readdir(void) {
    lseek(directory_fd, 0, SEEK_SET);
    while (syscall(SYS_getdents64, directory_fd, buffer, sizeof buffer) > 0) continue;
}
static void call_pread(void) { pread(file_fd, buffer, 512, 4096); }
static void call_pread_large(void) { pread(file_fd, buffer, sizeof buffer, 0); }
static void call_pwrite(void) { pwrite(file_fd, buffer, 512, 4096); }
static void call_pwrite_large(void) { pwrite(file_fd, buffer, sizeof buffer, 0); }
static void call_append(void) {
    int fd = open("/tmp/grows", O_WRONLY | O_CREAT | O_APPEND, 0600);
    for (int i = 0; i < 16; i++) write(fd, buffer, 4096);
    close(fd);
    unlink("/tmp/grows");
}
static void call_lseek(void) { lseek(file_fd, 100, SEEK_SET); }

static void make(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    need(fd, path);
    close(fd);
}

static void make_all(void) {
    char path[100] = "/tmp/deep";
    need(file_fd = open("/tmp/file", O_RDWR | O_CREAT, 0600), "create /tmp/file");
    need(write(file_fd, buffer, sizeof buffer), "write /tmp/file");
    need(mkdir("/tmp/deep", 0700), path);
    for (int i = 0; i < DEPTH - 1; i++) {
        sprintf(path + 9 + 2 * i, "/d");
        need(mkdir(path, 0700), path);
    }
    make(deep);
    make("/tmp/name-a");
    need(symlink("file", "/tmp/link"), "symlink");
    need(symlink("/tmp", "/tmp/linked"), "symlink");
    need(mkdir("/tmp/list", 0700), "mkdir /tmp/list");
    for (int i = 0; i < ENTRIES; i++) {
        sprintf(path, "/tmp/list/entry-%d", i);
        make(path);
    }
    need(directory_fd = open("/tmp/list", O_RDONLY | O_DIRECTORY), "open /tmp/list");
}

void rows_of_files(void) {
    make_all();
    row("stat", MANY, 1, call_stat);
    row("stat-deep", MANY, 1, call_stat_deep);
    row("stat-missing", MANY, 1, call_stat_missing);
    row("fstat", MANY, 1, call_fstat);
    row("access", MANY, 1, call_access);
    row("open+close", MANY, 1, call_open);
    row("create+unlink", MANY, 1, call_create);
    row("mkdir+rmdir", MANY, 1, call_mkdir);
    row("rename", MANY, 2, call_rename);
    row("stat-link", MANY, 1, call_stat_link);
    row("open+close-link", MANY, 1, call_open_link);
    row("readlink", MANY, 1, call_readlink);
    row("getcwd", MANY, 1, call_getcwd);
    row("readdir-30", 20, 1, call_readdir);
    row("lseek", MANY, 1, call_lseek);
    row("pread-512", MANY, 1, call_pread);
    row("pread-64k", 10, 1, call_pread_large);
    row("pwrite-512", MANY, 1, call_pwrite);
    row("pwrite-64k", 10, 1, call_pwrite_large);
    row("create+append-64k", 5, 1, call_append);
}
