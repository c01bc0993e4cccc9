// The root of the guest is an archive: everything can be read, nothing changed.
#include "test.h"
#include <sys/vfs.h>

int main(void) {
    char byte;
    int file = open("/etc/data", O_RDONLY);
    SHOW(lseek(file, 0, SEEK_END));
    SHOW(pread(file, &byte, 1, 250));
    SHOW(byte);
    SHOW(pread(file, &byte, 1, 20000));
    SHOW(open("/etc/data", O_RDWR));
    SHOW(open("/etc/data", O_WRONLY));
    SHOW(open("/etc/new", O_WRONLY | O_CREAT, 0600));
    SHOW(open("/etc/none", O_RDONLY));
    SHOW(open("/etc/data", O_WRONLY | O_TRUNC));
    SHOW(mkdir("/new", 0700));
    SHOW(mkdir("/etc", 0700));
    SHOW(unlink("/etc/data"));
    SHOW(unlink("/etc/none"));
    SHOW(rmdir("/empty"));
    SHOW(rename("/etc/data", "/etc/other"));
    SHOW(rename("/etc/data", "/tmp/other"));
    SHOW(link("/etc/data", "/tmp/link"));
    SHOW(symlink("x", "/x"));
    SHOW(chmod("/etc/data", 0600));
    SHOW(chown("/etc/data", 1, 1));
    SHOW(truncate("/etc/data", 0));
    SHOW(utimensat(AT_FDCWD, "/etc/data", 0, 0));
    SHOW(access("/etc/data", W_OK));
    SHOW(access("/etc/data", R_OK));
    SHOW(mknod("/pipe", S_IFIFO | 0600, 0));
    struct stat info;
    SHOW(stat("/etc/link", &info));
    SHOW(info.st_size);
    SHOW(lstat("/etc/link", &info));
    TRUE(S_ISLNK(info.st_mode));
    char target[16] = {0};
    SHOW(readlink("/etc/link", target, sizeof target));
    say("%s\n", target);
    return 0;
}
