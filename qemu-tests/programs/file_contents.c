// Files are what was written: mappings against write, truncation, holes, direct transfers; seals; appends.
// The folder is an argument, so that the same can be asked of other file systems.
#include "test.h"

#include <sys/uio.h>

enum { PAGE = 4096, SEALED_WRITE = 8, SEALED_FUTURE = 16 };

static int file;
static volatile char *map;

// A file of two pages of 'a', mapped shared with room to grow.
static void fresh(int prot) {
    static char bytes[2 * PAGE];
    memset(bytes, 'a', sizeof bytes);
    unlink("f");
    file = open("f", O_RDWR | O_CREAT, 0644);
    write(file, bytes, sizeof bytes);
    map = mmap(0, 16 * PAGE, prot, MAP_SHARED, file, 0);
    (void)map[0];
    (void)map[PAGE];
}

static void done(void) {
    munmap((void *)map, 16 * PAGE);
    close(file);
}

static int byte_at(int from, off_t offset) {
    char byte = 0;
    pread(from, &byte, 1, offset);
    return byte;
}

static void readers(void) {
    fresh(PROT_READ);
    pwrite(file, "b", 1, 10);
    SHOW(map[10]);
    SHOW(ftruncate(file, 4 * PAGE));
    pwrite(file, "c", 1, 10);
    SHOW(map[10]);
    pwrite(file, "x", 1, 5 * PAGE - 1);
    pwrite(file, "d", 1, 10);
    SHOW(map[10]);
    SHOW(map[5 * PAGE - 1]);
    struct timespec times[2] = {{1, 0}, {1, 0}};
    SHOW(futimens(file, times));
    pwrite(file, "e", 1, 10);
    SHOW(map[10]);
    SHOW(fallocate(file, 0, 0, 6 * PAGE));
    pwrite(file, "f", 1, 10);
    SHOW(map[10]);
    SHOW(fallocate(file, 3, 0, PAGE));
    SHOW(map[10]);
    SHOW(map[PAGE]);
    SHOW(ftruncate(file, PAGE + 100));
    SHOW(ftruncate(file, 2 * PAGE));
    SHOW(map[PAGE + 200]);
    int second = open("f", O_RDWR | O_TRUNC);
    write(second, "zzzz", 4);
    SHOW(map[3]);
    SHOW(rename("f", "g"));
    pwrite(second, "y", 1, 0);
    SHOW(map[0]);
    close(second);
    unlink("g");
    done();
}

static void writers(void) {
    fresh(PROT_READ | PROT_WRITE);
    map[0] = 'M';
    SHOW(byte_at(file, 0));
    pwrite(file, "b", 1, 10);
    SHOW(map[10]);
    SHOW(ftruncate(file, 4 * PAGE));
    map[3 * PAGE] = 'N';
    SHOW(byte_at(file, 3 * PAGE));
    map[PAGE] = 'P';
    SHOW(fallocate(file, 3, 100, PAGE));
    SHOW(map[10]);
    SHOW(map[200]);
    SHOW(map[PAGE]);
    SHOW(map[PAGE + 100]);
    SHOW(msync((void *)map, 2 * PAGE, MS_SYNC));
    int second = open("f", O_RDONLY);
    SHOW(byte_at(second, 200));
    SHOW(byte_at(second, PAGE));
    SHOW(ftruncate(file, 100));
    SHOW(ftruncate(file, 2 * PAGE));
    SHOW(byte_at(second, 200));
    SHOW(map[200]);
    close(second);
    pid_t child = fork_clean();
    if (child == 0) {
        map[2] = 'C';
        _exit(0);
    }
    show_end("child", child);
    SHOW(byte_at(file, 2));
    volatile char *private = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    private[1] = 'P';
    SHOW(byte_at(file, 1));
    munmap((void *)private, PAGE);
    unlink("f");
    map[5] = 'U';
    SHOW(byte_at(file, 5));
    SHOW(msync((void *)map, PAGE, MS_SYNC));
    done();
}

