// Regular files on tmpfs: flags, offsets, holes, vectors, descriptors.
#include "test.h"
#include <sys/uio.h>

static off_t size_of(int file) {
    struct stat info;
    fstat(file, &info);
    return info.st_size;
}

static void opening(void) {
    SHOW(mkdir("/tmp/files", 0755));
    SHOW(chdir("/tmp/files"));
    SHOW(open("none", O_RDONLY));
    SHOW(open("none/x", O_RDONLY | O_CREAT, 0600));
    int file = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
    SHOW(file);
    SHOW(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
    SHOW(open("a/", O_RDONLY));
    SHOW(open("a", O_RDONLY | O_DIRECTORY));
    SHOW(open(".", O_WRONLY));
    SHOW(open("", O_RDONLY));
    symlink("a", "link");
    SHOW(open("link", O_RDONLY | O_NOFOLLOW));
    symlink("new", "dangling");
    SHOW(open("dangling", O_RDONLY));
    SHOW(open("dangling", O_WRONLY | O_CREAT | O_EXCL, 0600));
    int made = open("dangling", O_WRONLY | O_CREAT, 0600);
    SHOW(made);
    SHOW(access("new", F_OK));
    SHOW(read(made, &made, 1));
    SHOW(close(made));
    SHOW(close(made));
    SHOW(close(-1));
    int read_only = open("a", O_RDONLY);
    SHOW(write(read_only, "x", 1));
    SHOW(ftruncate(read_only, 0));
    SHOW(fcntl(read_only, F_GETFL) & O_ACCMODE);
    close(read_only);
    int path = open("a", O_PATH);
    char byte;
    SHOW(read(path, &byte, 1));
    close(path);
    close(file);
}

static void offsets(void) {
    int file = open("b", O_RDWR | O_CREAT | O_TRUNC, 0600);
    char text[32] = {0};
    SHOW(write(file, "0123456789", 10));
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(lseek(file, -3, SEEK_END));
    SHOW(read(file, text, 10));
    say("%s\n", text);
    SHOW(read(file, text, 10));
    SHOW(lseek(file, -1, SEEK_SET));
    SHOW(lseek(file, 0, 99));
    SHOW(lseek(file, 100, SEEK_SET));
    SHOW(read(file, text, 10));
    SHOW(write(file, "end", 3));
    SHOW(size_of(file));
    SHOW(pread(file, text, 5, 50));
    SHOW(text[0]);
    SHOW(pwrite(file, "ABC", 3, 2));
    SHOW(pread(file, text, 10, 0));
    say("%.10s\n", text);
    SHOW(pread(file, text, 10, -1));
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(ftruncate(file, 5));
    SHOW(size_of(file));
    SHOW(ftruncate(file, 8));
    SHOW(pread(file, text, 10, 0));
    SHOW(text[6]);
    SHOW(ftruncate(file, -1));
    SHOW(truncate("b", 3));
    SHOW(size_of(file));
    close(file);
    file = open("b", O_WRONLY | O_APPEND);
    SHOW(lseek(file, 0, SEEK_SET));
    SHOW(write(file, "tail", 4));
    SHOW(size_of(file));
    SHOW(lseek(file, 0, SEEK_CUR));
    close(file);
    file = open("b", O_WRONLY | O_TRUNC);
    SHOW(size_of(file));
    close(file);
}

static void vectors(void) {
    int file = open("c", O_RDWR | O_CREAT | O_TRUNC, 0600);
    char first[4] = {0}, second[8] = {0};
    struct iovec out[] = {{"abc", 3}, {"", 0}, {"defgh", 5}};
    SHOW(writev(file, out, 3));
    lseek(file, 0, SEEK_SET);
    struct iovec in[] = {{first, 3}, {second, 7}};
    SHOW(readv(file, in, 2));
    say("%s %s\n", first, second);
    SHOW(preadv(file, in, 1, 4));
    say("%s\n", first);
    SHOW(pwritev(file, out, 1, 6));
    SHOW(size_of(file));
    SHOW(writev(file, out, 0));
    SHOW(writev(file, out, -1));
    SHOW(writev(file, out, 1025));
    close(file);
}

static void descriptors(void) {
    int file = open("d", O_RDWR | O_CREAT | O_TRUNC, 0600);
    int copy = dup(file);
    SHOW(copy - file);
    write(copy, "xyz", 3);
    SHOW(lseek(file, 0, SEEK_CUR));
    SHOW(dup2(file, 50));
    SHOW(dup2(file, file) == file);
    SHOW(dup2(99, 50));
    SHOW(dup3(file, file, 0));
    SHOW(dup3(file, 51, O_CLOEXEC));
    SHOW(fcntl(51, F_GETFD));
    SHOW(fcntl(51, F_SETFD, 0));
    SHOW(fcntl(51, F_GETFD));
    SHOW(fcntl(file, F_DUPFD, 60));
    SHOW(fcntl(file, F_DUPFD_CLOEXEC, 60));
    SHOW(fcntl(61, F_GETFD));
    SHOW(fcntl(file, F_SETFL, O_APPEND));
    SHOW(fcntl(copy, F_GETFL) & O_APPEND);
    SHOW(fcntl(99, F_GETFL));
    SHOW(fcntl(file, 9999));
    SHOW(fsync(file));
    SHOW(fdatasync(99));
    SHOW(syscall(SYS_close_range, 50, 70, 0));
    SHOW(fcntl(61, F_GETFD));
    int lowest = open("d", O_RDONLY);
    SHOW(lowest - copy);
}

int main(void) {
    opening();
    offsets();
    vectors();
    descriptors();
    // A file of some size, in odd pieces.
    int file = open("big", O_RDWR | O_CREAT | O_TRUNC, 0600);
    char block[777];
    for (int i = 0; i < 1000; i++) {
        memset(block, i & 127, sizeof block);
        if (write(file, block, sizeof block) != sizeof block) say("short write\n");
    }
    SHOW(size_of(file));
    long wrong = 0;
    for (int i = 999; i >= 0; i -= 7) {
        pread(file, block, sizeof block, i * 777L);
        for (int j = 0; j < 777; j++) wrong += block[j] != (i & 127);
    }
    SHOW(wrong);
    SHOW(unlink("big"));
    SHOW(size_of(file));
    SHOW(pread(file, block, 10, 777000 - 10));
    return 0;
}