static void appended_and_mapped(void) {
    struct stat now;
    unlink("f");
    int append = open("f", O_RDWR | O_CREAT | O_APPEND, 0644);
    SHOW(ftruncate(append, 1024));
    char *bytes = mmap(0, 1024, PROT_READ | PROT_WRITE, MAP_SHARED, append, 0);
    memcpy(bytes, "hello", 5);
    SHOW(msync(bytes, 1024, MS_SYNC));
    memcpy(bytes + 100, "world", 5);
    munmap(bytes, 1024);
    SHOW(write(append, "end", 3));
    close(append);
    stat("f", &now);
    SHOW(now.st_size);
    append = open("f", O_RDONLY);
    char text[6] = {0};
    pread(append, text, 5, 100);
    say("%s\n", text);
    pread(append, text, 3, 1024);
    say("%.3s\n", text);
    close(append);
}

// Two processes append, by a flag set later or by a flag of the call: nothing is lost.
static void appends(int by_call) {
    unlink("f");
    close(open("f", O_CREAT | O_WRONLY, 0644));
    for (int who = 0; who < 2; who++) {
        if (fork_clean() != 0) continue;
        int own = open("f", O_WRONLY);
        if (!by_call) fcntl(own, F_SETFL, O_APPEND);
        char record[100];
        memset(record, 'a' + who, sizeof record);
        struct iovec piece = {record, sizeof record};
        for (int i = 0; i < 25; i++) {
            if (by_call) {
                pwritev2(own, &piece, 1, -1, RWF_APPEND);
            } else {
                write(own, record, sizeof record);
            }
        }
        _exit(0);
    }
    while (wait(0) > 0) {}
    struct stat now;
    stat("f", &now);
    SHOW(now.st_size);
    unlink("f");
}

static void seals(void) {
    int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    SHOW(ftruncate(sealed, PAGE));
    volatile char *old = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0);
    old[0] = 1;
    SHOW(fcntl(sealed, F_ADD_SEALS, SEALED_WRITE));
    SHOW(fcntl(sealed, F_GET_SEALS));
    SHOW(mprotect((void *)old, PAGE, PROT_READ));
    SHOW(fcntl(sealed, F_ADD_SEALS, SEALED_WRITE));
    SHOW(fcntl(sealed, F_ADD_SEALS, SEALED_FUTURE));
    mprotect((void *)old, PAGE, PROT_READ | PROT_WRITE);
    old[0] = 2;
    SHOW(byte_at(sealed, 0));
    TRUE(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, sealed, 0) == MAP_FAILED);
    say("%s\n", strerrorname_np(errno));
    SHOW(pwrite(sealed, "x", 1, 0));
    void *reader = mmap(0, PAGE, PROT_READ, MAP_SHARED, sealed, 0);
    TRUE(reader != MAP_FAILED);
    SHOW(mprotect(reader, PAGE, PROT_READ | PROT_WRITE));
    pid_t child = fork_clean();
    if (child == 0) {
        munmap((void *)old, PAGE);
        SHOW(fcntl(sealed, F_ADD_SEALS, SEALED_WRITE));
        _exit(0);
    }
    show_end("child", child);
    munmap((void *)old, PAGE);
    SHOW(fcntl(sealed, F_ADD_SEALS, SEALED_WRITE));
    volatile char *own = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, sealed, 0);
    own[0] = 9;
    SHOW(byte_at(sealed, 0));
    SHOW(fcntl(sealed, F_GET_SEALS));
    SHOW(fallocate(sealed, 3, 0, PAGE));
    close(sealed);
}

int main(int argc, char **argv) {
    chdir(argc > 1 ? argv[1] : "/tmp");
    readers();
    writers();
    appended_and_mapped();
    appends(0);
    appends(1);
    seals();
    return unlink("f");
}
